"""The answer to a sweep's question in one sentence, from the claims that the sweep can judge.

Nothing understands the question. The claims that share most words with it come first, a user's own
before the paper's, and the sentence quotes up to MOST_QUOTED that are decided. If none is, it says
what deciding the first would take.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orchestrator.plan.expand import Plan
from orchestrator.report.claims.judging import Judged
from orchestrator.report.claims.parts import numbers
from orchestrator.report.words import listed

MOST_QUOTED = 3
SHORTEST_WORD = 4  # letters; shorter ones are in every sentence


def answer(plan: Plan, found: Sequence[Judged]) -> str:
    """The sentence, beginning with "Undecided: " if no claim is decided."""
    here = by_relevance(plan.question, [judged for judged in found if judged.is_here])
    decided = [judged for judged in here if judged.verdict != "undecided"]
    if not here:
        return "Undecided: none of the claims is about norms and places of this sweep."
    if not decided:
        return _undecided(here)
    quoted = listed(map(_quoted, decided[:MOST_QUOTED]))
    rest = []
    if more := len(decided) - MOST_QUOTED:
        rest += [f"{more} more decided"] if more > 0 else []
    if undecided := len(here) - len(decided):
        rest.append(f"{undecided} undecided")
    return f"{quoted}" + (f"; {' and '.join(rest)}." if rest else ".")


def by_relevance(question: str, found: Sequence[Judged]) -> list[Judged]:
    """Claims, those that share most words with the question first; own ones before all others."""
    asked = _words(question)
    return sorted(
        found,
        key=lambda judged: (not judged.is_own, -len(asked & _words(judged.claim.sentence))),
    )


def _quoted(judged: Judged) -> str:
    evidence = judged.evidence
    assert evidence is not None
    said = numbers(judged.unit, evidence.estimate, evidence.low, evidence.high)
    counted = evidence.n_of if evidence.n != 1 else evidence.n_of.removesuffix("s")
    sentence = judged.claim.sentence.rstrip(".")
    return f"\N{LEFT DOUBLE QUOTATION MARK}{sentence}\N{RIGHT DOUBLE QUOTATION MARK} " + (
        f"{judged.verdict} ({said}, {evidence.n} {counted})"
    )


def _undecided(here: Sequence[Judged]) -> str:
    first = here[0]
    sentence = first.claim.sentence.rstrip(".")
    quoted = f"\N{LEFT DOUBLE QUOTATION MARK}{sentence}\N{RIGHT DOUBLE QUOTATION MARK}"
    evidence = first.evidence
    said = ""
    if evidence is not None:
        said = f" ({numbers(first.unit, evidence.estimate, evidence.low, evidence.high)})"
    takes = first.missing.sentences[-1:] or ("more data",)
    others = f"; so are {len(here) - 1} more claims" if len(here) > 2 else ""
    return f"Undecided: {quoted}{said} takes {takes[0]}{others}."


def _words(text: str) -> set[str]:
    """The longer words of a text, lower case and without a plural's s."""
    found = re.findall(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", text.lower())
    return {word.removesuffix("s") for word in found if len(word) >= SHORTEST_WORD}
