"""Window attention on a CPU, a few windows at a time, so that scores stay in the cache.

softmax(q k^T / sqrt(D) + bias + mask) v with exact gradients. One of them is the bias's, which
torch's fused CPU kernel does not give; its unfused one writes the scores of all windows to memory
five times. Here scores are never kept: the backward computes them again from q and k. Windows are
read from the image and written to it, so nothing is rearranged as a whole.

Axis letters: I image, R row of windows, S window of a row, y and x pixel of a window, D channel of
a head; W = I*R*S windows, N = y*x queries, M keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from jaxtyping import Float

# Of one head: 2 MiB of float32, or three windows of HAT's overlapping attention. With several
# windows a core works on whole ones; dividing one among cores is slower (docs/decisions/0005).
SCORES_AT_A_TIME = 1 << 19

Part = tuple[slice, slice, slice]  # of I, R and S


def heads_of(
    windows: Float[Tensor, "I R S y x C"], parts: int, heads: int, dtype: torch.dtype
) -> Float[Tensor, "parts heads W N D"]:
    """Split C = parts*heads*D channels, and flatten windows and pixels.

    The result is a permuted view of a copy that keeps the order of windows, pixels and channels.
    """
    i, r, s, height, width, c = windows.shape
    windows = windows.to(dtype, memory_format=torch.contiguous_format)
    together = windows.reshape(i * r * s, height * width, parts, heads, c // (parts * heads))
    return together.permute(2, 3, 0, 1, 4)


def mask_scores(
    scores: Tensor, masks: Tensor, rows: slice, windows: slice, grid: tuple[int, int]
) -> None:
    """Add `masks` (right, bottom, corner) to scores (I, R, S, ..., N, M) in place.

    The scores are of these rows and windows of a grid, and only its last ones are masked.
    """
    right, bottom, corner = masks
    last_row, last_window = rows.stop == grid[0], windows.stop == grid[1]
    if last_window:
        scores[:, : -1 if last_row else None, -1] += right
    if last_row:
        scores[:, -1, : -1 if last_window else None] += bottom
    if last_row and last_window:
        scores[:, -1, -1] += corner


class ChunkedAttention(torch.autograd.Function):
    """Attention of `qkv`, `kv` or None, `bias` (heads, N, M) and `masks` (3, N, M) or None.

    `qkv` is (I, R, S, y, x, 3*heads*D); with `kv` (I, R, S, y', x', 2*heads*D) it holds queries
    alone, (I, R, S, y, x, heads*D). Both are views of images, and so is the result,
    (I, R, S, y, x, heads*D), in the dtype of `qkv`.

    Scores and products have the dtype of the bias; their inputs are converted to it a part at a
    time. The caller turns autocast off. Some products are computed transposed, because D is short
    and would otherwise be the side along which the processor's vector lanes run.
    """

    @staticmethod
    @custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any,
        qkv: Tensor,
        kv: Tensor | None,
        bias: Float[Tensor, "heads N M"],
        masks: Float[Tensor, "3 N M"] | None,
    ) -> Tensor:
        heads, grid = len(bias), (qkv.shape[1], qkv.shape[2])
        out = _image_like(qkv, qkv.shape[-1] // (3 if kv is None else 1))
        for part in _parts(len(qkv), *grid, bias[0].numel()):
            q, k, v = _queries_keys_values(qkv, kv, part, heads, bias.dtype)
            results = _room_like(q[None])
            for h in range(heads):
                probabilities = _probabilities(q[h], k[h], bias[h], masks, part, grid)
                results[0, h] = torch.bmm(v[h].mT, probabilities.mT).mT
            _put(out, part, results)
        ctx.save_for_backward(qkv, kv, bias, masks)
        return out

    @staticmethod
    @once_differentiable
    # Turns autocast off as in the forward, even if the caller's backward runs under it.
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(  # type: ignore[override]
        ctx: Any, grad_out: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor, None]:
        qkv, kv, bias, masks = ctx.saved_tensors
        heads, grid = len(bias), (qkv.shape[1], qkv.shape[2])
        grad_qkv, grad_bias = _image_like(qkv, qkv.shape[-1]), torch.zeros_like(bias)
        grad_kv = None if kv is None else torch.empty(kv.shape, dtype=kv.dtype)
        for part in _parts(len(qkv), *grid, bias[0].numel()):
            q, k, v = _queries_keys_values(qkv, kv, part, heads, bias.dtype)
            (g,) = heads_of(grad_out[part], 1, heads, bias.dtype)
            if kv is None:
                grads = _room_like(torch.broadcast_to(q, (3, *q.shape)))
                grad_q, grad_k, grad_v = grads
            else:
                grads = _room_like(q[None])
                grads_kv = _room_like(torch.broadcast_to(k, (2, *k.shape)))
                grad_q, grad_k, grad_v = grads[0], *grads_kv
            for h in range(heads):
                probabilities = _probabilities(q[h], k[h], bias[h], masks, part, grid)
                grad_v[h] = torch.bmm(g[h].mT, probabilities).mT
                grad_probabilities = torch.bmm(g[h], v[h].mT)
                grad_scores = torch.ops.aten._softmax_backward_data(
                    grad_probabilities, probabilities, -1, bias.dtype
                )
                grad_bias[h] += grad_scores.sum(0)
                grad_q[h] = torch.bmm(k[h].mT, grad_scores.mT).mT
                grad_k[h] = torch.bmm(q[h].mT, grad_scores).mT
            grad_q *= q.shape[-1] ** -0.5
            grad_k *= q.shape[-1] ** -0.5
            _put(grad_qkv, part, grads)
            if grad_kv is not None:
                _put(grad_kv, part, grads_kv)
        return grad_qkv, grad_kv, grad_bias, None


def written_out_attention(
    qkv: Tensor,
    kv: Tensor | None,
    bias: Float[Tensor, "heads N M"],
    masks: Float[Tensor, "3 N M"] | None,
) -> Tensor:
    """The same attention one operation at a time, as published, without a gradient.

    The emulation of half precision runs this on every device.
    """
    heads, grid = len(bias), (qkv.shape[1], qkv.shape[2])
    out = _image_like(qkv, qkv.shape[-1] // (3 if kv is None else 1))
    for part in _parts(len(qkv), *grid, bias.numel()):
        q, k, v = _queries_keys_values(qkv, kv, part, heads, bias.dtype)
        scores = (q * q.shape[-1] ** -0.5) @ k.mT + bias[:, None]
        if masks is not None:
            counts = [side.stop - side.start for side in part]
            by_image = scores.view(heads, *counts, *bias.shape[1:]).movedim(0, 3)
            mask_scores(by_image, masks, part[1], part[2], grid)
        _put(out, part, (scores.softmax(-1) @ v)[None])
    return out


def _parts(images: int, rows: int, windows: int, scores_of_a_window: int) -> Iterator[Part]:
    """Yield whole images, whole rows of one image, or windows of one row.

    A part is as large as SCORES_AT_A_TIME allows, and has at least one window.
    """
    at_a_time = max(1, SCORES_AT_A_TIME // scores_of_a_window)
    sides = (images, rows, windows)
    steps = (
        at_a_time // (rows * windows),
        min(at_a_time // windows, rows),
        min(at_a_time, windows),
    )
    runs = [
        [slice(start, min(start + max(step, 1), side)) for start in range(0, side, max(step, 1))]
        for side, step in zip(sides, steps, strict=True)
    ]
    return ((i, r, s) for i in runs[0] for r in runs[1] for s in runs[2])


def _probabilities(
    q: Float[Tensor, "W N D"],
    k: Float[Tensor, "W M D"],
    bias: Float[Tensor, "N M"],
    masks: Tensor | None,
    part: Part,
    grid: tuple[int, int],
) -> Float[Tensor, "W N M"]:
    """softmax(q k^T / sqrt(D) + bias + mask) of one head in the windows of `part`."""
    scores = q.new_empty(len(q), *bias.shape).copy_(bias)
    if masks is not None:
        counts = [side.stop - side.start for side in part]
        mask_scores(scores.view(*counts, *bias.shape), masks, part[1], part[2], grid)
    return torch.softmax(scores.baddbmm_(q, k.mT, alpha=q.shape[-1] ** -0.5), dim=-1)


def _queries_keys_values(
    qkv: Tensor, kv: Tensor | None, part: Part, heads: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """The queries, keys and values of a part, each (heads, W, N or M, D)."""
    if kv is None:
        q, k, v = heads_of(qkv[part], 3, heads, dtype)
    else:
        (q,), (k, v) = heads_of(qkv[part], 1, heads, dtype), heads_of(kv[part], 2, heads, dtype)
    return q, k, v


def _room_like(of_heads: Float[Tensor, "parts heads W N D"]) -> Float[Tensor, "parts heads W N D"]:
    """An uninitialised tensor with the memory layout of the results of `heads_of`."""
    parts, heads, w, n, d = of_heads.shape
    return of_heads.new_empty(w, n, parts, heads, d).permute(2, 3, 0, 1, 4)


def _put(windows: Tensor, part: Part, of_heads: Float[Tensor, "parts heads W N D"]) -> None:
    """Undo `heads_of` and write the result into a part of `windows`."""
    chosen = windows[part]
    chosen.copy_(of_heads.permute(2, 3, 0, 1, 4).reshape(chosen.shape))


def _image_like(windows: Tensor, channels: int) -> Tensor:
    """An uninitialised (I, R, S, y, x, channels), in memory an image (I, R*y, S*x, channels)."""
    i, r, s, height, width, _ = windows.shape
    return windows.new_empty(i, r, height, s, width, channels).transpose(2, 3)
