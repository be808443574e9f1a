"""Early stopping: Tune decides within a group, the store keeps it, and a rerun decides the same."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ray.tune.schedulers import AsyncHyperBandScheduler, TrialScheduler

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan
from orchestrator.plan.stop import Stop
from orchestrator.plan.stopping import rungs
from orchestrator.report.comparable import finals
from orchestrator.report.frame import in_words, read_frame
from orchestrator.report.sections.short import stopped_in_words
from orchestrator.run.early import Early, Watch
from orchestrator.run.reports import Report
from orchestrator.run.stopping import Group, Stopping
from orchestrator.store import open_store
from orchestrator.store.base import Store
from orchestrator.store.results import read_result
from orchestrator.store.stops import (
    Decision,
    has_ended_for,
    keep,
    kept,
    reopen,
    stopped_at,
    stops_prefix,
)
from orchestrator.store.trials import glance_at
from tests.counted_store import CountedStore
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_ended

ASHA = "{scheduler: asha, metric: train/loss, mode: min, grace_steps: 20, reduction: 2}"
MEDIAN = "{scheduler: median, metric: train/loss, mode: min, grace_steps: 20, min_samples: 2}"
STEPS = 100


def stopping_plan(folder: Path, stop: str = ASHA, name: str = "a_sweep", **axes: str) -> Plan:
    axes = {"seed": "0, 1, 2, 3"} | axes
    text = comparing(training=f"steps: {STEPS}, batch_size: 8, patch_size_px: 16", **axes)
    return plan_of(folder, f"{text}observe: {{log_every: 10}}\nstop: {stop}\n", name)


class Run:
    """A run of a sweep whose trials report what a test says; `asked` are those asked to end."""

    def __init__(self, plan: Plan, store: Store) -> None:
        self.asked: list[tuple[str, int]] = []
        self.scheduler = Stopping(plan, store, self._ask)

    def _ask(self, trial: Any, decision: Decision) -> None:
        self.asked.append((decision.trial, decision.step))

    def report(self, trial: str, step: int, value: float) -> str:
        result = {"step": step, "watched": value, "phase": "", "state": "running", "done": False}
        return self.scheduler.on_trial_result(None, tune_trial(trial), result)

    @property
    def stopped(self) -> dict[str, int]:
        return {trial: made.step for trial, made in self.scheduler.stops.items()}


def tune_trial(trial: str) -> Any:
    return SimpleNamespace(config={"trial": trial})


def decided(plan: Plan, store: Store) -> list[Decision]:
    assert plan.stop is not None
    return kept(store, stops_prefix(plan.sweep, plan.stop.policy))


def of_norm(plan: Plan, norm: str) -> list[str]:
    return [trial.id for trial in plan.trials if trial.axes["norm"] == norm]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def test_a_trial_behind_the_others_of_its_group_is_stopped_at_the_rung(
    tmp_path: Path, store: Store
) -> None:
    plan = stopping_plan(tmp_path)
    first, second, *_ = of_norm(plan, "i_ln")
    run = Run(plan, store)
    for step in (10, 20, 30):
        assert run.report(first, step, 0.1) == TrialScheduler.CONTINUE
    assert run.report(second, 10, 9.0) == TrialScheduler.CONTINUE
    assert not run.asked, "10 is before the first rung"
    assert run.report(second, 20, 0.2) == TrialScheduler.CONTINUE, "it ends by itself"
    assert run.asked == [(second, 20)]
    run.report(second, 30, 0.0)
    assert run.stopped == {second: 20}, "what its ranks did meanwhile does not count"


def test_a_norm_is_never_stopped_because_another_is_ahead(tmp_path: Path, store: Store) -> None:
    plan = stopping_plan(tmp_path)
    ahead, behind = of_norm(plan, "i_ln"), of_norm(plan, "layer_norm")
    run = Run(plan, store)
    for trial in ahead:
        run.report(trial, 20, 0.1)
    for trial in behind:
        run.report(trial, 20, 0.9)
    assert not run.stopped
    across = stopping_plan(tmp_path, ASHA[:-1] + ", across_norms: true}")
    run = Run(across, store)
    for trial in ahead:
        run.report(trial, 20, 0.1)
    for trial in behind:
        run.report(trial, 20, 0.9)
    assert run.stopped == dict.fromkeys(behind, 20)


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", range(4))
def test_a_value_that_is_no_number_never_survives_a_rung(mode: str, bad: float, place: int) -> None:
    """Wherever it comes, the others are judged as if it were a very bad value."""
    group = Group(Stop(scheduler="asha", metric="m", mode=mode, grace_steps=20, reduction=2), 100)
    peer = AsyncHyperBandScheduler(
        "step", "m", mode, max_t=99, grace_period=20, reduction_factor=2, stop_last_trials=False
    )
    worst = 1e9 if mode == "min" else -1e9
    values = [0.5, 0.2, 0.9]
    values.insert(place, bad)
    for number, value in enumerate(values):
        trial = SimpleNamespace(trial_id=str(number))
        group.add(str(number))
        peer.on_trial_add(None, trial)
        taken = value if math.isfinite(value) else worst
        wanted = peer.on_trial_result(None, trial, {"step": 20, "m": taken})
        judged = group.judge(str(number), 20, value)
        assert judged is not None
        assert judged.stops == (not math.isfinite(value) or wanted == TrialScheduler.STOP)
        assert judged.cutoff is None or math.isfinite(judged.cutoff)


def test_the_rungs_that_planning_announces_are_tunes() -> None:
    dice = random.Random(1)
    for grace, reduction, steps in itertools.product((1, 20, 37), (1.5, 2.0, 3.0, 4.0), (100, 333)):
        stop = Stop(
            scheduler="asha", metric="m", mode="max", grace_steps=grace, reduction=reduction
        )
        peer = AsyncHyperBandScheduler(
            "step", "m", "max", max_t=steps - 1, grace_period=grace, reduction_factor=reduction
        )
        theirs = [rung for rung, _ in reversed(peer._brackets[0]._rungs)]
        assert rungs(stop, steps) == pytest.approx(theirs)
        group = Group(stop, steps)
        for trial in map(str, range(6)):
            group.add(trial)
            came: list[float] = []
            for step in range(1, steps):
                judged = group.judge(trial, step, dice.random())
                came += [] if judged is None else [judged.rung]
                if judged is not None and judged.stops:
                    break
            assert came == pytest.approx(theirs[: len(came)]), "each rung once, none passed over"


def test_a_cutoff_is_the_percentile_of_those_that_came_before() -> None:
    stop = Stop(scheduler="asha", metric="m", mode="min", grace_steps=10, reduction=4)
    group = Group(stop, 100)
    values = [0.4, 0.1, 0.35, 0.2, 0.15, 0.5]
    for number, value in enumerate(values):
        group.add(str(number))
        judged = group.judge(str(number), 10, value)
        assert judged is not None
        if number == 0:
            assert judged.cutoff is None
            continue
        wanted = float(np.percentile(values[:number], 25))
        assert judged.cutoff == pytest.approx(wanted)
        assert judged.stops == (value > wanted)


def histories(plan: Plan, seed: int) -> list[tuple[str, int, float]]:
    """Reports of all trials at once, in a random order in which each trial's steps rise."""
    dice = random.Random(seed)
    left = {trial.id: list(range(10, STEPS, 10)) for trial in plan.trials}
    found = []
    while any(left.values()):
        trial = dice.choice([trial for trial, steps in left.items() if steps])
        found.append((trial, left[trial].pop(0), dice.random()))
    return found


