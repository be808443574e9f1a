"""The weights that each trial starts from: `training.initial`, by content, and what fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from orchestrator.plan.match import Accepted, Labels, matches
from orchestrator.plan.source import Location, Source
from orchestrator.plan.sweep import Sweep, unknown
from trainers.spec import RunSpec

RULE_FIELDS = ("match", "from")
NAMED = 3  # trials in a message


class CannotStart(Exception):
    """Weights that cannot be found or read, or do not fit; the message is a sentence."""


@dataclass(frozen=True)
class Initial:
    """Weights to start from: their name in the sweep file, and their content and its place.

    `key` is where the store holds the content, or will hold it. For now it is in the local file
    `path`, or in the store's blob `blob`.
    """

    given: str
    sha256: str
    key: str
    path: Path | None = None
    blob: str | None = None
    remark: str | None = None  # for people, if something about the weights may surprise them


class InitialFinder(Protocol):
    """Answers what planning, which reads neither files nor the store itself, asks about weights."""

    def find(self, given: str, sweep: str, folder: Path) -> Initial:
        """The weights that a sweep with its file in `folder` calls `given`. Raises CannotStart."""

    def misfits(self, initial: Initial, spec: RunSpec) -> tuple[str, ...]:
        """Sentences about what does not fit the trial, if the trial allows that.

        Raises CannotStart if it does not.
        """


@dataclass(frozen=True)
class Start:
    """One line of `training.initial`; `weights` is None if they were not found, and reported so."""

    location: Location
    accepted: Accepted
    weights: Initial | None


class Starts:
    """`training.initial` of a sweep.

    Problems are passed to `report`; `read_match` returns the labels that a match accepts.
    """

    def __init__(
        self,
        source: Source,
        sweep: Sweep,
        finder: InitialFinder | None,
        *,
        report: Callable[[Location, str], None],
        read_match: Callable[[Location, Mapping[str, Any]], Accepted],
    ) -> None:
        self._source = source
        self._sweep = sweep
        self._finder = finder
        self._report = report
        self._read_match = read_match
        self._found: dict[str, Initial | None] = {}
        self._used: set[Location] = set()
        # (whether it is refused, place, sentence) -> names of trials
        self._findings: dict[tuple[bool, Location, str], list[str]] = {}
        self._name = ""
        self._starts: list[Start] = []

    def read(self, name: str) -> None:
        """Find everything that the sweep of this name starts from."""
        self._name = name
        given, place = self._sweep.training.initial, ("training", "initial")
        if given is None:
            if ("training", "initial_strict") in self._source.positions:
                message = (
                    "says how to take `initial`, which this file lacks: add it, or leave this out"
                )
                self._report(("training", "initial_strict"), message)
        elif isinstance(given, str):
            self._starts.append(Start(place, {}, self._find(place, given)))
        else:
            for i, rule in enumerate(given):
                self._read_rule((*place, i), rule)

    def of(self, labels: Labels) -> Start | None:
        """The line that a trial starts from, the last that matches; None to start from its seed."""
        if not self._starts:
            return None
        found = [start for start in self._starts if matches(labels, start.accepted)]
        self._used |= {start.location for start in found}
        return found[-1] if found else None

    def check(self, start: Start, spec: RunSpec, trial: str) -> None:
        """Record what does not fit a trial; `finish` reports it."""
        if start.weights is None or self._finder is None:
            return
        try:
            for sentence in self._finder.misfits(start.weights, spec):
                self._findings.setdefault((False, start.location, sentence), []).append(trial)
        except CannotStart as error:
            self._findings.setdefault((True, start.location, str(error)), []).append(trial)

    def finish(self) -> tuple[str, ...]:
        """Report lines that match no trial and weights that do not fit; returns warnings."""
        for start in self._starts:
            if start.location not in self._used:
                self._report((*start.location[:-1], "match"), "matches no trial")
        warnings = []
        for start in self._starts:
            if start.weights is not None and start.weights.remark:
                warnings.append(self._warning(start.location, start.weights.remark))
        for (is_refused, location, sentence), trials in self._findings.items():
            more = f" and {len(trials) - NAMED} more" if len(trials) > NAMED else ""
            message = (
                f"{sentence} (trial{'s' * (len(trials) > 1)} {'; '.join(trials[:NAMED])}{more})"
            )
            if is_refused:
                self._report(location, message)
            else:
                warnings.append(self._warning(location, message))
        return tuple(dict.fromkeys(warnings))

    @property
    def weights(self) -> tuple[Initial, ...]:
        """All weights that were found, one for each name in the file; two may have one content."""
        return tuple(found for found in self._found.values() if found is not None)

    def _warning(self, location: Location, message: str) -> str:
        place = self._source.position(location)
        return f"{self._source.path}:{place.line}:{place.column}: training.initial: {message}"

    def _read_rule(self, location: Location, rule: Mapping[str, Any]) -> None:
        match, given = rule.get("match"), rule.get("from")
        others = [field for field in rule if field not in RULE_FIELDS]
        for field in others:
            self._report((*location, field), unknown("field", field, RULE_FIELDS))
        if others:
            return
        if not isinstance(match, dict) or not match:
            self._report((*location, "match"), "needs `match: {axis: value}`")
        elif not isinstance(given, str):
            self._report(
                (*location, "from"),
                "needs `from:`, a file or a trial's id (in quotes if it is digits only)",
            )
        else:
            place = (*location, "from")
            accepted = self._read_match((*location, "match"), match)
            self._starts.append(Start(place, accepted, self._find(place, given)))

    def _find(self, location: Location, given: str) -> Initial | None:
        if given not in self._found:
            self._found[given] = None
            if self._finder is None:
                self._report(
                    location,
                    f"{given!r}: this plan has no store and no files to find weights in",
                )
                return None
            try:
                self._found[given] = self._finder.find(given, self._name, self._source.path.parent)
            except CannotStart as error:
                self._report(location, str(error))
        return self._found[given]
