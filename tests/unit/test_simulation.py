"""`plan --simulate`: schedules against ones that were worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from orchestrator.errors import UserError
from orchestrator.plan import Trial, load_plan
from orchestrator.plan.fit import launch_order, with_placement
from orchestrator.plan.simulate import Cluster, Schedule, Slot, read_cluster, simulate
from tests.sweeps import write_sweep

Gang = tuple[int, str, float]  # workers, strategy, seconds


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    return load_plan(write_sweep(tmp_path_factory.mktemp("sim"), norms="layer_norm")).trials[0]


def schedule(
    trial: Trial, gangs: Sequence[Gang], cluster: Cluster, *, gpus: float = 1.0, window: int = 8
) -> Schedule:
    trials = [
        replace(
            trial,
            id=f"t{i}",
            spec=with_placement(
                trial.spec, workers=workers, strategy=strategy, gpus_per_worker=gpus
            ),
        )
        for i, (workers, strategy, _) in enumerate(gangs)
    ]
    return simulate(trials, {f"t{i}": one[2] for i, one in enumerate(gangs)}, cluster, window)


def starts(found: Schedule) -> dict[str, float]:
    return {run.trial.id: run.start_s for run in found.runs}


def test_three_trials_on_two_gpus_end_when_worked_out_by_hand(trial: Trial) -> None:
    found = schedule(trial, [(1, "pack", 5.0), (1, "pack", 3.0), (1, "pack", 4.0)], Cluster(1, 2))
    assert starts(found) == {"t0": 0, "t1": 0, "t2": 3}
    assert [run.slots for run in found.runs] == [(Slot(0, 0),), (Slot(0, 1),), (Slot(0, 1),)]
    assert (found.makespan_s, found.work_s, found.shared_s) == (7, 12, 6)
    assert (found.longest_s, found.bound_s) == (5, 6)
    assert found.utilisation == pytest.approx(12 / 14)


def test_the_longest_trial_bounds_a_sweep_that_has_room_for_all(trial: Trial) -> None:
    found = schedule(trial, [(1, "pack", 9.0), (1, "pack", 1.0)], Cluster(1, 4))
    assert (found.makespan_s, found.bound_s, found.shared_s) == (9, 9, 2.5)


def test_a_small_trial_overtakes_a_gang_that_waits_but_only_from_the_window(trial: Trial) -> None:
    gangs = [(1, "pack", 4.0), (2, "pack", 2.0), (1, "pack", 3.0), (1, "pack", 1.0)]
    assert starts(schedule(trial, gangs, Cluster(1, 2))) == {"t0": 0, "t2": 0, "t3": 3, "t1": 4}
    # With one placement group at a time, everything waits for the gang.
    found = starts(schedule(trial, gangs, Cluster(1, 2), window=1))
    assert found == {"t0": 0, "t1": 4, "t2": 6, "t3": 6}


def test_ray_puts_trials_on_the_freest_node_so_a_strict_gang_waits(trial: Trial) -> None:
    gangs = [(1, "pack", 5.0), (1, "pack", 7.0), (2, "strict_pack", 1.0)]
    found = schedule(trial, gangs, Cluster(2, 2))
    assert [run.slots[0].node for run in found.runs] == [0, 1, 0]
    assert starts(found)["t2"] == 5, "one GPU is free on each node, but no node has two"
    packed = schedule(trial, [*gangs[:2], (2, "pack", 1.0)], Cluster(2, 2))
    assert starts(packed)["t2"] == 0, "`pack` takes a GPU of each"


def test_spread_takes_a_node_for_each_worker_while_there_are_any(trial: Trial) -> None:
    found = schedule(trial, [(3, "spread", 1.0)], Cluster(2, 2))
    assert sorted(slot.node for slot in found.runs[0].slots) in ([0, 0, 1], [0, 1, 1])
    found = schedule(trial, [(2, "pack", 1.0)], Cluster(2, 2))
    assert [slot.node for slot in found.runs[0].slots] == [0, 0]


def test_trials_share_a_gpu_and_fill_one_before_the_next(trial: Trial) -> None:
    found = schedule(trial, [(1, "pack", 2.0)] * 5, Cluster(1, 2), gpus=0.5)
    assert starts(found) == {"t0": 0, "t1": 0, "t2": 0, "t3": 0, "t4": 2}
    assert [run.slots[0].number for run in found.runs[:4]] == [0, 0, 1, 1]
    assert found.work_s == 5, "half a GPU for two seconds, five times"


def test_without_gpus_cores_are_what_is_shared(trial: Trial) -> None:
    found = schedule(trial, [(1, "pack", 2.0)] * 3, Cluster(1, 0, 2), gpus=0.0)
    assert (found.makespan_s, found.shared_s) == (4, 3)
    assert [run.slots for run in found.runs] == [(Slot(0, 0),), (Slot(0, 1),), (Slot(0, 0),)]


def test_a_gang_that_would_never_start_is_named(trial: Trial) -> None:
    with pytest.raises(UserError, match=r"would never start on 2 nodes of 2 GPUs: its 3 workers"):
        schedule(trial, [(3, "strict_pack", 1.0)], Cluster(2, 2))
    with pytest.raises(UserError, match="would never start"):
        schedule(trial, [(1, "pack", 1.0)], Cluster(2, 0, 4))


def test_no_trials_take_no_time(trial: Trial) -> None:
    found = schedule(trial, [], Cluster(1, 1))
    assert (found.makespan_s, found.bound_s, found.utilisation) == (0, 0, 1)


@pytest.mark.parametrize(
    ("text", "cluster"),
    [
        ("nodes=8,gpus=8", Cluster(8, 8)),
        ("gpus=2", Cluster(1, 2)),
        (" cpus = 16 ,nodes=2", Cluster(2, 0, 16)),
    ],
)
def test_a_cluster_is_read(text: str, cluster: Cluster) -> None:
    assert read_cluster(text) == cluster


@pytest.mark.parametrize(
    "text",
    ["", "nodes=8", "nodes=0,gpus=1", "gpus=-1", "gpus=1,gpus=2", "gpu=1", "nodes=1e3,gpus=1"],
)
def test_a_cluster_that_is_none_is_refused_with_what_would_be_right(text: str) -> None:
    with pytest.raises(UserError, match="--simulate"):
        read_cluster(text)


def test_the_longest_trial_starts_first_whatever_its_gang(trial: Trial) -> None:
    long = replace(trial, id="long", cost=replace(trial.cost, seconds=90.0))
    wide = replace(
        trial,
        id="wide",
        cost=replace(trial.cost, seconds=30.0),
        spec=with_placement(trial.spec, workers=8),
    )
    assert [one.id for one in launch_order([wide, long])] == ["long", "wide"]
