"""Attention within windows, relative position bias and drop path: what SwinIR, HAT and DRCT share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
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


def captured_slice() -> AbstractContextManager[None]:
    """Says again, whenever it is entered and in whichever thread, what `batch_slice` says now."""
    said = _slice.get()
    return nullcontext() if said is None else batch_slice(*said)


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


def overlapping_windows(x: Float[Tensor, "B H W C"], size: int, stride: int) -> Float[Tensor, "B nH nW C size size"]:
    """Windows of `size` around those that `to_windows` cuts at `stride`, zeros beyond the border. A view."""
    border = (size - stride) // 2
    padded = F.pad(x, (0, 0, border, border, border, border))
    return padded.unfold(1, size, stride).unfold(2, size, stride)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # made while evaluating, it must serve training as well
def relative_position_index(size: int, device: torch.device) -> Int[Tensor, "N N"]:
    """Row of the (2*size - 1)^2 bias table for each pair of tokens of a window."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + size - 1
    return (offsets[0] * (2 * size - 1) + offsets[1]).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def overlapping_position_index(size: int, larger: int, device: torch.device) -> Int[Tensor, "N M"]:
    """Row of the (size + larger - 1)^2 table for a token of a window and one of the larger window around it.

    The published table is cyclically shifted: rows below 0 count from its end (protocol section 2).
    """
    inner, outer = (
        torch.stack([side.flatten() for side in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")])
        for n in (size, larger)
    )
    offsets = outer[:, None, :] - inner[:, :, None] + size - larger + 1
    side = size + larger - 1
    return ((offsets[0] * side + offsets[1]) % side**2).to(device)


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


def attend(
    q: Float[Tensor, "B nW heads N D"], k: Float[Tensor, "B nW heads M D"], v: Float[Tensor, "B nW heads M D"],
    bias: Float[Tensor, "heads N M"], mask: Float[Tensor, "nW N M"] | None,
) -> Float[Tensor, "B nW heads N D"]:  # fmt: skip
    """softmax(q k^T / sqrt(D) + bias + mask) v."""
    b, count, heads, n, d = q.shape
    if mask is None:
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None].to(q.dtype))
        return attended.unflatten(0, (b, count))
    q, k, v = (x.flatten(1, 2) for x in (q, k, v))
    added = (bias + mask[:, None]).flatten(0, 1)[None].to(q.dtype)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=added).view(b, count, heads, n, d)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows, with a learnt bias per relative position."""

    def __init__(self, dim: int, size: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.size = size
        self.relative_position_bias_table = position_bias_table((2 * size - 1) ** 2, num_heads)
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def forward(
        self, windows: Float[Tensor, "B nW N C"], mask: Float[Tensor, "nW N N"] | None
    ) -> Float[Tensor, "B nW N C"]:
        b, count, n, c = windows.shape
        q, k, v = self.qkv(windows).view(b, count, n, 3, self.num_heads, -1).permute(3, 0, 1, 4, 2, 5).unbind(0)
        index = relative_position_index(self.size, windows.device)
        bias = position_bias(self.relative_position_bias_table, index)
        return self.proj(attend(q, k, v, bias, mask).transpose(2, 3).reshape(b, count, n, c))


def position_bias_table(rows: int, num_heads: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(rows, num_heads))


def position_bias(table: Float[Tensor, "rows heads"], index: Int[Tensor, "N M"]) -> Float[Tensor, "heads N M"]:
    return table[index.flatten()].view(*index.shape, -1).permute(2, 0, 1)


def shifted_windows(
    attention: WindowAttention, tokens: Float[Tensor, "B N C"], size: tuple[int, int], shift: int
) -> Float[Tensor, "B N C"]:
    """`attention` within the windows of an image shifted by `shift`; not shifted where the image is no larger than a window."""
    (h, w), (b, n, c) = size, tokens.shape
    shift = shift if min(size) > attention.size else 0
    image = tokens.view(b, h, w, c)
    mask = None
    if shift:
        image = image.roll((-shift, -shift), (1, 2))
        mask = shift_mask(h, w, attention.size, shift, tokens.device, tokens.dtype)
    image = from_windows(attention(to_windows(image, attention.size), mask), attention.size, h, w)
    if shift:
        image = image.roll((shift, shift), (1, 2))
    return image.view(b, n, c)


class Mlp(nn.Module):
    """Two linear layers with GELU between."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return self.fc2(F.gelu(self.fc1(x)))
