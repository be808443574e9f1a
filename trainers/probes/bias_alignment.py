"""Whether a network's largest channels are those that its final norm's bias is largest in.

Lee et al., arXiv:2504.06629, Fig. 9 (protocol section 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from trainers.norms.base import Norm
from trainers.probes.base import Before, Look, Mean, Observation, Probe
from trainers.probes.places import bare

if TYPE_CHECKING:
    from jaxtyping import Float

Channels = NDArray[np.float64]
TOP = 3
NAMES = ("pearson", "spearman", "argmax_equal", "top_3_overlap")


class BiasAlignment(Probe):
    """The final norm: a_c, the RMS of channel c of its input over images and tokens, and |bias_c|.

    bias_alignment/pearson         correlation of a and |bias| over channels, in -1..1
    bias_alignment/spearman        that of their ranks; ties share the mean of their ranks
    bias_alignment/argmax_equal    1 if one channel has the largest of both, else 0
    bias_alignment/top_3_overlap   share of the three largest of a that are among those of |bias|

    Arrays `rms` (C,) and `bias` (C,), the latter signed. Undefined, with the reason: a final norm
    without a bias, a bias that is the same in every channel (it starts at 0), values that are not
    finite, and fewer than three channels.
    """

    def __init__(self, network: nn.Module) -> None:
        # A network without a norm before its head has no such attribute (Restormer).
        norm = getattr(bare(network), "end_norm", None)
        self._norm = norm if isinstance(norm, Norm) else None
        self._mean_square = Mean()
        self._bias: Tensor | None = None

    def looks(self) -> Iterator[tuple[nn.Module, Look]]:
        if self._norm is not None:
            yield self._norm, Before(self._look)

    def _look(self, x: Float[Tensor, "B N C"]) -> None:
        bias = getattr(self._norm, "bias", None)
        if isinstance(bias, Tensor):
            self._mean_square.add(x.double().square().mean(dim=(0, 1)), len(x))
            self._bias = bias.detach().double().cpu()

    def observation(self) -> Observation:
        if self._norm is None:
            return _undefined("the network has no norm before its head")
        if self._bias is None:
            return _undefined(f"the final norm, {type(self._norm).__name__}, has no bias")
        rms, bias = np.sqrt(self._mean_square.whole().numpy()), self._bias.numpy()
        arrays = {"rms": rms, "bias": bias}
        if why := why_undefined(rms, np.abs(bias)):
            return Observation(arrays=arrays, undefined=dict.fromkeys(map(_named, NAMES), why))
        values = zip(NAMES, alignment(rms, np.abs(bias)), strict=True)
        return Observation({_named(name): value for name, value in values}, arrays)


def why_undefined(a: Channels, b: Channels) -> str:
    """Why two values per channel cannot be compared; "" if they can."""
    if len(a) < TOP:
        return f"{len(a)} channels are fewer than {TOP}"
    for name, values in (("RMS of the final norm's input", a), ("|bias| of the final norm", b)):
        if not np.isfinite(values).all():
            return f"the {name} is not finite"
        if values.min() == values.max():
            return f"the {name} is the same in every channel"
    return ""


def alignment(a: Channels, b: Channels) -> tuple[float, float, float, float]:
    """Pearson, Spearman, equal argmax and overlap of the three largest, for a, b (C,).

    Both vary and C is at least 3. Of several equal values, that of the lowest channel is the
    larger, but channels that share the largest value all count as its argmax.
    """
    tops = [set(np.argsort(-values, kind="stable")[:TOP].tolist()) for values in (a, b)]
    equal = bool(((a == a.max()) & (b == b.max())).any())
    return (
        pearson(a, b),
        pearson(mean_ranks(a), mean_ranks(b)),
        float(equal),
        len(tops[0] & tops[1]) / TOP,
    )


def pearson(a: Channels, b: Channels) -> float:
    """sum (a - mean a)(b - mean b) / sqrt(sum (a - mean a)^2 sum (b - mean b)^2)."""
    # Scaled by the largest deviation first, whose square could be out of float64's range.
    a, b = (values - values.mean() for values in (a, b))
    a, b = (values / np.abs(values).max() for values in (a, b))
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1.0, 1.0))


def mean_ranks(values: Channels) -> Channels:
    """Ranks from 1 on; equal values share the mean of the ranks that they take up."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Channels = (last - (counts - 1) / 2)[inverse]
    return ranks


def _undefined(why: str) -> Observation:
    return Observation(undefined=dict.fromkeys(map(_named, NAMES), why))


def _named(name: str) -> str:
    return f"bias_alignment/{name}"
