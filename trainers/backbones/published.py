"""Weights from a file into a network: checkpoints as published for its backbone, and our own.

Published files have our keys but for wrappers, buffers and the names in i-LN. Which norm a file's weights belong to follows
from its metadata, from the spec beside a trial's checkpoint, or from its keys; under the same keys, weights of one norm
would silently train or score as another's.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from trainers.catalog import BACKBONES, NORMS, UnknownName
from trainers.errors import UserError
from trainers.norms.base import Norm
from trainers.spec import BadSpec, RunSpec

# Keys under which trainers keep the network, the first that is there: averaged weights are the ones that were evaluated.
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
# What wraps a network puts its own name before every key: DataParallel, torch.compile, Lightning, GAN trainers.
PREFIXES = ("module.", "_orig_mod.", "net_g.", "generator.", "model.", "network.", "net.")
DISCRIMINATORS = ("net_d.", "discriminator.")
BUFFERS = re.compile(r"(^|\.)(attn_mask|relative_position_index(_SA|_OCA)?|mean)$")
RENAMED = {"gamma": "weight", "beta": "bias"}  # of the published i-LN
BLOCK_NORM = re.compile(r"(?:^|\.)norm[12](?:\.body)?\.(\w+)$")  # Restormer's have a body
USUAL_NORMS = {frozenset({"weight", "bias"}): "layer_norm", frozenset(RENAMED): "i_ln"}
AMBIGUOUS = ({"weight", "bias"}, {"weight"})  # tensors that several norms have
CODE = re.compile(r"GLOBAL ([\w.]+)")  # in torch's refusal of a pickle that would run something
NAMED = 5  # keys in a message


class NotThisNetwork(UserError, ValueError):
    """A file that is no checkpoint, or one of another network; the message names what does not fit."""


class NotAllOfIt(NotThisNetwork):
    """A file that fits in part, where all of it was wanted."""


@dataclass(frozen=True)
class Weights:
    """Tensors under our keys. `source` is what messages call them."""

    source: str
    tensors: Mapping[str, Tensor]
    norm: str | None  # which they were trained with; None where the file does not say

    @property
    def is_ambiguous(self) -> bool:
        """Whether several norms would have these keys."""
        return self.norm is None and _block_norm_names(self.tensors) in AMBIGUOUS

    @property
    def usual_norm(self) -> str | None:
        """The norm of a published file with these keys."""
        return _usual_norm(self.tensors)


@dataclass(frozen=True)
class Fit:
    """How weights go into a network: those `taken`, in its shapes, and what does not fit."""

    taken: Mapping[str, Tensor]
    missing: tuple[str, ...]  # tensors of the network that the file lacks
    reshaped: Mapping[str, str]  # tensors that the file has in another shape, and both shapes
    unused: tuple[str, ...]  # tensors of the file without a place in the network
    other_norm: str | None  # a sentence, where the weights are of another norm

    def as_lists(self) -> dict[str, Any]:
        """For a journal: names, and the shapes that differ."""
        return {
            "taken": len(self.taken),
            "missing": list(self.missing),
            "reshaped": dict(self.reshaped),
            "unused": list(self.unused),
            "other_norm": self.other_norm,
        }


def network_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parameters under our keys: buffers that we compute and PREFIXES are dropped, i-LN's gamma and beta are renamed."""
    bare = {key: value for key, value in state.items() if not BUFFERS.search(key)}
    bare = {key: value for key, value in bare.items() if not key.startswith(DISCRIMINATORS)} or bare
    while prefix := next(
        (p for p in PREFIXES if bare and all(key.startswith(p) for key in bare)), None
    ):
        bare = {key.removeprefix(prefix): value for key, value in bare.items()}
    ours = {}
    for key, value in bare.items():
        path, _, last = key.rpartition(".")
        # LayerScale has a gamma too, beside its weight.
        renamed = "norm" in path and last in RENAMED and f"{path}.weight" not in bare
        ours[f"{path}.{RENAMED[last]}" if renamed else key] = value
    return ours


def read_published(path: Path) -> Weights:
    """The network's weights in a `.pth`, `.pt` or `.safetensors` file, published or ours, read without running any code
    in it. Raises NotThisNetwork.
    """
    content, about = _content(path)
    is_published = any(BUFFERS.search(key) for key in content if isinstance(key, str))
    for _ in range(DEEPEST_WRAPPER):
        wrapper = next((name for name in WRAPPERS if isinstance(content.get(name), Mapping)), None)
        if wrapper is None:
            break
        content, is_published = content[wrapper], True
    _refuse_other_content(str(path), content)
    is_published = is_published or _block_norm_names(content) == set(RENAMED)
    norm = _usual_norm(content) if is_published else None
    if norm is None:
        norm = _norm_of_spec(about.get("spec") or _spec_beside(path))
    return checked(Weights(str(path), network_state(content), norm))


def checked(weights: Weights) -> Weights:
    """The same weights. Raises NotThisNetwork where a tensor is not dense, or not finite in float32."""
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
    """The first of these keys, and how many more there are."""
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(str(key) for key in keys[:NAMED]) + more


def _refuse_other_content(source: str, content: Mapping[Any, Any]) -> None:
    """Raises NotThisNetwork where it is no state dict: tensors by names."""
    others = [
        key
        for key, value in content.items()
        if not (isinstance(key, str) and isinstance(value, Tensor))
    ]
    if content and not others:
        return
    why = f"holds no state dict, neither bare nor under {', '.join(WRAPPERS[:3])} or the like"
    if others:
        why += f"; no tensors under names: {_listed(others)}"
    raise NotThisNetwork(f"{source}: {why}")


