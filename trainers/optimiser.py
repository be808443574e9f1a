"""Adam as every ZeRO stage steps it: gradients are unscaled (fp16) and clipped, then torch's Adam.

They are clipped by their norm over all ranks. DeepSpeed could both unscale and clip, but 0.19.8
does neither reliably under autocast. It clips by the norm of the *scaled* gradients, lets each rank
skip a step by its own shard, never lowers the scale after an overflow at ZeRO 1 and 2, and leaves
the scale out of checkpoints. At every stage it calls this optimiser's `step` with the gradients
that the rank owns, so both are done there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

EPS = 1e-8  # torch's default, stated


class _Scaled(NamedTuple):
    """The part of an optimiser that a gradient scaler uses."""

    param_groups: list[dict[str, Any]]
    step: Callable[[], Any]


class Adam(torch.optim.Adam):
    """torch.optim.Adam, with clipping and unscaling.

    `sharded` says that each rank holds a part of every gradient (ZeRO 1 to 3) instead of all of it.
    `clip_norm` is the 2-norm to which a larger gradient is scaled down, as in
    torch.nn.utils.clip_grad_norm_; with None nothing is clipped. `scaler` is what scales losses, if
    they are scaled; a step whose gradients are not finite on one rank is then skipped by all.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        betas: tuple[float, float],
        weight_decay: float,
        clip_norm: float | None,
        sharded: bool,
        scaler: ShardedGradScaler | None,
    ) -> None:
        super().__init__(
            parameters, lr=lr, betas=betas, eps=EPS, weight_decay=weight_decay, amsgrad=False
        )
        self.grad_norm: Tensor | None = None  # of the last step, before clipping
        self._clip_norm = clip_norm
        self._sharded = sharded
        self._scaler = scaler

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None
        if self._scaler is None:
            self._clip()
            super().step()
            return
        # The scaler is to call torch's step, not this one again.
        scaled = _Scaled(self.param_groups, super().step)
        self._scaler.unscale_(scaled)  # type: ignore[arg-type]
        self._clip()
        self._scaler.step(scaled)  # type: ignore[arg-type]
        self._scaler.update()

    def overflowed(self) -> None:
        """Note that DeepSpeed has skipped a step because its gradients were not finite."""
        if self._clip_norm is not None:
            self.grad_norm = torch.tensor(torch.inf)

    def _clip(self) -> None:
        if self._clip_norm is None:
            return
        owned = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in owned if p.grad is not None])
        if self._sharded:
            # Each gradient's parts are on different ranks, so their squares add up to the whole's.
            squares = norm.square()
            torch.distributed.all_reduce(squares)
            norm = squares.sqrt()
        clip_grads_with_norm_(owned, self._clip_norm, norm)
        self.grad_norm = norm


def after_overflow(scaler: ShardedGradScaler, device: torch.device) -> None:
    """Lower the scale of `scaler` after a step that ZeRO 3 skipped before it saw the gradients.

    It is shown a parameter whose gradient is infinite, so that it does what it always does then.
    """
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.full_like(parameter, torch.inf)
    skipped = _Scaled([{"params": [parameter]}], lambda: None)
    scaler.unscale_(skipped)  # type: ignore[arg-type]
    scaler.update()
