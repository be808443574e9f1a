"""Finds a trial of a store by its id, by the beginning of its id, or by its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from orchestrator.errors import UserError
from orchestrator.hints import hint
from orchestrator.plan.axes import trial_name
from orchestrator.plan.labels import labels_of
from orchestrator.store.attempts import kept_spec
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.trials import trial_ids
from trainers.errors import did_you_mean
from trainers.spec import RunSpec

MOST_NAMED = 5


class UnknownTrial(UserError):
    """No trial of the store has this id, this beginning of an id, or this name.

    `is_near`: one has nearly this id or name, and the message asks whether it was meant.
    """

    def __init__(self, message: str, *, is_near: bool) -> None:
        super().__init__(message)
        self.is_near = is_near


def find_trial(store: Store, given: str) -> str:
    """The id of the only trial that `given` can mean.

    Raises UnknownTrial, and UserError if `given` means several trials.
    """
    known = trial_ids(store)
    if given in known:
        return given
    begun = [trial for trial in known if given and trial.startswith(given)]
    if len(begun) > 1:
        raise UserError(
            f"{given!r} is the beginning of {len(begun)} trials: {_some(begun)}. Give more digits."
        )
    if begun:
        return begun[0]
    names = names_of(store, known)
    named = [trial for trial, name in names.items() if name == given]
    if len(named) > 1:
        raise UserError(
            f"{given!r} is the name of {len(named)} trials: {_some(named)}. Give an id; "
            f"`{hint('diff A B')}` says in what two of them differ."
        )
    if named:
        return named[0]
    near = did_you_mean(given, [*known, *names.values()])
    raise UnknownTrial(
        f"There is no trial {given!r} among the {len(known)} of the store {store.uri}.{near} "
        f"`{hint('trials')}` lists them.",
        is_near=bool(near),
    )


def names_of(store: Store, ids: Sequence[str]) -> dict[str, str]:
    """The names of these trials by id; a trial whose spec cannot be read has none."""
    with ThreadPoolExecutor(READERS) as readers:
        specs = readers.map(lambda trial: kept_spec(store, trial), ids)
        return {
            trial: name_of(spec)
            for trial, spec in zip(ids, specs, strict=True)
            if isinstance(spec, RunSpec)
        }


def name_of(spec: RunSpec) -> str:
    """A trial's name as its spec gives it, such as `i_ln sr_x2 w24 d2 swinir-tiny s0`.

    A sweep's own name for the trial may also have the value of an axis of `training`.
    """
    return trial_name(labels_of(spec))


def named_in(names: Mapping[str, str], trial: str) -> str:
    """A trial in a sentence: its name, if it has one, and its id."""
    return f"{names[trial]} ({trial})" if trial in names else trial


def _some(trials: Sequence[str]) -> str:
    return f"{', '.join(trials[:MOST_NAMED])}{', ...' if len(trials) > MOST_NAMED else ''}"
