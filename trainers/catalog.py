"""The tables of what exists: backbones, norms, tasks; probes and metrics are in trainers.observed.

Pure: planning reads it without torch. Adding something takes one file and one line here (a backbone
has two files, see trainers.shape). The line carries the knobs with their defaults and ranges, and a
test compares it with the signature of the class it names. A default never changes, because trial
ids leave defaults out. When an entry's numbers change, its `revision` is raised instead.
"""

from __future__ import annotations

from typing import Any, Literal

from trainers.entries import (
    BadKnob,
    Catalog,
    Entry,
    Knob,
    KnobValue,
    UnknownName,
    entry,
    preset,
)
from trainers.observed import METRICS, PROBES

__all__ = [
    "BACKBONES",
    "DEEPEST",
    "METRICS",
    "NORMS",
    "PROBES",
    "TASKS",
    "WIDEST",
    "BadKnob",
    "Catalog",
    "Ends",
    "Entry",
    "Knob",
    "KnobValue",
    "UnknownName",
]

Ends = Literal["same", "affine", "identity"]

# Bounds: far beyond what is useful, and within what a machine can hold. A larger number is a slip.
WIDEST = 8_192
DEEPEST = 100  # groups, and blocks in a group
# The knobs that every network of windows has, after those of its sizes and its own.
IN_BLOCKS: dict[str, Any] = {
    "mlp_ratio": Knob(2.0, above=0.0, at_most=64.0),
    "qkv_bias": True,
    "drop_path": Knob(0.1, at_least=0.0, at_most=0.9),
    "img_range": Knob(1.0, above=0.0, at_most=65_535.0),
}


def windows_of(side: int) -> dict[str, Any]:
    """The sizes that every network of windows has, with windows of `side` positions by default.

    `img_size` is the side in pixels for which a published network was constructed. It decides
    whether windows are shifted; with 0 each input decides. The two differ where an input's shorter
    side is one window (trainers.backbones.attention).
    """
    return {
        "embed_dim": Knob(180, at_least=1, at_most=WIDEST),
        "depths": Knob((6, 6, 6, 6, 6, 6), at_least=1, at_most=DEEPEST, longest=DEEPEST),
        "num_heads": Knob((6, 6, 6, 6, 6, 6), at_least=1, at_most=1_024, longest=DEEPEST),
        "window_size": Knob(side, at_least=2, at_most=256),
        "img_size": Knob(0, at_least=0, at_most=65_536),
    }


BACKBONES = Catalog(
    "backbone",
    entry(
        "swinir",
        "trainers.backbones.swinir:swinir",
        shape="trainers.backbones.swinir_shape:SHAPE",
        **windows_of(8),
        **IN_BLOCKS,
        upsampler=Knob("pixelshuffle", choices=("pixelshuffle", "pixelshuffledirect")),
    ),
    entry(
        "hat",
        "trainers.backbones.hat:hat",
        shape="trainers.backbones.hat_shape:SHAPE",
        **windows_of(16),
        compress_ratio=Knob(3, at_least=1, at_most=WIDEST),
        squeeze_factor=Knob(30, at_least=1, at_most=WIDEST),
        conv_scale=Knob(0.01, at_least=-1e3, at_most=1e3),
        overlap_ratio=Knob(0.5, at_least=0.0, at_most=1.0),
        **IN_BLOCKS,
    ),
    entry(
        "drct",
        "trainers.backbones.drct:drct",
        shape="trainers.backbones.drct_shape:SHAPE",
        **windows_of(16),
        gc=Knob(32, at_least=1, at_most=WIDEST),
        **IN_BLOCKS,
    ),
    entry(
        "restormer",
        "trainers.backbones.restormer:restormer",
        shape="trainers.backbones.restormer_shape:SHAPE",
        embed_dim=Knob(48, at_least=1, at_most=WIDEST),
        depths=Knob((4, 6, 6, 8), at_least=1, at_most=DEEPEST, longest=4),
        num_heads=Knob((1, 2, 4, 8), at_least=1, at_most=1_024, longest=4),
        refinement_depth=Knob(4, at_least=1, at_most=DEEPEST),
        mlp_ratio=Knob(2.66, above=0.0, at_most=64.0),
        bias=False,
    ),
    preset(
        "swinir-light",
        "swinir",
        embed_dim=60,
        depths=(6, 6, 6, 6),
        num_heads=(6, 6, 6, 6),
        upsampler="pixelshuffledirect",
    ),
    preset("swinir-jpeg", "swinir", window_size=7, img_range=255.0),
    preset(
        "swinir-tiny",
        "swinir",
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 2),
        upsampler="pixelshuffledirect",
    ),
    preset("hat-mini", "hat", embed_dim=96, compress_ratio=24, squeeze_factor=24),
    preset("hat-s", "hat", embed_dim=144, compress_ratio=24, squeeze_factor=24),
    preset(
        "hat-tiny",
        "hat",
        embed_dim=24,
        depths=(2, 2),
        num_heads=(2, 2),
        window_size=8,
        squeeze_factor=6,
    ),
    preset("drct-tiny", "drct", embed_dim=24, depths=(2, 2), num_heads=(2, 2), window_size=8, gc=8),
    preset(
        "restormer-tiny",
        "restormer",
        embed_dim=12,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 2, 4),
        refinement_depth=1,
    ),
)

