"""Whether a micro-batch is large enough for a norm that takes its statistics over it."""

from __future__ import annotations

from trainers.catalog import BACKBONES, NORMS
from trainers.spec import RunSpec


def too_few_values(spec: RunSpec) -> str | None:
    """Why a step could not be trained, as a norm would have too few values; None if it has enough.

    Such a norm has a value per channel for each image and token, and a backbone with levels has
    the fewest tokens on its deepest.
    """
    norm, backbone = NORMS[spec.model.norm.name], spec.model.backbone
    needed, shape = norm.facts.get("fewest_values", 1), BACKBONES[backbone.name].shape
    assert shape is not None  # a sweep has no backbone from outside
    side = spec.training.patch_size_px
    values = int(spec.micro_batch * shape.tokens(backbone.knobs, side) * shape.deepest)
    if values >= needed:
        return None
    return (
        f"{norm.name} needs {needed} values per channel, and has {values} on the deepest level of "
        f"{backbone.name} at micro_batch {spec.micro_batch} and patch_size_px {side}; "
        "a larger one of the two would fit"
    )
