"""A sweep's gate, with its names resolved: what is judged, and against what."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.hints import hint
from orchestrator.plan.axes import ALL, CATALOGS, COMPARED
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.plan.limits import shown
from orchestrator.plan.match import label_of
from orchestrator.plan.source import Location, Problem, Source
from trainers.catalog import BadKnob, UnknownName
from trainers.choice import Choice
from trainers.errors import did_you_mean

BASELINE: Location = ("gate", "baseline")
# As for a file of claims: `submit` can ship it.
BASELINE_FILE = r"([A-Za-z0-9_][A-Za-z0-9_.-]*/)*[A-Za-z0-9_][A-Za-z0-9_.-]*\.(json|ya?ml)"
SCORES = ("margin", "ssim_margin")
TIMES = ("step_time", "memory")  # compared within one run on one machine
QUESTIONS = (
    *SCORES,
    *("growth", "entropy", "fp16", *TIMES, "parameters", "weights", "at_most", "at_least"),
)
Report = Callable[[Location, str], None]


@dataclass(frozen=True)
class Norms:
    """The norms of a sweep. `named` are those of the file by label, with all knobs.

    `trained` are the labels of trials, `missing` the reasons why the source of a norm cannot be
    read, by label. With `is_whole` False some trials are lacking, for a reason that is reported;
    with `is_holed` one of the file's norms is.
    """

    named: Mapping[str, Choice]
    trained: Collection[str]
    missing: Mapping[str, str]
    is_whole: bool = True
    is_holed: bool = False

    @property
    def present(self) -> tuple[str, ...]:
        """The labels that can be judged, or cannot because their source is missing."""
        return tuple(
            label
            for label in self.named
            if label in self.trained or label in self.missing or not self.is_whole
        )

    def label(self, choice: Choice) -> str | None:
        """The label of a norm, however its knobs are spelled; None if the file has no such norm.

        Raises UnknownName, BadKnob.
        """
        text = str(label_of(choice))
        wanted = self.named.get(text) or resolved(choice)
        same = [label for label, known in self.named.items() if known == wanted]
        # Of two that are the same trial, one is folded into the other.
        return next((label for label in same if label in self.present), next(iter(same), None))


def resolved(choice: Choice) -> Choice:
    """A norm with all its knobs. Raises UnknownName, BadKnob."""
    name, knobs = CATALOGS[COMPARED].resolve(choice.name, choice.knobs)
    return Choice(name=name, knobs=knobs)


@dataclass(frozen=True)
class Baselines:
    """What a gate's baseline may be besides a norm of the sweep.

    `norms_in` returns the norms that another sweep's file trains, or raises UserError. With
    `may_lack_file` a baseline file need not exist yet, since it is about to be written.
    """

    norms_in: Callable[[Path], Collection[Choice]]
    may_lack_file: bool = False


class GateReader:
    """Resolves the gate of one sweep file; problems are passed to `report`."""

    def __init__(self, source: Source, gate: Gate, baselines: Baselines, report: Report) -> None:
        self._source = source
        self._gate = gate
        self._baselines = baselines
        self._report = report

    def read(self, norms: Norms, evaluated: Mapping[str, Collection[str]]) -> GatePlan | None:
        """The gate. None if there is a problem, which is reported.

        `evaluated`: the evaluation sets of each task.
        """
        for location, message in self._questions(any(evaluated.values())):
            self._report(location, message)
        baseline = self._gate.baseline
        if _is_file(baseline):
            norm, file = "", self._file(baseline)
        else:
            norm, file = self._norm(BASELINE, baseline, norms), None
        candidates = self._candidates(norms, norm)
        if candidates is None or not (norm or file):
            return None
        if norm and norm in norms.missing:
            self._report(BASELINE, f"{norm} cannot be trained: {norms.missing[norm]}")
            return None
        judged = tuple(label for label in candidates if label not in norms.missing)
        missing = tuple(
            (label, norms.missing[label]) for label in candidates if label not in judged
        )
        if not norms.trained and missing:  # so there is nothing to plan
            for label, reason in missing:
                self._report(("axes", COMPARED), f"{label} cannot be trained: {reason}")
            return None
        is_sweep = file is not None and file.suffix != ".json"
        if is_sweep and file is not None:
            self._compare_with(file, [norms.named[label] for label in judged])
        return GatePlan(
            self._gate,
            judged,
            norm,
            None if is_sweep else file,
            file if is_sweep else None,
            missing,
        )

    def _questions(self, has_sets: bool) -> Iterator[tuple[Location, str]]:
        gate = self._gate
        asked = [name for name in QUESTIONS if getattr(gate, name) not in (None, {})]
        if not asked:
            fields = ", ".join(QUESTIONS)
            yield ("gate",), f"judges nothing: give at least one of {fields}"
        scores = [name for name in SCORES if name in asked]
        if scores and not has_sets:
            yield (
                ("gate", scores[0]),
                f"{scores[0]} is judged on evaluation sets, and `data.evaluate` is empty: "
                f"name one there, or write `{scores[0]}: null`",
            )
        if gate.baseline.name.endswith(".json"):
            for name in (name for name in TIMES if name in asked):
                yield (
                    ("gate", name),
                    "is compared within one run, which a file has no part in: "
                    "use a norm of this sweep as the baseline, or leave this out",
                )
        for name, low in gate.at_least.items():
            if name in gate.at_most and low > gate.at_most[name]:
                yield (
                    ("gate", "at_least", name),
                    f"{low:g} is above its `at_most`, {gate.at_most[name]:g}: no value passes both",
                )

    def _candidates(self, norms: Norms, baseline: str) -> list[str] | None:
        """The labels of the candidates; None if there is a problem."""
        given = self._gate.candidates
        if not given:
            found = [label for label in norms.present if label != baseline]
            if not found and norms.is_whole:
                self._report(
                    ("gate",),
                    f"no candidate is left: {baseline} is the sweep's only norm. "
                    "Add one to `axes.norm`",
                )
            return found or None
        labels: list[str] = []
        is_right = True
        for i, choice in enumerate(given):
            place: Location = ("gate", "candidates", i)
            label = self._norm(place, choice, norms)
            if label and label == baseline:
                self._report(place, f"{label} is the baseline itself: leave it out")
            elif label in labels:
                self._report(place, f"{label} is given twice")
            elif label:
                labels.append(label)
                continue
            is_right = False
        return labels if is_right else None

    def _norm(self, place: Location, choice: Choice, norms: Norms) -> str:
        """The label of a norm that the gate names; "" if there is a problem."""
        text = str(label_of(choice))
        is_baseline = place == BASELINE
        if choice.name == ALL:
            self._report(place, "`all` is every norm: name one")
            return ""
        try:
            label = norms.label(choice)
            known_elsewhere = True
        except BadKnob as error:
            self._report((*place, error.knob), str(error))
            return ""
        except UnknownName:
            label, known_elsewhere = None, False
        if label is None:
            if norms.is_holed and known_elsewhere:
                return ""  # it may be the norm that is missing
            names = tuple(norms.named)
            meant = did_you_mean(text, names)
            message = f"{text} is not a norm of this sweep.{meant} Its norms: {', '.join(names)}."
            if known_elsewhere:
                message += f" Add {text} to `axes.norm`, or name one of them."
            elif is_baseline and not meant:
                message += " A baseline may also be a file, NAME.json or NAME.yaml."
            self._report(place, message)
            return ""
        if label not in norms.present:
            self._report(place, f"{label} has no trial: `exclude` takes out all its points")
            return ""
        return label

    def _file(self, baseline: Choice) -> Path | None:
        """The baseline's file; None if there is a problem."""
        for knob in baseline.knobs:
            self._report((*BASELINE, knob), "a file has no knobs: leave this out")
        if baseline.knobs:
            return None
        given = baseline.name
        if not re.fullmatch(BASELINE_FILE, given):
            self._report(
                BASELINE,
                f"{shown(given)}: a baseline's file is NAME.json or NAME.yaml, beside this file or "
                "below: write its path from this file's folder",
            )
            return None
        path = self._source.path.parent / given
        if why := self._why_unreadable(path):
            self._report(BASELINE, f"{path}: {why}")
            return None
        return path

    def _why_unreadable(self, path: Path) -> str:
        try:
            with path.open("rb"):
                pass
            if path.samefile(self._source.path):
                return (
                    "is this file itself: name a norm of the sweep, a baseline file, or another "
                    "sweep's file"
                )
        except FileNotFoundError:
            if self._baselines.may_lack_file and path.suffix == ".json":
                return ""
            return f"no such file{self._meant(path)}"
        except IsADirectoryError:
            return "is a folder, not a file"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        return ""

    def _meant(self, path: Path) -> str:
        beside = [file.name for file in path.parent.glob(f"*{path.suffix}") if file.is_file()]
        if meant := did_you_mean(path.name, [n for n in beside if n != self._source.path.name]):
            return f".{meant}"
        if path.suffix == ".json":
            again = hint(f"regress {self._source.path} --update-baseline")
            return f". `{again}` writes it"
        return ""

    def _compare_with(self, sweep: Path, candidates: Collection[Choice]) -> None:
        """Check that another sweep can be planned and has a candidate."""
        try:
            known = self._baselines.norms_in(sweep)
        except UserError as error:
            said = "".join(f"\n  {line}" for line in str(error).splitlines())
            self._report(BASELINE, f"{sweep}: cannot be planned:{said}")
            return
        if candidates and not any(candidate in known for candidate in candidates):
            names = ", ".join(dict.fromkeys(norm.name for norm in known))
            self._report(
                BASELINE,
                f"{sweep}: trains {names}, and none of them is a candidate here: a candidate is "
                "compared with the same norm there",
            )


def _is_file(baseline: Choice) -> bool:
    """Whether the name is meant as a file's. A class has a colon, and other norms have no dot."""
    name = baseline.name
    return "/" in name or "\\" in name or ("." in name and ":" not in name)


def gate_warnings(
    gate: GatePlan | None,
    source: Source,
    missing: Mapping[str, Problem],
    seeds: Collection[int],
    evaluated: Mapping[str, Collection[str]],
) -> Iterator[Problem]:
    """What a gate will not be able to judge.

    `missing`: norms whose source cannot be read. `evaluated`: the evaluation sets of each task.
    """
    for label, problem in missing.items():
        yield replace(problem, message=f"{label} is left out: {problem.message}")
    asked = [] if gate is None else [n for n in SCORES if getattr(gate.asked, n) is not None]
    if not asked:
        return
    for task in (task for task, sets in evaluated.items() if not sets):
        yield Problem(("gate",), f"{task} has no evaluation sets: its scores are not judged")
    if len(seeds) < 2:
        given: Location = ("axes", "seed")
        yield Problem(
            given if given in source.positions else ("gate",),
            f"scores cannot be judged with one seed ({', '.join(asked)}): they stay undecided. "
            "Give `axes.seed` at least two, better five",
        )