def fit(
    weights: Weights, network: nn.Module, *, norm: str | None = None, strict: bool = True
) -> Fit:
    """How the weights go into the network, which stays as it is. `norm` is the network's where a spec names it.

    Raises NotThisNetwork for weights of another backbone, or of which nothing fits; where `strict`, NotAllOfIt for another
    norm, a tensor that is missing or has another shape, and one that is left over.
    """
    theirs, ours = weights.tensors, network.state_dict()
    backbones = [_backbone_of(keys) for keys in (theirs, ours)]
    if None not in backbones and backbones[0] != backbones[1]:
        raise NotThisNetwork(
            f"{weights.source} is of another backbone, {backbones[0]}, not of {backbones[1]}"
        )
    missing = tuple(key for key in ours if key not in theirs)
    unused = tuple(key for key in theirs if key not in ours)
    shared = {key: (theirs[key], value) for key, value in ours.items() if key in theirs}
    if integers := [
        key for key, (given, value) in shared.items() if _is_whole(given) and not _is_whole(value)
    ]:
        dtype = str(theirs[integers[0]].dtype).removeprefix("torch.")
        raise NotThisNetwork(
            f"{weights.source}: {_listed(integers)}: {dtype} values where weights are wanted"
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
    """Put a checkpoint into `network`; returns what was taken. With `strict` that is all of it.

    `norm` says which norm a file's weights belong to where the file itself does not, as a bare state dict with `weight`
    and `bias` at its norms: taken for LayerNorm's, or what else is usual for the backbone, unless `norm` says otherwise.

    Raises NotThisNetwork as `fit` does, and leaves the network as it was.
    """
    weights = read_published(path)
    if weights.norm is None:
        weights = replace(weights, norm=norm or weights.usual_norm)
    found = fit(weights, network, strict=strict)
    network.load_state_dict(found.taken, strict=False)
    return found


def norm_of(network: nn.Module) -> str | None:
    """The catalogue's name of the norm in the network's blocks, `package.module:Class` for one that it lacks."""
    for name, module in network.named_modules():
        if isinstance(module, Norm) and BLOCK_NORM.search(f"{name}.weight"):
            target = f"{type(module).__module__}:{type(module).__qualname__}"
            return next((entry.name for entry in NORMS if entry.target == target), target)
    return None


def _content(path: Path) -> tuple[Mapping[Any, Any], Mapping[str, str]]:
    """What the file holds, and a safetensors file's metadata. Raises NotThisNetwork."""
    try:
        path.open("rb").close()
    except OSError as error:
        raise NotThisNetwork(f"{path}: cannot be read: {error.strerror}") from error
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key) for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, before a refusal that says more
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if code := CODE.search(str(error)):
            why = f"holds more than tensors ({code[1]}), which loading would run: it is not loaded"
        else:
            why = "not a state dict that torch.save wrote, or damaged"
        raise NotThisNetwork(f"{path}: {why}") from error
    except Exception as error:  # of damaged bytes, torch and safetensors raise nearly anything
        said = (
            [] if isinstance(error, LookupError) else str(error).splitlines()[:1]
        )  # of a key, no sentence
        why = ": ".join(["not a checkpoint, or one that is damaged or cut short", *said])
        raise NotThisNetwork(f"{path}: {why}") from error
    return content if isinstance(content, Mapping) else {}, {}


def _spec_beside(path: Path) -> str | None:
    """The spec of the trial or run folder in whose `checkpoints/` the file lies."""
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


def _block_norm_names(keys: Collection[Any]) -> set[str]:
    """The last parts of the keys of norms in blocks, e.g. weight and bias."""
    return {found[1] for key in keys if isinstance(key, str) and (found := BLOCK_NORM.search(key))}


def _usual_norm(keys: Collection[Any]) -> str | None:
    names, backbone = (
        _block_norm_names(keys),
        _backbone_of([key for key in keys if isinstance(key, str)]),
    )
    shape = BACKBONES[backbone].shape if backbone else None
    usual = {**USUAL_NORMS, **(shape.published_norms if shape else {})}
    return usual.get(frozenset(names))


def _backbone_of(keys: Collection[str]) -> str | None:
    return next(
        (entry.name for entry in BACKBONES if entry.shape and entry.shape.has_keys(keys)), None
    )


def _is_whole(value: Tensor) -> bool:
    """Whole numbers or booleans, as a counter that is a buffer has them."""
    return not value.is_floating_point()


def _same_shape(theirs: Tensor, ours: Tensor) -> bool:
    """Published i-LN keeps its vectors as (1, 1, C)."""
    return theirs.shape == ours.shape or (ours.ndim <= 1 and theirs.numel() == ours.numel())


def _other_norm(weights: Weights, ours: str | None) -> str | None:
    if weights.norm is None or ours is None or _target(weights.norm) == _target(ours):
        return None
    return f"{weights.source} holds weights of norm {weights.norm}, and the network has {ours}"


def _target(norm: str) -> str:
    """A norm's `package.module:Class`. Nothing is imported: the name may be a file's."""
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
    problems += [f"has {key}, which the network has not" for key in found.unused]
    if problems:
        more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
        raise NotAllOfIt(
            f"{source} is not of this network: {'; '.join(sorted(problems)[:NAMED])}{more}"
        )
