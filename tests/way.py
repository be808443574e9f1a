"""Records the way of a plan through the modules while `run_sweep` runs for real in this process.

Two things are counted, with the floors of pyproject.toml (`tests/floors.py`):

- *The way*: which modules run_sweep's own module calls into, in order, on its own thread. A *climb*
  is a call into a module on a higher floor than the call before it. Calling a room that shares the
  module's floor counts like any other call; reading a property of a value does not.
- *Calls upward*: a function that is called, however far below, from a module on a lower floor than
  its own, on any thread. Imports cannot point upward, so these are functions that were handed down,
  generators made above and read below, and what a catalogue names.

Code outside both packages is looked through: a function of ours that Ray calls counts as called by
whichever module of ours called Ray. What runs in other processes (Ray's actors, hence the trainable
and its gang, and the ranks) is not seen.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, NamedTuple

from tests.floors import floor_of


class Call(NamedTuple):
    """A call from a function of one module into another module."""

    caller: str
    module: str
    function: str

    def __str__(self) -> str:
        return f"{self.caller} -> {self.module}:{self.function}"


@dataclass
class Way:
    """The calls out of `start`, in order, and each distinct call from any module into another."""

    start: str
    thread: threading.Thread = field(default_factory=threading.current_thread)
    calls: list[Call] = field(default_factory=list)
    everywhere: set[Call] = field(default_factory=set)

    @property
    def climbs(self) -> list[tuple[Call, Call]]:
        """Each call that leads higher than the call before it, together with that one."""
        pairs = zip(self.calls, self.calls[1:], strict=False)
        return [
            (before, call) for before, call in pairs if _floor(call.module) < _floor(before.module)
        ]

    @property
    def upward(self) -> list[Call]:
        return [
            call
            for call in self.everywhere
            if _floor(call.module) < _floor(call.caller.partition(":")[0])
        ]

    def into(self, module: str) -> list[Call]:
        """The distinct calls into a module, from anywhere."""
        return [call for call in self.everywhere if call.module == module]

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """Take a frame from sys.setprofile."""
        module = frame.f_globals.get("__name__", "")
        if (
            event != "call"
            or floor_of(module) is None
            or frame.f_code.co_name == "<module>"
            or _is_property(frame)
        ):
            return
        back = frame.f_back
        while back is not None and floor_of(back.f_globals.get("__name__", "")) is None:
            back = back.f_back
        if back is None or (caller := back.f_globals["__name__"]) == module:
            return
        call = Call(f"{caller}:{back.f_code.co_qualname}", module, frame.f_code.co_qualname)
        self.everywhere.add(call)
        if caller == self.start and threading.current_thread() is self.thread:
            self.calls.append(call)


def _floor(module: str) -> int:
    floor = floor_of(module)
    assert floor is not None
    return floor


def _is_property(frame: FrameType) -> bool:
    kind = type(frame.f_locals.get("self"))
    return isinstance(getattr(kind, frame.f_code.co_name, None), property)


@contextmanager
def recorded(start: str) -> Iterator[Way]:
    """Record the way from the module `start`, until the context is left."""
    way = Way(start)
    threading.setprofile(way.see)
    sys.setprofile(way.see)
    try:
        yield way
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
