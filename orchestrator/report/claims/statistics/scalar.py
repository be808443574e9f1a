"""`scalar`, `scalar_change`: a probe's scalar at the end of training, and its change since step 0.

One value for each seed, from the trials that were trained to their last step; Student's t over
seeds (orchestrator.statistics.growth.over_seeds), against the threshold `above` or `below`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from orchestrator.plan.expand import Trial
from orchestrator.plan.states import State
from orchestrator.report.claims.lines import Beyond, OverNorms, Scalar
from orchestrator.report.claims.material import Cell, Material
from orchestrator.report.claims.parts import Part, beyond
from orchestrator.statistics.growth import over_seeds
from orchestrator.statistics.interval import Interval, Unknown
from trainers.catalog import PROBES

Values = Mapping[tuple[str, int], float]


class Shape(Beyond, OverNorms):
    """A claim that a scalar is on one side of a threshold."""

    metric: Scalar


def parts(claim: Shape, material: Material) -> tuple[Part, ...]:
    of_trial = change if claim.statistic == "scalar_change" else at_end
    cells = [cell for norm in claim.norms for cell in material.cells_of(claim, norm)]
    values = material.values(claim.metric) if cells else {}
    return tuple(_part(claim, cell, values, of_trial, material) for cell in cells)


def _part(
    claim: Shape,
    cell: Cell,
    values: Values,
    of_trial: Callable[[Trial, Values], float | Unknown],
    material: Material,
) -> Part:
    apart = material.by_commit(cell)
    found = [(trial, scalar_of(trial, values, of_trial, material, apart)) for trial in cell.trials]
    value, is_above = claim.threshold
    interval = summary([(trial.spec.training.seed, one) for trial, one in found])
    return Part(
        material.named(cell.labels),
        f"change of {claim.metric}" if claim.statistic == "scalar_change" else claim.metric,
        beyond(interval, value, "above" if is_above else "below"),
        (cell,),
        tuple(trial.id for trial, one in found if not isinstance(one, Unknown)),
        tuple(
            f"seed {trial.spec.training.seed}: {one.reason}"
            for trial, one in found
            if isinstance(one, Unknown)
        ),
        advice(claim.metric, cell.trials),
    )


def at_end(trial: Trial, values: Values) -> float | Unknown:
    """A trial's value at its last step."""
    step = trial.spec.training.steps
    return values.get((trial.id, step), Unknown(f"no value at step {step}"))


def change(trial: Trial, values: Values) -> float | Unknown:
    """A trial's value at its last step minus that at step 0."""
    end, start = at_end(trial, values), values.get((trial.id, 0))
    if isinstance(end, Unknown):
        return end
    return Unknown("no value at step 0") if start is None else end - start


def scalar_of(
    trial: Trial,
    values: Values,
    of_trial: Callable[[Trial, Values], float | Unknown],
    material: Material,
    apart: Mapping[str, str],
) -> float | Unknown:
    """A trial's number, if it was trained to its end; a diverged one has none.

    `apart` are trials that do not count, with the reason.
    """
    if material.state(trial) != State.DONE:
        return Unknown(material.state_in_words(trial))
    if trial.id in apart:
        return Unknown(apart[trial.id])
    return of_trial(trial, values)


def summary(values: list[tuple[int, float | Unknown]]) -> Interval | Unknown:
    """The interval over the seeds that have a number. One that is not finite leaves none."""
    for seed, value in values:
        if not isinstance(value, Unknown) and not math.isfinite(value):
            return Unknown(f"seed {seed}: {value:g}, which is not a finite number")
    reasons = {value.reason for _, value in values if isinstance(value, Unknown)}
    if len(reasons) == 1 and all(isinstance(value, Unknown) for _, value in values):
        return Unknown(f"every seed: {reasons.pop()}")
    return over_seeds(values)


def advice(metric: str, trials: Iterable[Trial]) -> tuple[str, ...]:
    """What to add to a sweep that does not measure a scalar, as far as its name tells."""
    probe = probe_of(metric)
    if probe is None or all(probe in trial.spec.observe.probes for trial in trials):
        return ()
    return (f"observe.probes lacks {probe}, which measures {metric}",)


def probe_of(metric: str) -> str | None:
    """The probe of the catalogue that measures a scalar; None for what others measure."""
    first, *rest = metric.split("/")
    if first == "block":
        return "blocks"
    if first == "feature":
        by_group: Any = rest[-1:] and rest[-1].startswith("group_")
        of_features = rest[:1] in (["mean_square"], ["max_abs"]) or not by_group
        return "features" if of_features else "entropy"
    return first if first in PROBES.names else None
