"""`keep` in a sweep file: what is refused and how, and which trials' checkpoints it gives up."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.keep import Keep
from orchestrator.plan.keeping import KeepPlan, in_words
from orchestrator.plan.show import as_json, as_text
from tests.sweeps import comparing, plan_of, said_of

CELLS = {"a0": "a", "a1": "a", "a2": "a", "b0": "b", "b1": "b"}


def planned(folder: Path, keep: str, **axes: str) -> Plan:
    return plan_of(folder, f"{comparing(**{'seed': '0, 1'} | axes)}keep: {{{keep}}}\n")


def keeping(checkpoints: str | int, cells: dict[str, str] = CELLS) -> KeepPlan:
    return KeepPlan(Keep(checkpoints=checkpoints), cells, {})  # type: ignore[arg-type]


REFUSED = {
    "a near miss": ("checkpoints: bset", "did you mean best? It must be last, best, none, or how"),
    "zero": ("checkpoints: 0", "`none` keeps no checkpoint of a trial that has ended: must be"),
    "all": ("checkpoints: all", "`last` keeps every trial's: must be last, best, none"),
    "minus one": ("checkpoints: -1", "`last` keeps every trial's: must be last, best, none"),
    "nothing": ("checkpoints: ", "`none`, as a word, keeps no checkpoint"),
    "a truth": ("checkpoints: true", "must be last, best, none, or how many of the best"),
    "half a trial": ("checkpoints: 1.5", "(at least 1), not 1.5"),
    "a list": ("checkpoints: [best]", "(at least 1), not ['best']"),
    "too many": ("checkpoints: 100001", "(at least 1), not 100001"),
    "no choice": ("metric: psnr", "keep.checkpoints: is missing"),
    "another metric": (
        "checkpoints: best, metric: pnsr",
        "keep.metric: unknown metric 'pnsr'. Did you mean 'psnr'?",
    ),
    "a metric that nobody reads": (
        "checkpoints: none, metric: ssim",
        "keep.metric: `checkpoints: none` does not read it: leave it out",
    ),
    "norms that nobody compares": (
        "checkpoints: last, across_norms: true",
        "keep.across_norms: `checkpoints: last` does not read it: leave it out",
    ),
    "an unknown field": ("checkpoint: best", "Did you mean 'checkpoints'?"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_keeps_nothing_sensible_is_refused_with_a_caret(tmp_path: Path, case: str) -> None:
    keep, wanted = REFUSED[case]
    said = said_of(tmp_path, f"{comparing()}keep: {{{keep}}}\n")
    assert wanted in said
    assert said.startswith("bad.yaml:7:")
    assert said.rstrip().endswith("^")


def test_the_best_of_trials_that_are_not_evaluated_is_refused(tmp_path: Path) -> None:
    text = comparing().replace("evaluate: [embedded-test]", "evaluate: []")
    said = said_of(tmp_path, f"{text}keep: {{checkpoints: best}}\n")
    assert "keep.checkpoints: layer_norm sr_x2" in said
    assert "is evaluated on no set, so nothing says which trial is best" in said
    assert plan_of(tmp_path, f"{text}keep: {{checkpoints: none}}\n").keep is not None


def test_retention_changes_no_id(tmp_path: Path) -> None:
    without = plan_of(tmp_path, comparing(seed="0, 1"))
    for keep in ("last", "best", "none", "2"):
        with_it = planned(tmp_path, f"checkpoints: {keep}")
        assert [one.id for one in with_it.trials] == [one.id for one in without.trials]
    assert without.keep is None


def test_the_plan_says_in_a_line_what_is_kept(tmp_path: Path) -> None:
    gpus = Gpus(0, "there are none")
    for keep, wanted in (
        ("last", "Kept: the last checkpoint of every trial."),
        ("none", "Kept: no checkpoint of a trial that is done or has diverged."),
        ("best", "of the best trial of each task, backbone, size and norm (2 cells), by final"),
        ("1, across_norms: true", "of each task, backbone and size (1 cell), by final psnr"),
        ("1, metric: ssim", "by final ssim on the first evaluation set"),
    ):
        plan = planned(tmp_path, f"checkpoints: {keep}")
        (line,) = [line for line in as_text(plan, {}, gpus).splitlines() if line.startswith("Kept")]
        assert wanted in line
        assert plan.keep is not None
        assert line == in_words(plan.keep)
        asked = as_json(plan, {}, gpus)["keep"]
        assert asked["checkpoints"] == plan.keep.asked.checkpoints
    assert "keep" not in as_json(plan_of(tmp_path, comparing()), {}, gpus)


def test_a_number_that_removes_nothing_is_warned_of(tmp_path: Path) -> None:
    (warning,) = planned(tmp_path, "checkpoints: 2").warnings
    assert "keep: only diverged trials lose their checkpoint: there are at most 2 trials" in warning
    assert planned(tmp_path, "checkpoints: best").warnings == ()
    assert planned(tmp_path, "checkpoints: 2, across_norms: true").warnings == ()


def test_trials_compete_within_a_cell_by_the_set_of_their_task(tmp_path: Path) -> None:
    plan = planned(tmp_path, "checkpoints: best, metric: ssim", task="sr_x2, denoise_25")
    assert plan.keep is not None
    assert len(set(plan.keep.cells.values())) == 4
    assert set(plan.keep.metrics.values()) == {"val/embedded-test/ssim"}
    first = plan.trials[0]
    beside = [plan.trial(trial) for trial in plan.keep.beside(first.id)]
    assert [one and one.axes["seed"] for one in beside] == [0, 1]


def test_the_best_of_each_cell_stay() -> None:
    scores = {"a0": 30.0, "a1": 31.0, "a2": 29.0, "b0": 20.0, "b1": 19.0}
    assert keeping("best").unwanted(scores) == ["a0", "a2", "b1"]
    assert keeping(1).unwanted(scores) == ["a0", "a2", "b1"]
    assert keeping(2).unwanted(scores) == ["a2"]
    assert keeping("none").unwanted(scores) == list(CELLS)
    assert keeping("last").unwanted(scores) == []


def test_of_equal_trials_the_first_in_the_file_is_ahead() -> None:
    scores = {"a2": 30.0, "a1": 30.0, "b1": math.inf, "b0": math.inf}
    assert keeping("best").unwanted(scores) == ["a2", "b1"]


def test_a_diverged_trial_is_never_among_the_best() -> None:
    assert keeping("best").unwanted({"a0": math.nan, "b0": math.nan}) == ["a0", "b0"]
    assert keeping(3).unwanted({"a0": math.nan, "a1": 1.0, "a2": -math.inf}) == ["a0"]


def test_trials_that_have_not_ended_and_such_without_a_score_stay_and_push_nobody_out() -> None:
    assert keeping("best").unwanted({"a1": 30.0}) == []
    assert keeping("best").unwanted({"a0": None, "a1": 30.0}) == []
    assert keeping("none").unwanted({"a0": None}) == ["a0"], "no score is needed for that"


def test_what_is_given_up_stays_so_however_the_others_end() -> None:
    dice = random.Random(0)
    values = [29.0, 30.0, 30.0, 31.0, math.nan, math.inf]
    for _ in range(200):
        cells = {f"{i}": dice.choice("ab") for i in range(7)}
        scores = {trial: dice.choice(values) for trial in cells}
        for most in (1, 2, 3):
            plan, order, gone = keeping(most, cells), dice.sample(list(cells), 7), set[str]()
            for ended in range(1, 8):
                now = set(plan.unwanted({trial: scores[trial] for trial in order[:ended]}))
                assert gone <= now
                gone = now
            for cell in set(cells.values()):
                members = [trial for trial, its in cells.items() if its == cell]
                finite = [scores[trial] for trial in members if not math.isnan(scores[trial])]
                kept = [scores[trial] for trial in members if trial not in gone]
                assert sorted(kept) == sorted(finite)[-most:]
