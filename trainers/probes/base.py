"""The port of probes, and the one forward pass of the probe batch that all of them observe.

Axis letters: B image, N token (= H * W), C channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from trainers.spec import BadSpec

if TYPE_CHECKING:
    from jaxtyping import Float, Shaped

Array = NDArray[np.float64] | NDArray[np.float32]


@dataclass(frozen=True)
class Before:
    """A look at a module that is about to run: `look` is given its first input.

    The module's own parameters are whole at that moment. At ZeRO stage 3, where each rank holds a
    part of them, they are so at no other.
    """

    look: Callable[[Tensor], None]


# A look after a module has run is given its output: a tensor, or the Normed of a norm.
Look = Callable[[Any], None] | Before


@dataclass(frozen=True)
class Observation:
    """A probe's measurements: scalars for the journal, arrays for a file in the run folder.

    `undefined` says for scalars that have no value why they have none: by name, a sentence.
    `mean_squares` are those of features, for the guard: a trial has diverged if one is not finite
    or is beyond `feature_limit`.
    """

    scalars: Mapping[str, float] = field(default_factory=dict)
    arrays: Mapping[str, Array] = field(default_factory=dict)
    mean_squares: tuple[float, ...] = ()
    undefined: Mapping[str, str] = field(default_factory=dict)


class Probe(ABC):
    """A measurement of a network, built as `Class(network)` for each one.

    It sees the inputs and outputs of modules for the probe batch, in evaluation mode and without
    gradients. The images come in one part or several; `observation` is what all of them amount to.

    Promises, checked by tests/contract/test_every_probe.py for every line of PROBES:

    - What is observed does not depend on how the images are divided into parts, up to rounding,
      nor on which other probes look at the same pass.
    - No other probe has scalars of the same names; on a sound network scalars are finite.
    - Something is said of every network: a scalar, an array, or why there is neither.
    - It only looks: outputs, weights and buffers stay as they are, and it leaves nothing on the
      network.
    """

    @abstractmethod
    def looks(self) -> Iterable[tuple[nn.Module, Look]]:
        """The modules that it looks at, and what is called with each part's output or input."""

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
        """The observation of each probe, by name, from one forward pass.

        Raises BadSpec where two have scalars of the same name.
        """
        probes = {name: make(self._network) for name, make in makers.items()}
        with _watched(self._network, probes.values()), torch.no_grad():
            for part in self._parts:
                self._network(part)
        observed = {name: probe.observation() for name, probe in probes.items()}
        _check_names(observed)
        return observed


def _check_names(observed: Mapping[str, Observation]) -> None:
    owners: dict[str, str] = {}
    for probe, observation in observed.items():
        for scalar in observation.scalars:
            if (other := owners.setdefault(scalar, probe)) != probe:
                raise BadSpec(f"probes {other} and {probe} both measure {scalar!r}: rename one")


@contextmanager
def _watched(network: nn.Module, probes: Iterable[Probe]) -> Iterator[None]:
    """Puts `network` into evaluation mode with the probes looking; afterwards it is as it was."""
    handles = []
    was_training = network.training
    network.eval()
    try:
        for probe in probes:
            handles += [_hooked(module, look) for module, look in probe.looks()]
        yield
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()


def _hooked(module: nn.Module, look: Look) -> RemovableHandle:
    """Call `look` whenever `module` runs.

    What a look returns is dropped: torch would take it for the module's input or output.
    """
    if isinstance(look, Before):
        before = look.look

        def pre_hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            before(inputs[0])

        # Registered after DeepSpeed's hook, which gathers the parameters, so it runs after that.
        return module.register_forward_pre_hook(pre_hook)

    def hook(_module: nn.Module, _inputs: object, output: Any) -> None:
        look(output)

    return module.register_forward_hook(hook)


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
        self._means.append(torch.as_tensor(mean, dtype=torch.float64))
        self._images.append(images)

    def whole(self) -> Float[Tensor, "*shape"]:
        if len(self._means) == 1:
            return self._means[0].cpu()
        means = torch.stack(self._means).cpu()
        images = torch.tensor(self._images, dtype=torch.float64)
        return (means * images.view(-1, *[1] * (means.ndim - 1))).sum(dim=0) / images.sum()


class Largest:
    """The largest of the parts' values; NaN if one of them is."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []

    @property
    def seen(self) -> bool:
        """Whether there is a value. A module may not run at all."""
        return bool(self._values)

    def add(self, value: Float[Tensor, ""]) -> None:
        self._values.append(value.double())  # left where it is: reading it would wait for a GPU

    def whole(self) -> float:
        return torch.stack(self._values).max().item()


def largest_abs(x: Tensor) -> Float[Tensor, ""]:
    """max |x| in a single pass; NaN if x has one."""
    low, high = torch.aminmax(x)
    return torch.maximum(-low, high)
