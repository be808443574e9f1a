"""Half precision of every norm and of windowed attention: errors and overflows by strength of the
input.

Half precision is emulated (trainers.precision) on this machine, on the CPU's path and on the GPU's,
with gradients, without, and in inference mode. All of them must give the same bits. Beside it are
torch's own half-precision kernels on the CPU, where it has them.

An error is that of all finite values relative to float64, with inputs and weights rounded
beforehand. A share is that of values which are not finite.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.backbones import attention
from trainers.backbones.attention import WindowAttention
from trainers.backbones.hat import OverlappingBlock
from trainers.catalog import NORMS
from trainers.norms import i_ln
from trainers.norms.base import Norm
from trainers.norms.i_ln import image_norm
from trainers.norms.none import NoNorm
from trainers.precision import HALF, at_precision

STDS = (1, 30, 300, 3000)
SIZE, DIM, WINDOW = (16, 24), 24, 8
GRAD_MODES = (torch.enable_grad, torch.no_grad, torch.inference_mode)


class Restored(nn.Module):
    """A norm and its scale: the residual of a block whose branch does nothing."""

    def __init__(self, norm: Norm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, tokens: Tensor) -> Tensor:
        normed = self.norm(tokens)
        return normed.restore(normed.tokens)


class Windowed(nn.Module):
    """SwinIR's attention, shifted by half a window or not, or HAT's overlapping attention."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.overlapping = kind == "overlapping"
        self.shift = WINDOW // 2 if kind == "shifted" else 0
        self.of = (
            OverlappingBlock(DIM, 3, WINDOW, 0.5, 2.0, True, NoNorm)
            if self.overlapping
            else WindowAttention(DIM, 3, WINDOW, img_size=0, qkv_bias=True)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        return (
            self.of.attention(tokens, SIZE)
            if self.overlapping
            else self.of(tokens, SIZE, self.shift)
        )


def modules() -> dict[str, nn.Module]:
    """Every norm in the catalogue and every kind of attention, with random weights."""
    torch.manual_seed(0)
    found: dict[str, nn.Module] = {
        entry.name: Restored(entry.load()(DIM, **entry.resolve({})))
        for entry in NORMS
        if ":" not in entry.name
    }
    found["batch_norm of the batch"] = Restored(NORMS["batch_norm"].load()(DIM, eval_stats="batch"))
    for kind in ("plain", "shifted", "overlapping"):
        found[f"attention, {kind}"] = Windowed(kind)
    for name, module in found.items():
        module.requires_grad_(False).eval()
        for parameter in module.parameters():
            nn.init.normal_(parameter, mean=0.0 if "attention" in name else 1.0, std=0.2)
    return found


def activations(std: float) -> Tensor:
    """Tokens of two images, off centre by a quarter of their spread."""
    generator = torch.Generator().manual_seed(1)
    return (torch.randn(2, SIZE[0] * SIZE[1], DIM, generator=generator) + 0.25) * std


@contextmanager
def path_of(device: str) -> Iterator[None]:
    """Run on this machine the functions meant for a device, `cpu` or `cuda`."""
    with ExitStack() as stack:
        if device == "cuda":
            stack.enter_context(patch.object(i_ln, "FUSED_ON", frozenset()))
            stack.enter_context(patch.object(attention, "CHUNKED_ON", frozenset()))
        yield


def emulated(module: nn.Module, precision: str, x: Tensor) -> Tensor:
    """The module's output at this precision.

    Raises AssertionError unless every path and grad mode gives the same bits.
    """
    outputs = []
    for device in ("cpu", "cuda"):
        for grad_mode in GRAD_MODES:
            with path_of(device), grad_mode():
                outputs.append(at_precision(module, precision)(x).clone())
    first, *others = outputs
    for other in others:
        torch.testing.assert_close(other, first, rtol=0, atol=0, equal_nan=True)
    return first


def as_rounded(module: nn.Module, x: Tensor, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """The module and its input in float64, rounded to numbers that the format has."""
    return copy.deepcopy(module).to(dtype).double(), x.to(dtype).double()


def _layer_norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.layer_norm(x, (DIM,), norm.weight, norm.bias, norm.eps)


def _instance_norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.instance_norm(x.mT, weight=norm.weight, bias=norm.bias, eps=norm.eps).mT


def _batch_norm(norm: nn.Module, x: Tensor) -> Tensor:
    return F.batch_norm(
        x.mT, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
    ).mT


def _image_norm(norm: nn.Module, x: Tensor) -> Tensor:
    tokens, scale = image_norm(x, norm.weight, norm.bias, norm.eps)
    return tokens * scale


# Norms for which torch has one kernel; i-LN by the published operations, each of which rounds.
NATIVE: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "layer_norm": _layer_norm,
    "layer_scale": lambda norm, x: _layer_norm(norm, x) * norm.gamma,
    "rms_norm": lambda norm, x: F.rms_norm(x, (DIM,), norm.weight, norm.eps),
    "instance_norm": _instance_norm,
    "batch_norm": _batch_norm,
    "i_ln": _image_norm,
}


def native(name: str, module: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor | None:
    """torch's own operations in half precision on the CPU, or None.

    Attention is computed with scaled_dot_product_attention.
    """
    halved = copy.deepcopy(module).to(dtype)
    with torch.no_grad(), path_of("cuda"):
        if isinstance(halved, Windowed):
            return halved(x.to(dtype)).float()
        return NATIVE[name](halved.norm, x.to(dtype)).float() if name in NATIVE else None


@dataclass(frozen=True)
class Figures:
    """How far an output is from float64, and how much of it overflowed."""

    error: float
    non_finite: float

    @classmethod
    def of(cls, output: Tensor, exact: Tensor) -> Figures:
        finite = output.isfinite()
        error = (
            (output.double() - exact)[finite].norm() / exact[finite].norm()
            if finite.any()
            else torch.nan
        )
        return cls(float(error), 1.0 - finite.float().mean().item())

    def __str__(self) -> str:
        if self.non_finite == 1.0:
            return "not finite"
        return f"{self.error:.1e}" + (
            f", {self.non_finite:.1%} not finite" if self.non_finite else ""
        )


def row(name: str, module: nn.Module, std: float) -> dict[str, Figures | None]:
    """Figures by precision, and as `torch, FORMAT` for torch's own kernels."""
    x, found = activations(std), dict[str, Figures | None]()
    for precision, dtype in HALF.items():
        wide, x64 = as_rounded(module, x, dtype)
        exact = wide(x64)
        found[precision] = Figures.of(emulated(module, precision, x), exact)
        if precision in ("bf16", "fp16"):
            theirs = native(name, module, x, dtype)
            found[f"torch, {precision}"] = None if theirs is None else Figures.of(theirs, exact)
    return found


def main() -> None:
    columns = [*HALF, *(f"torch, {precision}" for precision in ("bf16", "fp16"))]
    print("| | std | " + " | ".join(columns) + " |")
    print("|---|---:" + "|---:" * len(columns) + "|")
    for name, module in modules().items():
        for std in STDS:
            figures = row(name, module, std)
            cells = ["" if figures[column] is None else str(figures[column]) for column in columns]
            print(f"| {name} | {std} | " + " | ".join(cells) + " |", flush=True)
    print(
        "\nAll figures are of bits that the CPU's path and the CUDA path give alike, "
        "with grad, no_grad and inference_mode."
    )


if __name__ == "__main__":
    main()
