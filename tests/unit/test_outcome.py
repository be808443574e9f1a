"""The outcome of an attempt follows from the reports of its gang."""

from __future__ import annotations

import errno
import os
import pickle

import pytest
from ray.exceptions import NodeDiedError, OutOfMemoryError, RayError, RayTaskError

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.outcomes import FINAL, PREEMPTED
from orchestrator.run.outcome import (
    MOST_RETRIES,
    AttemptFailed,
    failure_in_calling,
    failure_of,
    is_last,
)
from orchestrator.run.pulse import Pulse
from orchestrator.run.reports import Report
from orchestrator.run.tuning import lost
from trainers.data.manifests import DatasetProblem


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
    assert failure_of(reports) == ("data", "rank 1: cut.png: is empty", 1, "")


def test_a_rank_that_was_killed_is_believed_before_its_peers_broken_connection() -> None:
    """It cannot say anything of itself."""
    reports = [failed("bug", "Connection closed by peer"), Report(-9)]
    assert failure_of(reports)[:2] == ("killed", "rank 1 was killed by signal 9")


def test_a_traceback_is_for_the_log_and_bad_input_has_none() -> None:
    for kind in ("bug", "cuda_oom", *FINAL):
        found = failure_of([failed(kind, "x")])
        assert found.message == "rank 0: x"
        assert ("Traceback" in found.traceback) == (kind not in FINAL)


def test_a_killed_and_a_preempted_rank_are_named() -> None:
    assert failure_of([Report(None), Report(-9)])[:2] == ("killed", "rank 1 was killed by signal 9")
    assert failure_of([Report(75)])[0] == "preempted"


def test_a_rank_that_says_nothing_is_reported_with_the_end_of_its_log() -> None:
    found = failure_of([Report(1, log_tail="last words")])
    assert found.kind == "unknown"
    assert found.message == "rank 0 ended with exit code 1 and said no more"
    assert found.traceback == "last words"


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


class OfWorker(RayTaskError):
    """An error of a call to a worker, as Ray hands it to whoever called."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause

    def __str__(self) -> str:
        return f"ray::Worker.poll()\n  File x.py\n{type(self.cause).__name__}: {self.cause}"


FULL = f"The store /s cannot be used: {os.strerror(errno.ENOSPC)} (/s/.aside/x). Make room there."


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (OfWorker(DatasetProblem("a.png: is empty")), "data", "a.png: is empty"),
        (OfWorker(EnvironmentProblem(FULL)), "disk full", FULL),
        (EnvironmentProblem(FULL), "disk full", FULL),
        (OfWorker(EnvironmentProblem("no answer")), "store", "no answer"),
        (EnvironmentProblem("no answer"), "store", "no answer"),
        (OfWorker(ValueError("a bug\nof two lines")), "bug", "ValueError: a bug"),
        (OfWorker(PermissionError("not yours")), "store", "PermissionError: not yours"),
        (
            RayError("The actor died.\n\tpid: 7\nIts node has died."),
            "node lost",
            "Its node has died.",
        ),
        (NodeDiedError("gone"), "node lost", "gone"),
        (
            RayError("The actor died.\n\tpid: 7\nConnection closed."),
            "worker lost",
            "Connection closed.",
        ),
        (
            OutOfMemoryError("killed due to the node running low on memory"),
            "host_oom",
            "ended by Ray's memory monitor: killed due to the node running low on memory",
        ),
    ],
)
def test_an_error_of_a_call_is_said_in_a_line_without_frames(
    error: Exception, kind: str, message: str
) -> None:
    found = failure_in_calling(error, 1, frozenset(), "store")
    assert (found.kind, found.message, found.rank) == (kind, message, 1)


def test_a_killed_rank_with_evidence_was_killed_for_memory_and_without_it_by_anyone() -> None:
    assert failure_of([Report(-9, memory_kill="memory.events counts 1")]).kind == "host_oom"
    assert failure_of([Report(-9)]).kind == "killed"
    assert failure_of([Report(3, full_disk="/out, 0.0 MB free")]).kind == "disk full"


def test_a_gang_that_hangs_has_failed_though_every_rank_lives() -> None:
    late = Pulse("step", 4, 61.0, 60.0, 60.0)
    found = failure_of([Report(None, pulse=late), Report(None, pulse=late)])
    assert (found.kind, found.rank) == ("hung", None)
    assert failure_of([Report(None, pulse=late), Report(-9)]).kind == "killed"
