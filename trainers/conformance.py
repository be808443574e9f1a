"""The promises of every norm inside every backbone, as checks that run on norms from outside too.

A line of the catalogue declares the promises that its norm does not make (`breaks`). Each check
builds small networks and raises Broken with what it saw. The first line of its docstring is what
`normsweep check-norm` prints.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trainers.build import build_model, build_task
from trainers.catalog import BACKBONES, KnobValue
from trainers.choice import Choice
from trainers.spec import DataSpec, ModelSpec, PlacementSpec, RunSpec, TrainingSpec

SHAPES = {entry.name: entry.shape for entry in BACKBONES if entry.shape is not None}
# Every backbone with each of its reconstruction heads, as (backbone, task, knobs).
NETWORKS: dict[str, tuple[str, str, dict[str, KnobValue]]] = {
    f"{backbone}, {head}": (backbone, task, {**shape.small, **knobs})
    for backbone, shape in SHAPES.items()
    for head, (task, knobs) in shape.networks.items()
}
# Tolerances, relative to the largest value.
ROUNDING = 1e-9  # in float64: sums in another order
HALF_ROUNDING = 0.1  # in bf16: eight bits of mantissa over several layers
# The sides of images for each dtype. In bf16, which most processors compute slowly, they are only
# as long as a window.
DTYPES = {torch.float64: (7, 5), torch.float32: (7, 5), torch.bfloat16: (4, 4)}


class Broken(AssertionError):
    """A promise that does not hold; the message says what was seen."""


@dataclass(frozen=True)
class Case:
    """A norm inside one of NETWORKS."""

    norm: Choice
    network: str

    def spec(self, *, recompute: bool = False) -> RunSpec:
        backbone, task, knobs = NETWORKS[self.network]
        choice = Choice(name=backbone, knobs=knobs)
        return RunSpec(
            model=ModelSpec.with_defaults(choice, self.norm),
            task=Choice(name=task),
            data=DataSpec(train="none", train_sha256="0" * 64),
            training=TrainingSpec(patch_size_px=8, batch_size=4),
            placement=PlacementSpec(activation_checkpointing=recompute),
        )

    @property
    def side_px(self) -> int:
        """The side of test images: two windows, or two pixels on the lowest level of a U.

        A single pixel there would leave nothing to normalise over, and gradients of mere rounding.
        """
        backbone, _, knobs = NETWORKS[self.network]
        return 2 * SHAPES[backbone].multiple_px(BACKBONES[backbone].resolve(knobs))

    def build(self, *, recompute: bool = False) -> nn.Module:
        """The network in training mode and float64, with noise added to every parameter.

        A parameter that is still zero, as some are initially, would hide what it does.
        """
        torch.manual_seed(0)
        model = build_model(self.spec(recompute=recompute)).double()
        noise = SHAPES[NETWORKS[self.network][0]].noise
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=noise)
        return model.train()


def _images(
    case: Case, count: int = 4, seed: int = 1, *, size: tuple[int, int] | None = None
) -> Tensor:
    """Random images of `size`; default: two by two windows."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size or (case.side_px, case.side_px)
    return torch.rand(count, 3, height, width, dtype=torch.float64, generator=generator)


