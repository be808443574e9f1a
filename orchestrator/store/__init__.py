"""Where trials are kept: the truth about what is done."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.objects import is_s3
from orchestrator.store.base import Store
from orchestrator.store.folder import FolderStore


def open_store(uri: str) -> Store:
    """The store at an address: an S3 prefix, or a folder, made if missing. Raises UserError, EnvironmentProblem."""
    if is_s3(uri):
        from orchestrator.store.s3 import S3Store

        return S3Store(uri)
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        raise UserError(f"--store {uri}: give a folder or s3://BUCKET/PREFIX")
    return FolderStore(Path(uri))
