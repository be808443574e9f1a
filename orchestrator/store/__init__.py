"""Where trials are kept: the truth about what is done."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.store.base import Store
from orchestrator.store.folder import FolderStore


def open_store(uri: str) -> Store:
    """The store at an address: a folder, made if missing. Raises UserError, EnvironmentProblem."""
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        raise UserError(f"--store {uri}: this version keeps trials in a folder; give its path")
    return FolderStore(Path(uri))
