"""The way of a plan from `run_sweep` to the report leads down, and climbs back as seldom as it can.

One trial is done beforehand and one is trained, with Ray, DeepSpeed and MLflow for real. (A trial
that fails adds a climb for its warning, and one for giving up on it.)
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from orchestrator.plan import load_plan
from orchestrator.run.options import RunOptions
from orchestrator.run.runner import run_sweep
from orchestrator.store import open_store
from tests.sweeps import write_sweep
from tests.way import Way, recorded
from tests.written_store import write_ended

MOST_CLIMBS = 3  # to open the live table, to train, to close the table
# A backbone's shape is found by its name in the catalogue, fills in what the base of shapes leaves
# open, and calls a function that it is given to count a norm's parameters.
UPWARD = {
    ("trainers.spec", "trainers.backbones.network_shape"),
    ("trainers.shape", "trainers.backbones.network_shape"),
    ("trainers.backbones.network_shape", "orchestrator.plan.cost"),
}


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Way:
    folder = tmp_path_factory.mktemp("way")
    plan = load_plan(write_sweep(folder, norms="layer_norm, i_ln", steps=2))
    first = plan.trials[0]
    write_ended(
        open_store(str(folder / "runs")),
        replace(first, axes={**first.axes, "width": 8, "depth": 2}),
    )
    options = RunOptions(str(folder / "runs"), f"sqlite:///{folder}/runs/mlflow.db", quiet=True)
    with recorded("orchestrator.run.runner") as way:
        ended = run_sweep(plan, options)
    assert (ended.exit_code, ended.counts["trained"]) == (0, 1), ended.warnings
    return way


def test_the_way_of_a_plan_climbs_back_three_times_at_most(way: Way) -> None:
    entered = [call.module for call in way.calls]
    for part in (
        "store.names",
        "store.trials",
        "initial",
        "run.mirroring",
        "run.tuning",
        "report.frame",
        "report.page",
    ):
        assert f"orchestrator.{part}" in entered, "the whole way was seen"
    climbs = [f"{before.module} then {call}" for before, call in way.climbs]
    assert len(climbs) <= MOST_CLIMBS, climbs


def test_trials_are_looked_at_in_five_places(way: Way) -> None:
    """Before anything is done, in words for people, for the mirror, at its turn, for the report."""
    found = sorted(call.function for call in way.into("orchestrator.store.trials"))
    assert found == ["damage_in_words", "glance", "glance", "looks_at", "read_trial"]


def test_nothing_calls_upward_but_the_shapes_of_backbones(way: Way) -> None:
    found = {(call.caller.partition(":")[0], call.module) for call in way.upward}
    assert found <= UPWARD, "\n".join(map(str, way.upward))
