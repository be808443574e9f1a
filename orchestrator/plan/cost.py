"""What a trial costs, from its spec alone: parameters and multiply-accumulates exactly, memory and time as estimates.

The counts follow the published architecture and equal torch's (a test says so). Memory is weights, gradients, Adam's two
moments and the EMA in float32, and the activations kept for one micro-batch. Time is three forward passes of arithmetic a
step at the rates below, which are measured (CPU) or assumed (CUDA) and good to a factor of two.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from trainers.catalog import NORMS
from trainers.spec import RunSpec

BYTES = 4
STATES_PER_PARAMETER = 5  # weight, gradient, two moments, EMA
RANK_BYTES = 600 << 20  # a Python process with torch and DeepSpeed
NUM_FEATURES = 64
OVERHEAD_S = 12.0  # start of a gang, imports, first evaluation
STEP_OVERHEAD_S = {"cpu": 0.004, "cuda": 0.02}
MACS_PER_S = {"cpu": 6e9, "cuda": 2e13}  # of a worker: one CPU core; one data-centre GPU in fp32 with TF32 off
EVALUATIONS_MACS_SHARE = 0.1


@dataclass(frozen=True)
class Cost:
    """parameters; multiply-accumulates of one forward pass of one patch; bytes per worker; seconds on its placement."""

    parameters: int
    macs_per_patch: int
    memory_bytes: int
    seconds: float


def cost_of(spec: RunSpec) -> Cost:
    parameters = _parameters(spec)
    side = spec.training.patch_size_px
    macs = _macs(spec, side, side)
    memory = RANK_BYTES + parameters * BYTES * STATES_PER_PARAMETER + spec.micro_batch * _activation_bytes(spec, side)
    device = "cuda" if spec.placement.gpus_per_worker else "cpu"
    rate = MACS_PER_S[device] * (spec.placement.cpus_per_worker if device == "cpu" else 1)
    step_s = (
        STEP_OVERHEAD_S[device] * spec.accumulation
        + 3 * macs * spec.training.batch_size / spec.placement.workers / rate
    )
    seconds = OVERHEAD_S + spec.training.steps * step_s * (1 + EVALUATIONS_MACS_SHARE)
    return Cost(parameters, macs, memory, seconds)


def _conv(channels_in: int, channels_out: int) -> int:
    """Weights of a 3 x 3 convolution, its bias not counted."""
    return 9 * channels_in * channels_out


def _scale(spec: RunSpec) -> int:
    scale: int = spec.task["scale"] if "scale" in spec.task.knobs else 1
    return scale


def _shuffle_steps(scale: int) -> list[int]:
    return [2] * int(math.log2(scale)) if scale != 3 else [3]


def _head(spec: RunSpec) -> list[tuple[int, int, int]]:
    """The head's convolutions as (channels in, channels out, side of their output over that of LQ)."""
    width, scale = spec.model.backbone["embed_dim"], _scale(spec)
    if scale == 1:
        return [(width, 3, 1)]
    if spec.model.backbone["upsampler"] == "pixelshuffledirect":
        return [(width, 3 * scale**2, 1)]
    convs, side = [(width, NUM_FEATURES, 1)], 1
    for factor in _shuffle_steps(scale):
        convs.append((NUM_FEATURES, NUM_FEATURES * factor**2, side))
        side *= factor
    return [*convs, (NUM_FEATURES, 3, side)]


def _norm_parameters(spec: RunSpec) -> tuple[int, int]:
    """Per channel: of a block norm; of both ends together. A norm of unknown size counts as 0."""
    block = int(NORMS[spec.model.norm.name].facts.get("parameters_per_channel", 0))
    ends = {"same": block, "affine": 2, "identity": 0}
    return block, ends[spec.model.embed_norm] + ends[spec.model.end_norm]


def _parameters(spec: RunSpec) -> int:
    knobs = spec.model.backbone
    c, window = knobs["embed_dim"], knobs["window_size"]
    hidden = int(c * knobs["mlp_ratio"])
    block_norm, end_norms = _norm_parameters(spec)
    total: int = _conv(3, c) + c + _conv(c, c) + c + end_norms * c
    for depth, heads in zip(knobs["depths"], knobs["num_heads"], strict=True):
        attention = (2 * window - 1) ** 2 * heads + 3 * c * c + 3 * c * knobs["qkv_bias"] + c * c + c
        block = 2 * block_norm * c + attention + 2 * c * hidden + hidden + c
        total += depth * block + _conv(c, c) + c
    return total + sum(_conv(i, o) + o for i, o, _ in _head(spec))


def _macs(spec: RunSpec, height: int, width: int) -> int:
    knobs = spec.model.backbone
    c, window = knobs["embed_dim"], knobs["window_size"]
    tokens = (height + -height % window) * (width + -width % window)
    block = 4 * c * c + 2 * window**2 * c + 2 * c * int(c * knobs["mlp_ratio"])
    body = sum(knobs["depths"]) * block + (len(knobs["depths"]) + 1) * _conv(c, c) + _conv(3, c)
    macs: int = tokens * (body + sum(_conv(i, o) * side**2 for i, o, side in _head(spec)))
    return macs


def _activation_bytes(spec: RunSpec, side: int) -> int:
    """Kept for the backward pass of one patch: about 8 + 2 * mlp_ratio token maps and two score maps a block."""
    knobs = spec.model.backbone
    c, window = knobs["embed_dim"], knobs["window_size"]
    tokens = (side + -side % window) ** 2
    per_token = sum(
        depth * (c * (8 + 2 * knobs["mlp_ratio"]) + 2 * heads * window**2) + 2 * c
        for depth, heads in zip(knobs["depths"], knobs["num_heads"], strict=True)
    )
    head = sum(o * s**2 for _, o, s in _head(spec))
    return int(BYTES * tokens * (per_token + 4 * c + head))