def _gradients(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Gradients by parameter, of a loss that weighs outputs unevenly, averaged over the images."""
    model.zero_grad()
    output = model(images)
    weights = torch.linspace(-1, 1, output[0].numel(), dtype=output.dtype).view_as(output[0])
    ((output * weights).flatten(1).sum(1) + output.square().flatten(1).mean(1)).mean().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def _near(one: Tensor, other: Tensor, tolerance: float, what: str) -> None:
    error = ((one - other).abs().max() / other.abs().max().clamp_min(1e-300)).item()
    if not error <= tolerance:  # not `>`, which would let NaN pass
        raise Broken(
            f"{what} differ by {error:.1e} of the largest value; {tolerance:.0e} is rounding"
        )


def shape(case: Case) -> None:
    """An image of any size comes out `scale` times as large, in float64, float32 and bf16."""
    model, scale = case.build(), build_task(case.spec()).scale
    for dtype, (height, width) in DTYPES.items():
        image = _images(case, 2, size=(height, width)).to(dtype)
        try:
            output = model.to(dtype)(image)
        except RuntimeError as error:  # how torch reports layers whose dtypes do not match
            raise Broken(f"{tuple(image.shape)} {dtype}: {error}") from error
        if output.shape != (2, 3, height * scale, width * scale) or output.dtype != dtype:
            raise Broken(
                f"{tuple(image.shape)} {dtype} became {tuple(output.shape)} {output.dtype}"
            )


def half_precision(case: Case) -> None:
    """Under bf16 autocast the output is finite and near that of float32."""
    model, images = case.build().float().eval(), _images(case, 1).float()
    with torch.no_grad():
        expected = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            output = model(images).float()
    if not output.isfinite().all():
        raise Broken("outputs are not finite")
    _near(output, expected, HALF_ROUNDING, "outputs")


def images_apart(case: Case) -> None:
    """In training mode, an image's output does not depend on the other images of its batch."""
    model, images = case.build(), _images(case)
    others = torch.cat([images[:1], _images(case, 3, seed=2) * 0.1])
    _near(model(images)[0], model(others)[0], ROUNDING, "outputs of an image in two batches")


def no_memory(case: Case) -> None:
    """A forward pass leaves nothing behind, neither in the state nor as a tensor on a module."""
    model = case.build()
    before, held = copy.deepcopy(model.state_dict()), _tensors_held(model)
    first = model(_images(case))
    model(_images(case, seed=2) * 3)
    _near(model(_images(case)), first, 0.0, "outputs before and after another forward pass")
    changed = [
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    ]
    if changed:
        raise Broken(f"a forward pass changes {changed[0]}")
    if new := _tensors_held(model) - held:
        raise Broken(f"a forward pass leaves a tensor in {sorted(new)[0]}")


def _tensors_held(model: nn.Module) -> set[str]:
    return {
        f"{name}.{attribute}"
        for name, module in model.named_modules()
        for attribute, value in vars(module).items()
        if isinstance(value, Tensor)
    }


def gradients(case: Case) -> None:
    """Every parameter gets a finite gradient."""
    model = case.build()
    found = _gradients(model, _images(case))
    for name, _ in model.named_parameters():
        if name not in found:
            raise Broken(f"{name} gets no gradient")
        if not found[name].isfinite().all():
            raise Broken(f"the gradient of {name} is not finite")


def copies(case: Case) -> None:
    """A deep copy, and a new network with the same state, give the same bits."""
    model = case.build()
    model(_images(case))
    fresh = build_model(case.spec()).double()
    fresh.load_state_dict(model.state_dict())
    expected = model.eval()(_images(case))
    for what, other in (
        ("a deep copy", copy.deepcopy(model)),
        ("a network with the same state", fresh),
    ):
        _near(other.eval()(_images(case)), expected, 0.0, f"outputs of {what}")


def recomputes(case: Case) -> None:
    """Activation checkpointing changes neither gradients nor state."""
    results = []
    for recompute in (False, True):
        model = case.build(recompute=recompute)
        results.append((_gradients(model, _images(case)), model.state_dict()))
    for what, (kept, again) in zip(
        ("gradients", "states"), zip(*results, strict=True), strict=True
    ):
        for name in kept:
            _near(again[name], kept[name], ROUNDING, f"{what} of {name}")


def slices_add_up(case: Case) -> None:
    """A batch's gradient is the mean of its slices', so gangs of any size compute the same step."""
    model, images = case.build(), _images(case)
    whole = _gradients(model, images)
    halves = [_gradients(model, images[part]) for part in (slice(0, 2), slice(2, 4))]
    largest = max(gradient.abs().max() for gradient in whole.values())
    for name, gradient in whole.items():
        error = ((halves[0][name] + halves[1][name]) / 2 - gradient).abs().max() / largest
        if not error <= ROUNDING:
            raise Broken(
                f"gradients of {name} differ by {error:.1e} of the largest; "
                f"{ROUNDING:.0e} is rounding"
            )


PROMISES: dict[str, Callable[[Case], None]] = {
    check.__name__: check
    for check in (
        shape,
        half_precision,
        images_apart,
        no_memory,
        gradients,
        copies,
        recomputes,
        slices_add_up,
    )
}


def cases(norm: Choice) -> Iterator[Case]:
    return (Case(norm, network) for network in NETWORKS)


def inhomogeneity(case: Case) -> float:
    """|B(50 x) / 50 - B(x)| / |B(x) - x| of the first block B.

    About 0 for i-LN, which is positively homogeneous up to eps. The error is taken relative to what
    the branches add, because they are small beside x, the more so the less noise a network bears.
    """
    model = case.build().eval()
    block = model.get_submodule(SHAPES[NETWORKS[case.network][0]].first_block)
    x = torch.randn(2, 64, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    with torch.no_grad():
        one, scaled = block(x, (8, 8)), block(50 * x, (8, 8)) / 50
    share: float = ((one - scaled).norm() / (one - x).norm()).item()
    return share
