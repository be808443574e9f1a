"""Blocks that mix channels and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from torch import Tensor, nn

from trainers.backbones.around import Around, MakeNorm
from trainers.backbones.blocks import Run, run_of
from trainers.backbones.network import RestorationTransformer, Size

if TYPE_CHECKING:
    from jaxtyping import Float


class ThinBlock(nn.Module):
    """x + restore(mix(norm(x)))."""

    def __init__(self, dim: int, make_norm: MakeNorm) -> None:
        super().__init__()
        self.norm1 = make_norm(dim)
        self.mix = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        normed = self.norm1(x)
        return x + normed.restore(self.mix(normed.tokens))


class ThinGroup(nn.Module):
    """One block."""

    def __init__(self, block: ThinBlock, run: Run) -> None:
        super().__init__()
        self.block = block
        self.run = run

    def forward(
        self, x: Float[Tensor, "B N C"], size: Size, factors: Float[Tensor, "K 2 B"] | None = None
    ) -> Float[Tensor, "B N C"]:
        return self.run(self.block, x, size, None)


def thin(
    *,
    make_norm: MakeNorm,
    around: Around,
    recompute: bool,
    embed_dim: int = 8,
    depth: int = 2,
) -> RestorationTransformer:
    def groups() -> Iterator[ThinGroup]:
        for _ in range(depth):
            yield ThinGroup(ThinBlock(embed_dim, make_norm), run_of(recompute))

    return RestorationTransformer(
        groups, around, embed_dim, window_size=1, img_range=1.0, upsampler=""
    )
