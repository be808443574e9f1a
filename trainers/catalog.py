"""The tables of what exists: backbones, norms, tasks, probes, metrics. Pure: planning reads it without torch.

Adding something is one file and one line here. The line carries the knobs with their defaults and ranges; a test
compares it with the signature of the class it names. A default never changes, because trial ids leave defaults out;
`revision` is raised instead when an entry's numbers change.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from trainers import own

Scalar = bool | int | float | str
KnobValue = Scalar | tuple[int, ...]
Ends = Literal["same", "affine", "identity"]


class UnknownName(ValueError):
    """A name that stands in no catalogue; the message says what was probably meant."""

    def __init__(self, kind: str, name: str, known: tuple[str, ...]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        self.suggestion = close[0] if close else None
        meant = f" Did you mean {self.suggestion!r}?" if self.suggestion else ""
        super().__init__(f"unknown {kind} {name!r}.{meant} Known: {', '.join(known)}.")


class BadKnob(ValueError):
    """A knob that the entry does not have, or a value outside its range. `knob` is its name."""

    def __init__(self, knob: str, message: str) -> None:
        self.knob = knob
        super().__init__(message)


@dataclass(frozen=True)
class Knob:
    """One hyper-parameter of an entry: its default, from which the type follows, and its range."""

    default: KnobValue
    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    longest: int | None = None  # of a list
    choices: tuple[Scalar, ...] | None = None

    @property
    def kind(self) -> str:
        if isinstance(self.default, tuple):
            return "a list of whole numbers"
        return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}[type(self.default)]

    def check(self, name: str, value: object) -> KnobValue:
        """The value in the default's type. Raises BadKnob with what would be right."""
        if isinstance(self.default, tuple):
            if not isinstance(value, list | tuple) or not value or not all(type(v) is int for v in value):
                raise BadKnob(name, f"{name} must be {self.kind}, not {value!r}")
            if self.longest is not None and len(value) > self.longest:
                raise BadKnob(name, f"{name} has {len(value)} values; at most {self.longest} fit")
            numbers: tuple[int, ...] = tuple(value)
            for number in numbers:
                self._check_range(name, number)
            return numbers
        if type(self.default) is float and type(value) is int:
            try:
                value = float(value)
            except OverflowError:
                raise BadKnob(name, f"{name} must be a number below 1e308") from None
        if type(value) is not type(self.default):
            raise BadKnob(name, f"{name} must be {self.kind}, not {value!r}")
        if self.choices is not None and value not in self.choices:
            raise BadKnob(name, f"{name} must be one of {', '.join(map(str, self.choices))}, not {value!r}")
        if isinstance(value, int | float) and not isinstance(value, bool):
            self._check_range(name, value)
        assert isinstance(value, bool | int | float | str)
        return value

    def _check_range(self, name: str, value: float) -> None:
        if value != value or value in (float("inf"), float("-inf")):
            raise BadKnob(name, f"{name} must be finite, not {value!r}")
        if self.above is not None and not value > self.above:
            raise BadKnob(name, f"{name} must be above {self.above:g}, not {value!r}")
        if self.at_least is not None and value < self.at_least:
            raise BadKnob(name, f"{name} must be at least {self.at_least:g}, not {value!r}")
        if self.at_most is not None and value > self.at_most:
            raise BadKnob(name, f"{name} must be at most {self.at_most:g}, not {value!r}")


@dataclass(frozen=True)
class Entry:
    """One line of a table: a name, the class it stands for (`module:Class`), its knobs, and facts about it."""

    name: str
    target: str
    knobs: Mapping[str, Knob]
    revision: int = 1
    facts: Mapping[str, Any] = field(default_factory=dict)
    open_knobs: bool = False

    def resolve(self, given: Mapping[str, object]) -> dict[str, KnobValue]:
        """All knobs of the entry: the given ones checked, the others at their default. Raises BadKnob."""
        values: dict[str, KnobValue] = {}
        for name, value in given.items():
            if name in self.knobs:
                values[name] = self.knobs[name].check(name, value)
            elif self.open_knobs and isinstance(value, bool | int | float | str | tuple):
                values[name] = value
            else:
                known = ", ".join(self.knobs) or "none"
                close = difflib.get_close_matches(name, self.knobs, n=1)
                meant = f" Did you mean {close[0]!r}?" if close else ""
                raise BadKnob(name, f"{self.name} has no knob {name!r}.{meant} Its knobs: {known}.")
        return {**{name: knob.default for name, knob in self.knobs.items() if name not in values}, **values}

    def load(self) -> Any:
        """Import the class. Only trainers.build calls this."""
        module, _, attribute = self.target.partition(":")
        return getattr(own.load(module) if self.open_knobs else importlib.import_module(module), attribute)


