"""Files that survive a power cut: written aside, fsynced and renamed; and their checksums."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def write_aside(path: Path, data: bytes) -> None:
    """Write a file so that a reader sees either nothing or all of it, even after a power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    aside.rename(path)
    fsync(path.parent)  # without it a power cut could undo the rename


def write_json(path: Path, value: Any) -> None:
    write_aside(path, json.dumps(value, indent=2, sort_keys=True).encode() + b"\n")


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fsync(path: Path) -> None:
    """Flush to disk: the content of a file, or the entries of a folder."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def fsync_tree(folder: Path) -> None:
    for path in (*folder.rglob("*"), folder):
        fsync(path)
