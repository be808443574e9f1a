"""The promises of leases, on every store: one holder at a time, and no clock compared with another.

`Clock` stands for a machine's own clock, so that minutes pass at once.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan import Trial, load_plan
from orchestrator.plan.states import State
from orchestrator.store import leases, open_store, processes
from orchestrator.store.attempts import (
    Superseded,
    attempt_key,
    attempt_numbers,
    begin_attempt,
    give_up,
    read_alive,
    say_alive,
    write_failure,
)
from orchestrator.store.base import Store
from orchestrator.store.leases import EXPIRES_AFTER_S, RENEW_EVERY_S, STOPS_AFTER_S, Lease, Watch
from orchestrator.store.trials import glance_at
from tests.contract.test_store import STORES
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import write_ended


@dataclass
class Clock:
    """A machine's clock, which a test turns."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


class Away(CountedStore):
    """A store that is out of reach while `is_away`, or writes and then loses its answer."""

    is_away = False
    loses_answers = False

    def __init__(self, inner: Store) -> None:
        super().__init__(inner, self._check)

    def _check(self, request: str, key: str) -> None:
        if self.is_away:
            raise EnvironmentProblem("the store is away")

    def replace(self, key: str, content: bytes, tag: str) -> str | None:
        done = super().replace(key, content, tag)
        if self.loses_answers:
            raise EnvironmentProblem("the store did not answer")
        return done


@pytest.fixture(params=STORES, ids=list(STORES))
def store(request: pytest.FixtureRequest) -> Store:
    return open_store(STORES[request.param](request))


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return load_plan(write_sweep(tmp_path)).trials[0]


def by(name: str) -> dict[str, Any]:
    """What a run of this name writes about itself, on a machine of its own."""
    process = {"where": f"machine of {name}", "pid": 1, "started": 1}
    return {"run": name, "host": f"{name}'s host", "process": process}


def held(store: Store, trial: Trial, name: str, clock: Clock | None = None) -> Lease:
    lease = leases.acquire(store, trial, by(name), clock=clock or Clock())
    assert isinstance(lease, Lease), lease
    return lease