def play(run: Run, reports: Sequence[tuple[str, int, float]]) -> None:
    for trial, step, value in reports:
        if trial not in run.stopped:
            run.report(trial, step, value)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_that_was_killed_decides_as_one_that_was_not(tmp_path: Path, seed: int) -> None:
    plan = stopping_plan(tmp_path)
    reports = histories(plan, seed)
    whole_store = open_store(str(tmp_path / "whole"))
    whole = Run(plan, whole_store)
    play(whole, reports)
    assert 0 < len(whole.stopped) < len(plan.trials)
    for cut in range(5, len(reports), 13):
        store = open_store(str(tmp_path / f"cut-{cut}"))
        play(Run(plan, store), reports[:cut])
        again = Run(plan, store)
        play(again, reports[max(0, cut - 6) :])  # some are reported a second time
        assert again.stopped == whole.stopped
        assert decided(plan, store) == decided(plan, whole_store)


def test_a_value_journalled_before_a_kill_and_never_judged_is_judged_on_resuming(
    tmp_path: Path, store: Store
) -> None:
    plan = stopping_plan(tmp_path)
    first, second, *_ = plan.trials
    write_attempt(store, first, 50)  # its loss at step 20 is known from the journal
    run = Run(plan, store)
    assert [(one.trial, one.rung, one.step) for one in decided(plan, store)] == [
        (first.id, 20, 20),
        (first.id, 40, 40),
    ]
    run.report(second.id, 20, 99.0)
    assert run.stopped == {second.id: 20}


