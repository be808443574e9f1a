"""Applies a sweep's `keep`: removes the checkpoints of ended trials that it does not want.

Never removed is what anybody may still need: of a trial that is open, running or stopped early; of
one whose checkpoint trials of the sweep start from; of one that another sweep trained or names.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from orchestrator.plan import Plan
from orchestrator.store.base import Store
from orchestrator.store.freed import FREED, bytes_of, free
from orchestrator.store.journals import READERS
from orchestrator.store.listing import listed
from orchestrator.store.names import recorded_sweeps
from orchestrator.store.records import CHECKSUM, Damaged, Record
from orchestrator.store.results import stated_result
from orchestrator.store.stops import STOPPED
from orchestrator.store.summary import size_in_words
from orchestrator.store.trials import Look

Results = Mapping[str, Record]
Named = Mapping[str, set[str] | None]  # trials by sweep


@dataclass(frozen=True)
class Unwanted:
    """A checkpoint to remove: that of `result`, by the `keep` of `sweep`."""

    result: Record
    sweep: str
    keep: str

    @property
    def trial(self) -> str:
        return str(self.result["trial"])


@dataclass(frozen=True)
class Choice:
    """The checkpoints to remove, and why others that `keep` does not want stay, by trial id."""

    unwanted: tuple[Unwanted, ...]
    spared: Mapping[str, str]


def choose(plans: Sequence[Plan], results: Results, named: Named) -> Choice:
    """What the `keep` of these sweeps removes, given the results of trials that have ended.

    `named`: the trials that other sweeps of the store name, by sweep; None for a sweep whose trials
    are not known. A trial of several plans goes if each of them would remove it.
    """
    removed_by: dict[str, Plan] = {}
    wanted: set[str] = set()
    starts: set[str] = set()
    for plan in plans:
        ids = {trial.id for trial in plan.trials}
        gone = [] if plan.keep is None else plan.keep.unwanted(_scores(plan, results))
        wanted |= ids - set(gone)
        removed_by |= dict.fromkeys(gone, plan)
        starts |= {blob.split("/")[1] for one in plan.initial if (blob := one.blob)}
    sweeps = {plan.sweep for plan in plans}
    unwanted, spared = [], {}
    for trial, plan in removed_by.items():
        if trial in wanted:
            continue
        result = results[trial]
        other = next((s for s, ids in named.items() if ids is None or trial in ids), None)
        if result["sweep"] not in sweeps:
            spared[trial] = f"sweep {result['sweep']} trained it"
        elif other is not None:
            spared[trial] = f"sweep {other} has it as well"
        elif trial in starts:
            spared[trial] = "trials of the sweep start from it"
        else:
            unwanted.append(Unwanted(result, plan.sweep, str(plan.keep.asked if plan.keep else "")))
    return Choice(tuple(unwanted), spared)


def _scores(plan: Plan, results: Results) -> dict[str, float | None]:
    """What trials are judged by: NaN for one that diverged, None for one without the metric."""
    assert plan.keep is not None
    found: dict[str, float | None] = {}
    for trial in plan.trials:
        result = results.get(trial.id)
        if result is None or result["outcome"] == STOPPED:
            continue
        value = result["metrics"].get(plan.keep.metrics.get(trial.id, ""))
        found[trial.id] = (
            math.nan if result["outcome"] == "diverged" else None if value is None else float(value)
        )
    return found


def others_of(store: Store, sweeps: Collection[str]) -> Named:
    """The trials that sweeps of the store other than these name; None where that is not known."""
    return {
        name: None if isinstance(trials, Damaged) else set(trials)
        for name, trials in recorded_sweeps(store).items()
        if name not in sweeps
    }


def results_of(store: Store, trials: Iterable[str]) -> dict[str, Record]:
    """The results of those of these trials that have ended, as they are written."""
    ids = list(trials)
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda trial: stated_result(store, trial), ids)
        return {trial: one for trial, one in zip(ids, found, strict=True) if isinstance(one, dict)}


def apply(store: Store, plan: Plan, beside: str | None = None) -> int:
    """Remove what the sweep's `keep` does not want; returns how many checkpoints that were.

    `beside`: look only at the trials that compete with this one, which has just ended.
    """
    if plan.keep is None or plan.keep.asked.best is None:
        return 0
    ids = plan.keep.cells if beside is None else plan.keep.beside(beside)
    chosen = choose([plan], results_of(store, ids), others_of(store, {plan.sweep}))
    with ThreadPoolExecutor(READERS) as removers:
        return sum(removers.map(lambda one: remove(store, one), chosen.unwanted))


def remove(store: Store, one: Unwanted) -> bool:
    """Remove a checkpoint; False if it is gone already, or its trial is being trained again."""
    keys = removable(store, one)
    if not keys:
        return False
    free(store, one.result, keys, sweep=one.sweep, keep=one.keep)
    return True


def removable(store: Store, one: Unwanted) -> list[str]:
    """The keys of a trial's checkpoints, unless it is being trained again."""
    listing = listed(store, one.trial)
    result = stated_result(store, one.trial)
    is_same = isinstance(result, dict) and result[CHECKSUM] == one.result[CHECKSUM]
    if not is_same or listing.newest != one.result["attempt"]:
        return []
    return [key for folder in listing.checkpoints for key in folder.keys]


@dataclass(frozen=True)
class Retained:
    """The checkpoints of a sweep's ended trials: what is kept, and what was removed."""

    keep: str
    kept: int
    kept_bytes: int
    freed: int
    freed_bytes: int
    spared: Mapping[str, str]  # by trial id: why a checkpoint stays that `keep` does not want

    def __str__(self) -> str:
        """E.g. `keep: best: kept 4 checkpoints (12 MB), freed 20 (60 MB)`."""
        said = (
            f"{self.keep}: kept {self.kept} checkpoint{'s' * (self.kept != 1)} "
            f"({size_in_words(self.kept_bytes)}), freed {self.freed} "
            f"({size_in_words(self.freed_bytes)})"
        )
        whys = Counter(self.spared.values())
        left = [f"{number} left, since {why}" for why, number in whys.items()]
        return "; ".join([said, *left])


def retained(store: Store, plan: Plan, looks: Mapping[str, Look]) -> Retained | None:
    """What the sweep's `keep` has kept and removed; None if the file has none."""
    if plan.keep is None:
        return None
    results = {
        trial.id: result for trial in plan.trials if (result := looks[trial.id].result) is not None
    }
    freed = {trial: bytes_of(result) for trial, result in results.items() if FREED in result}
    kept = {trial: bytes_of(result) for trial, result in results.items() if FREED not in result}
    spared = choose([plan], results, others_of(store, {plan.sweep})).spared
    return Retained(
        str(plan.keep.asked),
        len(kept),
        sum(kept.values()),
        len(freed),
        sum(freed.values()),
        {trial: why for trial, why in spared.items() if trial in kept},
    )
