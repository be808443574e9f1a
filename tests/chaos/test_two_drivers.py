"""Two runs of one sweep on one store: each trial is trained by one of them at a time, and once.

One of the two is killed at some point, with its Ray. The other takes over what it trained and ends
well, and so does the killed one when it is started again.
"""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store import read_store
from orchestrator.store.attempts import read_attempts, read_failures
from orchestrator.store.base import Store
from orchestrator.store.listing import listed
from orchestrator.store.trials import trial_ids
from tests.s3 import Bucket, Wrong
from tests.sweeps import run, start, tracked_points, wait_for, write_sweep

STEPS = 60
TRIALS = {"norms": "i_ln, layer_norm, rms_norm", "steps": STEPS, "checkpoint_every": 5}
FAULTY = 0.02  # of the answers of the store
STORES = ("folder", "s3")


def store_of(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """The address of a store; one on S3 is behind a proxy that now and then loses an answer."""
    if kind == "folder":
        return str(folder / "runs")
    bucket: Bucket = request.getfixturevalue("bucket")
    dice = random.Random(2)
    bucket.fault = lambda *about: Wrong.error(503, "SlowDown") if dice.random() < FAULTY else None
    return f"{bucket.uri}/runs"


def reached(store: Store) -> int:
    """The steps of all trials' newest checkpoints, added up."""
    return sum(listed(store, trial).step for trial in trial_ids(store))


def assert_trained_once(store: Store, killed: str, output: str) -> None:
    """Every trial has a result and one attempt, but for the one that was in training at the kill.

    `killed`: what the names of the killed run's attempts contain. It trained one at a time.
    """
    again = 0
    for trial in trial_ids(store):
        runs = [attempt["run"] for attempt in read_attempts(store, trial)]
        why = read_failures(store, trial, range(1, len(runs) + 1))
        assert listed(store, trial).has_result, f"{trial}\n{output}"
        if len(runs) > 1:
            again += 1
            assert len(runs) == 2 and killed in runs[0] and killed not in runs[1], (
                f"{runs}\n{why}\n{output}"
            )
    assert again <= 1, output


def ended_well(driver: subprocess.Popen[str]) -> str:
    output, _ = driver.communicate(timeout=1200)
    assert driver.returncode == 0, output
    assert "Traceback" not in output, output
    return output


def killed_at(
    file: Path, address: str, at: int, victim: int, again: Callable[[], None] = lambda: None
) -> str:
    """Kill one of two drivers at this sum of steps. Returns what the other one printed.

    `again` is called right after.
    """
    store = read_store(address)
    drivers = [start(file, "--store", address, "--max-concurrent", 1) for _ in range(2)]
    other = drivers[1 - victim]
    wait_for(lambda: reached(store) >= at or drivers[victim].poll() is not None, other, 600)
    drivers[victim].kill()
    drivers[victim].communicate()
    again()
    output = ended_well(other)
    assert_trained_once(store, f"-{drivers[victim].pid}-", output)
    return output


@pytest.fixture(params=STORES)
def address(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    return store_of(request.param, tmp_path, request)


@pytest.mark.timeout(900)
def test_of_two_drivers_one_is_killed_and_every_trial_is_trained_once(
    tmp_path: Path, address: str
) -> None:
    file = write_sweep(tmp_path, **TRIALS)
    dice = random.Random(21)
    killed_at(file, address, dice.randrange(10, 2 * STEPS), dice.randrange(2))
    assert "3 of 3 trials are done already." in run(file, "--store", address)
    if "://" not in address:
        for counted in tracked_points(tmp_path, "chaos").values():
            assert set(counted.values()) == {1}


@pytest.mark.campaign
@pytest.mark.timeout(7200)
def test_two_drivers_with_one_killed_at_any_moment(tmp_path: Path, address: str) -> None:
    """$NORMSWEEP_MOMENTS (10) kills of either driver, which is started again at once."""
    dice = random.Random(22)
    for moment in range(int(os.environ.get("NORMSWEEP_MOMENTS", "10"))):
        folder = tmp_path / str(moment)
        file = write_sweep(folder, **TRIALS)
        at, victim = dice.randrange(3 * STEPS), dice.randrange(2)
        here = f"{address}/{moment}"
        started: list[subprocess.Popen[str]] = []
        killed_at(
            file,
            here,
            at,
            victim,
            lambda file=file, here=here, started=started: started.append(
                start(file, "--store", here, "--max-concurrent", 1)
            ),
        )
        ended_well(started[0])
        print(f"driver {victim + 1} killed at {at} of {3 * STEPS} steps")