def test_a_decision_is_in_the_store_before_the_trial_is_asked_to_end(tmp_path: Path) -> None:
    plan = stopping_plan(tmp_path)
    first, second, *_ = of_norm(plan, "i_ln")
    is_away = True

    def refuse(request: str, key: str) -> None:
        if is_away and request == "put":
            raise EnvironmentProblem("the store is away")

    run = Run(plan, CountedStore(open_store(str(tmp_path / "runs")), refuse))
    run.report(first, 20, 0.1)
    run.report(second, 20, 0.9)
    assert not run.asked
    is_away = False
    run.report(first, 30, 0.1)
    run.report(second, 30, 0.1)
    assert run.asked == [(second, 20)]


def test_a_decision_is_made_once_by_two_drivers(store: Store) -> None:
    mine = Decision("t", "g", 0, 20.0, 20, 0.5, 0.4, stops=True)
    theirs = Decision("t", "g", 3, 20.0, 20, 0.5, 0.6, stops=False)
    assert keep(store, "sweeps/a/stops/p", mine) == mine
    assert keep(store, "sweeps/a/stops/p", theirs) == mine
    assert kept(store, "sweeps/a/stops/p") == [mine]


def test_a_damaged_decision_is_made_again(store: Store) -> None:
    mine = Decision("t", "g", 0, 20.0, 20, math.nan, None, stops=True)
    store.put(f"sweeps/a/stops/p/{mine.key}", b"{}")
    assert kept(store, "sweeps/a/stops/p") == []
    keep(store, "sweeps/a/stops/p", mine)
    (there,) = kept(store, "sweeps/a/stops/p")
    assert math.isnan(there.value)
    assert there.stops


def test_the_median_rule_stops_a_trial_and_remembers_it(tmp_path: Path, store: Store) -> None:
    plan = stopping_plan(tmp_path, MEDIAN)
    first, second, third, fourth = of_norm(plan, "i_ln")
    run = Run(plan, store)
    for trial in (first, second):
        for step in (10, 20, 30):
            run.report(trial, step, 0.1)
    run.report(third, 20, 0.05)
    run.report(fourth, 20, 0.9)
    run.report(fourth, 30, 0.9)
    assert run.stopped == {fourth: 20}
    assert Run(plan, store).stopped == {fourth: 20}
    run.report(third, 30, math.nan)
    assert run.stopped == {fourth: 20, third: 30}, "what is no number never survives"


def test_stopped_is_final_only_for_the_sweep_that_stopped_it(tmp_path: Path, store: Store) -> None:
    plan = stopping_plan(tmp_path)
    other = stopping_plan(tmp_path, ASHA.replace("20", "40"), name="other")
    training = f"steps: {STEPS}, batch_size: 8, patch_size_px: 16"
    whole = plan_of(tmp_path, comparing(seed="0, 1, 2, 3", training=training), "whole")
    trial = plan.trials[0]
    assert plan.stop is not None
    about: Mapping[str, object] = {"sweep": plan.sweep, "policy": plan.stop.policy, "step": 20}
    write_ended(store, trial, outcome="stopped", until=25, stopped_by=about)
    look = glance_at(store, trial.id)
    assert str(look.state) == "stopped"
    assert [has_ended_for(one, look) for one in (plan, other, whole)] == [True, False, False]
    reopen(store, trial.id)
    again = glance_at(store, trial.id)
    assert (again.result, again.step) == (None, 25), "it goes on from its checkpoint"


