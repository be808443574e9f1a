"""The version and the commit of the code that runs."""

from __future__ import annotations

import os
import subprocess
from importlib import metadata
from pathlib import Path


def in_words() -> str:
    """`normsweep 0.1.0, commit 1a2b3c4d5e6f`, without what is not known."""
    try:
        version = metadata.version("normsweep")
    except metadata.PackageNotFoundError:  # a checkout on the path that was never installed
        version = "(not installed)"
    found = commit()
    return f"normsweep {version}{f', commit {found}' if found else ''}"


def commit() -> str:
    """The commit of the checkout that runs, or of the image; empty in an installed wheel."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return os.environ.get("NORMSWEEP_COMMIT", "")
    try:
        command = [
            "git",
            "-C",
            str(root),
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
