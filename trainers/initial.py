"""The weights that a trial starts from, where `training.initial` names some. The spec says which, the run says where."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from trainers.backbones.published import (
    Fit,
    NotAllOfIt,
    NotThisNetwork,
    Weights,
    fit,
    read_published,
)
from trainers.durable import sha256_of
from trainers.errors import UserError
from trainers.spec import RunSpec


class InitialProblem(UserError, ValueError):
    """Weights to start from that are missing, or not those of the spec, or do not fit; the message says which."""

    kind = "initial"


def read_initial(path: Path) -> Weights:
    """The weights in a file. Raises InitialProblem."""
    try:
        return read_published(path)
    except NotThisNetwork as error:
        raise InitialProblem(str(error)) from error


def fit_initial(weights: Weights, network: nn.Module, spec: RunSpec) -> Fit:
    """How weights go into the network of `spec`.

    A file that does not say of which norm it is, a bare `ema.pt` say, is believed to be of the network's. Raises
    InitialProblem.
    """
    try:
        return fit(weights, network, norm=spec.model.norm.name, strict=spec.training.initial_strict)
    except NotAllOfIt as error:
        advice = "`initial_strict: false` lets what does not fit start as drawn from the seed"
        raise InitialProblem(f"{error}; {advice}") from error
    except NotThisNetwork as error:
        raise InitialProblem(str(error)) from error


def load_initial(network: nn.Module, spec: RunSpec, path: Path | None) -> Fit | None:
    """Overwrite the freshly drawn tensors of `network` that the file has; None where the spec wants no file.

    Raises InitialProblem, and leaves the network as it was, also for a file of other content than the spec's.
    """
    training = spec.training
    if training.initial is None:
        if path is not None:
            raise InitialProblem(
                f"{path}: the spec starts from scratch: it has no `training.initial`"
            )
        return None
    if path is None:
        raise InitialProblem(
            f"the spec starts from weights with sha256 {training.initial}: give their file (--initial)"
        )
    if not path.is_file():
        raise InitialProblem(f"{path}: no such file of weights to start from")
    if (found := sha256_of(path)) != training.initial:
        raise InitialProblem(
            f"{path}: has sha256 {found[:12]}, but the trial was planned with {training.initial[:12]}"
        )
    taken = fit_initial(read_initial(path), network, spec)
    network.load_state_dict(taken.taken, strict=False)
    return taken
