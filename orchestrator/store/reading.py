"""Reads all that a report takes from many trials, on every core of this machine."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from queue import Queue
from threading import Thread

from orchestrator.errors import EnvironmentProblem
from orchestrator.store import read_store
from orchestrator.store.base import Store
from orchestrator.store.journals import Event
from orchestrator.store.points import Points
from orchestrator.store.records import Damaged
from orchestrator.store.scores import Score, evaluated_scores, trained_scores
from orchestrator.store.trials import Look, read_trial

MANY = 64  # trials; fewer are read sooner than another process has started
MOST_PROCESSES = 8
# Trials that wait to be sent, while the other process imports: a pipe holds a part of one.
AHEAD = 128


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
    processes = min(len(os.sched_getaffinity(0)), MOST_PROCESSES) if len(ids) >= MANY else 1
    if processes == 1:
        return (read_one(store, trial_id) for trial_id in ids)
    context = multiprocessing.get_context("spawn")  # the driver of a run has threads
    readers: list[Connection] = []
    started: list[BaseProcess] = []
    for turn in range(processes):
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(
            target=_send_trials, args=(store.uri, ids[turn::processes], writer), daemon=True
        )
        process.start()
        writer.close()  # so that the pipe ends with the process
        readers.append(reader)
        started.append(process)
    return _received_from(store, ids, readers, started)


def _received_from(
    store: Store, ids: Sequence[str], readers: Sequence[Connection], started: Sequence[BaseProcess]
) -> Iterator[Reading]:
    try:
        for turn, trial_id in enumerate(ids):
            yield _received(readers[turn % len(readers)]) or read_one(store, trial_id)
    finally:
        for reader in readers:
            reader.close()  # ends a process that is still sending
        for process in started:
            process.join()


def _received(reader: Connection) -> Reading | None:
    """The next trial that a process sends; None if it has died."""
    try:
        found: Reading | EnvironmentProblem = reader.recv()
    except (EOFError, OSError):
        return None
    if isinstance(found, EnvironmentProblem):
        raise found
    return found


def _send_trials(uri: str, ids: Sequence[str], writer: Connection) -> None:
    gc.disable()  # millions of values are made here, and none refers to itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that reads the pipe
    ahead: Queue[Reading | EnvironmentProblem | None] = Queue(AHEAD)
    Thread(target=_read_ahead, args=(uri, ids, ahead), daemon=True).start()
    with suppress(BrokenPipeError):  # it has ended
        for found in iter(ahead.get, None):
            writer.send(found)


def _read_ahead(
    uri: str, ids: Sequence[str], ahead: Queue[Reading | EnvironmentProblem | None]
) -> None:
    try:
        store = read_store(uri)
        for trial_id in ids:
            ahead.put(read_one(store, trial_id))
    except EnvironmentProblem as error:
        ahead.put(error)
    finally:
        ahead.put(None)
