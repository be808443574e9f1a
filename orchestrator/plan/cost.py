"""What a trial costs, from its spec alone: parameters and multiply-accumulates exactly, memory and time as estimates.

The counts follow the published architecture and equal torch's (a test says so). Memory is weights, gradients, Adam's two
moments and the EMA in float32, and the activations kept for one micro-batch, as if ZeRO sharded nothing; on a GPU, RANK_BYTES
stand for CUDA's context and libraries. Time is three forward passes of arithmetic a step at the rates below, which are measured
(CPU) or assumed (CUDA) and good to a factor of two; a worker with a fraction of a GPU computes at that fraction of its rate.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from trainers.catalog import NORMS, Entry, KnobValue
from trainers.spec import Choice, RunSpec, dense_heads, dense_widths

BYTES = 4
STATES_PER_PARAMETER = 5  # weight, gradient, two moments, EMA
RANK_BYTES = 600 << 20  # a Python process with torch and DeepSpeed
NUM_FEATURES = 64
OVERHEAD_S = 12.0  # start of a gang, imports, first evaluation
STEP_OVERHEAD_S = {"cpu": 0.004, "cuda": 0.02}
MACS_PER_S = {"cpu": 6e9, "cuda": 2e13}  # of a worker: one CPU core; one data-centre GPU in fp32 with TF32 off
EVALUATIONS_MACS_SHARE = 0.1
KEPT_SCORES = 2  # score maps that attention keeps for its backward pass


LONGEST_S = (
    1_000 * 365 * 86_400
)  # a large network on large patches takes a CPU decades, and is planned for GPUs elsewhere
MOST_BYTES = 32 * 10**12  # of a worker: no machine has more


@dataclass(frozen=True)
class Cost:
    """parameters; multiply-accumulates of one forward pass of one patch; bytes per worker; seconds on its placement."""

    parameters: int
    macs_per_patch: int
    memory_bytes: int
    seconds: float


def cost_of(spec: RunSpec) -> Cost:
    side, window = spec.training.patch_size_px, spec.model.backbone["window_size"]
    tokens = (side + -side % window) ** 2
    network = _network(spec)
    parameters, macs = network.parameters, tokens * network.macs
    activations = tokens * network.kept * BYTES
    memory = RANK_BYTES + parameters * BYTES * STATES_PER_PARAMETER + int(spec.micro_batch * activations)
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


class Amount(NamedTuple):
    """Of a part of the network: its parameters; multiply-accumulates, and floats kept for the backward pass, per token of LQ."""

    parameters: int
    macs: int
    kept: float

    def plus(self, *others: Amount) -> Amount:
        parts = (self, *others)
        return Amount(sum(p.parameters for p in parts), sum(p.macs for p in parts), sum(p.kept for p in parts))

    def times(self, number: int) -> Amount:
        return Amount(self.parameters * number, self.macs * number, self.kept * number)


Blocks = Iterable[tuple[Amount, int]]  # blocks, and how many are like each


def _conv_layer(channels_in: int, channels_out: int, *, taps: int = 9, side: int = 1) -> Amount:
    """A convolution whose output has `side` times the side of LQ."""
    weights = taps * channels_in * channels_out
    return Amount(weights + channels_out, weights * side**2, channels_out * side**2)


def _shuffle_steps(scale: int) -> list[int]:
    return [2] * int(math.log2(scale)) if scale != 3 else [3]


def _head(spec: RunSpec) -> list[Amount]:
    """The convolutions of the head."""
    width, scale = spec.model.backbone["embed_dim"], spec.task.knobs.get("scale", 1)
    assert isinstance(scale, int)
    if scale == 1:
        return [_conv_layer(width, 3)]
    if spec.model.backbone.knobs.get("upsampler") == "pixelshuffledirect":
        return [_conv_layer(width, 3 * scale**2)]
    convs, side = [_conv_layer(width, NUM_FEATURES)], 1
    for factor in _shuffle_steps(scale):
        convs.append(_conv_layer(NUM_FEATURES, NUM_FEATURES * factor**2, side=side))
        side *= factor
    return [*convs, _conv_layer(NUM_FEATURES, 3, side=side)]


def _norm_parameters(entry: Entry, channels: int) -> int:
    """Those of a norm of unknown size count as 0."""
    return int(entry.facts.get("parameters_per_channel", 0)) * channels + int(entry.facts.get("parameters", 0))


def _end_parameters(spec: RunSpec) -> int:
    """Of the norms at embedding and end."""
    norm = NORMS[spec.model.norm.name]
    width: int = spec.model.backbone["embed_dim"]
    same = _norm_parameters(NORMS[norm.facts.get("same_at_ends", norm.name)], width)
    ends = {"same": same, "affine": 2 * width, "identity": 0}
    return ends[spec.model.embed_norm] + ends[spec.model.end_norm]


def _block(backbone: Choice, norm: Entry, c: int, heads: int, *, ratio: float, larger: int = 0) -> Amount:
    """Attention and MLP with their norms; keys come from windows of side `larger` where that is given."""
    window, hidden = backbone["window_size"], int(c * ratio)
    keys = larger or window
    table = (window + keys - 1) ** 2 * heads
    linear = 4 * c * c + 2 * c * hidden
    biases = 3 * c * backbone["qkv_bias"] + c + hidden + c
    parameters = 2 * _norm_parameters(norm, c) + table + linear + biases
    kept = c * (8 + 2 * ratio + 2 * (keys**2 - window**2) / window**2) + KEPT_SCORES * heads * keys**2
    return Amount(parameters, linear + 2 * keys**2 * c, kept)


def _groups(backbone: Choice) -> Iterable[tuple[int, int, int]]:
    """Blocks and heads of each kind of group, and how many groups are of it."""
    kinds = Counter(zip(backbone["depths"], backbone["num_heads"], strict=True))
    return ((depth, heads, times) for (depth, heads), times in kinds.items())


def _blocks_of_swinir(backbone: Choice, norm: Entry) -> Blocks:
    c = backbone["embed_dim"]
    for depth, heads, times in _groups(backbone):
        yield _block(backbone, norm, c, heads, ratio=backbone["mlp_ratio"]), depth * times


def _blocks_of_hat(backbone: Choice, norm: Entry) -> Blocks:
    c, ratio, window = backbone["embed_dim"], backbone["mlp_ratio"], backbone["window_size"]
    inner, squeezed = c // backbone["compress_ratio"], c // backbone["squeeze_factor"]
    gate = Amount(2 * c * squeezed + squeezed + c, 0, c)
    branch = _conv_layer(c, inner).plus(_conv_layer(inner, c), gate)
    larger = window + int(window * backbone["overlap_ratio"])
    for depth, heads, times in _groups(backbone):
        yield _block(backbone, norm, c, heads, ratio=ratio).plus(branch), depth * times
        yield _block(backbone, norm, c, heads, ratio=ratio, larger=larger), times


def _blocks_of_drct(backbone: Choice, norm: Entry) -> Blocks:
    widths = dense_widths(backbone)
    for heads, times in Counter(backbone["num_heads"]).items():
        for k, width in enumerate(widths):
            own_heads = dense_heads(heads, width) if k else heads
            block = _block(backbone, norm, width, own_heads, ratio=backbone["mlp_ratio"] if k < 3 else 1.0)
            yield block.plus(_conv_layer(width, backbone["gc"] if k < 4 else backbone["embed_dim"], taps=1)), times


BLOCKS: dict[str, Callable[[Choice, Entry], Blocks]] = {
    "swinir": _blocks_of_swinir,
    "hat": _blocks_of_hat,
    "drct": _blocks_of_drct,
}


def _network(spec: RunSpec) -> Amount:
    backbone, is_recomputed = spec.model.backbone, spec.placement.activation_checkpointing
    c = backbone["embed_dim"]
    blocks = _all_blocks(backbone.name, tuple(backbone.knobs.items()), spec.model.norm.name, is_recomputed)
    convs_of_groups = 0 if backbone.name == "drct" else len(backbone["depths"])
    around = [_conv_layer(3, c), _conv_layer(c, c).times(convs_of_groups + 1), Amount(_end_parameters(spec), 0, 2 * c)]
    return blocks.plus(*around, *_head(spec))


@lru_cache(maxsize=256)  # the trials of a sweep have few networks
def _all_blocks(name: str, knobs: tuple[tuple[str, KnobValue], ...], norm: str, is_recomputed: bool) -> Amount:
    backbone = Choice(name=name, knobs=dict(knobs))
    blocks = list(BLOCKS[name](backbone, NORMS[norm]))
    if is_recomputed:
        most = max(block.kept for block, _ in blocks)
        kept = backbone["embed_dim"]
        blocks = [(Amount(p, macs, kept), times) for (p, macs, _), times in blocks] + [(Amount(0, 0, most), 1)]
    return Amount(0, 0, 0).plus(*(block.times(number) for block, number in blocks))
