"""Weights from a file into a network: checkpoints as published for its backbone, and our own.

Published files have our keys but for wrappers, buffers and the names in i-LN. Which norm a file's
weights belong to follows from its metadata, from the spec beside a trial's checkpoint, or from its
keys. It has to be known, because several norms share the same keys: the weights of one would
silently train or score as another's.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from trainers.backbones.keys import (
    backbone_of,
    is_buffer,
    is_of_published_i_ln,
    is_of_several_norms,
    network_state,
    norm_of,
    usual_norm,
)
from trainers.catalog import NORMS, UnknownName
from trainers.errors import UserError
from trainers.spec import BadSpec, RunSpec

# Keys under which trainers keep the network. The first one found is taken, averaged weights before
# others, because they are the ones that were evaluated.
WRAPPERS = (
    "params_ema",
    "params",
    "state_dict",
    "model_state_dict",
    "net_g",
    "generator",
    "model",
    "network",
    "module",
)
DEEPEST_WRAPPER = 3
CODE = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal of a pickle that would run something
NAMED = 5  # keys that a message lists


class NotThisNetwork(UserError, ValueError):
    """A file that is not a checkpoint, or is one of another network.

    The message names what does not fit.
    """


class NotAllOfIt(NotThisNetwork):
    """A file that fits only in part, where all of it must fit."""


@dataclass(frozen=True)
class Weights:
    """Tensors under our keys, which messages call `source`."""

    source: str
    tensors: Mapping[str, Tensor]
    norm: str | None  # the one they were trained with; None where the file does not say

    @property
    def is_ambiguous(self) -> bool:
        """Whether these may be the weights of several norms."""
        return self.norm is None and is_of_several_norms(self.tensors)

    @property
    def usual_norm(self) -> str | None:
        """The norm of a published file with these keys."""
        return usual_norm(self.tensors)


@dataclass(frozen=True)
class Fit:
    """How weights go into a network: those `taken`, in its shapes, and what does not fit."""

    taken: Mapping[str, Tensor]
    missing: tuple[str, ...]  # tensors of the network that the file lacks
    reshaped: Mapping[str, str]  # tensors that the file has in another shape, and both shapes
    unused: tuple[str, ...]  # tensors of the file without a place in the network
    other_norm: str | None  # a sentence to show if the weights are of another norm

    def as_lists(self) -> dict[str, Any]:
        """The same for a journal: names of tensors, and the shapes that differ."""
        return {
            "taken": len(self.taken),
            "missing": list(self.missing),
            "reshaped": dict(self.reshaped),
            "unused": list(self.unused),
            "other_norm": self.other_norm,
        }


def read_published(path: Path) -> Weights:
    """Read a network's weights from a `.pth`, `.pt` or `.safetensors` file, published or ours.

    No code in the file is run. Raises NotThisNetwork.
    """
    content, about = _content(path)
    is_published = any(is_buffer(key) for key in content if isinstance(key, str))
    for _ in range(DEEPEST_WRAPPER):
        wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if wrapper is None:
            break
        content, is_published = content[wrapper], True
    _refuse_other_content(str(path), content)
    is_published = is_published or is_of_published_i_ln(content)
    norm = usual_norm(content) if is_published else None
    if norm is None:
        norm = _norm_of_spec(about.get("spec") or _spec_beside(path))
    return checked(Weights(str(path), network_state(content), norm))


def checked(weights: Weights) -> Weights:
    """Return the weights as they are.

    Raises NotThisNetwork where a tensor is not dense, or not finite in float32.
    """
    strange = [key for key, value in weights.tensors.items() if not _is_dense(value)]
    if strange:
        raise NotThisNetwork(
            f"{weights.source}: {_listed(strange)}: sparse, quantised, complex or without data"
        )
    infinite = [
        key
        for key, value in weights.tensors.items()
        if not value.to(torch.float32).isfinite().all()
    ]
    if infinite:
        raise NotThisNetwork(f"{weights.source}: {_listed(infinite)}: not finite numbers")
    return weights


def _is_dense(value: Tensor) -> bool:
    is_odd = value.is_quantized or value.is_meta or value.is_complex()
    return value.layout == torch.strided and not is_odd


def _listed(keys: Sequence[object]) -> str:
    """The first few keys, and how many more there are."""
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(str(key) for key in keys[:NAMED]) + more


def _refuse_other_content(source: str, content: Mapping[Any, Any]) -> None:
    """Raises NotThisNetwork unless the content is a state dict: tensors under names."""
    others = [
        key
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if content and not others:
        return
    why = f"holds no state dict, either bare or under {', '.join(WRAPPERS[:3])} or the like"
    if others:
        why += f"; not named tensors: {_listed(others)}"
    raise NotThisNetwork(f"{source}: {why}")


def fit(
    weights: Weights, network: nn.Module, *, norm: str | None = None, strict: bool = True
) -> Fit:
    """Work out how the weights go into the network, which stays as it is.

    `norm` is the network's, where a spec names it. Raises NotThisNetwork for weights of another
    backbone, or of which nothing fits; with `strict`, NotAllOfIt for weights of another norm, and
    for a tensor that is missing, has another shape or is left over.
    """
    theirs, ours = weights.tensors, network.state_dict()
    backbones = [backbone_of(keys) for keys in (theirs, ours)]
    if None not in backbones and backbones[0] != backbones[1]:
        raise NotThisNetwork(
            f"{weights.source} holds weights of backbone {backbones[0]}, and the network is "
            f"{backbones[1]}"
        )
    missing = tuple(key for key in ours if key not in theirs)
    unused = tuple(key for key in theirs if key not in ours)
    shared = {key: (theirs[key], value) for key, value in ours.items() if key in theirs}
    if integers := [
        key for key, (given, value) in shared.items() if _is_whole(given) and not _is_whole(value)
    ]:
        dtype = str(theirs[integers[0]].dtype).removeprefix("torch.")
        raise NotThisNetwork(
            f"{weights.source}: {_listed(integers)}: {dtype} values where weights are expected"
        )
    taken = {
        key: given.reshape(value.shape)
        for key, (given, value) in shared.items()
        if _same_shape(given, value)
    }
    reshaped = {
        key: f"{list(given.shape)}, not {list(value.shape)}"
        for key, (given, value) in shared.items()
        if key not in taken
    }
    found = Fit(taken, missing, reshaped, unused, _other_norm(weights, norm or norm_of(network)))
    if not taken:
        raise NotThisNetwork(
            f"{weights.source}: nothing in it fits this network: it has {_listed(list(theirs))}; "
            f"the network has {_listed(list(ours))}"
        )
    if strict:
        _refuse(weights.source, found)
    return found


def load_published(
    network: nn.Module, path: Path, *, norm: str | None = None, strict: bool = True
) -> Fit:
    """Put a checkpoint into `network` and return what was taken. With `strict` that is all of it.

    `norm` says which norm a file's weights belong to if the file itself does not. Such a file is a
    bare state dict with `weight` and `bias` under its norms: without `norm`, it is taken to be
    LayerNorm's, or of what else is usual for the backbone.

    Raises NotThisNetwork as `fit` does, and then leaves the network as it was.
    """
    weights = read_published(path)
    if weights.norm is None:
        weights = replace(weights, norm=norm or weights.usual_norm)
    found = fit(weights, network, strict=strict)
    network.load_state_dict(found.taken, strict=False)
    return found


def _content(path: Path) -> tuple[Mapping[Any, Any], Mapping[str, str]]:
    """Load the content of a file, and the metadata if it is a safetensors file.

    Raises NotThisNetwork.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise NotThisNetwork(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                names, about = file.keys(), file.metadata() or {}
                return {name: file.get_tensor(name) for name in names}, about
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, before a refusal that says more
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if code := CODE.search(str(error)):
            why = f"holds more than tensors ({code[1]}), which loading would run: it was not loaded"
        else:
            why = "not a state dict that torch.save wrote, or damaged"
        raise NotThisNetwork(f"{path}: {why}") from error
    except Exception as error:  # of damaged bytes, torch and safetensors raise nearly anything
        # A LookupError's text is the key alone, not a sentence.
        said = [] if isinstance(error, LookupError) else str(error).splitlines()[:1]
        why = ": ".join(["not a checkpoint, or one that is damaged or cut short", *said])
        raise NotThisNetwork(f"{path}: {why}") from error
    return content if isinstance(content, Mapping) else {}, {}


def _spec_beside(path: Path) -> str | None:
    """The spec of the trial or run folder whose `checkpoints/` holds the file, as text, or None."""
    folders = path.absolute().parents
    if len(folders) < 3 or folders[1].name != "checkpoints":
        return None
    try:
        return (folders[2] / "spec.json").read_text()
    except (OSError, UnicodeDecodeError):
        return None


def _norm_of_spec(spec: str | None) -> str | None:
    if spec is None:
        return None
    try:
        return RunSpec.from_json(spec).model.norm.name
    except BadSpec:
        return None


def _is_whole(value: Tensor) -> bool:
    """Whether the tensor holds integers or booleans, as a buffer that counts does."""
    return not value.is_floating_point()


def _same_shape(theirs: Tensor, ours: Tensor) -> bool:
    """Whether shapes are the same, but for a vector, which published i-LN keeps as (1, 1, C)."""
    return theirs.shape == ours.shape or (ours.ndim <= 1 and theirs.numel() == ours.numel())


def _other_norm(weights: Weights, ours: str | None) -> str | None:
    if weights.norm is None or ours is None or _target(weights.norm) == _target(ours):
        return None
    return f"{weights.source} holds weights of norm {weights.norm}, and the network has {ours}"


def _target(norm: str) -> str:
    """A norm's `package.module:Class`. Nothing is imported: the name may come from a file."""
    try:
        return NORMS[norm].target
    except UnknownName:
        return norm


def _refuse(source: str, found: Fit) -> None:
    """Raises NotAllOfIt where anything does not fit."""
    if found.other_norm:
        raise NotAllOfIt(found.other_norm)
    problems = [f"lacks {key}" for key in found.missing]
    problems += [f"{key} is {shapes}" for key, shapes in found.reshaped.items()]
    problems += [f"has {key}, which the network lacks" for key in found.unused]
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise NotAllOfIt(
            f"{source} does not fit this network: {'; '.join(sorted(problems)[:NAMED])}{more}"
        )
