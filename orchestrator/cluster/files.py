"""The user's own files that a job needs beside its sweep: claims, a baseline, norms and probes."""

from __future__ import annotations

import json
import re
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.plan import Plan, Trial
from orchestrator.plan.draft import read_sweep
from orchestrator.report.claims.reader import own_claims
from trainers import own
from trainers.catalog import NORMS, PROBES

MOST_FILE_BYTES = 1_000_000  # a ConfigMap holds 1 MiB, its own fields included
CLASS = re.compile(r"\b([A-Za-z_][\w.]*):[A-Za-z_]")  # package.module:Class


def own_files(plan: Plan) -> dict[str, bytes]:
    """Read the files of the user's claims, baseline, norms and probes, by path below their folder.

    Raises UserError.
    """
    files = _named_by_sweep(plan)
    modules = {found for trial in plan.trials for found in _modules(trial)}
    for kind, module in sorted(modules | _claimed(plan)):
        files |= _of_module(kind, module)
    for path, content in files.items():
        try:
            content.decode()
        except UnicodeDecodeError as error:
            raise UserError(
                f"{path}: not a text file ({error}). A compiled module needs an image that has it."
            ) from None
    if (size := sum(map(len, files.values()))) > MOST_FILE_BYTES:
        raise UserError(
            f"The files of your claims, baseline, norms and probes have {size} bytes in all, and a "
            f"ConfigMap takes {MOST_FILE_BYTES}. Build an image with them (FROM the image of "
            "`make image`, COPY) and publish them as a package."
        )
    return files


def _named_by_sweep(plan: Plan) -> dict[str, bytes]:
    """The files that the sweep file names: claims, and what its gate compares with.

    Raises UserError.
    """
    files = {} if plan.claims is None else {plan.claims.given: plan.claims.text.encode()}
    if plan.gate is None:
        return files
    given = Path(plan.gate.asked.baseline.name)
    if (path := plan.gate.file or plan.gate.sweep) is not None:
        files[given.as_posix()] = _read(path)
    if plan.gate.sweep is not None:
        files |= _of_another(plan.gate.sweep, given)
    return files


def _of_another(path: Path, given: Path) -> dict[str, bytes]:
    """What another sweep's file needs to be planned: its claims, norms and probes.

    Its modules are those that are found from here. Raises UserError.
    """
    source, sweep, _ = read_sweep(path)
    files = {}
    if sweep.claims is not None:
        files[(given.parent / sweep.claims).as_posix()] = _read(path.parent / sweep.claims)
    named = [source.value.get(key) for key in ("axes", "include", "observe")]
    for module in sorted(set(CLASS.findall(json.dumps(named, default=str)))):
        if own.file_of(module) is not None:
            files |= _of_module("norm", module)
    return files


def _read(path: Path) -> bytes:
    """Raises UserError."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error


def _of_module(kind: str, module: str) -> dict[str, bytes]:
    """A module's file and the `__init__.py` of the packages that it is in. Raises UserError."""
    origin = own.file_of(module)
    if origin is None:
        raise UserError(
            f"{kind} {module}: it is part of an installed package, which the image may not "
            "have. Put its file beside the sweep; or build an image with the package (FROM the "
            f"image of `make image`, RUN pip install) and publish the {kind} under the "
            f"entry-point group normsweep.{kind}s."
        )
    here = next(folder for folder in own.folders() if origin.is_relative_to(folder))
    relative = origin.relative_to(here)
    files = {relative.as_posix(): origin.read_bytes()}
    for parent in relative.parents[:-1]:
        init = here / parent / "__init__.py"
        if init.exists():
            files[f"{parent.as_posix()}/__init__.py"] = init.read_bytes()
    return files


def _claimed(plan: Plan) -> set[tuple[str, str]]:
    """The modules of norms that only claims name, after their kind."""
    norms = (norm.name for claim in own_claims(plan) for norm in claim.norms_named)
    return {("norm", name.partition(":")[0]) for name in norms if ":" in name}


def _modules(trial: Trial) -> list[tuple[str, str]]:
    """The modules of norms and probes that are named by their class, each after its kind.

    One that a package publishes under a name is in the image, or planning there would fail.
    """
    named = [("norm", NORMS[trial.spec.model.norm.name])]
    named += [("probe", PROBES[name]) for name in trial.spec.observe.probes]
    return [(kind, entry.name.partition(":")[0]) for kind, entry in named if ":" in entry.name]
