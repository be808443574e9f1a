"""Make do without a home folder or an entry in the password file, as in many containers."""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import tempfile
from pathlib import Path

from orchestrator.errors import EnvironmentProblem


def usable_home() -> None:
    """Give this process, and those it starts, a user's name and a home that can be written.

    torch, Triton, Ray and Matplotlib keep caches in the home. One that is made here is removed when
    the process ends. Raises EnvironmentProblem if none can be made.
    """
    home = Path(os.environ.get("HOME") or "/")
    if not (home.is_dir() and os.access(home, os.W_OK | os.X_OK)):
        try:
            os.environ["HOME"] = tempfile.mkdtemp(prefix="normsweep-home-")
        except OSError as error:
            raise EnvironmentProblem(
                f"HOME is {home}, which cannot be written, and no other can be made: {error}"
            ) from error
        atexit.register(shutil.rmtree, os.environ["HOME"], ignore_errors=True)
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        # torch calls getpass.getuser, which fails for a user with neither a name nor an entry.
        os.environ.setdefault("USER", str(os.getuid()))
