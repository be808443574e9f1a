"""Verdicts on claims are shown as text, as JSON, on the page and in claims.csv, all alike."""

from __future__ import annotations

import csv
import io
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from orchestrator.plan import Plan, load_plan
from orchestrator.report.claims.answer import answer
from orchestrator.report.claims.judging import Judged, claims
from orchestrator.report.claims.show import as_json, as_text
from orchestrator.report.contents import build
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.page import render
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.claimed_store import Numbers, write_trial
from tests.planned import plan_in_process
from tests.scored_store import write_scored
from tests.sweeps import plan_of

SWEEP = """# Do features grow with LayerNorm but not with i-LN?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x2, denoise_25]
  width: [12]
  depth: [1]
  seed: [0, 1, 2]
data: {evaluate: [embedded-test]}
training: {steps: 100, batch_size: 4, patch_size_px: 16}
claims: mine.yaml
"""
MINE = (
    '- {id: much_better, sentence: "i-LN scores 1 dB more.", statistic: difference, '
    "candidate: i_ln, reference: layer_norm, margin: 1.0}\n"
)
NUMBER = {"anyOf": [{"type": ["number", "null"]}, {"enum": ["inf", "-inf"]}]}
SCHEMA = {
    "type": "object",
    "required": ["sweep", "claims"],
    "properties": {
        "sweep": {"type": "string"},
        "claims": {
            "type": "array",
            "items": {
                "type": "object",
                "required": [
                    *("id", "sentence", "verdict", "estimate", "low", "high", "n", "missing"),
                    *("place", "statistic", "unit", "trials", "parts"),
                ],
                "properties": {
                    "id": {"type": "string"},
                    "sentence": {"type": "string"},
                    "verdict": {"enum": ["holds", "fails", "undecided"]},
                    "estimate": NUMBER,
                    "low": NUMBER,
                    "high": NUMBER,
                    "n": {"type": "integer"},
                    "missing": {"type": "array", "items": {"type": "string"}},
                },
            },
        },
    },
}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (tmp_path / "mine.yaml").write_text(MINE)
    return plan_of(tmp_path, SWEEP, "held")


def fill(plan: Plan, store: Store) -> None:
    """layer_norm grows and i_ln does not; i_ln is better by 0.3 dB."""
    for trial in plan.trials:
        noise = (trial.axes["seed"] - 1) * 0.01
        is_i_ln = trial.axes["norm"] == "i_ln"
        slope = (-0.2 if is_i_ln else 1.2) + noise
        write_trial(store, trial, Numbers(slope=slope, psnr=30.3 + noise if is_i_ln else 30.0))


@pytest.fixture
def judged(plan: Plan, store: Store) -> tuple[Judged, ...]:
    fill(plan, store)
    return claims(plan, read_frame(plan, store))


def test_json_has_the_promised_fields_and_only_json_numbers(
    plan: Plan, judged: tuple[Judged, ...]
) -> None:
    made = json.loads(json.dumps(as_json(plan, judged), allow_nan=False))
    jsonschema.validate(made, SCHEMA)
    verdicts = {one["id"]: one["verdict"] for one in made["claims"]}
    assert next(iter(verdicts)) == "much_better"
    assert verdicts["much_better"] == "fails"
    assert verdicts["layer_norm_grows"] == verdicts["i_ln_is_bounded"] == "holds"
    assert verdicts["i_ln_in_super_resolution"] == "holds"
    assert verdicts["growth_rises_with_width"] == "undecided"


def test_infinite_numbers_are_texts(plan: Plan, store: Store) -> None:
    for trial in plan.trials:
        write_scored(store, trial, {}, outcome="diverged", step=40)
    made = as_json(plan, claims(plan, read_frame(plan, store)))
    grows = next(one for one in made["claims"] if one["id"] == "layer_norm_grows")
    assert (grows["verdict"], grows["estimate"], grows["low"]) == ("holds", "inf", "inf")
    jsonschema.validate(json.loads(json.dumps(made, allow_nan=False)), SCHEMA)


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_no_number_is_cut(
    plan: Plan, judged: tuple[Judged, ...], width: int
) -> None:
    lines = as_text(plan, judged, width).splitlines()
    assert max(map(len, lines)) <= min(width, 80)
    words = " ".join(lines).split()
    found = next(one for one in judged if one.claim.id == "much_better").evidence
    assert found is not None
    assert f"{found.estimate:+.3f}" in words
    assert f"[{found.low:+.3f}," in words


def test_claims_of_other_sweeps_come_last_and_briefly(
    plan: Plan, judged: tuple[Judged, ...]
) -> None:
    text = as_text(plan, judged, 80)
    here, absent = text.split("\nNot in this sweep (")
    assert "rescaling_helps: i_ln[rescale=False]" in absent
    assert "rescaling_helps" not in here
    assert all(len(line) <= 80 for line in absent.splitlines())