def test_a_trial_that_is_done_is_not_reopened(tmp_path: Path, store: Store) -> None:
    trial = stopping_plan(tmp_path).trials[0]
    write_ended(store, trial)
    reopen(store, trial.id)
    assert str(glance_at(store, trial.id).state) == "done"


def report_of(*points: tuple[int, float], **fields: Any) -> Report:
    return Report(None, step=points[-1][0] if points else 0, points=points, **fields)


def early_of(store: Store) -> Early:
    about = {"sweep": "a", "policy": "p", "scheduler": "asha", "metric": "train/loss"}
    return Early(Watch("train/loss", "sweeps/a/stops/p", about), store, "t")


def test_every_value_is_one_result_of_tune_in_order(store: Store) -> None:
    early = early_of(store)
    assert early.result() == {}
    early.take(report_of((10, 0.5), (20, 0.4)))
    early.take(report_of((30, 0.3)))
    seen = []
    while early.waits:
        seen.append(early.result())
    assert seen == [{"step": s, "watched": v} for s, v in ((10, 0.5), (20, 0.4), (30, 0.3))]


def test_a_trial_ends_once_it_has_reached_the_step_that_was_decided(store: Store) -> None:
    made = Decision("t", "g", 0, 20.0, 20, 0.5, 0.4, stops=True)
    keep(store, "sweeps/a/stops/p", made)
    early = early_of(store)  # of an attempt after the one that was to be stopped
    assert not early.is_due({"step": 20, "phase": "starting ranks"})
    assert not early.is_due({"step": 19, "phase": ""})
    assert early.is_due({"step": 21, "phase": ""})
    early.take(report_of((21, 0.5)))
    assert not early.waits, "nothing is left to judge"
    early.take(report_of(result={"outcome": "diverged"}))
    assert not early.is_due({"step": 21, "phase": ""}), "it has diverged, which says more"


def test_a_stopped_trials_result_has_its_decision_and_its_last_values(
    tmp_path: Path, store: Store
) -> None:
    trial = stopping_plan(tmp_path).trials[0].id
    write_ended(store, stopping_plan(tmp_path).trials[0], until=25)  # its checkpoint
    early = early_of(store)
    early.take(report_of((10, 0.5), values={"train/loss": 0.5, "system/cpu_percent": 9.0}))
    early.take(report_of((20, math.nan), values={"train/loss": math.nan}))
    early.decision = Decision(trial, "g", 0, 20.0, 20, math.nan, 0.4, stops=True)
    early.end(store, trial, 1, 25)
    result = read_result(store, trial)
    assert result is not None
    assert (result["outcome"], result["step"]) == ("stopped", 25)
    assert result["metrics"] == {"train/loss": "nan"}
    assert result["stopped_by"]["step"] == stopped_at(result) == 20
    assert (result["stopped_by"]["value"], result["stopped_by"]["cutoff"]) == ("nan", 0.4)


def test_the_page_counts_stopped_trials_and_averages_without_them(
    tmp_path: Path, store: Store
) -> None:
    plan = stopping_plan(tmp_path)
    gone, *others = plan.trials
    for trial in others:
        write_ended(store, trial)
    write_ended(store, gone, outcome="stopped", until=25, stopped_by={"step": 20})
    frame = read_frame(plan, store)
    row = frame.trials[frame.trials["trial"] == gone.id].iloc[0]
    assert in_words(row) == "stopped at step 20"
    assert stopped_in_words(frame) == [
        f"Stopped early: 1 of 8 trials, which took 25 of their 100 steps: {gone.name} (step 20). "
        "No average includes them."
    ]
    assert {key.trial for key in finals(frame)} == {trial.id for trial in others}
