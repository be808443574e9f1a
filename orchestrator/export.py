"""Write a trial's final EMA weights to one safetensors file.

`trainers.build.load_exported` turns the file into a network. Its metadata holds `spec` (RunSpec
JSON), `trial` and `step`. Only tensors are unpickled, and only after their checksum has been found
equal to the one in the trial's result.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.store import read_store
from orchestrator.store.base import Store
from orchestrator.store.finding import find_trial
from orchestrator.store.freed import why_gone
from orchestrator.store.records import Damaged, Record
from orchestrator.store.results import check_result, trained_spec
from trainers.durable import write_aside

if TYPE_CHECKING:
    from torch import Tensor

EMA = "ema.pt"


@dataclass(frozen=True)
class FinalWeights:
    """The EMA weights that a trial ended with; `spec` is its RunSpec as JSON."""

    trial: str
    step: int
    spec: str
    tensors: dict[str, Tensor]


def final_weights(store: Store, given: str) -> FinalWeights:
    """The final weights of the completed trial that `given` means (orchestrator.store.finding).

    Raises UserError for a trial that is unknown, ambiguous or not completed, and for weights that a
    sweep's `keep` has removed; EnvironmentProblem for weights that are damaged.
    """
    trial = find_trial(store, given)
    result = check_result(store, trial)
    if isinstance(result, Damaged):
        raise EnvironmentProblem(
            f"{result}: the result of trial {trial} is damaged. "
            "Run its sweep again, or restore the file from a copy."
        )
    if result is None:
        raise UserError(
            f"Trial {trial} has not ended: it has no final weights. "
            "Run its sweep again to continue it."
        )
    if result["outcome"] != "completed":
        raise UserError(
            f"Trial {trial} {result['outcome']} at step {result['step']}: it has no final weights."
        )
    data = _verified(store, result)
    spec = trained_spec(store, trial, result["attempt"])
    return FinalWeights(trial, int(result["step"]), spec.to_json(), _tensors(data))


def export_trial(store_uri: str, trial_id: str, to: Path) -> None:
    """Write the final EMA weights of a completed trial to `to`.

    Raises UserError as `final_weights` does, and for a target that is a folder; EnvironmentProblem
    for weights that are damaged, and for a target that cannot be written.
    """
    if to.is_dir():
        raise UserError(
            f"--to {to} is a folder. Name the file, e.g. --to {to / f'{trial_id}.safetensors'}."
        )
    found = final_weights(read_store(store_uri), trial_id)
    _write(to, found.tensors, {"spec": found.spec, "trial": found.trial, "step": str(found.step)})


def _verified(store: Store, result: Record) -> bytes:
    trial, checkpoint = result["trial"], result["checkpoint"]
    key = f"trials/{trial}/checkpoints/{checkpoint['name']}/{EMA}"
    try:
        data, promised = store.get(key), checkpoint["files"][EMA]["sha256"]
    except KeyError:
        if gone := why_gone(store, result):
            raise UserError(
                f"The final weights of trial {trial} were {gone}. Its scores are kept. To have the "
                f"weights again, move {store.uri}/trials/{trial} away and run its sweep with "
                "another `keep`."
            ) from None
        raise EnvironmentProblem(f"{key} is missing: the store is damaged there.") from None
    if hashlib.sha256(data).hexdigest() != promised:
        raise EnvironmentProblem(
            f"{key} does not have the checksum that the trial's result names: "
            "the store is damaged there."
        )
    return data


def _tensors(data: bytes) -> dict[str, Tensor]:
    import torch

    loaded: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {name: tensor.contiguous() for name, tensor in loaded.items()}


def _write(to: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    from safetensors.torch import save

    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        write_aside(to, save(tensors, metadata=metadata))
    except OSError as error:
        raise EnvironmentProblem(f"{to} cannot be written: {error.strerror}.") from error
