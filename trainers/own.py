"""Users' own modules: `package.module:Class` is looked for in a few folders, then among libraries.

The folders come last on Python's path, so that a `copy.py` or `trainers.py` beside a sweep shadows
nothing. So what such a module imports by name (`import sibling`) is looked for there last.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType

# In the environment, so that the processes of ranks look where planning did.
FOLDERS = "NORMSWEEP_OWN"
# The package that they are imported under, so that their names clash with no one else's.
PACKAGE = "normsweep_own"


def look_in(*folders: Path) -> None:
    """From now on look in these folders, in this order, here and in processes started from here."""
    os.environ[FOLDERS] = os.pathsep.join(
        dict.fromkeys(str(folder.absolute()) for folder in folders)
    )


def folders() -> tuple[Path, ...]:
    """The folders in which modules are looked for; by default the working folder."""
    return tuple(map(Path, filter(None, os.environ.get(FOLDERS, os.getcwd()).split(os.pathsep))))


def as_environment() -> dict[str, str]:
    """The same folders, for a process that does not inherit this one's environment."""
    return {FOLDERS: os.pathsep.join(map(str, folders()))}


def file_of(module: str) -> Path | None:
    """The source of a user's own module; None if there is none, though it may be installed."""
    for folder in folders():
        stem = folder.joinpath(*module.split("."))
        for path in (stem.with_name(f"{stem.name}.py"), stem / "__init__.py"):
            if path.is_file():
                return path
    return None


def load(module: str) -> ModuleType:
    """Import a module: the user's own if there is one, else as Python finds it.

    Raises whatever the import raises.
    """
    if file_of(module) is None:
        return importlib.import_module(module)
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = [str(folder) for folder in folders()]
    sys.path += [path for path in package.__path__ if path not in sys.path]
    return importlib.import_module(f"{PACKAGE}.{module}")
