"""The weights that a trial starts from, if `training.initial` names any.

The spec names them by content; where the file is, the run says.
"""

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
    """Initial weights that are missing, do not fit or are not the spec's; the message says why."""

    kind = "initial"


def read_initial(path: Path) -> Weights:
    """The weights in a file. Raises InitialProblem."""
    try:
        return read_published(path)
    except NotThisNetwork as error:
        raise InitialProblem(str(error)) from error


def fit_initial(weights: Weights, network: nn.Module, spec: RunSpec) -> Fit:
    """The fit of weights into the network of `spec`.

    A file that does not name its norm, such as a bare `ema.pt`, is taken to have the network's.
    Raises InitialProblem.
    """
    try:
        return fit(weights, network, norm=spec.model.norm.name, strict=spec.training.initial_strict)
    except NotAllOfIt as error:
        advice = "`initial_strict: false` lets what does not fit start as drawn from the seed"
        raise InitialProblem(f"{error}; {advice}") from error
    except NotThisNetwork as error:
        raise InitialProblem(str(error)) from error


def load_initial(network: nn.Module, spec: RunSpec, path: Path | None) -> Fit | None:
    """Overwrite the tensors of `network` that the file has; None if the spec starts from scratch.

    Raises InitialProblem and leaves the network as it was if the weights do not fit, or if the file
    is not the one that the spec names.
    """
    training = spec.training
    if training.initial is None:
        if path is not None:
            raise InitialProblem(
                f"{path}: the spec has no `training.initial`, so it starts from scratch. "
                "Leave out --initial."
            )
        return None
    if path is None:
        raise InitialProblem(
            f"the spec starts from weights with sha256 {training.initial}. "
            "Give their file with --initial."
        )
    if not path.is_file():
        raise InitialProblem(f"{path}: no such file, but the spec starts from its weights")
    if (found := sha256_of(path)) != training.initial:
        raise InitialProblem(
            f"{path}: its sha256 is {found[:12]}, "
            f"but the trial was planned with {training.initial[:12]}"
        )
    taken = fit_initial(read_initial(path), network, spec)
    # Not strict, because fitting has already refused whatever the spec does not allow.
    network.load_state_dict(taken.taken, strict=False)
    return taken
