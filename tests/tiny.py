"""Specs small enough for a test to train them in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainers.catalog import KnobValue
from trainers.choice import Choice
from trainers.data.lookup import find_set
from trainers.spec import DataSpec, ModelSpec, ObserveSpec, PlacementSpec, RunSpec, TrainingSpec

TINY: dict[str, KnobValue] = {
    "embed_dim": 8,
    "depths": (2, 2),
    "num_heads": (2, 2),
    "window_size": 4,
}


def tiny_spec(
    *,
    norm: str = "i_ln",
    task: str = "sr_x2",
    backbone: Mapping[str, KnobValue] | None = None,
    training: Mapping[str, Any] | None = None,
    observe: Mapping[str, Any] | None = None,
    placement: Mapping[str, Any] | None = None,
) -> RunSpec:
    """A two-group SwinIR of width 8 on the embedded photographs: 6 steps of 4 patches."""
    return RunSpec(
        model=ModelSpec.with_defaults(
            Choice(name="swinir-tiny", knobs={**TINY, **(backbone or {})}), Choice(name=norm)
        ),
        task=Choice(name=task),
        data=DataSpec(train="embedded-train", train_sha256=find_set("embedded-train", ()).sha256),
        training=TrainingSpec(
            **{
                "steps": 6,
                "batch_size": 4,
                "patch_size_px": 8,
                "lr": 1e-3,
                "ema_decay": 0.5,
                **(training or {}),
            }
        ),
        observe=ObserveSpec(
            **{
                "log_every": 1,
                "probe_every": 3,
                "probe_patches": 2,
                "checkpoint_every": 2,
                **(observe or {}),
            }
        ),
        placement=PlacementSpec(**{"device": "cpu", **(placement or {})}),
    )
