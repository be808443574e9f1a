"""i-LN against torch's LayerNorm: medians of forward and backward at (16, 4096, 180) in float32,
taken in turn.

An image whose mean is more than OFF_CENTRE times its std is computed in another way, with centred
values. Both ways are timed.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from trainers.norms.i_ln import ImageLayerNorm, image_norm

SHAPE = (16, 4096, 180)
RUNS = 7


def seconds(
    forward: Callable[[Tensor], tuple[Tensor, ...]], x: Tensor, grads: tuple[Tensor, ...]
) -> float:
    x.grad = None
    began = time.perf_counter()
    outputs = forward(x)
    torch.autograd.backward(outputs, grads[: len(outputs)])
    return time.perf_counter() - began


def main() -> None:
    torch.manual_seed(0)
    dim = SHAPE[-1]
    x = torch.randn(SHAPE, requires_grad=True)
    off_centre = torch.randn(SHAPE).add_(2).requires_grad_()
    grads = torch.randn(SHAPE), torch.randn(SHAPE[0], 1, 1)
    ours, theirs = ImageLayerNorm(dim), nn.LayerNorm(dim)

    def restored(x: Tensor) -> tuple[Tensor, ...]:
        normed = ours(x)
        return (normed.restore(normed.tokens),)

    cases: dict[str, Callable[[Tensor], tuple[Tensor, ...]]] = {
        "nn.LayerNorm": lambda x: (theirs(x),),
        "i-LN, tokens only": lambda x: (ours(x).tokens,),
        "i-LN, tokens and scale": lambda x: tuple(ours(x)),
        "the same, mean = 2 std": lambda _: tuple(ours(off_centre)),
        "i-LN by the plain formula": lambda x: image_norm(x, ours.weight, ours.bias, ours.eps),
        "i-LN, and a branch restored": restored,
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(RUNS + 1):
        for name, forward in cases.items():
            times[name].append(seconds(forward, x, grads))
    medians = {name: statistics.median(runs[1:]) for name, runs in times.items()}
    print(f"{SHAPE} on {torch.get_num_threads()} CPU threads, forward + backward")
    for name, median in medians.items():
        print(
            f"{name:30s} {median * 1e3:8.1f} ms"
            f"   {median / medians['nn.LayerNorm']:5.2f} x nn.LayerNorm"
        )


if __name__ == "__main__":
    main()
