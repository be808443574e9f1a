"""The port of probes, and the one forward pass of the probe batch that all of them observe.

Axis letters: B image, N token (= H * W), C channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

Look = Callable[[Tensor], None]  # is given a module's output


@dataclass(frozen=True)
class Observation:
    """A probe's measurements: scalars for the journal, arrays for a file in the run folder.

    `mean_squares` are those of features, for the guard: a trial has diverged if one is not finite
    or is beyond `feature_limit`.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    mean_squares: tuple[float, ...] = ()


class Probe(ABC):
    """A measurement of a network, built as `Class(network)` for each one.

    It sees the outputs of modules for the probe batch, in evaluation mode and without gradients.
    The images come in one part or several; `observation` is what all of them amount to.

    Promises, checked by tests/contract/test_every_probe.py for every line of PROBES:

    - What is observed does not depend on how the images are divided into parts, up to rounding,
      nor on which other probes look at the same pass.
    - No other probe has scalars of the same names; on a sound network scalars are finite.
    - It only looks: outputs, weights and buffers stay as they are, and it leaves nothing on the
      network.
    """

    @abstractmethod
    def looks(self) -> Iterable[tuple[nn.Module, Look]]:
        """The modules whose outputs it looks at, and what is called with those of each part."""

    @abstractmethod
    def observation(self) -> Observation:
        """The measurement over all parts."""


class ProbeBatch:
    """The images that probes see at every measurement, going through `network`.

    They go through it `at_once` at a time, so that probing needs no more memory than a training
    step; with None, all together.
    """

    def __init__(
        self, network: nn.Module, lq: Float[Tensor, "B 3 h w"], at_once: int | None = None
    ) -> None:
        self._network = network
        self._parts = lq.split(at_once or len(lq))

    def measure(self, makers: Mapping[str, Callable[[nn.Module], Probe]]) -> dict[str, Observation]:
        """The observation of each probe, by name, from one forward pass."""
        probes = {name: make(self._network) for name, make in makers.items()}
        with _watched(self._network, probes.values()), torch.no_grad():
            for part in self._parts:
                self._network(part)
        return {name: probe.observation() for name, probe in probes.items()}


@contextmanager
def _watched(network: nn.Module, probes: Iterable[Probe]) -> Iterator[None]:
    """Puts `network` into evaluation mode with the probes looking; afterwards it is as it was."""
    handles = []
    was_training = network.training
    network.eval()
    try:
        for probe in probes:
            handles += [module.register_forward_hook(_hook(look)) for module, look in probe.looks()]
        yield
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()


def _hook(look: Look) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(module: nn.Module, inputs: object, output: Tensor) -> None:
        look(output)  # not returned: torch would take what a hook returns for the output

    return hook


def groups_of(network: nn.Module) -> list[nn.Module]:
    """The residual groups, whose outputs (B, N, C) the feature traces are made of."""
    groups = network.groups
    assert isinstance(groups, nn.ModuleList)
    return list(groups)


class Mean:
    """The mean over all images, from the means over the images of each part."""

    def __init__(self) -> None:
        self._means: list[Tensor] = []
        self._images: list[int] = []

    def add(self, mean: Shaped[Tensor, "*shape"] | float, images: int) -> None:
        self._means.append(torch.as_tensor(mean, dtype=torch.float64, device="cpu"))
        self._images.append(images)

    def whole(self) -> Float[Tensor, "*shape"]:
        if len(self._means) == 1:
            return self._means[0]
        means, images = torch.stack(self._means), torch.tensor(self._images, dtype=torch.float64)
        return (means * images.view(-1, *[1] * (means.ndim - 1))).sum(dim=0) / images.sum()


class Largest:
    """The largest of the parts' values; NaN if one of them is."""

    def __init__(self) -> None:
        self._values: list[float] = []

    def add(self, value: Float[Tensor, ""]) -> None:
        self._values.append(value.item())

    def whole(self) -> float:
        return torch.tensor(self._values, dtype=torch.float64).max().item()
