"""A user without a home: no entry in the password file, or a HOME where nothing can be written, as in many containers."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from orchestrator.errors import EnvironmentProblem


def usable_home() -> None:
    """Give this process, and what it starts, a name and a home; torch, Triton, Ray and Matplotlib keep caches there.

    A home that is made here is removed when the process ends. Raises EnvironmentProblem where none can be made.
    """
    home = Path(os.environ.get("HOME") or "/")
    if not (home.is_dir() and os.access(home, os.W_OK | os.X_OK)):
        try:
            os.environ["HOME"] = tempfile.mkdtemp(prefix="normsweep-home-")
        except OSError as error:
            raise EnvironmentProblem(
                f"HOME is {home}, where nothing can be written, nor elsewhere: {error}"
            ) from error
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("USER", str(os.getuid()))  # for getpass.getuser, which torch calls
