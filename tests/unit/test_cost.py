"""The cost that a plan states for a trial does not change when the code that computes it does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.plan.cost import cost_of
from tests.tiny import tiny_spec
from trainers.choice import Choice
from trainers.spec import ModelSpec, PlacementSpec, RunSpec, TrainingSpec

FROZEN = Path(__file__).with_name("frozen_costs.json")
BACKBONES = {
    "swinir": Choice(name="swinir"),
    "swinir-light": Choice(name="swinir-light"),
    "swinir-jpeg": Choice(name="swinir-jpeg"),
    "swinir, uneven groups": Choice(
        name="swinir-tiny",
        knobs={
            "depths": (1, 3),
            "num_heads": (3, 2),
            "window_size": 6,
            "qkv_bias": False,
            "mlp_ratio": 1.3,
        },
    ),
    "hat": Choice(name="hat"),
    "hat-tiny": Choice(name="hat-tiny", knobs={"overlap_ratio": 1.0, "mlp_ratio": 1.3}),
    "drct": Choice(name="drct"),
    "drct-tiny": Choice(name="drct-tiny", knobs={"num_heads": (6, 2), "gc": 6, "mlp_ratio": 1.3}),
}


def specs() -> Iterator[tuple[str, RunSpec]]:
    for backbone, choice in BACKBONES.items():
        for norm in ("layer_norm", "layer_scale", "i_ln", "rezero"):
            for task in ("sr_x3", "sr_x4", "jpeg_10"):
                for recomputed in (False, True):
                    spec = tiny_spec(task=task).model_copy(
                        update={
                            "model": ModelSpec.with_defaults(choice, Choice(name=norm)),
                            "training": TrainingSpec(patch_size_px=61, batch_size=6, steps=1000),
                            "placement": PlacementSpec(
                                workers=2,
                                micro_batch=3,
                                cpus_per_worker=3,
                                activation_checkpointing=recomputed,
                            ),
                        }
                    )
                    yield (
                        f"{backbone} | {norm} | {task} | {'recomputed' if recomputed else 'kept'}",
                        spec,
                    )


def test_costs_never_change_unless_the_estimate_does() -> None:
    """Parameters, multiply-adds per patch, bytes per worker, seconds. New lines may be added."""
    frozen = json.loads(FROZEN.read_text())
    for name, spec in specs():
        cost = cost_of(spec)
        now = [cost.parameters, cost.macs_per_patch, cost.memory_bytes, cost.seconds]
        assert now == pytest.approx(frozen[name], rel=1e-12, abs=0), name
        assert now[:3] == frozen[name][:3], name
