"""What a gate's trials have in their identity besides: their norms' sources, and torch's version.

A gate asks whether a norm is as good as its baseline with the code as it stands. So its trials are
trained again when that code, or torch, has changed, and only then. The trials of other sweeps are
told apart by the revisions of the catalogue.

The sources of a trial are the files of the norm in its blocks and of those at its ends, with the
files that they import: those of `trainers/norms`, a user's own files, and files of the same
installed package. Each counts by its syntax (orchestrator.plan.syntax), so comments, docstrings and
formatting change nothing. Other libraries are not covered.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.identity import file_of, file_sha256
from orchestrator.plan.syntax import parsed
from trainers import own
from trainers.catalog import BACKBONES, NORMS
from trainers.spec import ModelSpec, RunSpec

BUILT_IN = "trainers.norms"
FOLDER = Path(__file__).parents[2].joinpath(*BUILT_IN.split("."))
AFFINE = f"{BUILT_IN}.affine"  # `affine` at the ends (trainers.build)
OURS = ("trainers", "orchestrator")  # packages of which only BUILT_IN is followed


def torch_version() -> str:
    """The version of torch that is installed here, without what follows a `+` (`cpu`, `cu128`).

    torch is not imported. Raises EnvironmentProblem if there is none.
    """
    try:
        return importlib.metadata.version("torch").partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        raise EnvironmentProblem(
            "torch is not installed here, and the ids of a gate's trials depend on its version: "
            "plan where normsweep is installed with its dependencies."
        ) from None


@dataclass(frozen=True)
class File:
    """A module's file: the hash of its content, and the modules that it imports."""

    sha256: str
    imports: tuple[str, ...]


class Sources:
    """The sources of norms. Each file is read once, however many trials a plan has."""

    def __init__(self) -> None:
        self._torch = torch_version()
        self._files: dict[str, File | None] = {}
        self._digests: dict[frozenset[str], str] = {}

    def parts(self, spec: RunSpec) -> dict[str, str]:
        """What the identity of a trial has besides its spec.

        Raises ModuleNotFoundError, BadSource.
        """
        modules = _modules(spec.model)
        if modules not in self._digests:
            self._digests[modules] = self._digest(modules)
        return {"norm_source": self._digests[modules], "torch": self._torch}

    def _digest(self, modules: frozenset[str]) -> str:
        text = json.dumps(self.reach(modules), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def reach(self, modules: frozenset[str]) -> dict[str, str]:
        """The modules whose files count for these, themselves included, and the hash of each.

        Raises ModuleNotFoundError, BadSource.
        """
        found: dict[str, str] = {}
        waiting = sorted(modules)
        while waiting:
            module = waiting.pop()
            if module in found:
                continue
            file = self._file(module, is_named=module in modules)
            if file is not None:
                found[module] = file.sha256
                waiting += file.imports
        return found

    def _file(self, module: str, *, is_named: bool) -> File | None:
        """None for a module that is only imported and is not there: to import it is what fails."""
        if module not in self._files:
            try:
                path = path_of(module)
            except ModuleNotFoundError:
                if is_named:
                    raise
                self._files[module] = None
            else:
                self._files[module] = File(file_sha256(path), tuple(_followed(module, path)))
        return self._files[module]


def path_of(module: str) -> Path:
    """The file of a norm's module, built in or from outside. Raises ModuleNotFoundError."""
    if not _is_built_in(module):
        return file_of(module)
    stem = FOLDER.joinpath(*module.split(".")[BUILT_IN.count(".") + 1 :])
    for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
        if path.is_file():
            return path
    raise ModuleNotFoundError(f"no module {module!r}: {stem}.py does not exist")


def _is_built_in(module: str) -> bool:
    return module == BUILT_IN or module.startswith(f"{BUILT_IN}.")


def _modules(model: ModelSpec) -> frozenset[str]:
    """The modules of the norms that a network is built with, as in trainers.build."""
    norm = NORMS[model.norm.name]
    targets = {norm.target}
    if BACKBONES[model.backbone.name].has_ends:
        at_ends = {
            "same": NORMS[norm.facts.get("same_at_ends", norm.name)].target,
            "affine": AFFINE,
            "identity": NORMS["none"].target,
        }
        targets |= {at_ends[model.embed_norm], at_ends[model.end_norm]}
    return frozenset(target.partition(":")[0] for target in targets)


def _followed(module: str, path: Path) -> Iterator[str]:
    """The modules that a file imports, anywhere in it, and whose files count."""
    if path.suffix != ".py":
        return
    inside = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(parsed(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if _counts(alias.name, module))
        elif isinstance(node, ast.ImportFrom):
            base = inside[: len(inside) - node.level + 1] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for name in (f"{source}.{alias.name}".lstrip(".") for alias in node.names):
                # `from a import b` imports the module a.b, if there is one, else a.
                if _counts(name, module):
                    yield name if _exists(name) else source


def _counts(name: str, module: str) -> bool:
    """Whether a module that `module` imports counts as its source, if it is there at all."""
    first, _, inner = name.partition(".")
    if _is_built_in(name):
        return True
    if first in OURS or first in sys.stdlib_module_names:
        return False
    if own.file_of(module) is None:
        return first == module.partition(".")[0]
    return any(map(own.file_of, (name, *([name.rpartition(".")[0]] if inner else []))))


def _exists(module: str) -> bool:
    try:
        return path_of(module).is_file()
    except ModuleNotFoundError:
        return False
