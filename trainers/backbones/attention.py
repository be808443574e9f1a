"""Window attention with a relative position bias, shared by SwinIR, HAT and DRCT."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones.chunked_attention import (
    ChunkedAttention,
    heads_of,
    mask_scores,
    written_out_attention,
)
from trainers.rounding import as_kernel, is_emulated

if TYPE_CHECKING:
    from jaxtyping import Float, Int

MASKED = -100.0  # the published shift mask adds this to scores, not -inf
CHUNKED_ON = frozenset({"cpu"})  # device types; torch's kernels serve the others


def windows_of(image: Float[Tensor, "I H W C"], size: int) -> Float[Tensor, "I R S y x C"]:
    """Non-overlapping windows, R rows of S: a view. H and W are multiples of `size`."""
    i, h, w, c = image.shape
    return image.view(i, h // size, size, w // size, size, c).transpose(2, 3)


def larger_windows_of(
    image: Float[Tensor, "I H W C"], size: int, larger: int
) -> Float[Tensor, "I R S y x C"]:
    """Windows of side `larger` centred on those of side `size`: a view of the zero-padded image."""
    border = (larger - size) // 2
    padded = F.pad(image, (0, 0, border, border, border, border))
    return padded.unfold(1, larger, size).unfold(2, larger, size).permute(0, 1, 2, 4, 5, 3)


def image_of(windows: Float[Tensor, "I R S y x C"]) -> Float[Tensor, "I H W C"]:
    i, r, s, height, width, c = windows.shape
    return windows.transpose(2, 3).reshape(i, r * height, s * width, c)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a tensor cached during an evaluation must serve training as well
def relative_position_index(size: int, device: torch.device) -> Int[Tensor, "N N"]:
    """Row of the (2*size - 1)^2 bias table for each pair of tokens of a window."""
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    places = torch.stack([rows.flatten(), columns.flatten()])
    offsets = places[:, :, None] - places[:, None, :] + size - 1
    return (offsets[0] * (2 * size - 1) + offsets[1]).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def overlapping_position_index(size: int, larger: int, device: torch.device) -> Int[Tensor, "N M"]:
    """Row of the (size + larger - 1)^2 bias table for each token of a window and each of the
    larger window around it.

    The published table is cyclically shifted: rows below 0 count from its end (protocol section 2).
    """
    inner, outer = (
        torch.stack(
            [
                side.flatten()
                for side in torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
            ]
        )
        for n in (size, larger)
    )
    offsets = outer[:, None, :] - inner[:, :, None] + size - larger + 1
    side = size + larger - 1
    return ((offsets[0] * side + offsets[1]) % side**2).to(device)


@lru_cache(maxsize=16)
@torch.inference_mode(False)
def shift_masks(
    size: int, shift: int, device: torch.device, dtype: torch.dtype
) -> Float[Tensor, "3 N N"]:
    """Masks of the windows at the right, at the bottom and in the corner of a shifted image.

    They hold MASKED where two tokens come from opposite sides of the image, and 0 elsewhere. The
    other windows of a shifted image do not wrap around it and need no mask.
    """
    beyond = torch.arange(size) >= size - shift
    row, column = (side.flatten() for side in torch.meshgrid(beyond, beyond, indexing="ij"))
    bottom, right = (side[:, None] != side[None, :] for side in (row, column))
    return torch.stack([right, bottom, right | bottom]).to(device, dtype) * MASKED


def attend(
    qkv: Float[Tensor, "I R S y x QKV"],
    kv: Float[Tensor, "I R S y2 x2 KV"] | None,
    bias: Float[Tensor, "heads N M"],
    masks: Float[Tensor, "3 N M"] | None,
) -> Float[Tensor, "I R S y x C"]:
    """softmax(q k^T / sqrt(D) + bias + mask) v per head, with keys and values from `kv` if given.

    A GPU runs torch's kernels. A CPU runs ours (docs/decisions/0005), in float32 at least: there
    half precision gains little on matrices this narrow.
    """
    if is_emulated():
        return as_kernel(written_out_attention, qkv, kv, bias, masks)
    if qkv.device.type in CHUNKED_ON and not torch.compiler.is_compiling():
        wide = torch.promote_types(qkv.dtype, torch.float32)
        given = qkv, kv, bias.to(wide), None if masks is None else masks.to(wide)
        with torch.autocast("cpu", enabled=False):
            return ChunkedAttention.apply(*given)  # type: ignore[no-untyped-call]
    heads, (_, rows, windows) = len(bias), qkv.shape[:3]
    if kv is None:
        q, k, v = heads_of(qkv, 3, heads, qkv.dtype).transpose(1, 2)
    else:
        (q,) = heads_of(qkv, 1, heads, qkv.dtype).transpose(1, 2)
        k, v = heads_of(kv, 2, heads, kv.dtype).transpose(1, 2)
    added = bias
    if masks is not None:  # the kernel takes a single mask per window: bias and shift mask in one
        added = bias.repeat(len(qkv), rows, windows, 1, 1, 1)
        mask_scores(added, masks[:, None], slice(0, rows), slice(0, windows), (rows, windows))
        added = added.flatten(0, 2)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=added.to(q.dtype))
    return attended.transpose(1, 2).reshape(*qkv.shape[:5], -1)


def position_bias_table(rows: int, num_heads: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(rows, num_heads))


def position_bias(
    table: Float[Tensor, "rows heads"], index: Int[Tensor, "N M"]
) -> Float[Tensor, "heads N M"]:
    return table.t().contiguous()[:, index.flatten()].view(-1, *index.shape)


@runtime_checkable
class HasPositionMaps(Protocol):
    """A module with a position bias table of its own."""

    def position_maps(self) -> Float[Tensor, "heads S S"]:
        """The table as an image of offsets for each head, with offset 0 in the middle."""
        ...


def as_maps(table: Float[Tensor, "rows heads"]) -> Float[Tensor, "heads S S"]:
    side = math.isqrt(len(table))
    return table.t().reshape(-1, side, side)


class WindowAttention(nn.Module):
    """Multi-head self-attention within windows of an image, with a learnt relative position bias.

    Windows are shifted if `img_size` is larger than a window; with `img_size` 0, if the image's
    shorter side is. The published networks go by the `img_size` they are constructed with, whatever
    the image: with one above `size`, even an image of a single window is shifted, and pixels on
    opposite sides of it do not see each other.
    """

    def __init__(self, dim: int, num_heads: int, size: int, img_size: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.size = size
        self.img_size = img_size
        self.relative_position_bias_table = position_bias_table((2 * size - 1) ** 2, num_heads)
        self.qkv = nn.Linear(dim, dim * 3, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def position_maps(self) -> Float[Tensor, "heads S S"]:
        """Offsets of the query from the key."""
        return as_maps(self.relative_position_bias_table)

    def forward(
        self, tokens: Float[Tensor, "B N C"], size: tuple[int, int], shift: int
    ) -> Float[Tensor, "B N C"]:
        """`shift` is in pixels; 0 for a block whose windows are never shifted."""
        (h, w), (b, n, c) = size, tokens.shape
        image, masks = tokens.view(b, h, w, c), None
        shifted = shift > 0 and (self.img_size or min(size)) > self.size
        if shifted:
            image = image.roll((-shift, -shift), (1, 2))
            masks = shift_masks(self.size, shift, tokens.device, tokens.dtype)
        bias = position_bias(
            self.relative_position_bias_table, relative_position_index(self.size, tokens.device)
        )
        image = self.proj(
            image_of(attend(windows_of(self.qkv(image), self.size), None, bias, masks))
        )
        if shifted:
            image = image.roll((shift, shift), (1, 2))
        return image.view(b, n, c)


class Mlp(nn.Module):
    """Two linear layers with a GELU between them."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Float[Tensor, "B N C"]) -> Float[Tensor, "B N C"]:
        return self.fc2(F.gelu(self.fc1(x)))
