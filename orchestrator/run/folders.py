"""The folders that ranks and Ray write to while a run lasts, and that go with it."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from orchestrator.run.options import RunOptions
from orchestrator.store.processes import is_gone, this_process

HOLDER = "holder.json"  # in a temporary folder: the process whose it is
# Begins the names of this process's temporary folders, and of those of its driver's child.
OURS = f"ns-{secrets.token_hex(3)}-"


def remove_left(store: str | None) -> None:
    """Remove what is left of a driver's folders once it and every process below it have ended.

    Until then, one of Ray's may write into a folder that the driver has just removed.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{OURS}*"):
        shutil.rmtree(left, ignore_errors=True)
    if store is not None and "://" not in store:
        _clear(Path(store).absolute() / "work")


@contextmanager
def work_folder(options: RunOptions) -> Iterator[Path]:
    """Yield the folder that ranks and Ray write to while a run lasts.

    It is in the store's folder, or for a remote store in the temporary one.
    """
    if "://" in options.store:
        with temporary_folder() as temporary:
            yield temporary
        return
    top = Path(options.store).absolute() / "work"
    top.mkdir(exist_ok=True)
    _clear(top)
    folder = top / str(os.getpid())
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _clear(top)  # again, since ranks of a killed driver may have outlived it for a moment


def _clear(top: Path) -> None:
    """Remove the folders of drivers that were killed."""
    for left in top.glob("*"):  # none, where somebody has removed the store
        if left.name.isdigit() and _has_ended(int(left.name)):
            shutil.rmtree(left, ignore_errors=True)


def _has_ended(pid: int) -> bool:
    """Whether a process has ended, also one that nobody has reaped."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error as error:
        return isinstance(error, psutil.NoSuchProcess)


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder in the system's temporary one, where paths are short enough for Ray.

    What killed runs of this machine left there is removed.
    """
    folder = Path(tempfile.mkdtemp(prefix=OURS))
    try:
        (folder / HOLDER).write_text(json.dumps(this_process()))
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        for holder in folder.parent.glob(f"ns-*/{HOLDER}"):
            with suppress(OSError, ValueError):
                if is_gone(json.loads(holder.read_bytes())):
                    shutil.rmtree(holder.parent, ignore_errors=True)
