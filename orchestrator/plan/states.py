"""The states of a trial, and the words for them.

What a trainer writes as its outcome (`completed`, `diverged`, `stopped`) is the format of its result, not a state.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What is known of a trial, in the order in which reports count them. Its value is the word that people and JSON get."""

    DONE = "done"  # trained to its last step
    DIVERGED = "diverged"
    STOPPED = "stopped"  # early, by its sweep
    RUNNING = "running"
    RETRYING = "retrying"  # only in a run's table: an attempt has failed and the next one has yet to begin
    INTERRUPTED = "interrupted"  # an attempt without a result, and none that runs
    PENDING = "pending"
    FAILED = "failed"
    INFEASIBLE = "infeasible"  # it does not fit into the memory of a GPU
    DAMAGED = "damaged"  # its result or its journal does not hold

    @staticmethod
    def of_outcome(outcome: str) -> State:
        """Of a trial whose result has this outcome."""
        return State.DONE if outcome == "completed" else State(outcome)

    @property
    def has_result(self) -> bool:
        return self in (State.DONE, State.DIVERGED, State.STOPPED)

    @property
    def has_ended(self) -> bool:
        """Whether no sweep would train it any further."""
        return self in (State.DONE, State.DIVERGED)

    @property
    def is_under_way(self) -> bool:
        return self in (State.RUNNING, State.RETRYING)

    @property
    def is_open(self) -> bool:
        """Whether training it goes on, now or when its sweep is run again, without anything having to change."""
        return self.is_under_way or self in (State.INTERRUPTED, State.PENDING)

    def at(self, step: float, steps: int) -> str:
        """With the step that it has reached: `diverged at step 37`, `running, step 40 of 100`."""
        if self in (State.DIVERGED, State.STOPPED):
            return f"{self} at step {step:.0f}"
        if self in (State.RUNNING, State.INTERRUPTED):
            return f"{self}, step {step:.0f} of {steps}"
        return str(self)