def test_the_answer_quotes_the_claims_nearest_to_the_question(
    plan: Plan, judged: tuple[Judged, ...]
) -> None:
    said = answer(plan, judged)
    assert said.count("\n") == 0 and said.endswith(".")
    assert "\u201ci-LN scores 1 dB more\u201d fails (+0." in said
    assert (
        "\u201cWith LayerNorm, features still grow at the end of training\u201d holds (slope"
        in said
    )
    assert "other claims" in said


def test_an_undecided_answer_says_what_it_would_take(plan: Plan, store: Store) -> None:
    said = answer(plan, claims(plan, read_frame(plan, store)))
    assert said.startswith(
        "Undecided: \u201ci-LN scores 1 dB more\u201d, which would take 12 trials "
    )
    assert "that have not ended (about " in said
    for trial in plan.trials:
        if trial.axes["seed"] == 0:
            write_trial(store, trial, Numbers(slope=1.0))
    lone = plan_of(plan.path.parent, SWEEP.replace("[0, 1, 2]", "[0]"), "held")
    said = answer(lone, claims(lone, read_frame(lone, store)))
    assert "which would take 1 more seed of each norm: 4 trials, about " in said


def test_a_sweep_that_no_claim_is_about_has_an_answer(tmp_path: Path, store: Store) -> None:
    text = SWEEP.replace("layer_norm, i_ln", "bias_free_layer_norm").replace(
        "claims: mine.yaml", ""
    )
    plan = plan_of(tmp_path, text)
    said = answer(plan, claims(plan, read_frame(plan, store)))
    assert said == "Undecided: none of the claims is about norms and places of this sweep."


# --- the report -----------------------------------------------------------------------------------


def rendered(plan: Plan, frame: Frame) -> dict[str, str]:
    return render(build(plan, frame, datetime(2026, 1, 2, tzinfo=UTC)))


def test_the_page_begins_with_the_answer_and_the_claims(plan: Plan, store: Store) -> None:
    fill(plan, store)
    frame = read_frame(plan, store)
    files = rendered(plan, frame)
    page, said = files["index.html"], answer(plan, claims(plan, frame))
    assert page.index('class="question"') < page.index(said) < page.index('id="claims"')
    assert page.index('id="claims"') < page.index('id="quality"')
    markdown = files["report.md"]
    assert markdown.index(plan.question) < markdown.index(said) < markdown.index("## Claims")


def test_claims_csv_has_every_part_and_each_number_of_the_page(plan: Plan, store: Store) -> None:
    fill(plan, store)
    frame = read_frame(plan, store)
    files, found = rendered(plan, frame), claims(plan, frame)
    rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(files["claims.csv"])))
    assert len(rows) == sum(max(1, len(judged.parts)) for judged in found)
    for judged in found:
        own = [row for row in rows if row["claim"] == judged.claim.id]
        assert {row["claim_verdict"] for row in own} == {judged.verdict}
        if (evidence := judged.evidence) is not None:
            assert judged.deciding is not None
            (row,) = [row for row in own if row["part"] == judged.deciding.where]
            for name in ("estimate", "low", "high"):
                assert float(row[name]) == getattr(evidence, name)
            assert int(row["n"]) == evidence.n
            assert set(row["trials"].split("; ")) == set(judged.deciding.trials)
        if not judged.parts:
            assert own[0]["estimate"] == own[0]["n"] == ""
    assert not any(cell == "nan" for row in rows for cell in row.values())
    assert math.isfinite(float(rows[0]["p_fails"]))


def test_the_verb_prints_json_and_takes_a_file_of_ones_own(
    plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(plan, open_store(str(tmp_path / "none")))  # the store that plan_in_process names
    found = plan_in_process(plan.path, "claims")
    assert found["code"] == 0
    assert "FAILS  i-LN scores 1 dB more." in found["said"]
    assert load_plan(plan.path).claims is not None


def test_the_report_of_several_sweeps_has_each_own_claim_once(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(SWEEP)
    open_store(str(tmp_path / "none"))  # where `plan_in_process` looks
    flags = ("--out", str(tmp_path / "page"))
    for others in ((), (str(tmp_path / "b.yaml"),)):
        done = plan_in_process(tmp_path / "a.yaml", "report", *others, *flags)
        assert done["code"] == 0, done["said"]
        rows = list(csv.DictReader((tmp_path / "page" / "claims.csv").open()))
        parts = [row["part"] for row in rows if row["claim"] == "much_better"]
        assert len(parts) == len(set(parts)) > 0