def test_of_runs_that_race_exactly_one_holds_the_lease(store: Store, trial: Trial) -> None:
    for round_ in range(1, 4):
        start, found = threading.Barrier(4), []

        def ask(name: str, start: threading.Barrier = start, found: list[Any] = found) -> None:
            start.wait()
            found.append(leases.acquire(store, trial, by(name)))

        threads = [threading.Thread(target=ask, args=(f"run {n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (lease,) = [one for one in found if isinstance(one, Lease)]
        assert lease.attempt == round_ == max(attempt_numbers(store, trial.id))
        for seen in found:
            if not isinstance(seen, Lease):
                assert seen.holder is not None and seen.attempt == round_
        write_failure(store, trial.id, round_, "killed", "by signal 9", final=False)


def test_a_dead_holders_lease_is_ended_by_exactly_one_of_its_watchers(
    store: Store, trial: Trial
) -> None:
    held(store, trial, "dead").renew()
    seen = leases.see(store, trial.id)
    ended = [leases.end(store, trial.id, seen, f"run {n}", "silent") for n in range(3)]
    assert ended == [True, False, False]
    assert leases.see(store, trial.id).holder is None
    assert glance_at(store, trial.id).state == State.INTERRUPTED, "nothing shows it as running"
    assert held(store, trial, "run 1").attempt == 2


@pytest.mark.parametrize("renewals", [0, 1, 5])
def test_a_lease_is_over_when_it_stays_the_same_for_long_on_the_watchers_clock(
    store: Store, trial: Trial, monkeypatch: pytest.MonkeyPatch, renewals: int
) -> None:
    monkeypatch.setattr(leases.time, "time", lambda: 5.0)  # the holder's clock is decades slow
    lease = held(store, trial, "dead")
    for _ in range(renewals):
        lease.renew()
    clock = Clock()
    watch = Watch(clock)
    for _ in range(int(EXPIRES_AFTER_S)):
        assert not watch.why_over(trial.id, leases.see(store, trial.id))
        clock.now += 1.0
    assert "was not renewed for 60 s" in watch.why_over(trial.id, leases.see(store, trial.id))


def test_a_lease_that_is_renewed_is_never_over(store: Store, trial: Trial) -> None:
    clock = Clock()
    lease, watch = held(store, trial, "alive", clock), Watch(clock)
    for _ in range(12):
        clock.now += RENEW_EVERY_S
        lease.renew()
        lease.check()
        seen = leases.see(store, trial.id)
        assert not watch.why_over(trial.id, seen)
        assert (seen.holder is not None) and (seen.holder.run, seen.holder.host) == (
            "alive",
            "alive's host",
        )
    assert not isinstance(leases.acquire(store, trial, by("other")), Lease)


def test_whoever_comes_first_wins_between_a_late_renewal_and_its_watcher(
    store: Store, trial: Trial
) -> None:
    lease = held(store, trial, "late")
    lease.renew()
    seen = leases.see(store, trial.id)
    lease.renew()
    assert not leases.end(store, trial.id, seen, "other", "silent"), "it was renewed since"
    assert leases.end(store, trial.id, leases.see(store, trial.id), "other", "silent")
    for _ in range(2):
        with pytest.raises(Superseded, match="ended its lease"):
            lease.renew()
        with pytest.raises(Superseded, match="ended its lease"):
            lease.check()


def test_a_lease_that_was_never_renewed_is_lost_as_well(store: Store, trial: Trial) -> None:
    lease = held(store, trial, "slow")
    assert leases.end(store, trial.id, leases.see(store, trial.id), "other", "silent")
    with pytest.raises(Superseded):
        lease.renew()
    assert leases.ENDED_BY in (read_alive(store, trial.id, 1) or {})


def test_a_holder_that_cannot_renew_stops_before_another_may_take_over(
    store: Store, trial: Trial
) -> None:
    away, clock = Away(store), Clock()
    lease = held(away, trial, "cut off", clock)
    lease.renew()
    away.is_away = True
    for _ in range(int(STOPS_AFTER_S)):
        lease.check()
        clock.now += 1.0
        with pytest.raises(EnvironmentProblem):
            lease.renew()
    clock.now += 1.0
    with pytest.raises(Superseded, match="has not answered for 40 s"):
        lease.check()
    assert clock.now - 1_000.0 < EXPIRES_AFTER_S
    away.is_away = False
    with pytest.raises(Superseded):  # what has stopped does not come back
        lease.renew()


def test_a_process_that_was_stopped_for_long_asks_before_it_goes_on(
    store: Store, trial: Trial
) -> None:
    clock = Clock()
    lease = held(store, trial, "stopped", clock)
    lease.renew()
    clock.now += 10 * EXPIRES_AFTER_S
    lease.check()  # nobody took it, and it is renewed now
    clock.now += 10 * EXPIRES_AFTER_S
    assert leases.end(store, trial.id, leases.see(store, trial.id), "other", "silent")
    held(store, trial, "other")
    with pytest.raises(Superseded):
        lease.check()


@pytest.mark.parametrize("answers", [True, False])
def test_a_renewal_that_is_on_its_way_is_waited_for(
    store: Store, trial: Trial, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """As when a machine is paused for a minute: whoever renews and whoever asks wake together."""
    sent, answered = threading.Event(), threading.Event()

    class Slow(CountedStore):
        def replace(self, key: str, content: bytes, tag: str) -> str | None:
            sent.set()
            answered.wait()
            return super().replace(key, content, tag)

    if not answers:
        monkeypatch.setattr(leases, "WAITS_S", 0.05)
    clock = Clock()
    lease = held(Slow(store), trial, "paused", clock)
    lease.renew()
    clock.now += STOPS_AFTER_S + 1
    renewing = threading.Thread(target=lease.renew)
    renewing.start()
    sent.wait()
    if answers:
        threading.Timer(0.2, answered.set).start()
        lease.check()
    else:
        with pytest.raises(Superseded, match="has not answered"):
            lease.check()
        answered.set()
    renewing.join()


def test_a_renewal_whose_answer_is_lost_loses_no_lease(store: Store, trial: Trial) -> None:
    away = Away(store)
    lease = held(away, trial, "unlucky")
    lease.renew()
    away.loses_answers = True
    with pytest.raises(EnvironmentProblem):
        lease.renew()
    away.loses_answers = False
    lease.renew()
    lease.check()


def test_the_driver_of_a_lease_that_is_gone_from_this_machine_is_not_waited_for(
    store: Store, trial: Trial
) -> None:
    here = processes.this_process()
    if not here["where"]:
        pytest.skip("this system does not say where process ids are counted")
    assert not processes.is_gone(here)
    assert processes.is_gone({**here, "started": here["started"] + 1}), "another has its id now"
    assert not processes.is_gone({**here, "where": "elsewhere", "pid": 2**22 + 1})
    assert not processes.is_gone({}), "an older version does not say"
    info = {"run": "dead", "host": "here", "process": {**here, "pid": 2**22 + 1}}
    assert isinstance(leases.acquire(store, trial, info), Lease)
    assert "is gone" in Watch().why_over(trial.id, leases.see(store, trial.id))


def test_a_run_begins_its_own_trial_again_when_the_actor_has_died(
    store: Store, trial: Trial
) -> None:
    first = held(store, trial, "mine")
    first.renew()
    assert held(store, trial, "mine").attempt == 2
    with pytest.raises(Superseded):
        first.renew()


def test_leases_of_an_older_version_are_watched_and_ended(store: Store, trial: Trial) -> None:
    """It wrote neither its process nor renewals, only the time."""
    assert begin_attempt(store, trial, 1, {"host": "old"})
    say_alive(store, trial.id, 1)
    clock = Clock()
    watch = Watch(clock)
    seen = leases.see(store, trial.id)
    assert seen.holder is not None and seen.holder.host == "old"
    assert not watch.why_over(trial.id, seen)
    clock.now += EXPIRES_AFTER_S
    assert watch.why_over(trial.id, leases.see(store, trial.id))
    assert leases.end(store, trial.id, seen, "new", "silent")
    assert held(store, trial, "new").attempt == 2


def test_a_damaged_lease_is_watched_and_ended(store: Store, trial: Trial) -> None:
    held(store, trial, "mine").renew()
    store.put(attempt_key(trial.id, 1, leases.ALIVE), b"{")
    seen = leases.see(store, trial.id)
    assert seen.holder is not None
    assert leases.end(store, trial.id, seen, "other", "silent")
    assert held(store, trial, "other").attempt == 2


def test_a_trial_that_has_ended_is_begun_by_nobody(store: Store, trial: Trial) -> None:
    placed = {**trial.axes, "width": 8, "depth": 2}
    write_ended(store, replace(trial, axes=placed))
    seen = leases.acquire(store, trial, by("late"))
    assert not isinstance(seen, Lease)
    assert (seen.state, seen.holder, attempt_numbers(store, trial.id)) == (State.DONE, None, [1])


def test_no_run_gives_up_on_what_another_trains(store: Store, trial: Trial) -> None:
    write_failure(store, trial.id, held(store, trial, "mine").attempt, "killed", "x", final=False)
    held(store, trial, "other")
    give_up(store, trial.id, "retries used up", run="mine")
    assert leases.see(store, trial.id).state == State.RUNNING
