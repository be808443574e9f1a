"""A sweep's early stopping: what was asked for is checked, and trials are sorted into groups.

Tune's schedulers decide (orchestrator.run.stopping). Trials are compared within groups: those of
one task, backbone and size, and of one norm unless `across_norms` is set.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.plan.axes import COMPARED, Axis, axes_named
from orchestrator.plan.source import Location
from orchestrator.plan.stop import Stop
from orchestrator.plan.trial import Trial
from trainers.catalog import METRICS, PROBES
from trainers.errors import did_you_mean
from trainers.spec import RunSpec

# What a trial journals, beside scores, with the probe that measures it; "" for every trial.
PATTERNS: tuple[tuple[str, str], ...] = (
    ("features", r"feature/(mean_square|max_abs)/group_\d+"),
    ("features", r"feature/entropy(_normalised)?"),
    ("entropy", r"feature/(entropy|entropy_normalised|top_channel_share)/group_\d+"),
    ("blocks", r"block/(mean_square|max_abs)/.+"),
    ("scale", r"scale/.+"),
    ("bias_alignment", r"bias_alignment/\w+"),
    ("position_bias", r"position_bias/roughness(/.+)?"),
    ("fp16_range", r"fp16_range/largest_share"),
)
EXAMPLES = {
    "features": ("feature/mean_square/group_0", "feature/max_abs/group_0", "feature/entropy"),
    "fp16_range": ("fp16_range/largest_share",),
    "position_bias": ("position_bias/roughness",),
}
Report = Callable[[Location, str], None]


@dataclass(frozen=True)
class StopPlan:
    """A sweep's stopping: `groups` has the label of each trial's group, by trial id."""

    asked: Stop
    groups: Mapping[str, str]

    @property
    def policy(self) -> str:
        """A digest of what was asked for. Decisions are kept under it."""
        text = json.dumps(self.asked.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_stop(
    stop: Stop | None, trials: Collection[Trial], report: Report, *, has_gate: bool
) -> tuple[StopPlan | None, list[str]]:
    """The stopping of a sweep and warnings about it; None if none is asked for."""
    if stop is None or not trials:
        return None, []
    if has_gate:
        report(
            ("stop",), "a gate compares trials that are trained to their last step: leave it out"
        )
    problems = [
        *_unused(stop),
        *_metric_problems(stop, trials),
        *_number_problems(stop, [trial.spec for trial in trials]),
    ]
    for field, message in problems:
        report(("stop", field), message)
    made = StopPlan(stop, {trial.id: group_of(trial, across=stop.across_norms) for trial in trials})
    return made, [] if problems else list(_warnings(made))


def group_of(trial: Trial, *, across: bool) -> str:
    """The label of the trials that one is compared with: they differ in recipe and seed alone."""

    def counts(axis: Axis) -> bool:
        return axis.role in ("task", "size", "model") and not (across and axis.name == COMPARED)

    named = [axis for axis in axes_named(trial.axes) if counts(axis)]
    return " ".join(axis.brief(trial.axes[axis.name]) for axis in named if axis.name in trial.axes)


def rungs(stop: Stop, steps: int) -> list[float]:
    """The rungs of ASHA below the last step, at which nothing is left to save."""
    if stop.grace_steps >= steps:
        return []
    # As Tune (2.60) computes it, rounding included.
    count = int(math.log((steps - 1) / stop.grace_steps) / math.log(stop.reduction) + 1)
    return [stop.grace_steps * stop.reduction**k for k in range(count)]


def cadence(metric: str, spec: RunSpec) -> int:
    """The steps between two values of a metric."""
    observe = spec.observe
    if metric.startswith("train/"):
        return observe.log_every
    return observe.evaluate_every if metric.startswith("val/") else observe.probe_every


def known_metrics(spec: RunSpec) -> list[str]:
    """Metrics that a trial journals; of probes with a metric for every layer, examples."""
    training = spec.training
    found = ["train/loss", "train/lr", "train/images_per_s", "train/memory_gb", "train/parameters"]
    found += ["train/grad_norm"] if training.clip_grad_norm is not None else []
    found += ["train/loss_scale"] if training.precision == "fp16" else []
    found += [f"val/{name}/{metric}" for name in spec.observe.evaluate for metric in METRICS.names]
    return found + [one for probe in spec.observe.probes for one in EXAMPLES.get(probe, ())]


def is_journalled(metric: str, spec: RunSpec) -> bool:
    """Whether a trial has such a metric, as far as planning can know: probes name many by layer."""
    if metric in known_metrics(spec):
        return True
    probes = spec.observe.probes
    if any(name in probes and re.fullmatch(pattern, metric) for name, pattern in PATTERNS):
        return True
    is_other = metric.partition("/")[0] not in ("train", "val", "feature", "system")
    return is_other and any(name not in PROBES.names for name in probes)  # a user's own


def _metric_problems(stop: Stop, trials: Collection[Trial]) -> Iterator[tuple[str, str]]:
    lacking = [trial for trial in trials if not is_journalled(stop.metric, trial.spec)]
    if not lacking:
        return
    known = known_metrics(lacking[0].spec)
    meant = f"{did_you_mean(stop.metric, known)} Known: {', '.join(known)}."
    if len(lacking) == len(trials):
        yield "metric", f"no trial journals {stop.metric!r}.{meant}"
    else:
        yield (
            "metric",
            f"{len(lacking)} of {len(trials)} trials do not journal {stop.metric!r}, such as "
            f"{lacking[0].name}.{meant}",
        )


def _unused(stop: Stop) -> Iterator[tuple[str, str]]:
    of_other = {"asha": ("min_samples",), "median": ("reduction", "brackets")}[stop.scheduler]
    for field in of_other:
        if field in stop.model_fields_set:
            other = "median" if stop.scheduler == "asha" else "asha"
            yield field, f"belongs to {other}; {stop.scheduler} does not read it: leave it out"


def _number_problems(stop: Stop, specs: Sequence[RunSpec]) -> Iterator[tuple[str, str]]:
    shortest = min(specs, key=lambda spec: spec.training.steps)
    steps, every = shortest.training.steps, cadence(stop.metric, shortest)
    first = math.ceil(stop.grace_steps / every) * every
    if stop.grace_steps >= steps:
        yield (
            "grace_steps",
            f"{stop.grace_steps} is not below the {steps} steps of a trial, so nothing would ever "
            "be stopped",
        )
        return
    if first >= steps:
        yield (
            "grace_steps",
            f"{stop.metric} has a value every {every} steps, and the first one from step "
            f"{stop.grace_steps} on is that of the last step, {steps}. Record it more often "
            "(`observe`)",
        )
        return
    if stop.scheduler != "asha":
        return
    longest = max(spec.training.steps for spec in specs)
    there = rungs(stop, longest)
    if stop.brackets > len(there):
        yield (
            "brackets",
            f"there {'is' if len(there) == 1 else 'are'} only {len(there)} "
            f"rung{'s' * (len(there) > 1)} below the last step ({_listed(there)}), and a bracket "
            "leaves out one more than the one before",
        )
    at = Counter(math.ceil(rung / every) * every for rung in there)
    if shared := [step for step, number in at.items() if number > 1]:
        yield (
            "reduction",
            f"{stop.metric} has a value every {every} steps, so several rungs "
            f"({_listed(there)}) would be judged by that of step {shared[0]}: raise `grace_steps` "
            "or `reduction`, or record it more often (`observe`)",
        )


def _warnings(plan: StopPlan) -> Iterator[str]:
    needed = 1 + (plan.asked.min_samples if plan.asked.scheduler == "median" else 1)
    sizes = Counter(plan.groups.values())
    small = sum(size for size in sizes.values() if size < needed)
    if small:
        who = "No trial" if small == len(plan.groups) else f"{small} of {len(plan.groups)} trials"
        verb = "can be stopped" if small == len(plan.groups) else "cannot be stopped"
        norms = " and norm" if not plan.asked.across_norms else ""
        yield (
            f"stop: {who} {verb}: a group needs {needed} trials of one task, backbone, "
            f"size{norms}, with different recipes or seeds."
        )


def _listed(steps: Sequence[float]) -> str:
    return ", ".join(f"{step:g}" for step in steps)
