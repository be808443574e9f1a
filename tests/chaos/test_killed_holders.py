"""Runs are killed while they hold leases, at any moment: each trial is still trained once.

The runs are processes with real turns and leases, and training that takes milliseconds, so that
there can be many kills; tests/chaos/test_two_drivers.py has few, of real ones.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from orchestrator import objects
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.run import turns
from orchestrator.run.progress import Progress
from orchestrator.run.turns import Turns
from orchestrator.store import leases, open_store, read_store
from orchestrator.store.attempts import Superseded, read_attempts
from orchestrator.store.base import Store
from orchestrator.store.leases import Lease
from orchestrator.store.listing import listed
from orchestrator.store.processes import this_process
from orchestrator.store.trials import trial_ids
from tests.chaos.test_two_drivers import STORES, store_of
from tests.sweeps import write_sweep
from tests.written_store import write_end

STEPS = 4
STEP_S = 0.02
FORK = multiprocessing.get_context("fork")


def drive(plan: Plan, address: str, name: str, seed: int) -> None:
    """A run: trains what it is given, one trial after the other, in the plan's order."""
    objects.forget()
    store, dice, process = open_store(address), random.Random(seed), this_process()
    ids = [trial.id for trial in plan.trials]
    of = {trial.id: trial for trial in plan.trials}
    progress = Progress(plan, {}, quiet=True, json_lines=False)
    asked = 0
    with Turns(store, plan, ids, progress, dict.fromkeys(ids, 0), process, name) as mine:
        while (given := mine.suggest(str(asked))) != Turns.FINISHED:
            if not isinstance(given, dict):
                time.sleep(0.005)
                continue
            info = {"run": name, "host": "here", "process": process}
            is_done = train(store, of[given["trial"]], info, dice)
            mine.on_trial_complete(str(asked), {"elsewhere": not is_done})
            asked += 1


def train(store: Store, trial: Trial, info: dict[str, Any], dice: random.Random) -> bool:
    """An attempt at a trial, as the trainable has it; False if another run has the lease."""
    lease = leases.acquire(store, trial, info)
    if not isinstance(lease, Lease):
        return False
    try:
        for _ in range(STEPS):
            time.sleep(dice.uniform(0, 2 * STEP_S))
            lease.check()
            lease.renew()
        write_end(store, trial, lease.attempt, STEPS)
    except Superseded:
        return False
    return True


def begun(plan: Plan, address: str, name: str, seed: int) -> BaseProcess:
    process = FORK.Process(target=drive, args=(plan, address, name, seed))
    process.start()
    return process


def kill_one(plan: Plan, address: str, dice: random.Random) -> str:
    """Kill one of two runs at a random moment and start it again. Returns when, in words."""
    runs = [begun(plan, address, name, dice.randrange(10**6)) for name in ("one", "two")]
    victim = dice.randrange(2)
    killed = ("one", "two")[victim]
    at, later_s = dice.randrange(len(plan.trials)), dice.uniform(0, 2 * STEPS * STEP_S)
    moment = f"{later_s:.3f} s after trial {at} began"
    store = read_store(address)
    while len(trial_ids(store)) <= at and runs[victim].is_alive():
        time.sleep(0.002)
    time.sleep(later_s)
    runs[victim].kill()
    runs.append(begun(plan, address, "again", dice.randrange(10**6)))
    for process in runs:
        process.join(120)
    del runs[victim]
    assert [process.exitcode for process in runs] == [0, 0], f"{killed}, {moment}"
    twice = 0
    for trial in plan.trials:
        tried = [attempt["run"] for attempt in read_attempts(store, trial.id)]
        assert listed(store, trial.id).has_result
        twice += len(tried) > 1
        assert len(tried) == 1 or (len(tried) == 2 and tried[0] == killed != tried[1]), tried
    assert twice <= 1, "it trained one at a time"
    return f"{killed}, {moment}: {'trained' if twice else 'did not train'}"


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.setattr(turns, "LOOK_EVERY_S", 0.02)
    return load_plan(write_sweep(tmp_path, norms="i_ln, layer_norm, rms_norm, none"))


@pytest.fixture(params=STORES)
def address(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return store_of(request.param, tmp_path, request)


def test_of_two_runs_one_is_killed_and_every_trial_is_trained_once(
    plan: Plan, address: str
) -> None:
    dice = random.Random(21)
    for kill in range(3):
        print(kill_one(plan, f"{address}/{kill}", dice))


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_many_kills_of_holders(plan: Plan, address: str) -> None:
    """$NORMSWEEP_KILLS (200) of them."""
    dice = random.Random(22)
    for kill in range(int(os.environ.get("NORMSWEEP_KILLS", "200"))):
        print(kill, kill_one(plan, f"{address}/{kill}", dice), flush=True)
