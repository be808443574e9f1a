"""The labels of a spec whose sweep file is not at hand, such as a trial of another sweep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator.plan.axes import CATALOGS
from orchestrator.plan.match import label_of
from trainers.catalog import BACKBONES, KnobValue
from trainers.choice import Choice
from trainers.shape import BadSize
from trainers.spec import RunSpec

Knobs = Mapping[str, KnobValue]


def labels_of(spec: RunSpec) -> dict[str, Any]:
    """The labels of the axes that every sweep has. A preset's name stands for its knobs."""
    backbone = spec.model.backbone
    shape = BACKBONES[backbone.name].shape
    assert shape is not None  # no sweep has a backbone from outside
    size = shape.size(backbone.knobs)
    return {
        "backbone": _label("backbone", backbone),
        "norm": _label("norm", spec.model.norm),
        "task": _label("task", spec.task),
        "width": size.width,
        "depth": size.depth,
        "seed": spec.training.seed,
    }


def differs_in_size_alone(one: Choice, other: Choice) -> bool:
    """Whether one backbone, brought to the other's width and depth, is the other."""
    return one.name == other.name and _at_size_of(other, one.knobs) == other.knobs


def _label(axis: str, choice: Choice) -> str:
    """The entry or preset that comes nearest at the choice's size, with the knobs that differ.

    Of several that come equally near, one that has this size by itself.
    """
    catalog = CATALOGS[axis]
    presets = [preset.name for preset in catalog.presets.values() if preset.of == choice.name]
    labels: list[tuple[tuple[int, bool], str]] = []
    for name in [*presets, choice.name]:
        _, knobs = catalog.resolve(name, {})
        at_size = (_at_size_of(choice, knobs) if axis == "backbone" else None) or knobs
        differing = {k: v for k, v in choice.knobs.items() if k not in at_size or v != at_size[k]}
        rank = len(differing), at_size != knobs
        labels.append((rank, str(label_of(Choice(name=name, knobs=differing)))))
    return min(labels, key=lambda label: label[0])[1]


def _at_size_of(backbone: Choice, knobs: Knobs) -> Knobs | None:
    """The knobs at this backbone's size; None if they cannot have it."""
    shape = BACKBONES[backbone.name].shape
    assert shape is not None
    had, wanted = shape.size(knobs), shape.size(backbone.knobs)
    try:
        return shape.sized(knobs, wanted.width, wanted.depth if wanted.depth != had.depth else None)
    except BadSize:
        return None
