"""A run per night of a gate, with its gates' values as metrics, so that charts show the trend.

A night's run also has the values of the nights before it, each at its number, since MLflow draws a
line within a run and not from run to run. Runs that stand in one chart lie on the same line.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestrator.plan import Plan
from orchestrator.tracking import open_tracker
from orchestrator.tracking.base import Tracker, Value

LONGEST_NAME = 250  # of a metric in MLflow
DIGEST_DIGITS = 8
NOT_IN_NAMES = re.compile(r"[^\w\-./ ]+", re.ASCII)


@dataclass(frozen=True)
class NightValues:
    """A night to be shown: its number, from 1, its date, its gates' values by name, its tags."""

    number: int
    date: str
    values: Mapping[str, float]
    tags: Mapping[str, str]

    @property
    def time_ms(self) -> int:
        """Midnight at the beginning of its date, in UTC."""
        return int(datetime.fromisoformat(self.date).replace(tzinfo=UTC).timestamp() * 1000)


def log_nights(
    uri: str,
    plan: Plan,
    nights: Sequence[NightValues],
    files: Callable[[str], Mapping[str, bytes]],
) -> list[str]:
    """Send the nights, oldest first, that the tracker does not have whole; returns its notes.

    `files` gives a date's artifacts by path. A night that was sent before, or in part, is there
    once. Raises TrackingUnavailable if the tracker does not answer; called again, this goes on.
    """
    tracker = open_tracker(uri, plan, "night")
    there = tracker.open()
    tracker.preset([], [metric_name(name) for name in nights[-1].values] if nights else [])
    for at, night in enumerate(nights):
        run = there.get(night.date)
        if run is None or run.status != "FINISHED":
            _send(tracker, nights[: at + 1], files(night.date))
    return tracker.notes


def _send(tracker: Tracker, nights: Sequence[NightValues], files: Mapping[str, bytes]) -> None:
    """Send the last one of these nights; those before it are its trend."""
    night = nights[-1]
    run = tracker.find_or_create(night.date, night.date, night.time_ms, night.tags)
    tracker.log(
        run.id,
        [
            Value(metric_name(name), one.number, value, one.time_ms)
            for one in nights
            for name, value in one.values.items()
            if name in night.values
        ],
    )
    for path, content in files.items():
        tracker.log_file(run.id, path, content)
    tracker.set_status(run.id, "FINISHED", night.time_ms)  # last: it says that all was sent


def metric_name(name: str) -> str:
    """A name that MLflow takes: ASCII letters, digits and `_-./ `, at most 250 characters.

    Where characters had to be replaced, a digest keeps two names apart.
    """
    plain = NOT_IN_NAMES.sub("_", name)
    if posixpath.normpath(plain) != plain:  # MLflow's metrics are files in some of its stores
        plain = plain.replace("/", "_")
    if plain == name and len(name) <= LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:DIGEST_DIGITS]
    return f"{plain[: LONGEST_NAME - DIGEST_DIGITS - 1]}-{digest}"
