"""Windows, relative position bias and drop path: what SwinIR, HAT and DRCT share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MASKED = -100.0  # the published shift mask: not -inf

_slice: ContextVar[tuple[slice, int] | None] = ContextVar("batch_slice", default=None)


@contextmanager
def batch_slice(part: slice, batch_size: int) -> Iterator[None]:
    """Say which images of the global batch a forward pass sees, so that drop path falls on an image whatever its slice."""
    token = _slice.set((part, batch_size))
    try:
        yield
    finally:
        _slice.reset(token)


class DropPath(nn.Module):
    """Drops a branch for whole images with probability `rate` while training; the others are scaled by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        if not self.training or self.rate == 0.0:
            return branch
        part, batch_size = _slice.get() or (slice(0, len(branch)), len(branch))
        kept = torch.rand(batch_size)[part] >= self.rate
        return branch * (kept.to(branch) / (1 - self.rate)).view(-1, 1, 1)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3g}"


def to_windows(x: Float[Tensor, "B H W C"], size: int) -> Float[Tensor, "B nW N C"]:
    """Cut into non-overlapping windows of size x size; H and W are multiples of it."""
    b, h, w, c = x.shape
    x = x.view(b, h // size, size, w // size, size, c)
    return x.transpose(2, 3).reshape(b, -1, size * size, c)


def from_windows(windows: Float[Tensor, "B nW N C"], size: int, h: int, w: int) -> Float[Tensor, "B H W C"]:
    b, c = windows.shape[0], windows.shape[-1]
    x = windows.view(b, h // size, w // size, size, size, c)
    return x.transpose(2, 3).reshape(b, h, w, c)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # made while evaluating, it must serve training as well
def relative_position_index(size: int) -> Int[Tensor, "N N"]:
    """Row of the (2*size - 1)^2 bias table for each pair of tokens of a window."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + size - 1
    return offsets[0] * (2 * size - 1) + offsets[1]


@lru_cache(maxsize=4)  # whole images have a mask of up to hundreds of MB; all blocks of a forward pass share it
@torch.inference_mode(False)
def shift_mask(
    h: int, w: int, size: int, shift: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "nW N N"]:
    """MASKED where two tokens of a shifted window come from different sides of the image, else 0."""
    regions = torch.zeros(1, h, w, 1)
    bands = (slice(0, -size), slice(-size, -shift), slice(-shift, None))
    for number, (rows, columns) in enumerate((r, c) for r in bands for c in bands):
        regions[:, rows, columns] = number
    of_token = to_windows(regions, size)[0, :, :, 0]
    different = of_token[:, None, :] != of_token[:, :, None]
    return torch.zeros(different.shape).masked_fill(different, MASKED).to(device, dtype)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learnt bias per relative position."""

    def __init__(self, dim: int, size: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.size = size
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * size - 1) ** 2, num_heads))
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(
        self, windows: Float[Tensor, "B nW N C"], mask: Float[Tensor, "nW N N"] | None
    ) -> Float[Tensor, "B nW N C"]:
        b, count, n, c = windows.shape
        heads = self.num_heads
        # Windows and heads share one axis, so that mask and bias broadcast over the images without a copy each.
        qkv = self.qkv(windows).view(b, count, n, 3, heads, c // heads).permute(3, 0, 1, 4, 2, 5)
        q, k, v = qkv.reshape(3, b, count * heads, n, c // heads).unbind(0)
        index = relative_position_index(self.size).to(windows.device)
        bias = self.relative_position_bias_table[index.flatten()].view(n, n, heads).permute(2, 0, 1)
        added = bias.expand(count, heads, n, n) if mask is None else bias + mask[:, None]
        added = added.reshape(1, count * heads, n, n).to(q.dtype)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=added)
        return self.proj(attended.view(b, count, heads, n, c // heads).transpose(2, 3).reshape(b, count, n, c))


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return self.fc2(F.gelu(self.fc1(x)))


def initialise(module: nn.Module) -> None:
    """The published start of linear layers: weights truncated normal with std 0.02, biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
