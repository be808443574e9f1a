"""`normsweep logs TRIAL`: what the store keeps of a trial's output, attempt by attempt.

These are the journal's events and metrics, how each attempt began, and why it failed. While a trial
runs on this machine, the output of its ranks is still in the store's `work` folder.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path

from orchestrator.hints import hint
from orchestrator.plan.states import State
from orchestrator.store.attempts import (
    SILENT_AFTER_S,
    failure_at,
    kept_spec,
    read_attempt,
    read_start,
)
from orchestrator.store.base import Store
from orchestrator.store.finding import name_of
from orchestrator.store.journals import JournalReader
from orchestrator.store.lines import Line, Odd
from orchestrator.store.listing import Listing, listed
from orchestrator.store.records import Damaged, Record
from orchestrator.store.trials import glance
from orchestrator.trials.tracebacks import reduced
from trainers.spec import RunSpec

LOOK_EVERY_S = 2.0
SHOWN = re.compile(r"train/loss|.*/(?:psnr|ssim)")
HOPELESS = (State.FAILED, State.INFEASIBLE, State.DAMAGED)  # until somebody does something
TAIL = 20  # lines of a rank's output
# Parts of a record that its line shows elsewhere.
ELSEWHERE = frozenset({"seq", "time", "step", "kind", "event", "values"})


def log_lines(
    store: Store,
    trial: str,
    *,
    full: bool = False,
    follow: bool = False,
    wait: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> Iterator[str]:
    """Yield the lines of a trial's log; with `follow`, those that come until nothing runs it.

    `full`: every metric, and tracebacks with all their frames. A damaged file is a line.
    """
    spec = kept_spec(store, trial)
    yield f"{name_of(spec)} ({trial})" if isinstance(spec, RunSpec) else trial
    log = _Log(store, trial, full=full)
    quiet_since = now()
    while True:
        listing = listed(store, trial)
        for line in log.new_lines(listing, may_wait=follow):
            quiet_since = now()
            yield line
        look = glance(store, listing)
        waits = look.state.is_under_way or now() - quiet_since < SILENT_AFTER_S
        if not follow or look.state.has_result or look.state in HOPELESS or not waits:
            break
        wait(LOOK_EVERY_S)
    if look.state == State.RUNNING:
        yield from _output_of_ranks(store, trial)
    yield f"{look.state}: {_what_follows(look.state)}"


class _Log:
    """The lines of a trial's log, each given once."""

    def __init__(self, store: Store, trial: str, *, full: bool) -> None:
        self._store = store
        self._trial = trial
        self._full = full
        self._reader = JournalReader(store)
        self._begun: set[int] = set()
        self._failed: set[int] = set()
        self._damaged = 0

    def new_lines(self, listing: Listing, *, may_wait: bool) -> Iterator[str]:
        """Yield the lines that have come since the last call."""
        fresh: dict[int, list[Line]] = {}
        for segment, lines in self._reader.new_lines(listing.segments, may_wait=may_wait):
            fresh.setdefault(segment.attempt, []).extend(lines)
        for attempt in listing.attempts:
            if attempt not in self._begun:
                self._begun.add(attempt)
                yield from self._beginning(attempt)
            for line in fresh.get(attempt, ()):
                yield from self._of_line(line)
            if attempt not in self._failed:
                failure = failure_at(self._store, self._trial, attempt)
                if failure is not None:
                    self._failed.add(attempt)
                    yield from self._failure(failure)
        for problem in self._reader.damaged[self._damaged :]:
            yield f"  damaged: {problem}"
        self._damaged = len(self._reader.damaged)

    def _beginning(self, attempt: int) -> Iterator[str]:
        record = read_attempt(self._store, self._trial, attempt)
        if isinstance(record, Damaged):
            yield f"attempt {attempt}\n  damaged: {record}"
            return
        when = datetime.fromtimestamp(record["started"]).isoformat(" ", "seconds")
        host = f" on {record['host']}" if record.get("host") else ""
        sweep = f", sweep {record['sweep']}" if record.get("sweep") else ""
        yield f"attempt {attempt}, {when}{host}{sweep}"
        start = read_start(self._store, self._trial, attempt)
        if isinstance(start, dict):
            note = f": {start['note']}" if start["note"] else ""
            yield f"  begins at step {start['step']}, {start['how']}{note}"

    def _of_line(self, line: Line) -> Iterator[str]:
        when = datetime.fromtimestamp(line.time).strftime("%H:%M:%S")
        if isinstance(line, Odd) and line.kind == "event":
            about = {name: v for name, v in line.record.items() if name not in ELSEWHERE}
            said = " ".join(f"{name}={_counted(value)}" for name, value in about.items())
            yield f"  {when}  step {line.step}  {line.record.get('event', '?')}  {said}".rstrip()
            if self._full:
                yield from (f"    {_of_image(i)}" for i in about.get("images", ()))
            return
        shown = _in_words(line.values, full=self._full)
        if shown:
            yield f"  {when}  step {line.step}  {shown}"

    def _failure(self, failure: Record | Damaged) -> Iterator[str]:
        if isinstance(failure, Damaged):
            yield f"  damaged: {failure}"
            return
        message = failure["message"] if self._full else reduced(failure["message"])
        final = ", the last attempt" if failure["final"] else ""
        yield f"  ended by: {failure['kind']}, newest checkpoint at step {failure['step']}{final}"
        yield from (f"    {line}" for line in message.splitlines())
        traceback = failure.get("traceback", "")
        kept = traceback if self._full else reduced(traceback)
        yield from (f"    {line}" for line in kept.splitlines())
        if failure.get("log"):
            yield f"    output: {self._store.uri}/{failure['log']}"


def _in_words(values: Mapping[str, float | str], *, full: bool) -> str:
    return "  ".join(
        f"{name.removeprefix('val/').removeprefix('train/')} {float(value):.5g}"
        for name, value in values.items()
        if full or SHOWN.fullmatch(name)
    )


def _counted(value: object) -> object:
    """A value for a line; of a list, such as the scores of images, its length."""
    return len(value) if isinstance(value, list) else value


def _of_image(scores: object) -> str:
    """The scores of one image: `bird.png  psnr 31.244  ssim 0.91`."""
    if not isinstance(scores, dict):
        return str(scores)
    numbers = {name: v for name, v in scores.items() if isinstance(v, int | float)}
    said = "  ".join(f"{name} {value:.5g}" for name, value in numbers.items())
    return f"{scores.get('name', '?')}  {said}"


def _output_of_ranks(store: Store, trial: str) -> Iterator[str]:
    """Yield the newest output of the ranks that train here. On another machine there is none."""
    if "://" in store.uri:
        return
    for path in sorted(Path(store.uri).glob(f"work/*/{trial}-rank-*/rank.log")):
        try:
            lines = path.read_text(errors="replace").splitlines()[-TAIL:]
        except OSError:  # the rank has just ended
            continue
        if lines:
            yield f"output, {path}"
            yield from (f"  {line}" for line in lines)


def _what_follows(state: State) -> str:
    if state.has_ended:
        return "no run trains it further."
    if state == State.RUNNING:
        return "more is to come (--follow)."
    if state == State.STOPPED:
        return "only a sweep without the `stop` that ended it trains it further."
    if state == State.DAMAGED:
        return f"`{hint('trials')}` names the damage."
    return f"`{hint('run FILE')}` of its sweep trains it further."
