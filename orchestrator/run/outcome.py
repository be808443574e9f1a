"""Decides how an attempt failed, and whether another follows from the newest checkpoint.

What each kind means, and whether it counts, is the table orchestrator.plan.outcomes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any, NamedTuple

import ray
from ray.exceptions import ActorDiedError, NodeDiedError, OutOfMemoryError, RayTaskError

from orchestrator.errors import EnvironmentProblem, NormsweepError
from orchestrator.plan.outcomes import (
    DISK_FULL,
    FINAL,
    HOST_MEMORY,
    HUNG,
    KILLED,
    NODE_LOST,
    PREEMPTED,
    UNCOUNTED,
    WORKER_LOST,
)
from orchestrator.run.nodes import dead_nodes
from orchestrator.run.pulse import hung
from orchestrator.run.reports import Report
from orchestrator.store.records import OUT_OF_MEMORY
from trainers.data.manifests import DatasetProblem

MOST_RETRIES = 3  # in a row that get no further
EXIT_PREEMPTED = 75  # of `python -m trainers`, after a SIGTERM and a checkpoint
NODE_DIED = ("node has died", "its node died")  # Ray's words (2.60), beside the error's class
RAN_LOW = "running low on memory"


class Failure(NamedTuple):
    """Why an attempt failed: its kind, a message for people, and the rank, if one is to blame.

    `traceback` is for the log.
    """

    kind: str
    message: str
    rank: int | None = None
    traceback: str = ""


class AttemptFailed(Exception):
    """An attempt ended without a result, and the next may do better.

    `kind` names the class of failure.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message

    # Without this, unpickling would call the class with the message alone.
    def __reduce__(self) -> tuple[type[AttemptFailed], tuple[str, str]]:
        return AttemptFailed, (self.kind, self.message)


def is_last(kind: str, step: int, earlier: Sequence[Mapping[str, Any]]) -> bool:
    """Whether to give up on a trial, given a failure at checkpoint `step` and the `earlier` ones.

    A trial on machines that are taken away again and again goes on for as long as it gets further:
    only retries that fail where the one before failed are counted. Attempts that were asked to end
    do not count, and neither do those that ran out of memory, since the next one has a smaller
    micro-batch (orchestrator.run.host_memory says when none is left).
    """
    if kind in FINAL:
        return True
    stuck = takewhile(lambda failure: failure["step"] == step, reversed(earlier))
    return (
        kind not in UNCOUNTED
        and sum(failure["kind"] not in UNCOUNTED for failure in stuck) >= MOST_RETRIES
    )


def failure_of(reports: Sequence[Report]) -> Failure | None:
    """The failure if a rank of the gang has ended badly or the gang hangs, else None.

    Ranks that ran out of memory are believed first, then those that report more than a broken
    connection, then those that a signal killed, then any that report something.
    """
    bad = [
        (rank, report) for rank, report in enumerate(reports) if report.exit_code not in (None, 0)
    ]
    if not bad:
        found = hung([report.pulse for report in reports])
        return None if found is None else Failure(HUNG, found[1], found[0])
    explained = [(rank, report) for rank, report in enumerate(reports) if report.failure]
    # A rank whose peer died reports a broken connection; the peer's own report, if any, says more.
    said = [
        pair for pair in explained if "onnection" not in str((pair[1].failure or {}).get("message"))
    ]
    full = [pair for pair in explained if (pair[1].failure or {}).get("kind") == OUT_OF_MEMORY]
    killed = [pair for pair in bad if not pair[1].failure and (pair[1].exit_code or 0) < 0]
    rank, report = (full or said or killed or explained or bad)[0]
    return _of_rank(rank, report)


def _of_rank(rank: int, report: Report) -> Failure:
    code = report.exit_code or 0
    if report.failure:
        kind, said = str(report.failure["kind"]), f"rank {rank}: {report.failure['message']}"
        # A mistake in the user's input needs no traceback.
        traceback = "" if kind in FINAL else str(report.failure.get("traceback", ""))
        return Failure(kind, said, rank, traceback)
    if code == EXIT_PREEMPTED:
        return Failure(PREEMPTED, f"rank {rank} was asked to end and left a checkpoint", rank)
    if report.full_disk:
        return Failure(DISK_FULL, f"rank {rank}: the disk is full: {report.full_disk}", rank)
    if report.memory_kill:
        evidence = f"rank {rank} was killed for host memory: {report.memory_kill}"
        return Failure(HOST_MEMORY, evidence, rank)
    if code < 0:
        return Failure(KILLED, f"rank {rank} was killed by signal {-code}", rank)
    said = f"rank {rank} ended with exit code {code} and said no more"
    return Failure("unknown", said, rank, report.log_tail)


def failure_in_calling(
    error: Exception, rank: int | None, nodes: frozenset[str], other: str
) -> Failure:
    """The failure behind an error of a call to a worker, or of the store.

    `nodes` are the ids of the gang's nodes. `other` is the kind of foreseen errors that have none.
    """
    cause = error.cause or error if isinstance(error, RayTaskError) else error
    said = str(cause).strip()
    if os.strerror(errno.ENOSPC) in said or os.strerror(errno.EDQUOT) in said:
        last = next(line for line in reversed(said.splitlines()) if line.strip())
        return Failure(DISK_FULL, said if isinstance(cause, EnvironmentProblem) else last, rank)
    if isinstance(cause, DatasetProblem):
        return Failure("data", said, rank)
    if isinstance(cause, NormsweepError):
        return Failure(other if cause.kind == "other" else cause.kind, said, rank)
    if isinstance(error, RayTaskError):
        first = said.splitlines()[0] if said else ""
        kind = other if isinstance(cause, OSError) else "bug"
        return Failure(kind, f"{type(cause).__name__}: {first}", rank, str(error))
    # Of Ray's lines on a dead actor, the last one says why.
    last = said.splitlines()[-1].strip() if said else type(error).__name__
    if isinstance(error, OutOfMemoryError) or RAN_LOW in said:
        return Failure(HOST_MEMORY, f"ended by Ray's memory monitor: {last}", rank, said)
    if _is_node_lost(error, said, nodes):
        return Failure(NODE_LOST, last, rank, said)
    return Failure(WORKER_LOST, last, rank, said)


def _is_node_lost(error: Exception, said: str, nodes: frozenset[str]) -> bool:
    if isinstance(error, NodeDiedError) or getattr(error, "preempted", False):
        return True
    if any(words in said for words in NODE_DIED):
        return True
    # The node's death may be known before it is given as the actor's cause.
    return isinstance(error, ActorDiedError) and ray.is_initialized() and bool(nodes & dead_nodes())
