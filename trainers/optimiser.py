"""Adam as every ZeRO stage steps it: gradients unscaled (fp16), clipped by their norm over all ranks, then torch's Adam.

DeepSpeed could do both; 0.19.8 does neither reliably under autocast. It clips by the norm of the *scaled* gradients, lets each
rank skip a step by its own shard, never lowers the scale after an overflow at ZeRO 1 and 2, and forgets it in checkpoints.
At every stage it calls `step` of this optimiser with the gradients that the rank owns, so that is where both are done.
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
    """What a gradient scaler wants of an optimiser."""

    param_groups: list[dict[str, Any]]
    step: Callable[[], Any]


class Adam(torch.optim.Adam):
    """torch.optim.Adam; `sharded` says that each rank holds a part of every gradient (ZeRO 1 to 3) instead of all of it.

    `clip_norm` is the 2-norm to which a larger gradient is scaled down, as torch.nn.utils.clip_grad_norm_ does; None: never.
    `scaler` scales losses (`scale_loss`); a step whose gradients are not finite on any rank is skipped by all of them.
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
        scaled = _Scaled(self.param_groups, super().step)
        self._scaler.unscale_(scaled)  # type: ignore[arg-type]
        self._clip()
        self._scaler.step(scaled)  # type: ignore[arg-type]
        self._scaler.update()

    def overflowed(self) -> None:
        """DeepSpeed has left a step out, because its gradients are not finite."""
        if self._clip_norm is not None:
            self.grad_norm = torch.tensor(torch.inf)

    def _clip(self) -> None:
        if self._clip_norm is None:
            return
        owned = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = get_total_norm([p.grad for p in owned if p.grad is not None])
        if self._sharded:
            squares = norm.square()
            torch.distributed.all_reduce(squares)
            norm = squares.sqrt()
        clip_grads_with_norm_(owned, self._clip_norm, norm)
        self.grad_norm = norm


def after_overflow(scaler: ShardedGradScaler, device: torch.device) -> None:
    """Let `scaler` see a step that was skipped before it could look at the gradients, as ZeRO 3 skips them."""
    parameter = nn.Parameter(torch.zeros(1, device=device))
    parameter.grad = torch.full_like(parameter, torch.inf)
    skipped = _Scaled([{"params": [parameter]}], lambda: None)
    scaler.unscale_(skipped)  # type: ignore[arg-type]
    scaler.update()
