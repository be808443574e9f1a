"""What a trial is: the part of its spec that can change the weights, as canonical JSON, hashed.

Left out is whatever equals its default, so that spelling a default out, or a field added later, changes no id. Hashed
besides: the revision of the recipe, a catalogue entry's `revision` above 1, the source of any class from outside the project,
the micro-batch's size where a norm's statistics depend on it, and (inside the spec) the checksum of the training set's manifest.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

from trainers.catalog import BACKBONES, NORMS, TASKS, Catalog, Entry
from trainers.spec import Choice, RunSpec, TrainingSpec

ID_DIGITS = 16
RECIPE = 2  # raised when the training loop's numbers change; 1 clipped gradients at norm 1.0 (CHANGELOG, "Numbers")


def trial_id(spec: RunSpec) -> str:
    """16 hexadecimal digits of the sha256 of the identity."""
    text = json.dumps(identity(spec), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:ID_DIGITS]


def identity(spec: RunSpec) -> dict[str, Any]:
    """What is hashed, as plain JSON values."""
    model, norm = spec.model, NORMS[spec.model.norm.name]
    ends = norm.facts.get("ends", "same")
    parts: dict[str, Any] = {
        "recipe": RECIPE,
        "backbone": _chosen(model.backbone, BACKBONES),
        "norm": _chosen(model.norm, NORMS),
        "task": _chosen(spec.task, TASKS),
        "data": spec.data.train_sha256,
        "training": _differing(spec),
    }
    for field, default in (("embed_norm", ends), ("end_norm", ends), ("stdnorm", norm.facts.get("stdnorm", False))):
        if getattr(model, field) != default:
            parts[field] = getattr(model, field)
    if norm.facts.get("statistics_of_micro_batch"):
        parts["micro_batch"] = spec.micro_batch
    return parts


def _chosen(choice: Choice, catalog: Catalog) -> dict[str, Any]:
    entry = catalog[choice.name]
    defaults = entry.resolve({})
    parts: dict[str, Any] = {"name": choice.name}
    parts |= {knob: value for knob, value in choice.knobs.items() if knob not in defaults or value != defaults[knob]}
    if entry.revision != 1:
        parts["revision"] = entry.revision
    if entry.open_knobs:
        parts["source"] = source_sha256(entry)
    return parts


def _differing(spec: RunSpec) -> dict[str, Any]:
    patch_size_px = TASKS[spec.task.name].facts.get("patch_size_px")
    defaults = {name: field.default for name, field in TrainingSpec.model_fields.items()} | {
        "patch_size_px": patch_size_px
    }
    values = spec.training.model_dump(mode="json")
    return {name: value for name, value in values.items() if getattr(spec.training, name) != defaults[name]}


def source_sha256(entry: Entry) -> str:
    """Of the file that defines `package.module:Class`, found without importing it. Raises ModuleNotFoundError."""
    module = entry.target.partition(":")[0]
    top, *inner = module.split(".")
    found = importlib.util.find_spec(top)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"no module {top!r} on the Python path")
    path = Path(found.origin)
    if inner:
        stem = path.parent.joinpath(*inner)
        path = stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
    if not path.is_file():
        raise ModuleNotFoundError(f"no module {module!r}: {path} does not exist")
    return hashlib.sha256(path.read_bytes()).hexdigest()
