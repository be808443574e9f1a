"""Modules of the user's own: `package.module:Class` is looked for in a few folders, and only then among what is installed.

Their folders do not stand on Python's path before the libraries: a `copy.py` or `trainers.py` beside a sweep shadows nothing.
What such a module imports by name (`import sibling`) is found there last.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

FOLDERS = (
    "NORMSWEEP_OWN"  # in the environment, so that the processes of ranks look where planning did
)
PACKAGE = "normsweep_own"  # under which they are imported, so that their names are nobody else's


def look_in(*folders: Path) -> None:
    """Look there, in this order, from now on, in this process and in those that it starts."""
    os.environ[FOLDERS] = os.pathsep.join(
        dict.fromkeys(str(folder.absolute()) for folder in folders)
    )


def folders() -> tuple[Path, ...]:
    """Where modules are looked for; the working folder unless `look_in` says otherwise."""
    return tuple(map(Path, filter(None, os.environ.get(FOLDERS, os.getcwd()).split(os.pathsep))))


def as_environment() -> dict[str, str]:
    """For processes that do not inherit this one's environment."""
    return {FOLDERS: os.pathsep.join(map(str, folders()))}


def file_of(module: str) -> Path | None:
    """The source of a module of the user's own; None where there is none, and it may be an installed one."""
    for folder in folders():
        stem = folder.joinpath(*module.split("."))
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def load(module: str) -> ModuleType:
    """The module, imported from the user's own where it is there, otherwise as Python finds it. Raises what it raises."""
    if file_of(module) is None:
        return importlib.import_module(module)
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = [str(folder) for folder in folders()]
    sys.path += [path for path in package.__path__ if path not in sys.path]
    return importlib.import_module(f"{PACKAGE}.{module}")
