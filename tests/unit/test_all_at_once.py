"""Everything that is wrong with a sweep file is reported at once, and nothing that only follows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.plan.axes import LARGEST_GRID
from tests.planned import plan_in_process
from tests.sweeps import GRID, plan_of, said_of

RIGHT = {
    "axes": [
        "  backbone: [swinir-tiny]",
        "  norm: [layer_norm, i_ln, layer_scale]",
        "  task: [sr_x2, derain_synthetic]",
        "  width: [24]",
    ],
    "exclude": ["  - {norm: i_ln, task: sr_x2}"],
    "data": ["  train: embedded-train", "  evaluate: [embedded-test]"],
    "training": ["  steps: 100", "  lr: 1.0e-4", "  batch_size: 4"],
    "observe": ["  probes: [features]", "  log_every: 5"],
    "resources": ["  workers: 2", "  overrides: [{match: {norm: i_ln}, workers: 1}]"],
    "gate": ["  baseline: layer_norm", "  margin: 0.1"],
}
# What is right, what is wrong instead, and what is said of it: all of different kinds and places.
WRONG = {
    "a number that is text": ("lr: 1.0e-4", "lr: 1e-4", "training.lr: 1e-4 is text to YAML"),
    "a value out of range": ("steps: 100", "steps: 0", "training.steps: should be greater"),
    "an unknown field": ("log_every: 5", "log_evry: 5", "observe.log_evry: unknown field"),
    "an unknown part": ("gate:", "gates:", "gates: unknown field 'gates'"),
    "an unknown norm": ("norm: [layer_norm, i_ln", "norm: [layer_norm, iln", "unknown norm 'iln'"),
    "a knob that is not there": (
        "layer_scale]",
        "{name: layer_scale, epps: 1.0, init: 1.0}]",
        "layer_scale has no knob 'epps'",
    ),
    "another knob of the same norm": ("init: 1.0}", "init: -1.0}", "init must be at least 0"),
    "an unknown task": ("derain_synthetic]", "derain_sinthetic]", "task 'derain_sinthetic'"),
    "a task without its data": ("[sr_x2,", "[sr_x2, derain,", "which 'embedded-test' lacks"),
    "a size that does not fit": ("width: [24]", "width: [24, 25]", "heads do not divide"),
    "an unknown set": ("[embedded-test]", "[embedded-test, Set55]", "no data set 'Set55'"),
    "an unknown training set": ("train: embedded-train", "train: X", "no data set 'X'"),
    "workers that do not divide": ("workers: 2", "workers: 3", "workers 3 does not divide"),
    "an exclude of an unknown axis": ("{norm: i_ln, task", "{nrom: i_ln, task", "axis 'nrom'"),
    "an override that matches nothing": ("{match: {norm: i_ln}", "{match: {seed: 7}", "matches no"),
    "an unknown field of an override": ("workers: 1}", "workrs: 1}", "overrides[0].workrs"),
    "an unknown probe": ("probes: [features]", "probes: [featurs]", "unknown probe 'featurs'"),
    "a bad margin": ("margin: 0.1", "margin: -0.1", "margin: should be greater than 0"),
    "a baseline that is no norm": ("baseline: layer_norm", "baseline: no_such", "no_such is not"),
}


def text_of(right: dict[str, list[str]]) -> str:
    return "\n".join(f"{part}:\n" + "\n".join(lines) for part, lines in right.items()) + "\n"


def with_wrong(*names: str) -> str:
    text = text_of(RIGHT)
    for name in names:
        good, bad, _ = WRONG[name]
        text = text.replace(good, bad, 1)
    return text


def problems_of(folder: Path, text: str) -> list[str]:
    said = said_of(folder, text).splitlines()
    return [line for line in said if re.match(r"bad\.yaml:\d", line)]


def test_the_right_file_is_right(tmp_path: Path) -> None:
    assert plan_of(tmp_path, text_of(RIGHT)).trials


def test_all_kinds_of_problems_are_reported_together(tmp_path: Path) -> None:
    found = problems_of(tmp_path, with_wrong(*WRONG))
    missing = [name for name, (_, _, said) in WRONG.items() if not any(said in f for f in found)]
    assert not missing, "\n".join(found)
    assert len(found) == len(WRONG), "\n".join(found)


ALONE = [name for name in WRONG if name != "another knob of the same norm"]


@pytest.mark.parametrize("one", ALONE)
def test_no_problem_hides_another_or_brings_one_along(tmp_path: Path, one: str) -> None:
    alone = set(problems_of(tmp_path, with_wrong(one)))
    assert any(WRONG[one][2] in line for line in alone)
    place = ALONE.index(one)
    for other in (ALONE[(place + step) % len(ALONE)] for step in (1, 4)):
        found = "\n".join(problems_of(tmp_path, with_wrong(one, other)))
        for name in (one, other):
            assert WRONG[name][2] in found, f"{one} + {other}:\n{found}"


ONE_PROBLEM = {
    "a misspelt axis is not missing as well": (GRID.replace("norm:", "nrom:"), "axis 'nrom'"),
    "a misspelt part is not missing as well": (GRID.replace("axes:", "axs:"), "'axs'"),
    "an exclude with a misspelt axis does not take out all": (
        GRID + "exclude: [{nrom: i_ln}]\n",
        "unknown axis 'nrom'",
    ),
    "an override with a misspelt axis does not match all": (
        GRID + "training: {batch_size: 4}\nresources: {overrides: "
        "[{match: {nrom: i_ln}, workers: 3}]}\n",
        "unknown axis 'nrom'",
    ),
    "an override for trials of a wrong size matches them": (
        GRID + "  width: [25]\nresources: {overrides: [{match: {width: 25}, workers: 2}]}\n",
        "heads do not divide",
    ),
    "a norm that is not known may be what a match means": (
        GRID.replace("i_ln", "zzz") + "exclude: [{norm: i_ln}]\n",
        "unknown norm 'zzz'",
    ),
    "a gate's baseline may be a misspelt norm": (
        GRID.replace("i_ln", "iln") + "gate: {baseline: i_ln}\n",
        "unknown norm 'iln'",
    ),
    "a gate's baseline may be a norm that is not known": (
        GRID.replace("i_ln", "zzz") + "gate: {baseline: i_ln}\n",
        "unknown norm 'zzz'",
    ),
    "sizes of an unknown backbone are not judged": (
        GRID.replace("swinir-tiny", "zzz") + "  width: [25]\n",
        "unknown backbone 'zzz'",
    ),
    "a misspelt name is not a value twice": (
        GRID.replace("layer_norm", "iln"),
        "unknown norm 'iln'",
    ),
    "nothing is divided by a batch that is wrong": (
        GRID + "training: {batch_size: four}\nresources: {workers: 3}\n",
        "training.batch_size",
    ),
    "a list that is no list is read as one": (
        GRID.replace("[layer_norm, i_ln]", "i_ln"),
        "axes.norm: must be a list, not 'i_ln': write [i_ln]",
    ),
    "a misspelt name in an exclude still says what it was to take out": (
        GRID.replace("swinir-tiny", "swinir-tiny, restormer-tiny")
        + "exclude: [{backbone: restormr-tiny, task: sr_x2}]\n",
        "matches no point of the grid: no backbone 'restormr-tiny'. Did you mean 'restormer-tiny'?",
    ),
    "a misspelt axis in an exclude still says what it was to take out": (
        GRID.replace("swinir-tiny", "swinir-tiny, restormer-tiny")
        + "exclude: [{bakbone: restormer-tiny, task: sr_x2}]\n",
        "unknown axis 'bakbone'",
    ),
    "an include that is wrong may have added what a match means": (
        GRID + "include: [{width: [x]}]\n"
        "resources: {overrides: [{match: {width: 48}, workers: 2}]}\n",
        "include[0].width",
    ),
}


@pytest.mark.parametrize(("text", "said"), ONE_PROBLEM.values(), ids=ONE_PROBLEM)
def test_what_only_follows_from_a_problem_is_not_reported(
    tmp_path: Path, text: str, said: str
) -> None:
    found = problems_of(tmp_path, text)
    assert len(found) == 1 and said in found[0], "\n".join(found)


def test_everything_about_one_network_is_reported_at_once(tmp_path: Path) -> None:
    wrong = {
        "{name: hat-tiny, squeeze_factor: 40, window_size: 6, mlp_ratio: 0.01}": (
            ("heads do not divide", "squeeze_factor 40", "overlap_ratio", "mlp_ratio 0.01"),
            "[25]",
        ),
        "{name: swinir-tiny, depths: [2, 3], img_size: 4}": (
            ("heads do not divide", "groups differ in depths", "img_size 4 is smaller"),
            "[25]\n  depth: [2]",
        ),
    }
    for backbone, (said, width) in wrong.items():
        text = GRID.replace("swinir-tiny", backbone) + f"  width: {width}\n"
        found = "\n".join(problems_of(tmp_path, text))
        assert [one for one in said if one not in found] == [], found


def test_a_grid_that_is_too_large_hides_nothing(tmp_path: Path) -> None:
    many = ", ".join(map(str, range(1, 400)))
    assert LARGEST_GRID < 399**2
    text = GRID + f"  seed: [{many}]\n  steps: [{many}]\n  width: [24, 25]\ndata: {{train: X}}\n"
    found = problems_of(tmp_path, text + "exclude: [{norm: i_ln, width: 24, seed: 9}]\n")
    assert [any(said in line for line in found) for said in ("more than", "divide", "'X'")] == [
        True,
        True,
        True,
    ], "\n".join(found)
    assert len(found) == 3


def test_a_problem_of_many_trials_is_one_and_names_some(tmp_path: Path) -> None:
    text = GRID + "  seed: [0, 1, 2]\ntraining: {batch_size: 4}\nresources: {workers: 3}\n"
    (found,) = problems_of(tmp_path, text)
    assert "trials layer_norm sr_x2 w24 d2 swinir-tiny s0; " in found
    assert found.endswith(" and 3 more)")


def test_deraining_without_pairs_points_at_the_task_or_at_the_data(tmp_path: Path) -> None:
    text = GRID.replace("sr_x2", "sr_x2, derain")
    found = problems_of(tmp_path, text)
    assert all(line.startswith("bad.yaml:4:17: axes.task[1]: ") for line in found)
    assert all("derain_synthetic" in line for line in found)
    found = problems_of(tmp_path, text + "data: {train: embedded-train}\n")
    assert found[0].startswith("bad.yaml:5:7: data.evaluate[0]: ")
    assert found[1].startswith("bad.yaml:5:15: data.train: ")


def test_given_lr_images_that_a_default_set_lacks_are_reported_at_the_task(tmp_path: Path) -> None:
    found = problems_of(tmp_path, GRID.replace("sr_x2", "{name: sr, lr_mode: given}"))
    assert found
    assert all(line.startswith("bad.yaml:4:10: axes.task[0]: ") for line in found)


CLAIM = "- {id: mine, sentence: Mine., statistic: growing, norms: [iln]}\n"
OF_CLAIM = "mine.yaml:1:59: [0].norms[0]: unknown norm 'iln'. Did you mean 'i_ln'?"


@pytest.mark.parametrize("verb", ["validate", "plan", "report", "claims"])
def test_problems_of_claims_come_with_all_others(tmp_path: Path, verb: str) -> None:
    (tmp_path / "mine.yaml").write_text(CLAIM)
    file = tmp_path / "bad.yaml"
    file.write_text(with_wrong(*WRONG) + "claims: mine.yaml\n")
    found = plan_in_process(file, verb)
    assert found["code"] == 2
    said = found["said"]
    missing = [name for name, (_, _, of) in WRONG.items() if of not in said]
    assert not missing and OF_CLAIM in said, said
    assert said.count("mine.yaml:") == 1


@pytest.mark.parametrize("verb", ["report", "claims"])
@pytest.mark.parametrize("wrong", ["axes: [", GRID.replace("i_ln", "iln")])
def test_a_file_of_claims_that_a_flag_names_is_read_whatever_the_sweep_is(
    tmp_path: Path, verb: str, wrong: str
) -> None:
    (tmp_path / "mine.yaml").write_text(CLAIM)
    file = tmp_path / "bad.yaml"
    file.write_text(wrong)
    for name, of in {"mine.yaml": OF_CLAIM, "none.yaml": "none.yaml: no such file"}.items():
        found = plan_in_process(file, verb, "--claims", str(tmp_path / name))
        assert found["code"] == 2
        assert "bad.yaml:" in found["said"] and of in found["said"], found["said"]


def test_a_flag_that_names_nothing_does_not_hide_the_claims_of_the_sweep(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CLAIM)
    file = tmp_path / "good.yaml"
    file.write_text(text_of(RIGHT) + "claims: mine.yaml\n")
    found = plan_in_process(file, "claims", "--claims", str(tmp_path / "none.yaml"))
    assert "none.yaml: no such file" in found["said"] and OF_CLAIM in found["said"]
