"""The trials of a store, of whatever sweep, in groups that differ in nothing but norm and seed.

The store is listed once, and only specs are read, of trials that have ended. Journals are read for
the groups that are chosen in the end.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from pydantic import BaseModel

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.cost import cost_of
from orchestrator.plan.expand import Trial
from orchestrator.plan.labels import labels_of
from orchestrator.store.attempts import kept_spec
from orchestrator.store.base import KEY, Store
from orchestrator.store.journals import READERS
from trainers.catalog import BACKBONES
from trainers.spec import ModelSpec, RunSpec

ENDED = re.compile(r"trials/([^/]+)/(?:result\.json|evaluations/(.+)\.json)")


@dataclass(frozen=True)
class Group:
    """Trials that differ in nothing but the norm, what belongs to it, and the seed."""

    trials: tuple[Trial, ...]

    @property
    def spec(self) -> RunSpec:
        """The spec of one of them."""
        return self.trials[0].spec

    @cached_property
    def recipe(self) -> str:
        return recipe_key(self.spec)

    @cached_property
    def parameters(self) -> int:
        """Of the smallest network: norms differ a little."""
        return min(trial.parameters for trial in self.trials)

    def why_no_pair(self, benchmark: str, scored: Scored) -> str:
        """Why two norms cannot be compared by several seeds on this set; "" if they can be."""
        seeds: dict[str, set[int]] = {}
        for trial in self.trials:
            if benchmark in scored.sets_of(trial):
                seeds.setdefault(trial.axes[COMPARED], set()).add(trial.spec.training.seed)
        several = [norm for norm, its in seeds.items() if len(its) > 1]
        if not several:
            return ONE_SEED if seeds else NO_TRIAL
        if len(several) == 1:
            return f"only {several[0]} has several seeds, so how a difference varies is not known"
        if all(len(seeds[one] & seeds[other]) < 2 for one, other in combinations(several, 2)):
            return "no two norms have two seeds in common"
        return ""


NO_TRIAL = "the store has no trial of this task that ended and was scored on this set"
ONE_SEED = "each norm has one seed, which does not tell how much others would differ"


@dataclass(frozen=True)
class Scored:
    """The trials of a store that have ended, each with the names of its later evaluations."""

    evaluations: Mapping[str, tuple[str, ...]]

    def __contains__(self, trial_id: str) -> bool:
        return trial_id in self.evaluations

    def sets_of(self, trial: Trial) -> set[str]:
        """The sets that a trial was scored on, while it was trained or later; empty if not ended.

        A set's name may also be found in the name of another one's evaluation, which only costs
        the reading of a trial in vain.
        """
        if trial.id not in self:
            return set()
        later = (name.removesuffix("-fp32") for name in self.evaluations[trial.id])
        return {*trial.spec.observe.evaluate, *later}


def scored_in(store: Store) -> Scored:
    """What a single listing of the store shows."""
    ended: set[str] = set()
    evaluations: dict[str, list[str]] = {}
    for key in store.list("trials"):
        if (match := ENDED.fullmatch(key)) and KEY.fullmatch(match[1]):
            if match[2] is None:
                ended.add(match[1])
            else:
                evaluations.setdefault(match[1], []).append(match[2])
    return Scored({trial: tuple(evaluations.get(trial, ())) for trial in sorted(ended)})


def read_trials(store: Store, ids: Iterable[str]) -> list[Trial]:
    """These trials, by the specs that the store kept; those without a readable one are left out."""
    ids = list(ids)
    with ThreadPoolExecutor(READERS) as readers:
        specs = list(readers.map(lambda trial_id: kept_spec(store, trial_id), ids))
    return [
        named(trial_id, spec)
        for trial_id, spec in zip(ids, specs, strict=True)
        if isinstance(spec, RunSpec) and BACKBONES[spec.model.backbone.name].shape is not None
    ]


def named(trial_id: str, spec: RunSpec) -> Trial:
    """A trial under the labels that its spec alone gives, alike for trials of every sweep."""
    return Trial(trial_id, labels_of(spec), spec, cost_of(spec))


def groups_of(trials: Iterable[Trial]) -> list[Group]:
    """The groups of these trials, in order of first appearance.

    Of several trials with the same norm and seed (of which one is an older version's, say) the
    first counts.
    """
    found: dict[str, dict[str, Trial]] = {}
    for trial in trials:
        spec = trial.spec
        at = f"{norm_key(spec.model)} {spec.training.seed}"
        found.setdefault(_apart_from_norm(spec), {}).setdefault(at, trial)
    return [Group(tuple(group.values())) for group in found.values()]


def norm_key(model: ModelSpec) -> str:
    """A norm with all that belongs to it (trap a of the protocol), to compare it with others."""
    return _canonical(model, {"backbone"})


def recipe_key(spec: RunSpec) -> str:
    """What a trial is trained on and how, apart from its seed."""
    return spec.data.train_sha256 + _canonical(spec.training, {"seed", "initial_strict"})


def _apart_from_norm(spec: RunSpec) -> str:
    return _canonical(spec.model.backbone) + _canonical(spec.task) + recipe_key(spec)


def _canonical(part: BaseModel, without: set[str] | None = None) -> str:
    # The order of knobs is that in which a file gave them.
    return json.dumps(part.model_dump(mode="json", exclude=without), sort_keys=True)
