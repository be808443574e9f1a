"""Where trials are kept: the truth about what is done."""

from __future__ import annotations

from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.objects import is_s3
from orchestrator.store.base import Store
from orchestrator.store.folder import FolderStore


def open_store(uri: str) -> Store:
    """Open the store at an address for writing: an S3 prefix, or a folder, made if missing.

    Raises UserError if the address is not valid, EnvironmentProblem if the store cannot be written.
    """
    return _store(uri, to_write=True)


def read_store(uri: str) -> Store:
    """Open the store at an address for reading; nothing is created or tried out.

    A missing folder is an empty store. Raises UserError if the address is not valid,
    EnvironmentProblem if the store cannot be read.
    """
    return _store(uri, to_write=False)


def _store(uri: str, *, to_write: bool) -> Store:
    if is_s3(uri):
        from orchestrator.store.s3 import S3Store

        return S3Store(uri, to_write=to_write)
    if uri.startswith("file://"):
        uri = uri.removeprefix("file://")
    if "://" in uri:
        raise UserError(f"--store {uri}: give a folder or s3://BUCKET/PREFIX")
    return FolderStore(Path(uri), to_write=to_write)
