"""Shows the answers: as text for people, in 80 columns, and as JSON for programs."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from orchestrator.plan.axes import AXES, NAME_ORDER
from orchestrator.plan.show import duration, trials_in_words
from orchestrator.report.power.ask import Answer, AtPlace, OfNorm, Power
from orchestrator.report.power.noise import ALPHA, POWER, SURE
from orchestrator.report.power.places import Cell, Cost
from orchestrator.report.power.sources import Source
from orchestrator.report.words import listed
from orchestrator.statistics.interval import Unknown

WIDTH = 80


def as_text(power: Power) -> str:
    """A paragraph for each place, then the trials that the variances come from."""
    lines = [
        f"Power: seeds that find a true difference of {power.question} from {power.baseline} with "
        f"{_percent(POWER)} power at {_percent(ALPHA)} (two-sided), and what is still to be "
        "trained for them.",
    ]
    if power.reason:
        return "\n".join(_wrapped([*lines, power.reason]))
    if power.other_seeds is not None or power.other_seeds_and_images is not None:
        lines += [
            "The norm in brackets needs the most. How much seeds vary is itself an estimate: 'to "
            f"be sure' takes the upper end of its one-sided {_percent(SURE)} interval.",
        ]
    sources = _numbered(power)
    unknown: dict[str, list[AtPlace]] = {}
    for at in power.places:
        if isinstance(at.source, Unknown):
            unknown.setdefault(at.source.reason, []).append(at)
        else:
            lines += ["", *_at_place(at, at.source, power.question.unit, sources)]
    for reason, places in unknown.items():
        lines += ["", f"Cannot be told: {reason}", *(f"  {_head(at)}" for at in places)]
    lines += ["", *_totals(power)] if sources else [""]
    if power.first:
        lines.append("Train two seeds first, for example `seed: [0, 1]`, of the smallest size:")
        lines += [f"  {_name(cell)}: {_cost(cost)}" for cell, cost in power.first]
    if sources:
        lines += ["", "The trials from which it is estimated how much differences vary:"]
        for source, number in sources.values():
            lines += _used(source, number)
    return "\n".join(_wrapped(lines))


def _at_place(
    at: AtPlace,
    source: Source,
    unit: str,
    sources: Mapping[tuple[str, ...], tuple[Source, int]],
) -> Iterator[str]:
    yield _head(at)
    assert at.other_seeds is not None
    assert at.sure is not None
    assert at.other_seeds_and_images is not None
    yield f"  other seeds, these images: {_answer(at.other_seeds)}"
    yield f"    to be sure: {_answer(at.sure)}"
    yield f"  other seeds and other images: {_answer(at.other_seeds_and_images)}"
    _, number = sources[_key(source)]
    whose = "its own trials" if not source.how else f"the nearest trials ({source.how})"
    yield f"  from {whose}: [{number}]"
    for one in at.norms:
        yield f"  {_noise(one, unit)}"
    for why in source.passed_over:
        yield f"  passed over: {why}"


def _head(at: AtPlace) -> str:
    cell = at.cell
    seeds = f"{cell.num_seeds} seed{'s' * (cell.num_seeds != 1)}"
    return f"{_name(cell)}, on {at.set}: {len(cell.norms)} norms, {seeds} in the file"


def _noise(one: OfNorm, unit: str) -> str:
    spread = f"{math.sqrt(one.noise.seeds):.3g} {unit}".rstrip()
    degrees = f"{one.noise.degrees:.3g} degree{'s' * (one.noise.degrees != 1)} of freedom"
    text = f"{one.norm}: sd {spread} between seeds, {degrees}"
    return text if one.is_own else f"{text} (the mean of other norms)"


def _answer(answer: Answer) -> str:
    if isinstance(answer.seeds, Unknown):
        return f"{answer.seeds.reason} ({answer.norm})"
    assert answer.cost is not None
    return f"{answer.seeds} seeds ({answer.norm}): {_cost(answer.cost)}"


def _cost(cost: Cost) -> str:
    if not cost.trials:
        return "nothing to train"
    parts = [trials_in_words(cost.trials), duration(cost.seconds)]
    return ", ".join([*parts, *_hours(cost)])


def _hours(cost: Cost) -> list[str]:
    hours = {"GPU-hours": cost.gpu_hours, "CPU core-hours": cost.core_hours}
    return [f"{_number(value)} {name}" for name, value in hours.items() if value]


def _percent(share: float) -> str:
    return f"{share * 100:.0f} %"


def _number(hours: float) -> str:
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.2g}"


def _totals(power: Power) -> Iterator[str]:
    kinds = (
        ("other seeds, these images", "other_seeds"),
        ("other seeds and other images", "other_seeds_and_images"),
    )
    for title, kind in kinds:
        cost = getattr(power, kind)
        answers = [getattr(at, kind) for at in power.places]
        known = sum(one is not None and isinstance(one.seeds, int) for one in answers)
        if cost is None:
            yield f"In all, {title}: no place has an answer."
        else:
            of = "" if known == len(answers) else f" at {known} of {len(answers)} places"
            yield f"In all, {title}{of}: up to {cost.seeds} seeds, {_cost(cost)}."
    yield "Time is one trial after the other, estimated as above."


def _used(source: Source, number: int) -> Iterator[str]:
    first = source.trials[0]
    sweeps = listed(dict.fromkeys(trial.sweep or "(not recorded)" for trial in source.trials))
    seeds = listed(map(str, sorted({trial.seed for trial in source.trials})))
    yield f"[{number}] {first.size}, {first.parameters:,} parameters, seeds {seeds}, sweep {sweeps}"
    for trial in source.trials:
        yield f"    {trial.id}  {trial.name}"


def _numbered(power: Power) -> dict[tuple[str, ...], tuple[Source, int]]:
    """Each source once, by its trials, with its number in the text."""
    found: dict[tuple[str, ...], tuple[Source, int]] = {}
    for at in power.places:
        if isinstance(at.source, Source):
            found.setdefault(_key(at.source), (at.source, len(found) + 1))
    return found


def _key(source: Source) -> tuple[str, ...]:
    return tuple(trial.id for trial in source.trials)


def _name(cell: Cell) -> str:
    """A place as trials are named, without norm and seed: `sr_x2 w24 d2 swinir-tiny`."""
    axes = sorted(
        (AXES[name] for name in cell.labels), key=lambda axis: NAME_ORDER.index(axis.role)
    )
    return " ".join(axis.brief(cell.labels[axis.name]) for axis in axes)


def _wrapped(lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        indent = " " * (len(line) - len(line.lstrip()))
        yield from textwrap.wrap(
            line, WIDTH, subsequent_indent=f"{indent}    " if indent else "", break_on_hyphens=False
        ) or [""]


def as_json(power: Power) -> dict[str, Any]:
    """The same for programs; a number that is not known is null, and `reason` says why."""
    return {
        "difference": power.question.difference,
        "metric": power.question.metric,
        "unit": power.question.unit,
        "power": POWER,
        "alpha": ALPHA,
        "baseline": power.baseline,
        "reason": power.reason or None,
        "places": [_place_json(at) for at in power.places],
        "train_first": [
            {"axes": dict(cell.labels), "name": _name(cell), **_cost_json(cost)}
            for cell, cost in power.first
        ],
        "total": {
            "other_seeds": power.other_seeds and _cost_json(power.other_seeds),
            "other_seeds_and_images": power.other_seeds_and_images
            and _cost_json(power.other_seeds_and_images),
        },
    }


def _place_json(at: AtPlace) -> dict[str, Any]:
    unknown = isinstance(at.source, Unknown)
    return {
        "axes": dict(at.cell.labels),
        "name": _name(at.cell),
        "set": at.set,
        "seeds_in_file": at.cell.num_seeds,
        "reason": at.source.reason if isinstance(at.source, Unknown) else None,
        "source": None if isinstance(at.source, Unknown) else _source_json(at.source),
        "norms": [_norm_json(one) for one in at.norms],
        **{
            kind: None if unknown else _answer_json(getattr(at, kind))
            for kind in ("other_seeds", "sure", "other_seeds_and_images")
        },
    }


def _source_json(source: Source) -> dict[str, Any]:
    return {
        "is_own": not source.how,
        "differs_in": source.how or None,
        "passed_over": list(source.passed_over),
        "trials": [
            {
                "id": trial.id,
                "name": trial.name,
                "norm": trial.norm,
                "seed": trial.seed,
                "size": trial.size,
                "parameters": trial.parameters,
                "sweep": trial.sweep,
            }
            for trial in source.trials
        ],
    }


def _norm_json(one: OfNorm) -> dict[str, Any]:
    noise = one.noise
    of_images = None if isinstance(noise.images, Unknown) else noise.images
    return {
        "norm": one.norm,
        "is_of_this_norm": one.is_own,
        "variance_of_seeds": noise.seeds,
        "degrees_of_freedom": noise.degrees,
        "variance_of_images": of_images,
        "images": noise.n_images,
        **{
            kind: _seeds_json(getattr(one.needed, kind))
            for kind in ("other_seeds", "sure", "other_seeds_and_images")
        },
    }


def _seeds_json(seeds: int | Unknown) -> dict[str, Any]:
    if isinstance(seeds, Unknown):
        return {"seeds": None, "reason": seeds.reason}
    return {"seeds": seeds, "reason": None}


def _answer_json(answer: Answer) -> dict[str, Any]:
    cost = _cost_json(answer.cost or Cost(0, 0, 0.0, 0.0, 0.0))
    if answer.cost is None:
        cost = dict.fromkeys(cost, None)
    return {**cost, **_seeds_json(answer.seeds), "norm": answer.norm}


def _cost_json(cost: Cost) -> dict[str, Any]:
    return {
        "seeds": cost.seeds,
        "trials": cost.trials,
        "seconds": round(cost.seconds, 1),
        "gpu_hours": round(cost.gpu_hours, 3),
        "cpu_core_hours": round(cost.core_hours, 3),
    }
