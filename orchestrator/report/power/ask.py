"""Asks of every place of a plan how many seeds would show a difference, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.errors import UserError
from orchestrator.plan.expand import Plan
from orchestrator.report.power.noise import Needed, Noise, needed
from orchestrator.report.power.places import (
    Cell,
    Cost,
    baseline_of,
    cells_of,
    cost_of_seeds,
    other_cells,
    total,
)
from orchestrator.report.power.sources import Source, Sources
from orchestrator.report.power.stored import norm_key
from orchestrator.statistics.interval import Unknown
from orchestrator.store.base import Store
from trainers.catalog import METRICS
from trainers.errors import did_you_mean

# Far beyond what is useful: a larger number is a slip.
LARGEST = 100.0
LARGEST_OF = {"ssim": 1.0}


@dataclass(frozen=True)
class Question:
    """A true difference, in the unit of the metric."""

    difference: float
    metric: str

    @property
    def unit(self) -> str:
        """`dB`, or "" for a metric without one."""
        title: str = METRICS[self.metric].facts["title"]
        return title.partition("(")[2].rstrip(")")

    def __str__(self) -> str:
        name = METRICS[self.metric].facts["title"].partition(" (")[0]
        return f"{self.difference:g} {self.unit}".rstrip() + f" of {name}"


@dataclass(frozen=True)
class OfNorm:
    """The answer for one norm. `is_own`: the noise is that of its own difference."""

    norm: str
    noise: Noise
    is_own: bool
    needed: Needed


@dataclass(frozen=True)
class Answer:
    """The seeds for all norms of a kind of other trainings: those of the norm with the most."""

    seeds: int | Unknown
    norm: str
    cost: Cost | None


@dataclass(frozen=True)
class AtPlace:
    """The answer at one place. `source` says why there is none, if so; then `norms` is empty."""

    cell: Cell
    set: str
    source: Source | Unknown
    norms: tuple[OfNorm, ...] = ()
    other_seeds: Answer | None = None
    sure: Answer | None = None
    other_seeds_and_images: Answer | None = None


@dataclass(frozen=True)
class Power:
    """The answers at all places, and the cost of all of them for each kind of other trainings.

    `reason` says why a plan has no places. `first` is the cheapest cell of each network, task and
    recipe for which the store lacks two seeds, with the cost of two.
    """

    question: Question
    baseline: str
    places: tuple[AtPlace, ...]
    reason: str = ""
    first: tuple[tuple[Cell, Cost], ...] = ()
    other_seeds: Cost | None = None
    other_seeds_and_images: Cost | None = None


def question(difference: float, metric: str) -> Question:
    """Raises UserError for a metric that is unknown and a difference that makes no sense."""
    if metric not in METRICS.names:
        meant = did_you_mean(metric, METRICS.names)
        known = ", ".join(METRICS.names)
        raise UserError(f"--metric {metric}: no such metric.{meant} Known: {known}.")
    largest = LARGEST_OF.get(metric, LARGEST)
    if not (math.isfinite(difference) and 0 < difference <= largest):
        asked = Question(largest, metric)
        raise UserError(
            f"--power {difference:g}: give the difference to be found, above 0 "
            f"and at most {asked}, for example 0.05."
        )
    return Question(difference, metric)


def ask(plan: Plan, store: Store, asked: Question) -> Power:
    """The answer for every place of a plan, whose trials have their placement."""
    baseline = baseline_of(plan)
    if len({trial.axes["norm"] for trial in plan.trials}) < 2:
        return Power(asked, baseline, (), f"The sweep has one norm, {baseline}: no difference.")
    if not any(trial.spec.observe.evaluate for trial in plan.trials):
        why = "The sweep scores no set: name some in `data: {evaluate: [...]}`."
        return Power(asked, baseline, (), why)
    cells = cells_of(plan)
    sources = Sources(plan, store, cells)
    places = tuple(
        _at_place(cell, benchmark, cells, sources, asked)
        for cell in cells
        for benchmark in cell.sets
    )
    return Power(
        asked,
        baseline,
        places,
        first=_first(places, sources),
        other_seeds=_total([(at.cell, at.other_seeds) for at in places], sources),
        other_seeds_and_images=_total(
            [(at.cell, at.other_seeds_and_images) for at in places], sources
        ),
    )


def _at_place(
    cell: Cell, benchmark: str, cells: Sequence[Cell], sources: Sources, asked: Question
) -> AtPlace:
    if why := cell.why_none():
        return AtPlace(cell, benchmark, Unknown(why))
    source = sources.of(cell, benchmark, asked.metric)
    if isinstance(source, Unknown):
        return AtPlace(cell, benchmark, source)
    baseline = norm_key(cell.norms[cell.baseline][0].spec.model)
    others = other_cells(cell, cells)
    found = []
    for norm, key in cell.candidates.items():
        noise, is_own = source.noise_of(key, baseline)
        found.append(OfNorm(norm, noise, is_own, needed(asked.difference, noise, others)))

    def answer(kind: str) -> Answer:
        return _answer(cell, {one.norm: getattr(one.needed, kind) for one in found}, sources)

    return AtPlace(
        cell,
        benchmark,
        source,
        tuple(found),
        answer("other_seeds"),
        answer("sure"),
        answer("other_seeds_and_images"),
    )


def _answer(cell: Cell, by_norm: Mapping[str, int | Unknown], sources: Sources) -> Answer:
    """The answer for the norm that needs the most; one that no number suffices for comes first."""
    for norm, seeds in by_norm.items():
        if isinstance(seeds, Unknown):
            return Answer(seeds, norm, None)
    numbers = {norm: seeds for norm, seeds in by_norm.items() if isinstance(seeds, int)}
    norm = max(numbers, key=lambda one: numbers[one])
    cost = cost_of_seeds(cell, numbers[norm], sources.scored.evaluations)
    return Answer(numbers[norm], norm, cost)


def _total(answers: Sequence[tuple[Cell, Answer | None]], sources: Sources) -> Cost | None:
    """The cost of the cells that have an answer. Their sets share the trials."""
    most: dict[str, tuple[Cell, int]] = {}
    for cell, answer in answers:
        if answer is not None and isinstance(answer.seeds, int):
            key = str(cell.labels)
            _, seeds = most.get(key, (cell, 0))
            most[key] = cell, max(seeds, answer.seeds)
    costs = [cost_of_seeds(*each, sources.scored.evaluations) for each in most.values()]
    return total(costs) if costs else None


def _first(places: Sequence[AtPlace], sources: Sources) -> tuple[tuple[Cell, Cost], ...]:
    cheapest: dict[str, Cell] = {}
    for at in places:
        if isinstance(at.source, Unknown) and not at.cell.why_none():
            best = cheapest.setdefault(at.cell.apart_from_size, at.cell)
            if _seconds(at.cell) < _seconds(best):
                cheapest[at.cell.apart_from_size] = at.cell
    costs = [
        (cell, cost_of_seeds(cell, 2, sources.scored.evaluations)) for cell in cheapest.values()
    ]
    return tuple((cell, cost) for cell, cost in costs if cost.trials)


def _seconds(cell: Cell) -> float:
    return sum(its[0].seconds for its in cell.norms.values())
