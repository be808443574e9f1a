"""The cost of a trial, from its spec alone: exact counts, and estimates of memory and time.

The counts, of parameters and multiply-accumulates, follow the published architecture and equal
torch's (a test compares them). Memory is weights, gradients, Adam's two moments and the EMA in
float32, and the activations kept for one micro-batch, as if ZeRO sharded nothing; on a GPU,
RANK_BYTES covers CUDA's context and libraries. Time is three forward passes of arithmetic per
step at the rates below, which are measured (CPU) or assumed (CUDA) and good to a factor of two. A
worker with a fraction of a GPU computes at that fraction of its rate.
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
# Of one CPU core (measured), and of one data-centre GPU in fp32 with TF32 off (assumed).
MACS_PER_S = {"cpu": 6e9, "cuda": 2e13}
EVALUATIONS_MACS_SHARE = 0.1

# A thousand years, since a large network on large patches takes a CPU decades, and such a sweep may
# be planned on a laptop for GPUs elsewhere.
LONGEST_S = 1_000 * 365 * 86_400
MOST_BYTES = 32 * 10**12  # for a worker: no machine has more


@dataclass(frozen=True)
class Cost:
    """Parameters, multiply-accumulates of one patch's forward pass, memory and time.

    The memory is that of one worker, the time that of the whole trial on its own placement.
    """

    parameters: int
    macs_per_patch: int
    memory_bytes: int
    seconds: float


def cost_of(spec: RunSpec) -> Cost:
    backbone = spec.model.backbone
    tokens = _shape_of(backbone.name).tokens(backbone.knobs, spec.training.patch_size_px)
    network = _network(spec)
    parameters, macs = network.parameters, int(tokens * network.macs)
    activations = tokens * network.kept * BYTES
    memory = (
        RANK_BYTES + parameters * BYTES * STATES_PER_PARAMETER + int(spec.micro_batch * activations)
    )
    device = "cuda" if spec.placement.gpus else "cpu"
    rate = MACS_PER_S[device] * (spec.placement.gpus or spec.placement.cpus_per_worker)
    # A backward pass costs two forward passes; recomputed activations cost another one.
    passes = 4 if spec.placement.activation_checkpointing else 3
    step_s = (
        STEP_OVERHEAD_S[device] * spec.accumulation
        + passes * macs * spec.training.batch_size / spec.placement.workers / rate
    )
    seconds = OVERHEAD_S + spec.training.steps * step_s * (1 + EVALUATIONS_MACS_SHARE)
    return Cost(parameters, macs, memory, seconds)


class Costs:
    """The costs of many trials that have few costs. Parts of a spec are known by their ids."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], tuple[RunSpec, Cost]] = {}  # the spec keeps the ids

    def of(self, spec: RunSpec) -> Cost:
        training = spec.training
        key = (
            id(spec.model),
            id(spec.task),
            id(spec.placement),
            training.batch_size,
            training.patch_size_px,
            training.steps,
        )
        if key not in self._kept:
            self._kept[key] = spec, cost_of(spec)
        return self._kept[key][1]


def beyond_reach(cost: Cost) -> str | None:
    """Why no machine could train at this cost; None if one could.

    Every number of a sweep may be within its own bounds and their product still be absurd.
    """
    if cost.memory_bytes > MOST_BYTES:
        return (
            f"a worker would take about {cost.memory_bytes / 10**12:,.0f} TB of memory, "
            f"more than the {MOST_BYTES // 10**12} TB that a machine could have. "
            "A smaller width, depth, patch or micro_batch would help."
        )
    if cost.seconds > LONGEST_S:
        return (
            f"would take about {cost.seconds / (365 * 86_400):,.0f} years on what `resources` "
            "gives it, more than the 1,000 that are allowed. "
            "A smaller width, depth or patch, fewer steps, or more workers would help."
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
    # Every block keeps its input only; one at a time is run again, and keeps its activations.
    inputs = (each._replace(kept=entering).times(number) for each, entering, number in blocks)
    at_once = Amount(0, 0, max(each.kept for each, _, _ in blocks))
    return Amount(0, 0, 0).plus(*inputs, at_once)


def _shape_of(backbone: str) -> Shape:
    shape = BACKBONES[backbone].shape
    assert shape is not None  # a sweep has no backbone from outside
    return shape


def _norm_parameters(norm: Entry, channels: int) -> int:
    """The parameters of a norm; 0 for a norm of unknown size, such as a user's own."""
    return int(norm.facts.get("parameters_per_channel", 0)) * channels + int(
        norm.facts.get("parameters", 0)
    )


def _end_parameters(norm: Entry, which: Ends) -> CountNorm:
    """How to count the parameters of the norm after the embedding or before the head."""
    if which == "affine":
        return lambda channels: 2 * channels
    if which == "identity":
        return lambda channels: 0
    return partial(_norm_parameters, NORMS[norm.facts.get("same_at_ends", norm.name)])
