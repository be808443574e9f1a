"""`normsweep retry`: a trial that failed for good, or diverged, becomes pending again.

A failed trial keeps all that it has, and `retry.json` beside its newest attempt says that it is to
be tried again. A diverged one has to begin anew, since its only checkpoint is the one at which it
diverged. Its result, journals, arrays and checkpoint are moved to

    trials/<id>/set_aside/<attempt>/...        under the names that they had; keys.json last

where no reader looks. Only copies that are complete let the originals be deleted. A kill before the
last deletion leaves a trial that diverges again at once, and can be retried again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.hints import hint
from orchestrator.plan.states import State
from orchestrator.store.attempts import write_retry
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import MANIFEST
from orchestrator.store.finding import find_trial, named_in, names_of
from orchestrator.store.records import encoded
from orchestrator.store.results import result_key
from orchestrator.store.trials import Look, looks_at

SAME_AGAIN = frozenset({"spec", "data", "initial"})  # kinds of failure that input causes
MOVED = re.compile(r"trials/[^/]+/(?:result\.json|attempts/\d+/journal/|probes/|checkpoints/).*")
REFUSED = {
    State.DONE: "is done. To train it anew, move {folder} away",
    State.RUNNING: "is running",
    State.STOPPED: "was stopped early by its sweep, which continues it once its `stop` allows that",
    State.DAMAGED: "is damaged: {damage}. Put the file back from a copy",
}
AGAIN = (State.FAILED, State.INFEASIBLE, State.DIVERGED)


def chosen(store: Store, given: Sequence[str]) -> list[Look]:
    """The trials that may be retried, or are pending already.

    Raises UserError with a sentence for each one that is unknown, done, running or damaged.
    """
    problems, ids = [], []
    for name in given:
        try:
            ids.append(find_trial(store, name))
        except UserError as error:
            problems.append(str(error))
    looks = looks_at(store, list(dict.fromkeys(ids)))
    names = names_of(store, list(looks))
    for trial, look in looks.items():
        if why := REFUSED.get(look.state):
            said = why.format(
                folder=f"{store.uri}/trials/{trial}", damage="; ".join(map(str, look.damaged))
            )
            problems.append(f"{named_in(names, trial)} {said}.")
    if problems:
        raise UserError("\n".join(problems))
    return list(looks.values())


def retry(store: Store, looks: Sequence[Look]) -> list[str]:
    """Make these trials pending; returns a sentence for each on what the next run will do."""
    names = names_of(store, [look.trial for look in looks])
    said = []
    for look in looks:
        if look.state in AGAIN:
            if look.state == State.DIVERGED:
                set_aside(store, look)
            write_retry(store, look.trial, max(look.attempts))
        said.append(f"{named_in(names, look.trial)}: {in_words(store, look)}")
    return said


def set_aside(store: Store, look: Look) -> None:
    """Move what a diverged trial has trained to where no reader looks."""
    trial = look.trial
    aside = f"trials/{trial}/set_aside/{max(look.attempts)}"
    keys = [key for key in store.list(f"trials/{trial}") if MOVED.fullmatch(key)]
    with tempfile.TemporaryDirectory(prefix="normsweep-") as folder:
        path = Path(folder, "moved")
        for key in keys:
            store.get_file(key, path)
            store.put_file(f"{aside}/{key.split('/', 2)[2]}", path)
    store.put(f"{aside}/keys.json", encoded(keys))
    first, last = result_key(trial), f"/{MANIFEST}"
    # Until its manifest is gone, a run that finds the checkpoint finds that it has diverged.
    for key in sorted(keys, key=lambda key: (key != first, key.endswith(last))):
        store.delete(key)


def in_words(store: Store, look: Look) -> str:
    """What the next `run` of the trial's sweep will do, given the look before the retry."""
    begins = f"continues from step {look.step}" if look.step else "begins at step 0"
    next_run = f"The next `{hint('run FILE')}` of its sweep"
    if look.state not in AGAIN:
        return f"is {look.state} already. {next_run} {begins}."
    if look.state == State.DIVERGED:
        step = 0 if look.result is None else look.result["step"]
        return (
            f"diverged at step {step}; pending now. {next_run} begins "
            "at step 0. With the same code, versions and hardware it diverges again. What it had "
            f"is kept in {store.uri}/trials/{look.trial}/set_aside/{max(look.attempts)}."
        )
    failure = look.failure or {"kind": "unknown", "message": ""}
    first = (failure["message"].splitlines() or [""])[0]
    same = (
        " It fails the same way unless what was wrong has changed."
        if failure["kind"] in SAME_AGAIN
        else " It takes the micro-batch with which it failed, on the GPUs of that run."
        if look.state == State.INFEASIBLE
        else ""
    )
    return f"{look.state} ({failure['kind']}: {first}); pending now. {next_run} {begins}.{same}"