def entry(name: str, target: str, *, revision: int = 1, facts: Mapping[str, Any] | None = None, **knobs: Any) -> Entry:
    """A line of a table. A knob is given by its default, or as a Knob where it has a range."""
    table = {k: v if isinstance(v, Knob) else Knob(v) for k, v in knobs.items()}
    return Entry(name, target, MappingProxyType(table), revision, MappingProxyType(dict(facts or {})))


@dataclass(frozen=True)
class Preset:
    """A name for an entry with some of its knobs set, e.g. `swinir-light`, `sr_x2`."""

    name: str
    of: str
    knobs: Mapping[str, KnobValue]


class Catalog:
    """An ordered table of entries and of presets over them; `entry_points` is the group by which packages add to it."""

    def __init__(self, kind: str, *lines: Entry | Preset, entry_points: str | None = None) -> None:
        self.kind = kind
        self._entry_points = entry_points
        self.entries = {line.name: line for line in lines if isinstance(line, Entry)}
        self.presets = {line.name: line for line in lines if isinstance(line, Preset)}

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.entries, *self.presets)

    def __getitem__(self, name: str) -> Entry:
        """The entry of this name. `package.module:Class`, and what an installed package published under the entry-point
        group, is an entry of its own with open knobs.

        Raises UnknownName.
        """
        if name in self.entries:
            return self.entries[name]
        if ":" in name and all(part.isidentifier() for part in name.replace(":", ".").split(".")):
            return Entry(name, name, MappingProxyType({}), open_knobs=True)
        published = self._published()
        if name in published:
            return Entry(name, published[name], MappingProxyType({}), open_knobs=True)
        raise UnknownName(self.kind, name, (*self.names, *published))

    def _published(self) -> dict[str, str]:
        """What installed packages added, name to `package.module:Class`; found without importing them."""
        return {} if self._entry_points is None else _published(self._entry_points, tuple(sys.path))

    def resolve(self, name: str, given: Mapping[str, object]) -> tuple[str, dict[str, KnobValue]]:
        """The entry's name and all its knobs, for an entry's or a preset's name. Raises UnknownName, BadKnob."""
        preset = self.presets.get(name)
        if preset is not None:
            return preset.of, self.entries[preset.of].resolve({**preset.knobs, **given})
        return name, self[name].resolve(given)


@functools.cache  # it reads the metadata of every package on the path
def _published(group: str, _path: tuple[str, ...]) -> dict[str, str]:
    return {point.name: point.value for point in importlib.metadata.entry_points(group=group)}


def preset(name: str, of: str, **knobs: KnobValue) -> Preset:
    return Preset(name, of, MappingProxyType(knobs))


# Bounds: far beyond what is of use, and within what a machine can hold. A number beyond one is a slip of the keyboard.
WIDEST = 8_192
DEEPEST = 100  # groups, and blocks of one
RATIO = Knob(2.0, above=0.0, at_most=64.0)
GROUPS = Knob((6, 6, 6, 6, 6, 6), at_least=1, at_most=DEEPEST, longest=DEEPEST)
HEADS = Knob((6, 6, 6, 6, 6, 6), at_least=1, at_most=1_024, longest=DEEPEST)
IMG_SIZE = Knob(0, at_least=0, at_most=65_536)
IMG_RANGE = Knob(1.0, above=0.0, at_most=65_535.0)
WIDTH = Knob(180, at_least=1, at_most=WIDEST)

