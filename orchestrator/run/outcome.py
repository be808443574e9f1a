"""Decides what follows a failed attempt: another from the newest checkpoint, or giving up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from orchestrator.run.gang import Report
from orchestrator.store.records import OUT_OF_MEMORY

GIVE_UP = frozenset({"spec", "data", "initial"})  # the same input fails the same way
PREEMPTED = "preempted"
# These use up no retries: the first was asked to end, the second changes what is tried next.
UNCOUNTED = frozenset({PREEMPTED, OUT_OF_MEMORY})
MOST_RETRIES = 3  # in a row that get no further
EXIT_PREEMPTED = 75  # of `python -m trainers`, after a SIGTERM and a checkpoint


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
    do not count, and neither do those that ran out of CUDA memory, since the next one has a smaller
    micro-batch (orchestrator.run.out_of_memory says when none is left).
    """
    if kind in GIVE_UP:
        return True
    stuck = takewhile(lambda failure: failure["step"] == step, reversed(earlier))
    return (
        kind not in UNCOUNTED
        and sum(failure["kind"] not in UNCOUNTED for failure in stuck) >= MOST_RETRIES
    )


def failure_of(reports: Sequence[Report]) -> tuple[str, str] | None:
    """The kind and message of the failure if a rank of the gang has ended badly, else None.

    Ranks that ran out of memory are believed first, then those that report more than a broken
    connection, then those that a signal killed, then any that report something.
    """
    bad = [
        (rank, report) for rank, report in enumerate(reports) if report.exit_code not in (None, 0)
    ]
    if not bad:
        return None
    explained = [(rank, report) for rank, report in enumerate(reports) if report.failure]
    # A rank whose peer died reports a broken connection; the peer's own report, if any, says more.
    said = [
        pair for pair in explained if "onnection" not in str((pair[1].failure or {}).get("message"))
    ]
    full = [pair for pair in explained if (pair[1].failure or {}).get("kind") == OUT_OF_MEMORY]
    killed = [pair for pair in bad if not pair[1].failure and (pair[1].exit_code or 0) < 0]
    rank, report = (full or said or killed or explained or bad)[0]
    if report.failure:
        kind, message = str(report.failure["kind"]), f"rank {rank}: {report.failure['message']}"
        # A mistake in the user's input needs no traceback; anything else does.
        return (
            kind,
            message
            if kind in GIVE_UP
            else f"{message}\n{report.failure.get('traceback', '')}".rstrip(),
        )
    if report.exit_code == EXIT_PREEMPTED:
        return PREEMPTED, f"rank {rank} was asked to end and left a checkpoint"
    if report.exit_code is not None and report.exit_code < 0:
        return "killed", f"rank {rank} was killed by signal {-report.exit_code}"
    return "unknown", f"rank {rank} ended with exit code {report.exit_code}\n{report.log_tail}"