# Facts of a norm:
#   ends                       what is after the patch embedding and before the head by default
#   stdnorm                    whether inputs are standardised by default; the published i-LN
#                              differs from its LayerNorm baseline in this and in `ends`
#   same_at_ends               the entry that `same` means there, for a norm whose factor needs a
#                              branch to act on
#   parameters_per_channel, parameters    for the cost
#   breaks                     promises of trainers.conformance that the norm does not make
#   statistics_of_micro_batch  makes the micro-batch's size a part of the identity
#   fewest_values              per channel of a micro-batch, with which it can be trained
PER_TOKEN = {"ends": "same", "stdnorm": False, "parameters_per_channel": 2}
EPS = Knob(1e-5, above=0.0, at_most=1.0)
NORMS = Catalog(
    "norm",
    entry("layer_norm", "trainers.norms.layer_norm:LayerNorm", facts=PER_TOKEN, eps=EPS),
    entry(
        "bias_free_layer_norm",
        "trainers.norms.bias_free_layer_norm:BiasFreeLayerNorm",
        facts={"ends": "same", "stdnorm": False, "parameters_per_channel": 1},
        eps=EPS,
    ),
    entry(
        "rms_norm",
        "trainers.norms.rms_norm:RMSNorm",
        facts={"ends": "same", "stdnorm": False, "parameters_per_channel": 1},
        eps=Knob(1e-6, above=0.0, at_most=1.0),
    ),
    entry(
        "layer_scale",
        "trainers.norms.layer_scale:LayerScale",
        facts={
            "ends": "same",
            "same_at_ends": "layer_norm",
            "stdnorm": False,
            "parameters_per_channel": 3,
        },
        eps=EPS,
        init=Knob(1e-5, at_least=0.0, at_most=1e3),
    ),
    entry(
        "rezero",
        "trainers.norms.rezero:ReZero",
        facts={
            "ends": "identity",
            "same_at_ends": "none",
            "stdnorm": False,
            "parameters_per_channel": 0,
            "parameters": 1,
        },
    ),
    entry(
        "none",
        "trainers.norms.none:NoNorm",
        facts={"ends": "identity", "stdnorm": False, "parameters_per_channel": 0},
    ),
    entry("instance_norm", "trainers.norms.instance_norm:InstanceNorm", facts=PER_TOKEN, eps=EPS),
    entry(
        "batch_norm",
        "trainers.norms.batch_norm:BatchNorm",
        facts={
            **PER_TOKEN,
            "breaks": ("images_apart", "no_memory", "slices_add_up"),
            "statistics_of_micro_batch": True,
            "fewest_values": 2,
        },
        eps=EPS,
        eval_stats=Knob("running", choices=("running", "batch")),
        ema_buffers=Knob("copied", choices=("copied", "averaged", "untouched")),
    ),
    entry(
        "i_ln",
        "trainers.norms.i_ln:ImageLayerNorm",
        facts={"ends": "affine", "stdnorm": True, "parameters_per_channel": 2},
        eps=Knob(1e-4, above=0.0, at_most=1.0),
        rescale=True,
    ),
    entry_points="normsweep.norms",
)

# Facts of a task: `patch_size_px` is the default side of a training patch on the LQ side. `scored`
# is for the report and the documentation, and `input` names the degraded image there. `pairs` says
# that a set's images come with their LQ, and `without_pairs` which task is like it and makes them.
# The other tasks make theirs, but `sr` with `lr_mode: given` reads what lies beside a set
# (trainers.data.given).
TASKS = Catalog(
    "task",
    entry(
        "sr",
        "trainers.tasks.super_resolution:SuperResolution",
        facts={
            "patch_size_px": 32,
            "input": "bicubic",
            "scored": "super-resolution: Y channel of BT.601, a border as wide as the scale "
            "left out; 8-bit LQ",
        },
        scale=Knob(2, choices=(2, 3, 4)),
        lr_mode=Knob("u8", choices=("u8", "f64", "given")),
    ),
    entry(
        "denoise",
        "trainers.tasks.denoising:Denoising",
        facts={
            "patch_size_px": 64,
            "input": "noisy",
            "scored": "denoising: RGB, no border; Gaussian noise from seed 0 for each image, "
            "neither clipped nor quantised",
        },
        sigma_255=Knob(25.0, above=0.0, at_most=255.0),
    ),
    entry(
        "jpeg",
        "trainers.tasks.jpeg:JpegArtefacts",
        facts={
            "patch_size_px": 64,
            "input": "JPEG",
            "scored": "JPEG artefacts: RGB, no border; Pillow's encoder, chroma 4:2:0",
        },
        quality=Knob(40, at_least=1, at_most=95),
    ),
    entry(
        "derain",
        "trainers.tasks.deraining:Deraining",
        facts={
            "patch_size_px": 128,
            "input": "rainy",
            "scored": "deraining: Y channel of BT.601, no border; the set's own pairs",
            "pairs": True,
            "without_pairs": "derain_synthetic",
        },
    ),
    entry(
        "derain_synthetic",
        "trainers.tasks.deraining:SyntheticRain",
        facts={
            "patch_size_px": 128,
            "input": "rainy",
            "scored": "synthetic rain: Y channel of BT.601, no border; streaks from seed 0 for "
            "each image, clipped, not rounded",
        },
        streaks_per_megapixel=Knob(2000, at_least=1, at_most=100_000),
        length_px=Knob(20, at_least=2, at_most=200),
        strength=Knob(0.5, above=0.0, at_most=1.0),
    ),
    preset("sr_x2", "sr", scale=2),
    preset("sr_x3", "sr", scale=3),
    preset("sr_x4", "sr", scale=4),
    preset("denoise_15", "denoise", sigma_255=15.0),
    preset("denoise_25", "denoise", sigma_255=25.0),
    preset("denoise_50", "denoise", sigma_255=50.0),
    preset("jpeg_10", "jpeg", quality=10),
    preset("jpeg_20", "jpeg", quality=20),
    preset("jpeg_30", "jpeg", quality=30),
    preset("jpeg_40", "jpeg", quality=40),
)
