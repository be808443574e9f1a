"""The feature trace and the channel entropy on a fixed probe batch (protocol section 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float


def channel_entropy(x: Float[Tensor, "B N C"]) -> float:
    """Mean over images of H = -sum_c p_c ln p_c, with p_c the share of channel c in an image's sum of squares; nats."""
    energy = x.double().square().sum(dim=1)
    share = energy / energy.sum(dim=1, keepdim=True)
    return torch.special.entr(share).sum(dim=1).mean().item()


class FeatureProbe:
    """Looks at the output (B, N, C) of each of `model.groups` for the images `lq`, in evaluation mode, without gradient.

    feature/mean_square/group_<i>   mean of x^2 over images, tokens and channels
    feature/max_abs/group_<i>       max of |x|
    feature/entropy                 channel entropy at the last group, in nats
    feature/entropy_normalised      the same over ln C; left out for a single channel

    `at_once` images go through the model together, so that probing needs no more memory than a training step; none: all.
    """

    def __init__(self, model: nn.Module, lq: Float[Tensor, "B 3 h w"], at_once: int | None = None) -> None:
        self._model = model
        self._parts = lq.split(at_once or len(lq))

    def measure(self) -> dict[str, float]:
        if len(self._parts) == 1:
            return self._measure(self._parts[0])
        measured = [self._measure(part) for part in self._parts]
        shares = torch.tensor([len(part) for part in self._parts], dtype=torch.float64)
        values: dict[str, float] = {}
        for name in measured[0]:
            parts = torch.tensor([values_of[name] for values_of in measured], dtype=torch.float64)
            whole = parts.max() if "/max_abs/" in name else (parts * shares).sum() / shares.sum()
            values[name] = whole.item()
        return values

    def _measure(self, lq: Tensor) -> dict[str, float]:
        values: dict[str, float] = {}
        groups = self._model.groups
        last = len(groups) - 1

        def look(number: int, x: Tensor) -> None:
            values[f"feature/mean_square/group_{number}"] = x.double().square().mean().item()
            values[f"feature/max_abs/group_{number}"] = x.abs().max().item()
            if number == last:
                entropy = channel_entropy(x)
                values["feature/entropy"] = entropy
                if x.shape[-1] > 1:
                    values["feature/entropy_normalised"] = entropy / math.log(x.shape[-1])

        hooks = [
            group.register_forward_hook(lambda _module, _inputs, output, number=number: look(number, output))
            for number, group in enumerate(groups)
        ]
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.no_grad():
                self._model(lq)
        finally:
            self._model.train(was_training)
            for hook in hooks:
                hook.remove()
        return values
