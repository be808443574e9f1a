"""A plan on the GPUs that there are: `gpus_per_worker: auto` becomes a number here."""

from __future__ import annotations

import dataclasses
from collections.abc import Set as AbstractSet
from typing import Any

from orchestrator.plan.cost import Costs
from orchestrator.plan.expand import Plan
from orchestrator.plan.fit import LISTED, sharing_problems
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.source import Location, Problem
from orchestrator.plan.trial import Trial
from trainers.spec import PlacementSpec


def placed(plan: Plan, gpus: Gpus, among: AbstractSet[str] | None = None) -> Plan:
    """The plan on these GPUs, with a number for every `auto` and the costs that follow.

    Raises UserError if trials that share a GPU would not fit into its memory; with `among`, only
    trials with these ids are checked.
    """
    placements: dict[int, PlacementSpec] = {}  # by the id of what is written in the file
    costs = Costs()
    trials = tuple(_on(trial, gpus, placements, costs) for trial in plan.trials)
    checked = [trial for trial in trials if among is None or trial.id in among]
    if problems := sharing_problems(checked, gpus):
        raise plan.source.error(problems)
    return dataclasses.replace(plan, trials=trials)


def _on(trial: Trial, gpus: Gpus, placements: dict[int, PlacementSpec], costs: Costs) -> Trial:
    placement = trial.spec.placement
    if placement.gpus_per_worker != "auto":
        return trial
    if id(placement) not in placements:
        wanted = {"cpu": 0, "cuda": 1, "auto": gpus.auto}[placement.device]
        changed = placement.model_copy(update={"gpus_per_worker": float(wanted)})
        placements[id(placement)] = changed
    spec = trial.spec.model_copy(update={"placement": placements[id(placement)]})
    return dataclasses.replace(trial, spec=spec, cost=costs.of(spec))


def waits_for_gpus(plan: Plan) -> bool:
    """Whether any trial's device depends on the GPUs that nodes turn out to have."""
    placements = (trial.spec.placement for trial in plan.trials)
    return any(p.gpus_per_worker == "auto" and p.device == "auto" for p in placements)


def wants_cuda(plan: Plan, why: str, among: AbstractSet[str] | None = None) -> list[Problem]:
    """A problem at every `device: cuda` of the file, if it sends a trial where there is no CUDA.

    `why` says why there is none, as in "this machine has no GPU". With `among`, only trials with
    these ids count.
    """
    trials = [
        t.name
        for t in plan.trials
        if t.spec.placement.device == "cuda" and (among is None or t.id in among)
    ]
    if not trials:
        return []
    more = f" and {len(trials) - LISTED} more" if len(trials) > LISTED else ""
    message = (
        f"cuda, but {why}: {', '.join(trials[:LISTED])}{more} cannot train there. "
        "Write auto or cpu, or run on a machine with CUDA"
    )
    resources = plan.source.value.get("resources", {})
    places: list[tuple[Location, Any]] = [(("resources",), resources)]
    places += [
        (("resources", "overrides", i), rule)
        for i, rule in enumerate(resources.get("overrides", ()))
    ]
    return [
        Problem((*place, "device"), message)
        for place, fields in places
        if fields.get("device") == "cuda"
    ]
