"""The sizes and the cost of `thin`. Torch-free: planning reads it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from trainers.backbones import network_shape
from trainers.shape import Amount, Blocks, CountNorm, Knobs, Shape, Size


def refusal(_task: str, knobs_of_task: Knobs) -> str | None:
    return "has no head for another scale than 1" if knobs_of_task.get("scale", 1) != 1 else None


def sized(knobs: Knobs, width: int | None, depth: int | None) -> Knobs:
    return {"embed_dim": width or knobs["embed_dim"], "depth": depth or knobs["depth"]}


def blocks(knobs: Knobs, count_norm: CountNorm) -> Iterator[Blocks]:
    c = knobs["embed_dim"]
    yield Blocks(Amount(count_norm(c) + c * c + c, c * c, 2 * c), c, knobs["depth"])


def around(knobs: Knobs, count_embed: CountNorm, count_end: CountNorm, scale: int) -> list[Amount]:
    return network_shape.around(knobs, count_embed, count_end, scale, convolutions=0)


def has_keys(keys: Collection[str]) -> bool:
    return any(".block.mix." in key for key in keys)


SHAPE = Shape(
    axes={"width": "`embed_dim`", "depth": "`depth`"},
    small={"embed_dim": 8, "depth": 2},
    networks={"same size": ("jpeg_10", {})},
    first_block="layers.0.block",
    misfit=lambda knobs: None,
    refusal=refusal,
    sized=sized,
    size=lambda knobs: Size(knobs["embed_dim"], knobs["depth"]),
    multiple_px=lambda knobs: 1,
    blocks=blocks,
    around=around,
    has_keys=has_keys,
)
