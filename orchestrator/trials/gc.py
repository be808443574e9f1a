"""`normsweep gc`: deletes what no sweep needs (orchestrator.trials.rubbish), beside runs or not."""

from __future__ import annotations

import shutil
from collections.abc import Collection, Sequence

from orchestrator.plan import Plan
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import MANIFEST
from orchestrator.store.listing import listed
from orchestrator.store.retention import remove
from orchestrator.store.summary import size_in_words
from orchestrator.store.trials import glance, glances_at
from orchestrator.trials.rubbish import Rubbish, beside_trials, by_keep, in_cache, in_trials, wanted
from trainers.data.cache import Cache


def find(
    store: Store,
    named: Collection[str] | None,
    keep: Collection[str] = (),
    *,
    with_results: bool = False,
    all_caches: bool = False,
    plans: Sequence[Plan] = (),
) -> list[Rubbish]:
    """Everything that can be deleted. Changes nothing.

    `named`: the trials of the sweep files given; None if none was given, and then those that the
    store's records of sweeps name. `keep`: ids of further trials to keep, or names of sweeps.
    `plans`: those of the files, whose own `keep` is applied.
    Raises UserError, EnvironmentProblem.
    """
    sizes = store.sizes("trials")
    ids = sorted({key.split("/")[1] for key in sizes if key.count("/") > 1})
    looks = glances_at(store, ids)
    among = wanted(store, looks, named, keep)
    return [
        *in_trials(store, sizes, among, with_results=with_results),
        *by_keep(store, sizes, among, plans),
        *beside_trials(store, looks),
        *in_cache(store, everything=all_caches),
    ]


def as_text(found: Sequence[Rubbish]) -> str:
    """A line for each with its size, and the total."""
    if not found:
        return "There is nothing to delete."
    total = sum(one.bytes for one in found)
    lines = [f"{size_in_words(one.bytes):>8}  {one.what}" for one in found]
    return "\n".join([*lines, f"{size_in_words(total):>8}  in all, {total:,} bytes"])


def delete_all(store: Store, found: Sequence[Rubbish]) -> str:
    """Delete it, and say how much that freed and what was left because somebody uses it."""
    freed = {one: delete(store, one) for one in found}
    total = sum(freed.values())
    left = [f"Left, since it is in use: {one.what}" for one in found if freed[one] < one.bytes]
    return "\n".join([*left, f"Freed {total:,} bytes ({size_in_words(total)})."])


def delete(store: Store, one: Rubbish) -> int:
    """Delete it and return the bytes freed; 0 if its trial has moved, or somebody uses it."""
    if one.unwanted is not None:
        return one.bytes if remove(store, one.unwanted) else 0
    if one.trial:
        if not _is_still(store, one):
            return 0
        # First what makes the rest count, so that a kill leaves nothing that looks damaged.
        first = (f"/{MANIFEST}", "/result.json")
        for key in sorted(one.keys, key=lambda key: (not key.endswith(first), key)):
            store.delete(key)
    elif one.path is not None and one.path.parent.name == "entries":
        return one.bytes if Cache(one.path.parents[1], limit_bytes=0).evict(one.path) else 0
    elif one.path is not None and one.path.is_dir():
        shutil.rmtree(one.path, ignore_errors=True)
    elif one.path is not None:
        one.path.unlink(missing_ok=True)
    return one.bytes


def _is_still(store: Store, one: Rubbish) -> bool:
    """Whether the trial has not moved since its rubbish was found."""
    listing = listed(store, one.trial)
    return (glance(store, listing).state, listing.newest) == (one.state, one.newest)
