"""The identity of a trial: the part of its spec that can change the weights, hashed.

Whatever equals its default is left out, so that no id changes when a default is spelled out or a
field is added later. The hash, of canonical JSON, also covers the revision of the recipe, a
catalogue entry's `revision` above 1, the syntax tree of the source file of any class from outside
the project, the size of the micro-batch where a norm's statistics depend on it, and (inside the
spec) the checksum of the training set's manifest.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestrator.plan.syntax import Unparsable, syntax_sha256
from trainers import own
from trainers.catalog import BACKBONES, NORMS, TASKS, Catalog, Entry
from trainers.choice import Choice
from trainers.errors import did_you_mean
from trainers.spec import RunSpec, TrainingSpec, default_ends

ID_DIGITS = 16
# Raised when the training loop's numbers change. 1 clipped gradients at norm 1.0, DeepSpeed's
# default (CHANGELOG, "Numbers").
RECIPE = 2
LAST_PART = '"training":{}}'  # of the canonical JSON, whose keys are sorted


def trial_id(spec: RunSpec, gate: Mapping[str, str] | None = None) -> str:
    """The first 16 hexadecimal digits of the sha256 of the identity.

    `gate` is what a gate's trials have besides (orchestrator.plan.norm_sources).
    """
    return id_of(besides_training(spec, gate), training_part(spec.training, spec.task.name))


def besides_training(spec: RunSpec, gate: Mapping[str, str] | None) -> bytes:
    """The canonical JSON of the identity up to `training`, its last key.

    The many trials of a network have it in common.
    """
    parts = identity(spec) | {"training": {}} | ({} if gate is None else {"gate": dict(gate)})
    text = _canonical(parts)
    assert text.endswith(LAST_PART)
    return text[: -len("{}}")].encode()


def training_part(training: TrainingSpec, task: str) -> bytes:
    """The canonical JSON of `training` in the identity of a trial of this task, and its end."""
    return f"{_canonical(_differing(training, task))}}}".encode()


def id_of(before: bytes, training: bytes) -> str:
    """The id of the trial with these parts of its identity."""
    return hashlib.sha256(before + training).hexdigest()[:ID_DIGITS]


def _canonical(parts: Mapping[str, Any]) -> str:
    return json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(spec: RunSpec) -> dict[str, Any]:
    """The values that are hashed, as plain JSON."""
    model, norm = spec.model, NORMS[spec.model.norm.name]
    ends = default_ends(model.backbone, model.norm)
    parts: dict[str, Any] = {
        "recipe": RECIPE,
        "backbone": _chosen(model.backbone, BACKBONES),
        "norm": _chosen(model.norm, NORMS),
        "task": _chosen(spec.task, TASKS),
        "data": spec.data.train_sha256,
        "training": _differing(spec.training, spec.task.name),
    }
    for field, default in (
        ("embed_norm", ends),
        ("end_norm", ends),
        ("stdnorm", norm.facts.get("stdnorm", False)),
    ):
        if getattr(model, field) != default:
            parts[field] = getattr(model, field)
    if depends_on_micro_batch(norm):
        parts["micro_batch"] = spec.micro_batch
    return parts


def _chosen(choice: Choice, catalog: Catalog) -> dict[str, Any]:
    entry = catalog[choice.name]
    defaults = entry.resolve({})
    parts: dict[str, Any] = {"name": choice.name}
    parts |= {
        knob: value
        for knob, value in choice.knobs.items()
        if knob not in defaults or value != defaults[knob]
    }
    if entry.revision != 1:
        parts["revision"] = entry.revision
    if entry.open_knobs:
        parts["source"] = source_sha256(entry)
    return parts


def _differing(training: TrainingSpec, task: str) -> dict[str, Any]:
    patch_size_px = TASKS[task].facts.get("patch_size_px")
    defaults = {name: field.default for name, field in TrainingSpec.model_fields.items()} | {
        "patch_size_px": patch_size_px
    }
    # `initial_strict` may refuse weights to start from, but never changes those that are taken.
    values = training.model_dump(mode="json", exclude={"initial_strict"})
    return {
        name: value for name, value in values.items() if getattr(training, name) != defaults[name]
    }


def depends_on_micro_batch(norm: Entry) -> bool:
    """Whether a norm's statistics depend on the micro-batch, so that another size is another trial.

    Its line in the catalogue says so. A class from outside the project says it in its body,
    `statistics_of_micro_batch = True`, which is found without importing it. False if the source
    cannot be read, which `source_sha256` reports.
    """
    if not norm.open_knobs:
        return bool(norm.facts.get("statistics_of_micro_batch"))
    module, _, name = norm.target.partition(":")
    try:
        return _says_so(file_of(module).read_bytes(), name)
    except (OSError, ModuleNotFoundError):
        return False


@lru_cache(maxsize=64)
def _says_so(source: bytes, name: str) -> bool:
    try:
        body = ast.parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    lines = [
        line
        for found in body
        if isinstance(found, ast.ClassDef) and found.name == name
        for line in found.body
    ]
    assigned = {
        target.id: line.value
        for line in lines
        if isinstance(line, ast.Assign | ast.AnnAssign)
        for target in (line.targets if isinstance(line, ast.Assign) else [line.target])
        if isinstance(target, ast.Name)
    }
    value = assigned.get("statistics_of_micro_batch")
    return isinstance(value, ast.Constant) and value.value is True


class BadSource(ValueError):
    """The source of a class from outside the project cannot be read.

    The message names the file, the place and the reason.
    """


def source_sha256(entry: Entry) -> str:
    """Hash the syntax tree of the file that `package.module:Class` names, without importing it.

    Comments, docstrings and formatting do not count (orchestrator.plan.syntax). Modules that the
    file imports are not covered, not even those of its own package. So a class that
    `package/__init__.py` only re-exports has to be named by the module that defines it. A compiled
    module is hashed byte by byte. Raises ModuleNotFoundError, BadSource.
    """
    return file_sha256(file_of(entry.target.partition(":")[0]))


def file_sha256(path: Path) -> str:
    """Hash the syntax tree of a Python file, or the bytes of a compiled one. Raises BadSource."""
    try:
        content = path.read_bytes()
        return (
            syntax_sha256(content) if path.suffix == ".py" else hashlib.sha256(content).hexdigest()
        )
    except OSError as error:
        raise BadSource(f"{path}: cannot be read: {error.strerror}") from error
    except Unparsable as error:
        place = f"{path}:{error.line}" if error.line else str(path)
        raise BadSource(f"{place}: cannot be parsed: {error}") from error


def why_missing(entry: Entry) -> str:
    """Why a class from outside the project is not where its name says; "" if it may be there.

    Nothing is imported. Of an installed package only the file is looked for.
    """
    module, _, name = entry.target.partition(":")
    if not entry.open_knobs or ":" not in entry.name:
        return ""
    try:
        source_sha256(entry)
        path = own.file_of(module)
        bound = None if path is None else _names_in(path.read_bytes())
    except (ModuleNotFoundError, BadSource) as error:
        return str(error)
    if bound is None or name in bound:
        return ""
    return f"{path} has no {name!r}.{did_you_mean(name, sorted(bound))}"


def _names_in(source: bytes) -> set[str] | None:
    """The names that a module binds anywhere outside functions; None where a `*` hides some."""
    names: set[str] = set()
    open_nodes: list[ast.AST] = [ast.parse(source)]
    while open_nodes:
        for node in ast.iter_child_nodes(open_nodes.pop()):
            if isinstance(node, ast.ImportFrom | ast.Import):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            else:
                open_nodes.append(node)
    return None if "*" in names else names


def file_of(module: str) -> Path:
    """The file of a module from outside the project, not imported. Raises ModuleNotFoundError."""
    if (file := own.file_of(module)) is not None:
        return file
    top, *inner = module.split(".")
    if top == "__main__" or top in sys.stdlib_module_names:
        raise ModuleNotFoundError(
            f"{module!r} is a module of Python itself, not one of yours: "
            "name the module that defines the class"
        )
    try:
        found = importlib.util.find_spec(top)
    except ValueError as error:  # the module is loaded already, but has no spec
        raise ModuleNotFoundError(f"no module {top!r} on the Python path") from error
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"no module {top!r} on the Python path")
    path = Path(found.origin)
    if inner:
        stem = path.parent.joinpath(*inner)
        path = (
            stem.with_suffix(".py") if stem.with_suffix(".py").is_file() else stem / "__init__.py"
        )
    if not path.is_file():
        raise ModuleNotFoundError(f"no module {module!r}: {path} does not exist")
    return path
