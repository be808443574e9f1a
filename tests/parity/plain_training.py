"""Training written once more from nothing of ours: published modules, torch's Adam, one loop.

It takes only the initial weights, the patches and the drop-path factors from the project, which are
checked elsewhere. The network, the loss, the optimiser, the schedule, clipping and the EMA are its
own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.parity.test_restormer import theirs_of
from trainers.backbones.drop_path import factors_of_step, rates_of
from trainers.build import build_model, build_patches, build_task
from trainers.data.cache import Cache
from trainers.spec import RunSpec

DF2K_MEAN, DF2K_STD = (0.4488, 0.4371, 0.4040), (0.2842, 0.2701, 0.2920)


class PlainImageNorm(nn.Module):
    """Equations 3 and 4 of arXiv:2504.06629. `scale` is the last batch's, for equations 5 and 6."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(dim=(1, 2), keepdim=True)
        self.scale = ((x - mean).square().mean(dim=(1, 2), keepdim=True) + 1e-4).sqrt()
        return (x - mean) / self.scale * self.weight + self.bias


class PlainAffine(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class Times(nn.Module):
    """A branch times the scale of the norm that it begins with."""

    def __init__(self, branch: nn.Module, norm: nn.Module) -> None:
        super().__init__()
        self.branch, self.norm_of_branch = (
            branch,
            [norm],
        )  # in a list, so that it is not a submodule

    def forward(self, *inputs: Any) -> Tensor:
        output = self.branch(*inputs)
        return output * self.norm_of_branch[0].scale.view(-1, *[1] * (output.ndim - 1))


class HandedDropPath(nn.Module):
    """spandrel's drop path with given factors. It is called for attention, then for the MLP."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block, self.factors, self.calls = [block], None, 0

    def forward(self, branch: Tensor) -> Tensor:
        which, self.calls = self.calls % 2, self.calls + 1
        if self.factors is not None:
            branch = branch * self.factors[which].view(-1, 1, 1)
        norm = (self.block[0].norm1, self.block[0].norm2)[which]
        return branch * norm.scale if isinstance(norm, PlainImageNorm) else branch


class PlainNetwork(nn.Module):
    """The published network, as spandrel has it. With `i_ln` its blocks use the plain formula, its
    ends, if it has norms there, are affine and its inputs are standardised.
    """

    def __init__(self, archs: dict[str, Any], spec: RunSpec) -> None:
        super().__init__()
        self.i_ln = spec.model.norm.name == "i_ln"
        backbone = spec.model.backbone
        self.drop_paths = []
        self.mean = torch.tensor(DF2K_MEAN).view(1, 3, 1, 1)
        self.std = torch.tensor(DF2K_STD).view(1, 3, 1, 1)
        if backbone.name == "restormer":
            self.network = theirs_of(archs["restormer"], spec)
            for block in list(self.network.modules()) if self.i_ln else ():
                if hasattr(block, "norm1"):
                    for norm in (block.norm1, block.norm2):
                        norm.body = PlainImageNorm(norm.body.normalized_shape[0])
                    block.attn = Times(block.attn, block.norm1.body)
                    block.ffn = Times(block.ffn, block.norm2.body)
            return
        knobs = {k: list(v) if isinstance(v, tuple) else v for k, v in backbone.knobs.items()}
        rate, window = knobs.pop("drop_path"), knobs["window_size"]
        scale = build_task(spec).scale
        upsampler = knobs.pop("upsampler", "pixelshuffle") if scale > 1 else ""
        self.network = archs[backbone.name](
            upscale=scale,
            drop_path_rate=rate,
            **{**knobs, "img_size": 10 * window, "upsampler": upsampler},
        )
        for block in list(self.network.modules()):
            if self.i_ln and hasattr(block, "norm1"):
                for norm in ("norm1", "norm2"):
                    setattr(block, norm, PlainImageNorm(getattr(block, norm).normalized_shape[0]))
                if hasattr(block, "conv_block"):  # HAT adds this branch beside attention
                    block.conv_block = Times(block.conv_block, block.norm1)
                if not hasattr(block, "drop_path"):  # HAT's overlapping block
                    block.proj, block.mlp = (
                        Times(block.proj, block.norm1),
                        Times(block.mlp, block.norm2),
                    )
            if hasattr(block, "drop_path"):
                block.drop_path = HandedDropPath(block)
                self.drop_paths.append(block.drop_path)
        if self.i_ln:
            width = backbone["embed_dim"]
            self.network.norm, self.network.patch_embed.norm = (
                PlainAffine(width),
                PlainAffine(width),
            )
            self.network.mean = torch.zeros(1, 1, 1, 1)

    def named(self) -> dict[str, nn.Parameter]:
        """Parameters under the published names."""
        return {name.replace(".branch.", "."): p for name, p in self.network.named_parameters()}

    def forward(self, image: Tensor, factors: Tensor | None) -> Tensor:
        for k, drop_path in enumerate(self.drop_paths):
            drop_path.factors = None if factors is None else factors[k]
        if not self.i_ln:
            return self.network(image)
        return self.network((image - self.mean) / self.std) * self.std + self.mean


@dataclass(frozen=True)
class Trained:
    """The loss of every step, and the weights by name: at the start, at the end, and averaged."""

    losses: list[float]
    initial: dict[str, Tensor]
    weights: dict[str, Tensor]
    ema: dict[str, Tensor]


def train_plainly(
    archs: dict[str, Any], spec: RunSpec, cache: Cache, dtype: torch.dtype = torch.float32
) -> Trained:
    """Train with the whole batch at once, in one process."""
    recipe = spec.training
    torch.manual_seed(recipe.seed)
    ours = build_model(spec)
    network = PlainNetwork(archs, spec)
    named = network.named()
    initial = {name: value.clone() for name, value in ours.state_dict().items()}
    assert named.keys() == initial.keys()
    with torch.no_grad():
        for name, parameter in named.items():
            parameter.copy_(initial[name])
    network.to(dtype).train()
    if network.i_ln:
        network.mean, network.std = network.mean.to(dtype), network.std.to(dtype)
    ema = {name: parameter.detach().double() for name, parameter in named.items()}
    adam = torch.optim.Adam(
        [named[name] for name, _ in ours.named_parameters()],
        lr=recipe.lr,
        betas=recipe.betas,
        eps=1e-8,
        weight_decay=recipe.weight_decay,
    )
    patches, rates = build_patches(spec, (), cache), rates_of(ours)
    losses = []
    for step in range(recipe.steps):
        halved = sum(step >= round(fraction * recipe.steps) for fraction in recipe.halve_lr_at)
        adam.param_groups[0]["lr"] = recipe.lr * recipe.lr_factor**halved
        batch = slice(0, recipe.batch_size)
        lq, gt = (side.to(dtype) for side in patches.batch(step, batch))
        factors = factors_of_step(rates, recipe.seed, step, batch)
        loss = (network(lq, None if factors is None else factors.to(dtype)) - gt).abs().mean()
        adam.zero_grad()
        loss.backward()
        if recipe.clip_grad_norm is not None:
            nn.utils.clip_grad_norm_(named.values(), recipe.clip_grad_norm)
        adam.step()
        with torch.no_grad():
            for name, average in ema.items():
                average.mul_(recipe.ema_decay).add_(
                    named[name].double(), alpha=1 - recipe.ema_decay
                )
        losses.append(loss.item())
    return Trained(losses, initial, {name: p.detach() for name, p in named.items()}, ema)
