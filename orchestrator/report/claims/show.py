"""Verdicts on claims as text for people, as JSON for programs and as a table of parts."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd

from orchestrator.plan.expand import Plan
from orchestrator.report.claims.answer import answer
from orchestrator.report.claims.judging import Judged
from orchestrator.report.claims.parts import Evidence, Part
from orchestrator.statistics.interval import Unknown
from trainers.journal import encoded

WIDEST = 80
NARROWEST = 20
INDENT = "  "


def numbers_of(judged: Judged) -> str:
    """The numbers of the deciding part, and which part that is; "" without numbers."""
    part, found = judged.deciding, judged.evidence
    if part is None or found is None:
        return ""
    named = {"holds": "weakest", "fails": "failing", "undecided": "least decided"}[judged.verdict]
    of = f" ({named} of {len(judged.parts)} parts)" if len(judged.parts) > 1 else ""
    return f"{found.in_words(part.unit)}: {part.where}{of}"


# --- JSON -----------------------------------------------------------------------------------------


def as_json(plan: Plan, found: Sequence[Judged]) -> dict[str, Any]:
    """What `normsweep claims --json` prints. Infinite numbers are the texts "inf" and "-inf"."""
    return {
        "sweep": plan.sweep,
        "question": plan.question,
        "answer": answer(plan, found),
        "claims": [_claim_as_json(judged) for judged in found],
    }


def _claim_as_json(judged: Judged) -> dict[str, Any]:
    claim = judged.claim
    return {
        "id": claim.id,
        "sentence": claim.sentence,
        "verdict": judged.verdict,
        **_numbers_as_json(judged.evidence),
        "missing": list(judged.missing.sentences),
        "unit": judged.unit,
        "place": claim.place,
        "statistic": claim.statistic,
        "own": judged.is_own,
        "in_sweep": judged.is_here,
        "hours": round(judged.missing.seconds / 3600, 3),
        "trials": list(judged.trials),
        "part": judged.deciding.where if judged.deciding is not None else None,
        "parts": [_part_as_json(judged, part) for part in judged.parts],
    }


def _part_as_json(judged: Judged, part: Part) -> dict[str, Any]:
    found = part.evidence if isinstance(part.evidence, Evidence) else None
    return {
        "part": part.where,
        "verdict": judged.of_part(part),
        **_numbers_as_json(found),
        "p_holds": found.p_holds if found else None,
        "p_fails": found.p_fails if found else None,
        "unit": part.unit,
        "reason": part.evidence.reason if isinstance(part.evidence, Unknown) else "",
        "left_out": list(part.left_out),
        "trials": list(part.trials),
    }


def _numbers_as_json(found: Evidence | None) -> dict[str, Any]:
    if found is None:
        return {"estimate": None, "low": None, "high": None, "n": 0, "n_of": "seeds", "images": 0}
    return {
        "estimate": encoded(found.estimate),
        "low": encoded(found.low),
        "high": encoded(found.high),
        "n": found.n,
        "n_of": found.n_of,
        "images": found.n_images,
    }


# --- a table of parts -----------------------------------------------------------------------------

COLUMNS = (
    *("claim", "statistic", "place", "claim_verdict", "part", "verdict"),
    *("estimate", "low", "high", "unit", "n", "n_of", "images", "p_holds", "p_fails"),
    *("trials", "reason", "left_out", "missing"),
)


def as_frame(found: Sequence[Judged]) -> pd.DataFrame:
    """One row for each part, as claims.csv has them; claims without a part have one empty row."""
    rows = []
    for judged in found:
        common = {
            "claim": judged.claim.id,
            "statistic": judged.claim.statistic,
            "place": judged.claim.place,
            "claim_verdict": judged.verdict,
            "missing": "; ".join(judged.missing.sentences),
        }
        for part in judged.parts:
            row = _part_as_json(judged, part)
            lists = {name: "; ".join(row[name]) for name in ("left_out", "trials")}
            rows.append({**row, **lists, **common})
        if not judged.parts:
            rows.append({**common, "verdict": judged.verdict})
    # Objects, so that a missing number is an empty field and a count stays a whole number.
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return table.where(table.notna(), None)


# --- text -----------------------------------------------------------------------------------------


def as_text(plan: Plan, found: Sequence[Judged], width: int | None = None) -> str:
    """What `normsweep claims` prints: the answer, each claim, and those of other sweeps briefly."""
    width = max(NARROWEST, min(width or shutil.get_terminal_size().columns, WIDEST))
    lines = _wrapped(f"{plan.sweep}: {plan.question}" if plan.question else plan.sweep, width)
    lines += ["", *_wrapped(answer(plan, found), width)]
    for judged in sorted(
        (one for one in found if one.is_here), key=lambda one: one.verdict == "undecided"
    ):
        lines += ["", *_claim_as_text(judged, width)]
    absent = [judged for judged in found if not judged.is_here]
    if absent:
        lines += ["", *_wrapped(f"Not in this sweep ({len(absent)}):", width)]
        for judged in absent:
            what = "; ".join(judged.missing.sentences).replace("not in this sweep: ", "")
            lines += _wrapped(f"{judged.claim.id}: {what}", width, INDENT, INDENT * 2)
    return "\n".join(lines)


def _claim_as_text(judged: Judged, width: int) -> list[str]:
    claim = judged.claim
    place = f" ({claim.place})" if claim.place else ""
    lines = _wrapped(f"{judged.verdict.upper()}  {claim.sentence}{place}", width, "", INDENT)
    lines += _wrapped(f"{claim.id}", width, INDENT, INDENT)
    if said := numbers_of(judged):
        lines += _wrapped(said, width, INDENT, INDENT * 2)
    for sentence in judged.missing.sentences:
        lines += _wrapped(f"missing: {sentence}", width, INDENT, INDENT * 2)
    return lines


def _wrapped(text: str, width: int, first: str = "", later: str = "") -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=first, subsequent_indent=later, break_on_hyphens=False
    )
