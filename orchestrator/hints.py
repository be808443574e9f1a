"""Commands that messages tell people to enter, with the store and the MLflow of this command.

Without them, such a command would look into the default store. `orchestrator.cli` remembers what
this command was given, by flag or by variable, and forgets it at the command's end.
"""

from __future__ import annotations

import shlex

from orchestrator.errors import masked

STORE, TRACKING = "--store", "--tracking"
_WITH_TRACKING = ("run", "report", "sync", "regress", "evaluate", "doctor", "ui")
TAKING = {  # the verbs that take a flag
    STORE: frozenset(
        (
            *("validate", "plan", "status", "claims", "trials", "diff", "retry", "gc", "logs"),
            *("export", *_WITH_TRACKING),
        )
    ),
    TRACKING: frozenset(_WITH_TRACKING),
}
_given: dict[str, str] = {}


def remember(flag: str, value: str | None) -> None:
    """Remember what this command was given for a flag; None if it was not given."""
    if value is None:
        _given.pop(flag, None)
    else:
        _given[flag] = value


def forget() -> None:
    """Forget all that was remembered: the command has ended."""
    _given.clear()


def hint(words: str) -> str:
    """`normsweep WORDS`, with the flags that its verb takes and that this command was given.

    `words` begin with the verb. An address with a password is left to its variable.
    """
    verb = words.split()[0]
    flags = [
        f"{flag} {shlex.quote(value)}"
        for flag, value in _given.items()
        if verb in TAKING[flag] and masked(value) == value
    ]
    return " ".join(["normsweep", words, *flags])
