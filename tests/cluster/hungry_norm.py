"""A user's norm that takes more memory than its container may have, once a file tells it to."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed

SIGN = Path("/tmp/be-hungry")
MOUTHFUL = 64 << 20


class HungryNorm(Norm):
    """x * weight."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Normed:
        if SIGN.exists():
            SIGN.unlink()
            eaten = []
            while True:
                eaten.append(b"x" * MOUTHFUL)
        return Normed(x * self.weight)
