"""Plans of very many trials: what is made once for many of them is what each would have alone."""

from __future__ import annotations

import json

import pytest

from orchestrator.plan import Plan, gpus, load_plan, show
from orchestrator.plan.cost import cost_of
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.groups import axes_in_words, grouped
from orchestrator.plan.identity import trial_id
from orchestrator.plan.on_gpus import placed
from orchestrator.plan.states import State
from trainers.spec import RunSpec

MIXED = """\
# Which?
sweep: mixed
axes:
  backbone: [swinir-tiny, {name: swinir-tiny, window_size: 4}]
  norm: [layer_norm, i_ln, batch_norm]
  task: [sr_x2, denoise_25]
  width: [12, 24]
  lr: [1.0e-4, 2.0e-4]
  batch_size: [4, 8]
  seed: [0, 1, 2]
exclude: [{norm: i_ln, width: 12, task: sr_x2}]
include: [{norm: none, seed: [7, 8]}]
training: {steps: 20}
data: {evaluate: [embedded-test], sr: {evaluate: []}}
resources:
  overrides: [{match: {width: 24}, workers: 2, micro_batch: 1}, {match: {norm: none}, device: cpu}]
"""


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    file = tmp_path_factory.mktemp("large") / "mixed.yaml"
    file.write_text(MIXED)
    return load_plan(file)


def test_each_trial_has_the_id_and_the_cost_of_its_own_spec(plan: Plan) -> None:
    assert len(plan.trials) == 288 - 24 + 64
    for trial in plan.trials:
        assert RunSpec.from_json(trial.spec.to_json()) == trial.spec
        assert trial.id == trial_id(trial.spec), trial.name
        assert trial.cost == cost_of(trial.spec), trial.name


def test_each_trial_has_what_its_labels_say(plan: Plan) -> None:
    for trial in plan.trials:
        spec, axes = trial.spec, trial.axes
        assert (spec.training.lr, spec.training.batch_size) == (axes["lr"], axes["batch_size"])
        assert (spec.training.seed, spec.model.norm.name) == (axes["seed"], axes["norm"])
        assert spec.model.backbone.knobs["embed_dim"] == axes["width"]
        assert spec.placement.workers == (2 if axes["width"] == 24 else 1)
        assert spec.placement.device == ("cpu" if axes["norm"] == "none" else "auto")
        assert bool(spec.observe.evaluate) == (axes["task"] != "sr_x2")
    assert len({trial.id for trial in plan.trials}) == len(plan.trials)


def test_a_plan_placed_on_gpus_costs_what_each_spec_costs_there(plan: Plan) -> None:
    there = placed(plan, Gpus(1, "these nodes have GPUs", 80.0))
    assert {trial.spec.placement.gpus for trial in there.trials} == {0.0, 1.0}
    for written, trial in zip(plan.trials, there.trials, strict=True):
        assert (trial.id, trial.axes) == (written.id, written.axes)
        assert trial.cost == cost_of(trial.spec), trial.name


def test_json_in_pieces_is_json_as_a_whole(plan: Plan) -> None:
    here = gpus.of_this_machine()
    states = {plan.trials[0].id: State.DONE}
    document = show.as_json(plan, states, here)
    text = "".join(show.indented(document))
    whole = show.as_json(plan, states, here)
    assert text == json.dumps({**whole, "trials": list(whole["trials"])}, indent=2)
    assert "".join(show.indented({"none": iter(())})) == '{\n  "none": []\n}'


def test_groups_add_up_to_the_plan(plan: Plan) -> None:
    groups = grouped(plan.trials, plan.trials[5:])
    assert len(groups) == 2 * 2 * 2, "backbone, task, width; one depth each"
    assert sum(group.trials for group in groups) == len(plan.trials)
    assert sum(group.to_run for group in groups) == len(plan.trials) - 5
    left = sum(trial.seconds for trial in plan.trials[5:])
    assert sum(group.seconds for group in groups) == pytest.approx(left)
    for group in groups:
        alike = [t for t in plan.trials if t.axes["width"] == group.labels[2]]
        assert group.parameters <= {trial.parameters for trial in alike}


def test_axes_are_told_with_how_many_trials_each_value_has(plan: Plan) -> None:
    lines = axes_in_words(plan.axes, plan.trials)
    assert "lr: 0.0001, 0.0002, 164 trials each" in lines
    assert any(
        line.startswith("norm: layer_norm (96), i_ln (72), batch_norm (96)") for line in lines
    )


def test_a_plan_of_too_many_trials_is_told_in_groups(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(show, "MOST_LISTED", 100)
    monkeypatch.setattr(show, "MOST_ROWS", 3)
    text = show.as_text(plan, {plan.trials[0].id: State.DONE}, gpus.of_this_machine())
    assert plan.trials[0].id not in text
    assert "in 5 groups more" in text
    assert "done 1  pending 327" in text
    assert "328 trials, 327 to run" in text
    assert "--json lists every trial" in text
    assert len(text.splitlines()) < 40
