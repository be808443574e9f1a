"""Which trials Tune is given, and when, while other runs train some of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator import signals
from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.run import turns
from orchestrator.run.progress import Progress
from orchestrator.run.turns import Turns
from orchestrator.store import leases, processes
from orchestrator.store.attempts import attempt_numbers, write_failure
from orchestrator.store.base import Store
from orchestrator.store.leases import EXPIRES_AFTER_S, Lease, Watch
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import write_end

HERE = processes.this_process()
FAR = {"where": "far", "pid": 1, "started": 1}
ENDED = Turns.FINISHED


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path, norms="i_ln, layer_norm, rms_norm"))


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Run:
    """Turns of a run with the plan's trials, in the plan's order."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self.plan, self.store, self.clock, self.asked = plan, store, Clock(), 0
        ids = [trial.id for trial in plan.trials]
        self.progress = Progress(plan, {}, quiet=True, json_lines=False)
        begun = {trial: max(attempt_numbers(store, trial), default=0) for trial in ids}
        self.turns = Turns(store, plan, ids, self.progress, begun, HERE, "mine", Watch(self.clock))

    def ask(self) -> Any:
        """The trial that Tune gets now, by its place in the plan; or None, or FINISHED."""
        self.asked += 1
        given = self.turns.suggest(f"tune {self.asked}")
        if not isinstance(given, dict):
            return given
        return [trial.id for trial in self.plan.trials].index(given["trial"])

    def ends(self, asked: int, **result: Any) -> None:
        self.turns.on_trial_complete(f"tune {asked}", result)

    def soon(self, answer: object) -> None:
        """Wait until Tune gets this answer."""
        until = time.monotonic() + 60
        while (got := self.ask()) != answer:
            assert got is None and time.monotonic() < until, got
            time.sleep(0.01)


@pytest.fixture
def run(store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Run]]:
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0.01)
    made = []

    def make(store: Store = store) -> Run:
        made.append(Run(store, plan))
        return made[-1]

    yield make
    for one in made:
        with one.turns:
            pass


def other(store: Store, trial: Trial) -> Lease:
    """Another run, far away, begins the trial."""
    lease = leases.acquire(store, trial, {"run": "other", "host": "far-host", "process": FAR})
    assert isinstance(lease, Lease)
    return lease


def test_alone_a_run_gets_its_trials_in_their_order(run: Callable[[], Run]) -> None:
    one = run()
    assert [one.ask() for _ in range(4)] == [0, 1, 2, None]
    for asked in (1, 2, 3):
        one.ends(asked, state="done")
    assert one.ask() == ENDED


def test_free_trials_come_before_those_that_others_train(
    run: Callable[[], Run], store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    lease = other(store, plan.trials[0])
    one = run()
    assert [one.ask() for _ in range(3)] == [1, 2, None]
    for asked in (1, 2):
        one.ends(asked, state="done")
    assert one.ask() is None, "it waits for the other's"
    write_end(store, plan.trials[0], lease.attempt, 10)
    one.soon(ENDED)
    assert attempt_numbers(store, plan.trials[0].id) == [1]


def test_a_trial_whose_trainer_fell_silent_is_taken_over(
    run: Callable[[], Run], store: Store, plan: Plan
) -> None:
    lease = other(store, plan.trials[1])
    lease.renew()
    one = run()
    assert [one.ask() for _ in range(3)] == [0, 2, None]
    one.clock.now += EXPIRES_AFTER_S - 1
    assert one.ask() is None
    one.clock.now += 1
    one.soon(1)
    with pytest.raises(leases.Superseded):
        lease.renew()


def test_a_trial_that_another_left_unfinished_is_trained_on(
    run: Callable[[], Run], store: Store, plan: Plan
) -> None:
    lease = other(store, plan.trials[0])
    one = run()
    assert [one.ask() for _ in range(3)] == [1, 2, None]
    write_failure(store, plan.trials[0].id, lease.attempt, "interrupted", "by x", final=False)
    one.soon(0)


def test_what_another_gives_up_meanwhile_is_not_tried_again_but_older_failures_are(
    run: Callable[[], Run], store: Store, plan: Plan
) -> None:
    first, second, _ = plan.trials
    write_failure(store, first.id, other(store, first).attempt, "spec", "wrong", final=True)
    lease = other(store, second)
    one = run()
    assert [one.ask() for _ in range(3)] == [0, 2, None]
    write_failure(store, second.id, lease.attempt, "spec", "wrong", final=True)
    for asked in (1, 2):
        one.ends(asked, state="done")
    one.soon(ENDED)


def test_a_trial_that_was_lost_in_training_is_followed_and_not_counted_as_failed(
    run: Callable[[], Run], store: Store, plan: Plan
) -> None:
    one = run()
    assert [one.ask() for _ in range(3)] == [0, 1, 2]
    lease = other(store, plan.trials[2])
    for asked in (1, 2):
        one.ends(asked, state="done")
    one.ends(3, state="running", elsewhere=True)
    assert one.ask() is None
    write_end(store, plan.trials[2], lease.attempt, 10)
    one.soon(ENDED)


def test_a_trainable_of_this_run_that_stopped_renewing_is_begun_again(
    run: Callable[[], Run], store: Store, plan: Plan
) -> None:
    one = run()
    assert one.ask() == 0
    mine = {"run": "mine", "host": "here", "process": HERE}
    assert isinstance(leases.acquire(store, plan.trials[0], mine), Lease)
    one.ends(1, state="running", elsewhere=True)
    assert [one.ask(), one.ask()] == [1, 2]
    one.soon(0)


def test_a_signal_ends_the_waiting(
    run: Callable[[], Run], store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in plan.trials:
        other(store, trial)
    one = run()
    assert one.ask() is None
    monkeypatch.setattr(signals, "received", 15)
    assert one.ask() == ENDED


def test_a_store_that_does_not_answer_holds_up_no_free_trial(
    run: Callable[..., Run], store: Store, plan: Plan
) -> None:
    def fail(request: str, key: str) -> None:
        if is_away:
            raise EnvironmentProblem("away")

    is_away = False
    lease = other(store, plan.trials[0])
    one = run(CountedStore(store, fail))
    assert one.ask() == 1
    is_away = True
    assert [one.ask(), one.ask()] == [2, None]
    is_away = False
    write_failure(store, plan.trials[0].id, lease.attempt, "interrupted", "by x", final=False)
    one.soon(0)


def test_who_trains_a_trial_is_shown(
    run: Callable[[], Run], store: Store, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    other(store, plan.trials[0])
    one = run()
    one.progress._quiet = False
    one.ask()
    said = capsys.readouterr().err
    assert f"{plan.trials[0].name}: is trained on far-host by run other" in said
    assert f"{plan.trials[0].name}: on far-host" in said
