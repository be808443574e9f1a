"""The states of a trial, and the words for them.

A trainer's outcome (`completed`, `diverged`, `stopped`) is not a state, but part of the format of
its result.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """The states of a trial, in the order in which reports list them. Their values are printed."""

    DONE = "done"  # trained to its last step
    DIVERGED = "diverged"
    STOPPED = "stopped"  # early, by its sweep
    RUNNING = "running"
    RETRYING = "retrying"  # between a failed attempt and the next; in a run's live table only
    INTERRUPTED = "interrupted"  # the newest attempt left no result and no longer runs
    PENDING = "pending"
    FAILED = "failed"
    INFEASIBLE = "infeasible"  # does not fit into a GPU's memory
    DAMAGED = "damaged"  # its result or its journal is not as it was written

    @staticmethod
    def of_outcome(outcome: str) -> State:
        """The state of a trial whose result has this outcome."""
        return State.DONE if outcome == "completed" else State(outcome)

    @property
    def has_result(self) -> bool:
        return self in (State.DONE, State.DIVERGED, State.STOPPED)

    @property
    def has_ended(self) -> bool:
        """Whether no sweep would train it further."""
        return self in (State.DONE, State.DIVERGED)

    @property
    def is_under_way(self) -> bool:
        return self in (State.RUNNING, State.RETRYING)

    @property
    def is_open(self) -> bool:
        """Whether running its sweep, as it is, would train it further."""
        return self.is_under_way or self in (State.INTERRUPTED, State.PENDING)

    def at(self, step: float, steps: int) -> str:
        """The state and the step reached: `diverged at step 37`, `running, step 40 of 100`."""
        if self in (State.DIVERGED, State.STOPPED):
            return f"{self} at step {step:.0f}"
        if self in (State.RUNNING, State.INTERRUPTED):
            return f"{self}, step {step:.0f} of {steps}"
        return str(self)
