"""A job's exit code asks for a new cluster where one may help; the store keeps its outcome."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError
from orchestrator.run.for_job import run_for_job
from orchestrator.store import open_store
from orchestrator.store.ending import Ended
from orchestrator.store.jobs import clear_outcome, read_outcome


def raising(error: NormsweepError) -> Callable[[], Ended]:
    def run() -> Ended:
        raise error

    return run


@pytest.mark.parametrize(
    ("run", "code", "words"),
    [
        (lambda: Ended(0, ()), 0, ""),
        (lambda: Ended(0, ("MLflow does not answer",)), 0, "MLflow does not answer"),
        (lambda: Ended(4, ("failed: i_ln", "failed: none")), 4, "failed: i_ln\nfailed: none"),
        (raising(UserError("no data set 'Set6'")), 2, "no data set 'Set6'"),
    ],
)
def test_what_no_new_cluster_would_change_ends_the_job_well_with_its_outcome_kept(
    tmp_path: Path, run: Callable[[], Ended], code: int, words: str
) -> None:
    store = open_store(str(tmp_path))
    assert run_for_job("sweep-0a1b2c", str(tmp_path), run) == 0
    kept = read_outcome(store, "sweep-0a1b2c")
    assert kept is not None
    assert (kept["exit_code"], kept["message"]) == (code, words)
    clear_outcome(store, "sweep-0a1b2c")
    assert read_outcome(store, "sweep-0a1b2c") is None


@pytest.mark.parametrize("run", [raising(EnvironmentProblem("S3 is away")), lambda: Ended(130, ())])
def test_what_a_new_cluster_may_cure_is_not_an_outcome(
    tmp_path: Path, run: Callable[[], Ended]
) -> None:
    assert run_for_job("sweep-0a1b2c", str(tmp_path), run) in (3, 130)
    assert read_outcome(open_store(str(tmp_path)), "sweep-0a1b2c") is None


def test_an_undecided_gate_is_an_outcome_and_a_store_that_is_away_is_none(tmp_path: Path) -> None:
    store, also = open_store(str(tmp_path)), frozenset({3})
    assert run_for_job("gate-0a1b2c", str(tmp_path), lambda: Ended(3, ("1 undecided",)), also) == 0
    kept = read_outcome(store, "gate-0a1b2c")
    assert kept is not None
    assert (kept["exit_code"], kept["message"]) == (3, "1 undecided")
    clear_outcome(store, "gate-0a1b2c")
    away = raising(EnvironmentProblem("S3 is away"))
    assert run_for_job("gate-0a1b2c", str(tmp_path), away, also) == 3
    assert read_outcome(store, "gate-0a1b2c") is None
