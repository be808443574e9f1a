"""How near a group of stored trials is to a place of a plan.

The noise of seeds depends on the task most, then on the network and the recipe, and least on the
size (a belief: no paper of the field has published it). So another task never counts, and the order
is: the same backbone and recipe, closest in size; the same family; any backbone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

from orchestrator.plan.expand import Trial
from orchestrator.plan.labels import differs_in_size_alone
from orchestrator.report.power.stored import Group, recipe_key


class Distance(NamedTuple):
    """Compared field by field; smaller is nearer. `size` and `steps` are logarithms of ratios."""

    tier: int  # 0 the same backbone and recipe; 1 the same family; 2 another one
    other_backbone: bool
    other_recipe: bool
    size: float
    steps: float


def distance(trial: Trial, group: Group, recipe: str) -> Distance | None:
    """The distance of a group from the place of a trial, whose recipe's key is `recipe`.

    None if it is of another task.
    """
    here, there = trial.spec, group.spec
    if here.task != there.task:
        return None
    one, other = here.model.backbone, there.model.backbone
    is_same = differs_in_size_alone(other, one)
    is_same_recipe = recipe == group.recipe
    tier = 0 if is_same and is_same_recipe else 1 if one.name == other.name else 2
    return Distance(
        tier,
        not is_same,
        not is_same_recipe,
        abs(math.log(group.parameters / trial.parameters)),
        abs(math.log(there.training.steps / here.training.steps)),
    )


def by_distance(trial: Trial, groups: Iterable[Group]) -> list[Group]:
    """The groups of the trial's task, nearest first."""
    recipe = recipe_key(trial.spec)
    found = [
        (away, group) for group in groups if (away := distance(trial, group, recipe)) is not None
    ]
    return [group for _, group in sorted(found, key=lambda pair: pair[0])]


def in_words(trial: Trial, group: Group) -> str:
    """What a group differs in from a trial's place: `1.9 times as many parameters, steps 200`."""
    here, there = trial.spec, group.spec
    parts = []
    if not differs_in_size_alone(there.model.backbone, here.model.backbone):
        parts.append(f"backbone {group.trials[0].axes['backbone']}")
    ratio = group.parameters / trial.parameters
    if not 0.95 < ratio < 1.05:
        parts.append(
            f"{ratio:.1f} times as large" if ratio > 1 else f"{1 / ratio:.1f} times smaller"
        )
    ours, theirs = here.training.model_dump(), there.training.model_dump()
    parts += [
        f"{name} {theirs[name]} instead of {ours[name]}"
        for name in ours
        if name not in ("seed", "initial_strict", "initial") and ours[name] != theirs[name]
    ]
    if ours["initial"] != theirs["initial"]:
        parts.append("other weights at the start")
    if here.data.train_sha256 != there.data.train_sha256:
        is_named_alike = there.data.train == here.data.train
        parts.append(f"trained on {'another ' * is_named_alike}{there.data.train}")
    return ", ".join(parts) or "the same place"