# img_size: the side in pixels for which a published network was constructed, which decides whether its windows are shifted;
# 0 lets each input decide. They differ where an input's shorter side is one window (trainers.backbones.attention).
BACKBONES = Catalog(
    "backbone",
    entry(
        "swinir",
        "trainers.backbones.swinir:swinir",
        embed_dim=WIDTH,
        depths=GROUPS,
        num_heads=HEADS,
        window_size=Knob(8, at_least=2, at_most=256),
        img_size=IMG_SIZE,
        mlp_ratio=RATIO,
        qkv_bias=True,
        drop_path=Knob(0.1, at_least=0.0, at_most=0.9),
        img_range=IMG_RANGE,
        upsampler=Knob("pixelshuffle", choices=("pixelshuffle", "pixelshuffledirect")),
    ),
    entry(
        "hat",
        "trainers.backbones.hat:hat",
        embed_dim=WIDTH,
        depths=GROUPS,
        num_heads=HEADS,
        window_size=Knob(16, at_least=2, at_most=256),
        img_size=IMG_SIZE,
        compress_ratio=Knob(3, at_least=1, at_most=WIDEST),
        squeeze_factor=Knob(30, at_least=1, at_most=WIDEST),
        conv_scale=Knob(0.01, at_least=-1e3, at_most=1e3),
        overlap_ratio=Knob(0.5, at_least=0.0, at_most=1.0),
        mlp_ratio=RATIO,
        qkv_bias=True,
        drop_path=Knob(0.1, at_least=0.0, at_most=0.9),
        img_range=IMG_RANGE,
    ),
    entry(
        "drct",
        "trainers.backbones.drct:drct",
        embed_dim=WIDTH,
        depths=GROUPS,
        num_heads=HEADS,
        window_size=Knob(16, at_least=2, at_most=256),
        img_size=IMG_SIZE,
        gc=Knob(32, at_least=1, at_most=WIDEST),
        mlp_ratio=RATIO,
        qkv_bias=True,
        drop_path=Knob(0.1, at_least=0.0, at_most=0.9),
        img_range=IMG_RANGE,
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
)

# facts: `ends` is what stands at embedding and end by default, `stdnorm` whether inputs are standardised by default (the
# published i-LN differs from its LayerNorm baseline in both). `same_at_ends` is the entry that `same` means there, where a
# norm's factor of a branch has no branch to act on. `parameters_per_channel` and `parameters` are for the cost. `breaks`
# names the promises of trainers.conformance that a norm does not make; `statistics_of_micro_batch` puts the micro-batch's
# size into the identity.
PER_TOKEN = {"ends": "same", "stdnorm": False, "parameters_per_channel": 2}
EPS = Knob(1e-5, above=0.0, at_most=1.0)
NORMS = Catalog(
    "norm",
    entry("layer_norm", "trainers.norms.layer_norm:LayerNorm", facts=PER_TOKEN, eps=EPS),
    entry(
        "rms_norm",
        "trainers.norms.rms_norm:RMSNorm",
        facts={"ends": "same", "stdnorm": False, "parameters_per_channel": 1},
        eps=Knob(1e-6, above=0.0, at_most=1.0),
    ),
    entry(
        "layer_scale",
        "trainers.norms.layer_scale:LayerScale",
        facts={"ends": "same", "same_at_ends": "layer_norm", "stdnorm": False, "parameters_per_channel": 3},
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

# facts: `patch_size_px` is the side of a training patch on the LQ side by default; `pairs` says that a set's images come with
# their LQ (the others make their own; `sr` takes what lies beside a set where its `lr_mode` is `given`: trainers.data.given).
TASKS = Catalog(
    "task",
    entry(
        "sr",
        "trainers.tasks.super_resolution:SuperResolution",
        facts={"patch_size_px": 32},
        scale=Knob(2, choices=(2, 3, 4)),
        lr_mode=Knob("u8", choices=("u8", "f64", "given")),
    ),
    entry(
        "denoise",
        "trainers.tasks.denoising:Denoising",
        facts={"patch_size_px": 64},
        sigma_255=Knob(25.0, above=0.0, at_most=255.0),
    ),
    entry(
        "jpeg",
        "trainers.tasks.jpeg:JpegArtefacts",
        facts={"patch_size_px": 64},
        quality=Knob(40, at_least=1, at_most=95),
    ),
    entry("derain", "trainers.tasks.deraining:Deraining", facts={"patch_size_px": 128, "pairs": True}),
    entry(
        "derain_synthetic",
        "trainers.tasks.deraining:SyntheticRain",
        facts={"patch_size_px": 128},
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

# facts: `gives` is for the documentation; `guards` says that the guard judges by what a probe measures, so that it looks
# also where it is not asked for.
PROBES = Catalog(
    "probe",
    entry(
        "features",
        "trainers.probes.features:Features",
        facts={
            "gives": "mean of x² and max of \\|x\\| at each group's output, channel entropy at the last",
            "guards": True,
        },
    ),
    entry(
        "channels",
        "trainers.probes.channels:Channels",
        facts={"gives": "arrays: mean of x² of each channel at each group's output"},
    ),
)

METRICS = ("psnr", "ssim")
