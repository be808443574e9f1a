"""The outcome of an attempt follows from the reports of its gang."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import OutOfMemoryError

from orchestrator.run.gang import Report
from orchestrator.run.outcome import (
    GIVE_UP,
    MOST_RETRIES,
    PREEMPTED,
    AttemptFailed,
    failure_of,
    is_last,
)
from orchestrator.run.tuning import lost


def failed(kind: str, message: str, code: int = 1) -> Report:
    return Report(code, failure={"kind": kind, "message": message, "traceback": "Traceback ..."})


@pytest.mark.parametrize("codes", [[None, None], [0, 0], [0, None]])
def test_a_gang_that_trains_or_has_ended_well_has_not_failed(codes: list[int | None]) -> None:
    assert failure_of([Report(code) for code in codes]) is None


def test_what_a_rank_says_of_itself_is_believed_before_its_peers_broken_connection() -> None:
    reports = [
        failed("bug", "Connection closed by peer"),
        failed("data", "cut.png: is empty", code=2),
    ]
    assert failure_of(reports) == ("data", "rank 1: cut.png: is empty")


def test_a_rank_that_was_killed_is_believed_before_its_peers_broken_connection() -> None:
    """It cannot say anything of itself."""
    reports = [failed("bug", "Connection closed by peer"), Report(-9)]
    assert failure_of(reports) == ("killed", "rank 1 was killed by signal 9")


def test_a_surprise_is_reported_with_its_traceback_and_bad_input_without() -> None:
    for kind in ("bug", "cuda_oom"):
        assert "Traceback" in failure_of([failed(kind, "x")])[1]
    for kind in GIVE_UP:
        assert "Traceback" not in failure_of([failed(kind, "x")])[1]


def test_a_killed_and_a_preempted_rank_are_named() -> None:
    assert failure_of([Report(None), Report(-9)]) == ("killed", "rank 1 was killed by signal 9")
    assert failure_of([Report(75)])[0] == "preempted"


def test_a_rank_that_says_nothing_is_reported_with_the_end_of_its_log() -> None:
    kind, message = failure_of([Report(1, log_tail="last words")])
    assert kind == "unknown"
    assert "last words" in message


def test_retries_are_counted_only_where_they_get_no_further() -> None:
    stuck = [{"kind": "killed", "step": 20}] * (MOST_RETRIES - 1)
    assert not is_last("killed", 20, stuck)
    assert is_last("killed", 20, [*stuck, {"kind": "worker lost", "step": 20}])
    assert not is_last("killed", 40, stuck * 5), "this one got further"
    assert not is_last("killed", 40, [*stuck * 5, {"kind": "killed", "step": 40}])


def test_a_trial_told_to_end_again_and_again_goes_on() -> None:
    told = [{"kind": PREEMPTED, "step": 20}] * 50
    assert not is_last(PREEMPTED, 20, told)
    assert not is_last("killed", 20, told)
    assert is_last("data", 20, [])


def test_a_failure_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(AttemptFailed("killed", "by signal 9")))
    assert (error.kind, str(error)) == ("killed", "by signal 9")


def test_what_ray_ends_has_a_sentence_and_anything_else_is_a_bug() -> None:
    error = RuntimeError("Caught unexpected exception")
    assert lost(error) is error
    error.__cause__ = OutOfMemoryError("2 worker(s) were killed.\nTop 10 memory users: ...")
    said = str(lost(error))
    assert said.startswith("Ray cannot go on: 2 worker(s) were killed. Start Ray with RAY_memory")
    assert "To continue: " in said and "Top 10" not in said
