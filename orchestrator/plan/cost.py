"""What a trial costs, from its spec alone: parameters and multiply-accumulates exactly, memory and time as estimates.

The counts follow the published architecture and equal torch's (a test says so). Memory is weights, gradients, Adam's two
moments and the EMA in float32, and the activations kept for one micro-batch, as if ZeRO sharded nothing; on a GPU, RANK_BYTES
stand for CUDA's context and libraries. Time is three forward passes of arithmetic a step at the rates below, which are measured
(CPU) or assumed (CUDA) and good to a factor of two; a worker with a fraction of a GPU computes at that fraction of its rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

from trainers.catalog import BACKBONES, NORMS, Ends, Entry, KnobValue
from trainers.shape import Amount, CountNorm, Shape
from trainers.spec import RunSpec

BYTES = 4
STATES_PER_PARAMETER = 5  # weight, gradient, two moments, EMA
RANK_BYTES = 600 << 20  # a Python process with torch and DeepSpeed
OVERHEAD_S = 12.0  # start of a gang, imports, first evaluation
STEP_OVERHEAD_S = {"cpu": 0.004, "cuda": 0.02}
MACS_PER_S = {
    "cpu": 6e9,
    "cuda": 2e13,
}  # of a worker: one CPU core; one data-centre GPU in fp32 with TF32 off
EVALUATIONS_MACS_SHARE = 0.1

# A large network on large patches takes a CPU decades, and is planned for GPUs elsewhere.
LONGEST_S = 1_000 * 365 * 86_400
MOST_BYTES = 32 * 10**12  # of a worker: no machine has more


@dataclass(frozen=True)
class Cost:
    """parameters; multiply-accumulates of one forward pass of one patch; bytes per worker; seconds on its placement."""

    parameters: int
    macs_per_patch: int
    memory_bytes: int
    seconds: float


def cost_of(spec: RunSpec) -> Cost:
    backbone, side = spec.model.backbone, spec.training.patch_size_px
    tokens = (side + -side % _shape_of(backbone.name).multiple_px(backbone.knobs)) ** 2
    network = _network(spec)
    parameters, macs = network.parameters, int(tokens * network.macs)
    activations = tokens * network.kept * BYTES
    memory = (
        RANK_BYTES + parameters * BYTES * STATES_PER_PARAMETER + int(spec.micro_batch * activations)
    )
    device = "cuda" if spec.placement.gpus else "cpu"
    rate = MACS_PER_S[device] * (spec.placement.gpus or spec.placement.cpus_per_worker)
    passes = 4 if spec.placement.activation_checkpointing else 3
    step_s = (
        STEP_OVERHEAD_S[device] * spec.accumulation
        + passes * macs * spec.training.batch_size / spec.placement.workers / rate
    )
    seconds = OVERHEAD_S + spec.training.steps * step_s * (1 + EVALUATIONS_MACS_SHARE)
    return Cost(parameters, macs, memory, seconds)


def beyond_reach(cost: Cost) -> str | None:
    """Why no machine could train at this cost, or None: each number is within its bounds, their product is not."""
    if cost.memory_bytes > MOST_BYTES:
        return (
            f"a worker would take about {cost.memory_bytes / 10**12:,.0f} TB of memory, more than the "
            f"{MOST_BYTES // 10**12} TB that a machine could have: a smaller width, depth, patch or micro_batch would help"
        )
    if cost.seconds > LONGEST_S:
        return (
            f"would take about {cost.seconds / (365 * 86_400):,.0f} years on what `resources` gives it, more than the "
            "1,000 that are allowed: a smaller width, depth or patch, fewer steps, or more workers would help"
        )
    return None


def _network(spec: RunSpec) -> Amount:
    model, scale = spec.model, spec.task.knobs.get("scale", 1)
    assert isinstance(scale, int)
    is_recomputed = spec.placement.activation_checkpointing
    blocks = _blocks(
        model.backbone.name, tuple(model.backbone.knobs.items()), model.norm.name, is_recomputed
    )
    embed, end = (
        _end_parameters(NORMS[model.norm.name], which)
        for which in (model.embed_norm, model.end_norm)
    )
    return blocks.plus(
        *_shape_of(model.backbone.name).around(model.backbone.knobs, embed, end, scale)
    )


@lru_cache(maxsize=256)  # the trials of a sweep have few networks
def _blocks(
    name: str, knobs: tuple[tuple[str, KnobValue], ...], norm: str, is_recomputed: bool
) -> Amount:
    blocks = tuple(_shape_of(name).blocks(dict(knobs), partial(_norm_parameters, NORMS[norm])))
    if not is_recomputed:
        return Amount(0, 0, 0).plus(*(each.times(number) for each, _, number in blocks))
    inputs = (each._replace(kept=entering).times(number) for each, entering, number in blocks)
    at_once = Amount(
        0, 0, max(each.kept for each, _, _ in blocks)
    )  # of the block that is run again
    return Amount(0, 0, 0).plus(*inputs, at_once)


def _shape_of(backbone: str) -> Shape:
    shape = BACKBONES[backbone].shape
    assert shape is not None  # a sweep has no backbone from outside
    return shape


def _norm_parameters(norm: Entry, channels: int) -> int:
    """Those of a norm of unknown size count as 0."""
    return int(norm.facts.get("parameters_per_channel", 0)) * channels + int(
        norm.facts.get("parameters", 0)
    )


def _end_parameters(norm: Entry, which: Ends) -> CountNorm:
    """Of what stands at the embedding or the end."""
    if which == "affine":
        return lambda channels: 2 * channels
    if which == "identity":
        return lambda channels: 0
    return partial(_norm_parameters, NORMS[norm.facts.get("same_at_ends", norm.name)])
