"""Reads all that a report takes from many trials, on every core of this machine."""

from __future__ import annotations

import gc
import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from mmap import ACCESS_READ, ALLOCATIONGRANULARITY, mmap
from multiprocessing.connection import Connection
from typing import BinaryIO

from orchestrator.errors import EnvironmentProblem
from orchestrator.store import children, read_store
from orchestrator.store.base import Store
from orchestrator.store.journals import Event
from orchestrator.store.points import Points
from orchestrator.store.records import Damaged
from orchestrator.store.scores import Score, evaluated_scores, trained_scores
from orchestrator.store.trials import Look, read_trial

MANY = 64  # trials; fewer are read sooner than another process has started
MOST_BLOCKS = 128  # each that is mapped takes a file descriptor
ALIGNED = 64  # bytes; numpy is slow with numbers across words


@dataclass(frozen=True)
class Reading:
    """A trial: the look at it, its points, its scores of images, and all of its damage."""

    look: Look
    points: Points
    trained: tuple[Score, ...]
    evaluated: tuple[Score, ...]
    damaged: tuple[Damaged, ...]


def read_one(store: Store, trial_id: str) -> Reading:
    events: list[Event] = []
    look, points = read_trial(store, trial_id, events=events)
    evaluated, unread = evaluated_scores(store, look.evaluations)
    damaged = (*look.damaged, *unread)
    return Reading(look, points, tuple(trained_scores(events)), tuple(evaluated), damaged)


def read_trials(store: Store, ids: Sequence[str]) -> Iterator[Reading]:
    """Begin to read these trials, which come in this order.

    Many are dealt out to processes, which open the store by its address. They start now, so a
    caller may do something else before it takes the first trial. If one of them is killed, its
    trials are read here. Taking a trial raises EnvironmentProblem if the store cannot be read.
    """
    processes = children.cores() if len(ids) >= MANY else 1
    if processes == 1:
        return (read_one(store, trial_id) for trial_id in ids)
    of_one = -(-len(ids) // MOST_BLOCKS)
    blocks = [ids[i : i + of_one] for i in range(0, len(ids), of_one)]
    readers = [_Reader(store.uri, blocks[turn::processes]) for turn in range(processes)]
    return _received_from(store, blocks, readers)


def _received_from(
    store: Store, blocks: Sequence[Sequence[str]], readers: Sequence[_Reader]
) -> Iterator[Reading]:
    try:
        for turn, ids in enumerate(blocks):
            found = readers[turn % len(readers)].next()
            yield from (read_one(store, trial) for trial in ids) if found is None else found
    finally:
        for reader in readers:
            reader.close()


class _Reader:
    """A process that reads blocks of trials into a file in memory, which has no name.

    A pipe has only the sizes of what is in the file, so that neither process waits for the other.
    """

    def __init__(self, uri: str, blocks: Sequence[Sequence[str]]) -> None:
        context = children.context()
        self._file = os.memfd_create("trials")
        self._begin = 0
        self._sizes, sender = context.Pipe(duplex=False)
        path = f"/proc/{os.getpid()}/fd/{self._file}"
        arguments = (uri, blocks, path, self._sizes, sender)
        self._process = context.Process(target=_read_into, args=arguments, daemon=True)
        self._process.start()
        sender.close()  # so that the pipe ends with the process

    def next(self) -> list[Reading] | None:
        """The next block; None if the process has died."""
        try:
            sizes: list[int] | EnvironmentProblem = self._sizes.recv()
        except (EOFError, OSError):
            return None
        if isinstance(sizes, EnvironmentProblem):
            raise sizes
        # Mapped, not read: columns are copied once, when those of all trials are joined.
        block = memoryview(
            mmap(self._file, sum(map(_whole, sizes)), offset=self._begin, access=ACCESS_READ)
        )
        ends = list(accumulate(map(_whole, sizes)))
        self._begin = _whole(self._begin + ends[-1], ALLOCATIONGRANULARITY)
        head, *buffers = (
            block[end - _whole(size) :][:size] for size, end in zip(sizes, ends, strict=True)
        )
        found: list[Reading] = pickle.loads(head, buffers=buffers)  # noqa: S301 - our own
        return found

    def close(self) -> None:
        self._sizes.close()
        self._process.kill()  # if it is still reading, even where a run blocks signals
        self._process.join()
        os.close(self._file)


def _whole(size: int, of: int = ALIGNED) -> int:
    """A size rounded up to a multiple."""
    return -(-size // of) * of


def _read_into(
    uri: str, blocks: Sequence[Sequence[str]], path: str, sizes: Connection, sender: Connection
) -> None:
    sizes.close()
    children.begin()
    gc.disable()  # millions of values are made here, and none refers to itself
    with suppress(BrokenPipeError), open(path, "wb") as file:
        try:
            store = read_store(uri)
            for ids in blocks:
                if children.is_orphaned():
                    return
                sender.send(_written([read_one(store, trial_id) for trial_id in ids], file))
        except EnvironmentProblem as error:
            sender.send(error)


def _written(block: list[Reading], file: BinaryIO) -> list[int]:
    """Write a block and the buffers of its arrays; returns their sizes."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(block, protocol=5, buffer_callback=buffers.append)
    parts = [memoryview(head), *(buffer.raw() for buffer in buffers)]
    file.seek(_whole(file.tell(), ALLOCATIONGRANULARITY))
    for part in parts:
        file.write(part)
        file.seek(_whole(part.nbytes) - part.nbytes, os.SEEK_CUR)
    file.truncate()  # as long as the last part's padding
    file.flush()
    return [part.nbytes for part in parts]
