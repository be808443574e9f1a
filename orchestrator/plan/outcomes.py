"""How trials and attempts end: a line for each kind, with what it means and what follows.

A trial ends with a result, whose outcome is one of RESULTS. An attempt that ends without one leaves
a failure record, whose `kind` is one of FAILURES. docs/errors.md has the same table for people, and
a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

REPORT_IT = "This is a bug of normsweep: please report it, with the log."


@dataclass(frozen=True)
class Outcome:
    """One kind of end.

    `words` continue a sentence that begins with an attempt or a trial, `hint` is what a person can
    do, "" if nothing is to be done.

    `counted`: the next attempt is one of the few retries that a trial gets without getting further.
    `final`: the same input would fail in the same way, so no attempt follows in this run.
    `halves`: a smaller micro-batch may help; if none is left, the trial is infeasible.
    `is_trouble`: something went wrong, so that the end of a run speaks of it and keeps the log.
    """

    kind: str
    words: str
    hint: str = ""
    counted: bool = True
    final: bool = False
    halves: bool = False
    is_trouble: bool = True


RESULTS = {
    outcome.kind: outcome
    for outcome in (
        Outcome("completed", "trained to its last step", final=True, is_trouble=False),
        Outcome("stopped", "was stopped early, since others are ahead", is_trouble=False),
        Outcome(
            "diverged",
            "diverged: its loss or features left their range",
            "It is a result. A smaller `lr` or a `feature_limit` makes another trial.",
            final=True,
            is_trouble=False,
        ),
    )
}

CUDA_MEMORY, HOST_MEMORY, HUNG, DISK_FULL = "cuda_oom", "host_oom", "hung", "disk full"
CHECKPOINT = "checkpoint"
PREEMPTED, NODE_LOST, WORKER_LOST, KILLED = "preempted", "node lost", "worker lost", "killed"

FAILURES = {
    outcome.kind: outcome
    for outcome in (
        # Ended from outside: nothing is wrong with the trial.
        Outcome("interrupted", "was asked to end", counted=False, is_trouble=False),
        Outcome(PREEMPTED, "was asked to leave its node", counted=False, is_trouble=False),
        Outcome("superseded", "gave way to a newer attempt", counted=False, is_trouble=False),
        Outcome(NODE_LOST, "lost its node", counted=False),
        Outcome("ray lost", "lost Ray", counted=False),
        Outcome(WORKER_LOST, "lost the process that hosts a rank"),
        Outcome(
            KILLED,
            "was killed by a signal",
            "By a person, by the system, or by a crash in native code: the log may say more.",
        ),
        Outcome(
            HUNG,
            "took no step within its deadline",
            "The log has the stacks of every thread. NORMSWEEP_HUNG_AFTER_S allows more time.",
        ),
        # Too little of something.
        Outcome(
            CUDA_MEMORY,
            "ran out of CUDA memory",
            "Train it on a larger GPU, or with `activation_checkpointing` or `zero_stage`.",
            counted=False,
            halves=True,
        ),
        Outcome(
            HOST_MEMORY,
            "was killed for the memory of its host",
            "Give the node or the container more memory, or run fewer trials at once.",
            counted=False,
            halves=True,
        ),
        Outcome(DISK_FULL, "found its disk full", "Make room there, then run it again."),
        Outcome("cache", "found no room for decoded data", "NORMSWEEP_CACHE names another disk."),
        Outcome("store", "could not use the store", "Mend what the message names."),
        Outcome("not stopped", "could not be stopped early", "The message says why."),
        Outcome("start", "could not start its workers", "The message says why."),
        # Nothing ends by it, but the end of a run speaks of it.
        Outcome(CHECKPOINT, "had to pass over a damaged checkpoint", counted=False),
        # Input that fails the same way again.
        Outcome("spec", "has a spec that cannot be trained here", "Change it.", final=True),
        Outcome("data", "has data that cannot be read", "Put the file back.", final=True),
        Outcome("initial", "has no usable initial weights", "Put them back.", final=True),
        Outcome("norm", "met an error in your norm", "Mend the norm; its file and line are named."),
        Outcome("probe", "met an error in your probe", "Mend the probe; file and line are named."),
        Outcome("bug", "met an error of normsweep", REPORT_IT),
        Outcome("other", "met an error of normsweep", REPORT_IT),
        Outcome("unknown", "ended without a word", "Its log may say why."),
    )
}

# Of a kind that an older version, or a newer one, has written.
FOREIGN = Outcome("", "failed")
FINAL = frozenset(kind for kind, outcome in FAILURES.items() if outcome.final)
UNCOUNTED = frozenset(kind for kind, outcome in FAILURES.items() if not outcome.counted)
OF_MEMORY = frozenset(kind for kind, outcome in FAILURES.items() if outcome.halves)


def failure_kind(kind: str) -> Outcome:
    return FAILURES.get(kind, FOREIGN)
