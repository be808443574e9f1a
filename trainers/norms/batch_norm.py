"""BatchNorm: statistics per channel over all tokens of all images in a micro-batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from trainers.norms.base import Norm, Normed, affine_of, is_recomputing, widened

if TYPE_CHECKING:
    from jaxtyping import Float

MOMENTUM = 0.1


class BatchNorm(Norm):
    """(x - mean_BN) / sqrt(var_BN + eps) * weight + bias, per channel.

    Ioffe and Szegedy, arXiv:1502.03167.

    At evaluation, `eval_stats: running` takes averages of the training's statistics (momentum 0.1,
    unbiased variance, as torch does); `batch` takes the statistics of the batch at hand, the
    daggered row of Lee et al. Running statistics are averaged over ranks after each step.

    `ema_buffers` says what the evaluated EMA does with the running statistics: they are `copied`
    from the network, `averaged` like the weights, or `untouched`. In the last case they stay at 0
    and 1, as in published EMA code, which probably made the paper's row of 7 dB.
    """

    statistics_of_micro_batch = True
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, dim: int, eps: float = 1e-5, eval_stats: str = "running", ema_buffers: str = "copied"
    ) -> None:
        super().__init__()
        self.eps = eps
        self.eval_stats = eval_stats
        self.weight, self.bias = affine_of(dim)
        self.register_buffer("running_mean", torch.zeros(dim))
        self.register_buffer("running_var", torch.ones(dim))

    def forward(self, x: Float[Tensor, "B N C"]) -> Normed:
        x = widened(x, self.weight)
        of_batch = self.training or self.eval_stats == "batch"
        mean, variance = self.running_mean, self.running_var
        # torch updates averages in place. A recomputed batch is already in them, and an evaluated
        # one must not get in: both update copies.
        if of_batch and (is_recomputing() or not self.training):
            mean, variance = mean.clone(), variance.clone()
        tokens = F.batch_norm(
            x.flatten(0, 1), mean, variance, self.weight, self.bias, of_batch, MOMENTUM, self.eps
        )
        return Normed(tokens.view_as(x))
