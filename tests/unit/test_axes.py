"""Axes as data: any field of `training` may be one, and a line makes another."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.errors import UserError
from orchestrator.plan import Plan
from orchestrator.plan.axes import AXES, LINES, NOT_AXES
from orchestrator.plan.docs import schema
from orchestrator.plan.training import Training
from tests.sweeps import plan_of

BASE = """\
# A question?
axes:
  backbone: [swinir-tiny]
  norm: [i_ln]
  task: [sr_x2]
"""
# Two values of each field, as YAML, and how they appear in the names of trials.
VALUES = {
    "steps": ("[1000, 2000]", "steps1000 steps2000"),
    "batch_size": ("[8, 16]", "batch_size8 batch_size16"),
    "lr": ("[1.0e-4, 2.0e-4]", "lr0.0001 lr0.0002"),
    "betas": ("[[0.9, 0.99], [0.9, 0.999]]", "betas[0.9,0.99] betas[0.9,0.999]"),
    "weight_decay": ("[0.0, 0.5]", "weight_decay0.0 weight_decay0.5"),
    "halve_lr_at": ("[[0.5], [0.5, 0.75]]", "halve_lr_at[0.5] halve_lr_at[0.5,0.75]"),
    "lr_factor": ("[0.25, 0.5]", "lr_factor0.25 lr_factor0.5"),
    "clip_grad_norm": ("[null, 1.0]", "clip_grad_norm=none clip_grad_norm1.0"),
    "ema_decay": ("[0.99, 0.999]", "ema_decay0.99 ema_decay0.999"),
    "precision": ("[fp32, bf16]", "precision=fp32 precision=bf16"),
    "flips": ("[true, false]", "flips=true flips=false"),
    "rotations": ("[true, false]", "rotations=true rotations=false"),
    "sampling": ("[independent, epoch]", "sampling=independent sampling=epoch"),
    "feature_limit": ("[null, 1.0e+6]", "feature_limit=none feature_limit1000000.0"),
    "patch_size_px": ("[16, 32]", "patch_size_px16 patch_size_px32"),
}


def said_of(folder: Path, text: str) -> list[str]:
    """The first line of each problem."""
    with pytest.raises(UserError) as caught:
        plan_of(folder, text)
    place = str(folder / "a_sweep.yaml")
    return [
        line.removeprefix(f"{place}:")
        for line in str(caught.value).splitlines()
        if line.startswith(place)
    ]


def items(values: str) -> list[str]:
    """The values of an axis, each as YAML."""
    separator = "], [" if values.startswith("[[") else ", "
    parts = values.removeprefix("[").removesuffix("]").split(separator)
    return [part if separator == ", " else f"[{part.strip('[]')}]" for part in parts]


def axis_of(plan: Plan, name: str) -> list[Any]:
    return [trial.axes[name] for trial in plan.trials]


# --- every field of `training`


def test_every_field_of_training_is_an_axis_or_says_why_not() -> None:
    assert {*VALUES, *NOT_AXES} == set(Training.model_fields)
    assert AXES.keys() - {axis.name for axis in LINES} == set(VALUES)


@pytest.mark.parametrize("field", VALUES)
def test_a_trial_has_the_id_of_the_same_value_in_training(tmp_path: Path, field: str) -> None:
    values, _ = VALUES[field]
    swept = plan_of(tmp_path, BASE + f"  {field}: {values}\n")
    written = [
        plan_of(tmp_path, BASE + f"training: {{{field}: {item}}}\n") for item in items(values)
    ]
    assert [trial.id for trial in swept.trials] == [plan.trials[0].id for plan in written]
    assert [trial.spec for trial in swept.trials] == [plan.trials[0].spec for plan in written]
    assert len({trial.id for trial in swept.trials}) == 2


@pytest.mark.parametrize("field", VALUES)
def test_the_value_is_in_the_name_in_brief(tmp_path: Path, field: str) -> None:
    values, briefs = VALUES[field]
    names = [trial.name for trial in plan_of(tmp_path, BASE + f"  {field}: {values}\n").trials]
    assert names == [f"i_ln sr_x2 w24 d2 {brief} swinir-tiny s0" for brief in briefs.split()]


WRONG = {
    "lr": "0.0",
    "batch_size": "many",
    "betas": "[0.9, 1.5]",
    "halve_lr_at": "[0.5, 2.0]",
    "clip_grad_norm": "-1.0",
    "precision": "fp8",
    "flips": "1",
    "patch_size_px": "4",
}


@pytest.mark.parametrize("field", WRONG)
def test_a_wrong_value_is_reported_as_in_training_and_at_its_place(
    tmp_path: Path, field: str
) -> None:
    before = {"training": f"training: {{{field}: ", "axes": f"  {field}: ["}
    (in_training,) = said_of(tmp_path, BASE + before["training"] + WRONG[field] + "}\n")
    (in_axes,) = said_of(tmp_path, BASE + before["axes"] + WRONG[field] + "]\n")
    (_, column, *_), (line, moved, *_) = in_training.split(":"), in_axes.split(":")
    assert (line, int(moved)) == ("6", int(column) - len(before["training"]) + len(before["axes"]))
    assert f": axes.{field}[0]" in in_axes
    assert in_axes.split(": ")[2:] == in_training.split(": ")[2:]


def test_a_field_in_axes_and_in_training_is_an_error(tmp_path: Path) -> None:
    assert said_of(
        tmp_path, BASE + "  lr: [1.0e-4, 2.0e-4]\ntraining: {steps: 10, lr: 1.0e-4}\n"
    ) == [
        "7:23: training.lr: is an axis of this sweep as well: "
        "give it in `axes` or in `training`, not in both"
    ]


@pytest.mark.parametrize("place", ["axes", "exclude", "include", "match"])
def test_initial_is_not_an_axis_and_the_message_says_where_it_goes(
    tmp_path: Path, place: str
) -> None:
    text = {
        "axes": "  initial: [a.pth, b.pth]\n",
        "exclude": "exclude: [{initial: a.pth}]\n",
        "include": "include: [{initial: a.pth}]\n",
        "match": "resources: {overrides: [{match: {initial: a.pth}, workers: 2}]}\n",
    }[place]
    (said,) = (line for line in said_of(tmp_path, BASE + text) if "initial" in line)
    assert "initial cannot be an axis: `training.initial` gives weights to start from" in said


def test_an_unknown_axis_is_answered_with_a_near_name_and_not_with_dozens(tmp_path: Path) -> None:
    known = f"Known: {', '.join(axis.name for axis in LINES)}, and any field of `training`."
    assert said_of(tmp_path, BASE + "  batchsize: [8]\n") == [
        f"6:3: axes.batchsize: unknown axis 'batchsize'. Did you mean 'batch_size'? {known}"
    ]
    said = f"6:18: exclude[0].wdth: unknown axis 'wdth'. Did you mean 'width'? {known}"
    assert said in said_of(tmp_path, BASE + "exclude: [{wdth: 8}]\n")


def test_an_axis_of_null_is_as_if_left_out(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE + "  lr:\ntraining: {lr: 1.0e-4}\n")
    assert [trial.name for trial in plan.trials] == ["i_ln sr_x2 w24 d2 swinir-tiny s0"]
    assert plan.trials[0].spec.training.lr == 1e-4


def test_the_tasks_own_patch_is_named_by_its_size(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE + "  patch_size_px: [null, 16]\n")
    assert axis_of(plan, "patch_size_px") == [plan.trials[0].spec.training.patch_size_px, 16]


def test_the_same_trial_by_two_values_is_folded(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE + "  patch_size_px: [null, 32]\n")
    assert (len(plan.trials), len(plan.folded)) == (1, 1)


# --- matches

RATES = (
    "  lr: [1.0e-4, 2.0e-4]\n  betas: [[0.9, 0.99], [0.9, 0.999]]\n  clip_grad_norm: [null, 1]\n"
)


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ("{lr: 1.0e-4}", 4),
        ("{lr: [1.0e-4], clip_grad_norm: null}", 6),
        ("{betas: [0.9, 0.99]}", 4),
        ("{betas: [[0.9, 0.99]], lr: 2.0e-4}", 6),
        ("{clip_grad_norm: 1.0, lr: [1.0e-4, 2.0e-4]}", 4),
        ("{clip_grad_norm: none, betas: '[0.9,0.999]'}", 6),
    ],
)
def test_exclude_matches_recipe_axes(tmp_path: Path, rule: str, left: int) -> None:
    assert len(plan_of(tmp_path, BASE + RATES + f"exclude: [{rule}]\n").trials) == left


def test_an_include_adds_values_of_recipe_axes(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path, BASE + "  lr: [1.0e-4]\ninclude: [{norm: none, lr: [3.0e-4, 4.0e-4]}]\n"
    )
    assert axis_of(plan, "lr") == [1e-4, 3e-4, 4e-4]
    assert [trial.spec.training.lr for trial in plan.trials] == [1e-4, 3e-4, 4e-4]


def test_an_axis_that_only_an_include_names_has_elsewhere_what_training_says(
    tmp_path: Path,
) -> None:
    plan = plan_of(
        tmp_path, BASE + "training: {betas: [0.5, 0.9]}\ninclude: [{betas: [0.9, 0.99]}]\n"
    )
    assert axis_of(plan, "betas") == ["[0.5,0.9]", "[0.9,0.99]"]
    assert [trial.spec.training.betas for trial in plan.trials] == [(0.5, 0.9), (0.9, 0.99)]


def test_an_include_keeps_the_bounds_of_training(tmp_path: Path) -> None:
    said = said_of(
        tmp_path, BASE + "include: [{lr: 0.0}, {batch_size: x}, {betas: [[0.9, 1.5]]}]\n"
    )
    assert [line.partition(": ")[2] for line in said] == [
        "include[0].lr: lr should be greater than 0, not 0.0",
        "include[1].batch_size: batch_size should be a valid integer, not 'x'",
        "include[2].betas: betas should be less than 1, not [0.9, 1.5]",
    ]


def test_a_match_on_a_field_that_is_not_an_axis_here_says_so(tmp_path: Path) -> None:
    said = "6:16: exclude[0].lr: is not an axis of this sweep: add `lr` to `axes`"
    assert said in said_of(tmp_path, BASE + "exclude: [{lr: 1.0e-4}]\n")


def test_resources_follow_a_recipe_axis(tmp_path: Path) -> None:
    text = (
        BASE
        + "  batch_size: [8, 16]\nresources: {overrides: [{match: {batch_size: 16}, workers: 2}]}\n"
    )
    assert [trial.spec.placement.workers for trial in plan_of(tmp_path, text).trials] == [1, 2]


def test_weights_to_start_from_follow_a_recipe_axis(tmp_path: Path) -> None:
    text = (
        BASE + "  lr: [1.0e-4, 2.0e-4]\ntraining: {initial: [{match: {lr: 3.0e-4}, from: a.pth}]}\n"
    )
    assert any(
        "training.initial[0].match: matches no trial" in line for line in said_of(tmp_path, text)
    )
    said = said_of(tmp_path, text.replace("3.0e-4", "2.0e-4"))
    assert not any("matches no trial" in line for line in said)


def test_a_grid_over_recipe_axes_is_counted_before_it_is_built(tmp_path: Path) -> None:
    rates = ", ".join(f"{i}.0e-6" for i in range(1, 401))
    text = BASE + f"  lr: [{rates}]\n  weight_decay: [{rates}]\n"
    assert "160,000 trials are more than 100,000: split the sweep" in said_of(tmp_path, text)[0]


def test_the_schema_for_editors_knows_recipe_axes() -> None:
    good = yaml.safe_load(
        BASE + "".join(f"  {field}: {values}\n" for field, (values, _) in VALUES.items())
    )
    jsonschema.validate(good, schema())
    for field, value in WRONG.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(
                {"axes": {**good["axes"], field: [yaml.safe_load(value)]}}, schema()
            )


# --- a line


def test_a_sweep_without_recipe_axes_has_none(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, BASE)
    always = [axis.name for axis in LINES if axis.is_always]
    assert list(plan.trials[0].axes) == always == [axis.name for axis in plan.axes]


def test_an_axis_is_one_line(tmp_path: Path) -> None:
    """A knob of backbones becomes an axis. Sweeps that do not name it stay as they were."""
    root = Path(__file__).parents[2]
    for package in ("orchestrator", "trainers", "sweeps"):
        shutil.copytree(
            root / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    lines = tmp_path / "orchestrator/plan/axes.py"
    line = (
        '    Axis("window", "model", Annotated[int, Field(ge=2, le=64)], '
        '"backbone.window_size", letter="win"),\n'
    )
    lines.write_text(lines.read_text().replace("LINES = (\n", "LINES = (\n" + line))

    def trials(text: str) -> list[tuple[str, int]]:
        (tmp_path / "s.yaml").write_text(text)
        command = [sys.executable, "-m", "orchestrator", "plan", "s.yaml", "--json"]
        ran = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        planned = json.loads(ran.stdout)["trials"]
        return [
            (trial["name"], trial["spec"]["model"]["backbone"]["window_size"]) for trial in planned
        ]

    assert trials(BASE) == [("i_ln sr_x2 w24 d2 swinir-tiny s0", 8)]
    assert trials(BASE + "  window: [4, 8]\n") == [
        ("i_ln sr_x2 w24 d2 win4 swinir-tiny s0", 4),
        ("i_ln sr_x2 w24 d2 win8 swinir-tiny s0", 8),
    ]
