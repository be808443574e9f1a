"""`stop` in a sweep file: what is refused and how, who is compared with whom, and its id."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.plan.axes import AXES
from orchestrator.plan.stopping import is_journalled, known_metrics
from tests.sweeps import comparing, plan_of, said_of

GOOD = "scheduler: asha, metric: train/loss, mode: min, grace_steps: 20"
TRAINING = "steps: 100, batch_size: 8, patch_size_px: 16"
OBSERVE = "observe: {log_every: 10, probe_every: 10, evaluate_every: 50}\n"


def text_of(stop: str, more: str = "", **axes: str) -> str:
    axes = {"seed": "0, 1"} | axes
    return f"{comparing(training=TRAINING, **axes)}{OBSERVE}{more}stop: {{{stop}}}\n"


REFUSED = {
    "population based training": (
        GOOD.replace("asha", "pbt"),
        "stop.scheduler: population based training copies weights and changes lr while a trial "
        "trains, so that no trial is what its id says (docs/decisions/0026)",
    ),
    "a field that is unknown": (
        GOOD + ", grace: 3",
        "stop.grace: unknown field 'grace'. Did you mean 'grace_steps'?",
    ),
    "hyperband": (GOOD.replace("asha", "hyperband"), "`asha` with `brackets` has the same rungs"),
    "another scheduler": (GOOD.replace("asha", "ash"), "must be 'asha' or 'median', not 'ash'"),
    "a metric that is nearly one": (
        GOOD.replace("train/loss", "val/embedded-test/pnsr"),
        "no trial journals 'val/embedded-test/pnsr'. Did you mean 'val/embedded-test/psnr'?",
    ),
    "a metric of a probe that is not asked for": (
        GOOD.replace("train/loss", "block/mean_square/0.0"),
        "no trial journals 'block/mean_square/0.0'",
    ),
    "a grace of all steps": (
        GOOD.replace("20", "100"),
        "stop.grace_steps: 100 is not below the 100 steps of a trial",
    ),
    "a metric that comes too late": (
        "scheduler: median, metric: val/embedded-test/psnr, mode: max, grace_steps: 60",
        "has a value every 50 steps, and the first one from step 60 on is that of the last step",
    ),
    "rungs that share a value": (
        GOOD.replace("20", "2") + ", reduction: 2",
        "several rungs (2, 4, 8, 16, 32, 64) would be judged by that of step 10",
    ),
    "a reduction of one": (GOOD + ", reduction: 1", "stop.reduction: should be greater than 1"),
    "more brackets than rungs": (
        GOOD + ", reduction: 4, brackets: 3",
        "there are only 2 rungs below the last step (20, 80)",
    ),
    "a field of the other scheduler": (
        GOOD + ", min_samples: 2",
        "stop.min_samples: belongs to median; asha does not read it",
    ),
    "no mode": ("scheduler: asha, metric: train/loss, grace_steps: 20", "stop.mode: is missing"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_stop_anything_is_refused(tmp_path: Path, case: str) -> None:
    stop, wanted = REFUSED[case]
    said = said_of(tmp_path, text_of(stop))
    assert wanted in said
    assert said.startswith("bad.yaml:"), "with line and column"


def test_a_gate_and_stopping_contradict_each_other(tmp_path: Path) -> None:
    said = said_of(tmp_path, text_of(GOOD, more="gate: {baseline: layer_norm}\n"))
    assert "stop: a gate compares trials that are trained to their last step" in said


def test_a_metric_that_only_some_trials_have_names_one_that_lacks_it(tmp_path: Path) -> None:
    stop = GOOD.replace("train/loss", "train/grad_norm")
    said = said_of(tmp_path, text_of(stop, clip_grad_norm="null, 1.0"))
    assert "4 of 8 trials do not journal 'train/grad_norm', such as layer_norm sr_x2" in said


def test_groups_are_of_one_task_size_and_norm_and_differ_in_recipe_and_seed(tmp_path: Path) -> None:
    axes = {"width": "12, 24", "task": "sr_x2, denoise_25", "lr": "1.0e-3, 2.0e-3"}
    plan = plan_of(tmp_path, text_of(GOOD, **axes))
    assert plan.stop is not None
    groups = plan.stop.groups
    assert set(Counter(groups.values()).values()) == {4}, "two seeds of two learning rates"
    apart = [name for name in plan.trials[0].axes if AXES[name].role not in ("recipe", "repeat")]
    for trial in plan.trials:
        mine = {name: trial.axes[name] for name in apart}
        others = [one for one in plan.trials if groups[one.id] == groups[trial.id]]
        assert all({name: one.axes[name] for name in apart} == mine for one in others)
    across = plan_of(tmp_path, text_of(GOOD + ", across_norms: true", **axes)).stop
    assert across is not None
    assert set(Counter(across.groups.values()).values()) == {8}
    assert across.policy != plan.stop.policy


def test_stopping_changes_no_id(tmp_path: Path) -> None:
    with_it = plan_of(tmp_path, text_of(GOOD))
    without = plan_of(tmp_path, text_of(GOOD).split("stop:")[0])
    assert [trial.id for trial in with_it.trials] == [trial.id for trial in without.trials]
    assert without.stop is None


def test_trials_that_have_nobody_to_be_compared_with_are_warned_of(tmp_path: Path) -> None:
    (warning,) = plan_of(tmp_path, text_of(GOOD, seed="0")).warnings
    assert "No trial can be stopped: a group needs 2 trials" in warning
    assert plan_of(tmp_path, text_of(GOOD)).warnings == ()
    median = "scheduler: median, metric: train/loss, mode: min, grace_steps: 20"
    (warning,) = plan_of(tmp_path, text_of(median)).warnings
    assert "a group needs 4 trials" in warning


def test_every_metric_that_is_said_to_be_known_is_accepted(tmp_path: Path) -> None:
    spec = plan_of(tmp_path, text_of(GOOD)).trials[0].spec
    assert all(is_journalled(name, spec) for name in known_metrics(spec))
    assert is_journalled("feature/mean_square/group_1", spec)
    assert not is_journalled("system/cpu_percent", spec)
