"""`normsweep plan --simulate`: a sweep on a cluster that nobody has to have, in words and as JSON.

The times are those that the store has measured, where it has any. A trial that ended there counts
with its own time; a trial like it (the same network but its norm, task, batch and gang) with the
median of their seconds a step. For any other, what planning predicts is multiplied by the median
of how that held for the trials that were measured on the same kind of device.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median
from typing import Any

from orchestrator.plan import Plan, Trial
from orchestrator.plan.cost import OVERHEAD_S, cost_of
from orchestrator.plan.order import order_on
from orchestrator.plan.show import duration, table, trials_in_words
from orchestrator.plan.simulate import Cluster, Schedule, simulate
from orchestrator.store.attempts import read_start
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.results import ended_attempt
from orchestrator.store.trials import trial_ids
from trainers.spec import RunSpec

MOST_NODES = 16  # in the table
SHORTEST_STEP_S = 1e-6  # where starting took longer than planning assumes


@dataclass(frozen=True)
class Measured:
    """An attempt that ended its trial: `seconds` for `steps`."""

    trial: str
    spec: RunSpec
    seconds: float
    steps: int

    @property
    def step_s(self) -> float:
        """Seconds a step, without the start of the gang."""
        return max((self.seconds - OVERHEAD_S) / self.steps, SHORTEST_STEP_S)


@dataclass(frozen=True)
class Times:
    """The seconds of each trial by id, and how many trials have them from where."""

    seconds: Mapping[str, float]
    own: int = 0
    alike: int = 0
    scaled: int = 0
    factor: float | None = None  # by which predictions were multiplied, at the median

    def __str__(self) -> str:
        predicted = len(self.seconds) - self.own - self.alike - self.scaled
        parts = [
            f"{number:,} {how}"
            for number, how in (
                (self.own, "measured in this store"),
                (self.alike, "as trials like them were measured"),
                (
                    self.scaled,
                    f"predicted, times {self.factor or 1:.2g} as predictions held for others",
                ),
                (predicted, "predicted, good to a factor of two (orchestrator/plan/cost.py)"),
            )
            if number
        ]
        return f"Times: {'; '.join(parts)}."


def measured_in(store: Store) -> list[Measured]:
    """The trials of a store that have ended, whatever their sweep."""
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda trial: _measured(store, trial), trial_ids(store))
        return [one for one in found if one is not None]


def _measured(store: Store, trial: str) -> Measured | None:
    if (found := ended_attempt(store, trial)) is None:
        return None
    result, attempt, spec = found
    start = read_start(store, trial, result["attempt"])
    steps = result["step"] - (start["step"] if isinstance(start, dict) else 0)
    seconds = result["ended"] - attempt["started"]
    return Measured(trial, spec, seconds, steps) if steps > 0 and seconds > 0 else None


def times_of(trials: Iterable[Trial], measured: Sequence[Measured]) -> Times:
    """How long each trial takes; predicted where nothing is measured."""
    by_id = {one.trial: one for one in measured}
    by_kind: dict[tuple[Any, ...], list[float]] = {}
    ratios: dict[bool, list[float]] = {}
    for one in measured:
        by_kind.setdefault(_kind(one.spec), []).append(one.step_s)
        steps = one.spec.training.steps
        predicted = (cost_of(one.spec).seconds - OVERHEAD_S) / steps
        ratios.setdefault(one.spec.placement.gpus > 0, []).append(one.step_s / predicted)
    seconds: dict[str, float] = {}
    counted = {"own": 0, "alike": 0, "scaled": 0}
    factors = {device: median(found) for device, found in ratios.items()}
    used: float | None = None
    for trial in trials:
        steps, on_gpu = trial.spec.training.steps, trial.spec.placement.gpus > 0
        own, alike = by_id.get(trial.id), by_kind.get(_kind(trial.spec))
        if own is not None and own.steps == steps:
            seconds[trial.id] = own.seconds
            counted["own"] += 1
        elif alike:
            seconds[trial.id] = OVERHEAD_S + steps * median(alike)
            counted["alike"] += 1
        elif on_gpu in factors:
            used = factors[on_gpu]
            seconds[trial.id] = OVERHEAD_S + (trial.seconds - OVERHEAD_S) * used
            counted["scaled"] += 1
        else:
            seconds[trial.id] = trial.seconds
    return Times(seconds, **counted, factor=used)


def _kind(spec: RunSpec) -> tuple[Any, ...]:
    """What trials must agree in to take as long as each other."""
    backbone, training, placement = spec.model.backbone, spec.training, spec.placement
    return (
        backbone.name,
        tuple(sorted(backbone.knobs.items())),
        spec.task.name,
        tuple(sorted(spec.task.knobs.items())),
        training.batch_size,
        training.patch_size_px,
        training.precision,
        placement.workers,
        placement.gpus,
        placement.cpus_per_worker,
        spec.micro_batch,
        placement.activation_checkpointing,
    )


@dataclass(frozen=True)
class Simulated:
    """The schedule of a sweep, and where its times are from."""

    plan: Plan
    schedule: Schedule
    times: Times
    is_whole: bool  # nothing is left to run, so it is the whole sweep anew


def simulated(
    plan: Plan, todo: Sequence[Trial], measured: Sequence[Measured], cluster: Cluster
) -> Simulated:
    """Run what is left (`todo`), or the whole sweep if nothing is.

    Raises UserError if the cluster could never hold one of the trials.
    """
    trials = list(todo) or list(plan.trials)
    times = times_of(trials, measured)
    node = {"CPU": cluster.each_cpus, "GPU": float(cluster.gpus)}
    order = order_on(trials, [node] * cluster.nodes)  # by what is predicted, as a run does
    schedule = simulate(order, times.seconds, cluster)
    return Simulated(plan, schedule, times, not todo)


def as_text(found: Simulated) -> str:
    schedule, cluster = found.schedule, found.schedule.cluster
    unit = "GPU" if cluster.gpus else "core"
    what = "the whole sweep, since nothing is left to run" if found.is_whole else "what is left"
    bound = schedule.bound_s or 1.0
    longest = duration(schedule.longest_s)
    rows: list[tuple[str, ...]] = [
        (
            "makespan",
            duration(schedule.makespan_s),
            f"{schedule.makespan_s / bound:.2f} times the bound",
        ),
        (
            "bound",
            duration(schedule.bound_s),
            f"{schedule.work_s / 3_600:,.1f} {unit}-hours on {cluster.width:,} {unit}s take "
            f"{duration(schedule.shared_s)}; the longest trial takes {longest}",
        ),
        ("utilisation", f"{100 * schedule.utilisation:.0f} %", f"of the {unit}s' time to the end"),
    ]
    lines = [
        f"{found.plan.sweep} on {cluster}, simulated: {what}, "
        f"{trials_in_words(len(schedule.runs))}.",
        str(found.times),
        "",
        *table(rows),
        "",
        *table([("node", "trials", "busy", "idle after"), *_nodes(schedule)]),
    ]
    if cluster.nodes > MOST_NODES:
        lines.append(f"... and {cluster.nodes - MOST_NODES:,} nodes more")
    return "\n".join(lines)


def _nodes(schedule: Schedule) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    cluster = schedule.cluster
    of_node = cluster.gpus or cluster.cpus or 1
    for node in range(min(cluster.nodes, MOST_NODES)):
        here = [run for run in schedule.runs if any(slot.node == node for slot in run.slots)]
        busy = sum(
            (run.end_s - run.start_s)
            * sum(slot.node == node for slot in run.slots)
            * (min(run.trial.spec.placement.gpus, 1.0) if cluster.gpus else 1.0)
            for run in here
        )
        whole = of_node * schedule.makespan_s or 1.0
        last = max((run.end_s for run in here), default=0.0)
        rows.append((str(node), f"{len(here):,}", f"{100 * busy / whole:.0f} %", duration(last)))
    return rows


def as_json(found: Simulated) -> dict[str, Any]:
    schedule = found.schedule
    return {
        "sweep": found.plan.sweep,
        "cluster": vars(schedule.cluster),
        "times": {
            "measured": found.times.own,
            "as_alike": found.times.alike,
            "predicted_scaled": found.times.scaled,
            "factor": found.times.factor,
        },
        "makespan_s": schedule.makespan_s,
        "bound_s": schedule.bound_s,
        "work_s": schedule.work_s,
        "longest_s": schedule.longest_s,
        "utilisation": schedule.utilisation,
        "runs": [
            {
                "id": run.trial.id,
                "name": run.trial.name,
                "start_s": run.start_s,
                "end_s": run.end_s,
                "slots": [[slot.node, slot.number] for slot in run.slots],
            }
            for run in schedule.runs
        ],
    }
