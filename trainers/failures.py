"""The file `failure-rank-<r>.json` of a rank that failed: the kind of failure, why and where."""

from __future__ import annotations

import errno
import inspect
import os
import shutil
import traceback
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from trainers.catalog import NORMS, PROBES, Entry
from trainers.checkpoint import discard_unfinished
from trainers.durable import write_json
from trainers.errors import EnvironmentProblem
from trainers.spec import RunSpec

SAID_OF_MEMORY = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
)
FULL = (errno.ENOSPC, errno.EDQUOT)
# torch's writers say that a write has failed, but not why.
SAID_OF_WRITING = ("file write failed", "PytorchStreamWriter", "iostream error")
NOTHING_LEFT_BYTES = 1 << 20
# Where a smaller micro-batch would not help against a lack of memory, by (module, function); an
# empty function is any of the module's.
PLACES = {
    ("trainers.engine", "__init__"): "set-up",
    ("trainers.evaluate", ""): "evaluation",
}


def write_failure(out: Path, rank: int, kind: str, error: BaseException, **more: str) -> None:
    """Write the file; fields in `more` are added to those of every failure, or replace them."""
    fields = {
        "kind": kind,
        "message": str(error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    write_json(out / f"failure-rank-{rank}.json", {**fields, **more})


class DiskFull(EnvironmentProblem):
    """The disk of a run folder is full; the message names the folder and what is free."""

    kind = "disk full"


def disk_full(error: BaseException, out: Path) -> DiskFull | None:
    """The same error as a DiskFull if a full disk has caused it, else None."""
    free = shutil.disk_usage(out).free
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in FULL:
            return DiskFull(f"the disk is full: {cause.filename or out}, {_in_words(free)} free")
        if os.strerror(errno.ENOSPC) in str(cause):  # /dev/shm, of which torch says it in words
            return DiskFull(f"the disk is full: {str(cause).splitlines()[0]}")
        # A part of a file may have been removed since, so nothing is asked but that little is left.
        if free < NOTHING_LEFT_BYTES and any(said in str(cause) for said in SAID_OF_WRITING):
            return DiskFull(f"the disk is full: {out}, {_in_words(free)} free")
    return None


def write_disk_full(out: Path, rank: int, error: DiskFull) -> None:
    """Write the file of a failure, in the room that an unfinished checkpoint has taken."""
    discard_unfinished(out / "checkpoints", rank)
    with suppress(OSError):  # whoever started the rank sees the exit code and the disk
        write_failure(out, rank, error.kind, error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _in_words(free_bytes: int) -> str:
    return f"{free_bytes / 1e6:.1f} MB"


def write_unexpected(out: Path, rank: int, error: Exception, spec: RunSpec) -> None:
    """Write the file of an unforeseen error: of memory, in a user's norm or probe, or our bug."""
    if is_out_of_memory(error):
        write_failure(out, rank, "cuda_oom", error, during=_place_of(error))
    elif found := _of_own_class(error, spec):
        kind, of_class = found
        write_failure(out, rank, kind, error, **of_class)
    else:
        write_failure(out, rank, "bug", error)


def is_out_of_memory(error: Exception) -> bool:
    import torch  # not above, so that a bad spec is reported without it

    # Libraries that do not allocate through torch report it in an error of another class.
    return isinstance(error, torch.OutOfMemoryError) or any(
        said in str(error) for said in SAID_OF_MEMORY
    )


def _place_of(error: BaseException) -> str:
    """What the rank was doing, by the outermost frame that is in PLACES; by default training."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module, function = str(frame.f_globals.get("__name__")), frame.f_code.co_name
        if place := PLACES.get((module, function)) or PLACES.get((module, "")):
            return place
    return "training"


def _of_own_class(error: Exception, spec: RunSpec) -> tuple[str, dict[str, str]] | None:
    """The kind of a user's class that an error is in, with message and traceback; else None."""
    entries = [("norm", NORMS[spec.model.norm.name])]
    entries += [("probe", PROBES[name]) for name in spec.observe.probes]
    for kind, entry in entries:
        if entry.open_knobs and (found := _of_class(error, kind, entry)) is not None:
            return kind, found
    return None


def _of_class(error: Exception, kind: str, entry: Entry) -> dict[str, str] | None:
    """Message and traceback of an error in the class of `entry`, from its first frame on."""
    parts = vars(entry.load()).values()
    files = {part.__code__.co_filename for part in parts if inspect.isfunction(part)}
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [depth for depth, (frame, _) in enumerate(frames) if frame.f_code.co_filename in files]
    ours = [
        depth
        for depth, (frame, _) in enumerate(frames)
        if frame.f_globals.get("__name__", "").startswith("trainers.")
    ]
    # A frame of ours below the class's last one: the error is in what it called.
    if not own or max(ours, default=-1) > own[-1]:
        return None
    tail = error.__traceback__
    for _ in range(own[0]):
        tail = tail.tb_next if tail is not None else None
    frame, line = frames[own[-1]]
    where = f"{Path(frame.f_code.co_filename).name}, line {line}"
    return {
        "message": f"the {kind} {entry.name} raised {type(error).__name__}: {error} ({where})",
        "traceback": "".join(traceback.format_exception(type(error), error, tail)),
    }
