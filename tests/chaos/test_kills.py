"""Kills in training: trials end with an undisturbed run's bits, and MLflow has each point once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sweeps import (
    assert_same_bits,
    ranks,
    results,
    run,
    sealed_checkpoints,
    start,
    tracked_points,
    trained,
    wait_for,
    write_sweep,
)

pytestmark = pytest.mark.timeout(900)  # on a busy machine; the first waits for the undisturbed run

STEPS = 240
LONG = {"steps": STEPS, "checkpoint_every": 20, "workers": 2}


def assert_tracked_once(folder: Path) -> None:
    points = tracked_points(folder, "chaos")
    assert points.keys() == results(folder).keys()
    for counted in points.values():
        assert {step for metric, step in counted if metric == "train/loss"} == set(
            range(1, STEPS + 1)
        )
        assert set(counted.values()) == {1}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("undisturbed"), **LONG)


def test_a_driver_killed_outright_is_continued_by_running_again(
    tmp_path: Path, undisturbed: Path
) -> None:
    file = write_sweep(tmp_path, **LONG)
    driver = start(file)
    wait_for(lambda: sealed_checkpoints(tmp_path), driver)
    gang = ranks(tmp_path)
    assert len(gang) == 2
    gang += [rank.parent() for rank in gang]  # the processes that forked them
    driver.kill()
    driver.communicate()
    for rank in gang:
        rank.wait(timeout=60)  # none outlives the driver
    assert not results(tmp_path)
    run(file)
    assert_same_bits(tmp_path, undisturbed)
    assert_tracked_once(tmp_path)


def test_rays_monitor_of_memory_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At this threshold it would kill the processes that watch over ranks at once."""
    monkeypatch.setenv("RAY_memory_usage_threshold", "0.001")
    assert "1 done" in run(write_sweep(tmp_path))


@pytest.mark.parametrize("victim", ["rank", "actor"])
def test_a_gang_with_a_killed_worker_is_retried(
    tmp_path: Path, undisturbed: Path, victim: str
) -> None:
    file = write_sweep(tmp_path, **LONG)
    driver = start(file)
    wait_for(lambda: sealed_checkpoints(tmp_path), driver)
    rank = ranks(tmp_path)[-1]
    (rank if victim == "rank" else rank.parent().parent()).kill()
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    attempts = list((tmp_path / "runs/trials").glob("*/attempts/*/attempt.json"))
    assert len(attempts) == 2
    assert_same_bits(tmp_path, undisturbed)
    assert_tracked_once(tmp_path)
