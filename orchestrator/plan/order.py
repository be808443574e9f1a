"""The order in which trials start on a cluster: the best that simulating a few of them finds.

The longest first is within some percent of the bound for most sweeps. Where gangs of several sizes
meet, a wide one may wait for room until the end. Then what ended last is started first, and so on,
as long as the schedule gets shorter.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from orchestrator.plan.fit import does_not_fit, launch_order
from orchestrator.plan.simulate import replayed
from orchestrator.plan.trial import Trial

MOST_TRIALS = 1_000  # of more, no single trial makes a difference
MOST_TRIES = 20  # from each of two orders
CLOSE_ENOUGH = 1.02  # times the bound

Nodes = Sequence[Mapping[str, float]]  # the resources of each: `CPU`, `GPU`


def order_on(trials: Iterable[Trial], nodes: Nodes) -> list[Trial]:
    """The trials in the order to start them on these nodes, by their predicted times."""
    longest = launch_order(trials)
    if not 1 < len(longest) <= MOST_TRIALS or any(does_not_fit(one, nodes) for one in longest):
        return longest
    seconds = {trial.id: trial.seconds for trial in longest}
    enough = CLOSE_ENOUGH * bound_s(longest, nodes)
    best, shortest = longest, math.inf
    for first in (longest, sorted(longest, key=_work_s, reverse=True)):
        order = first
        for _ in range(MOST_TRIES):
            runs = replayed(order, seconds, nodes)
            last = max(runs, key=lambda run: run.end_s)
            if last.end_s < shortest:
                best, shortest = order, last.end_s
            if shortest <= enough or order[0] is last.trial:
                break
            order = [last.trial, *(trial for trial in order if trial is not last.trial)]
    return best


def bound_s(trials: Sequence[Trial], nodes: Nodes) -> float:
    """What no schedule undercuts: the longest trial, and the work that GPUs and cores share."""
    bounds = [trial.seconds for trial in trials]
    for resource, each in (("GPU", _gpus), ("CPU", _cpus)):
        there = sum(node.get(resource, 0.0) for node in nodes)
        if there:
            bounds.append(sum(trial.seconds * each(trial) for trial in trials) / there)
    return max(bounds, default=0.0)


def _work_s(trial: Trial) -> float:
    return trial.seconds * trial.spec.placement.workers


def _gpus(trial: Trial) -> float:
    return trial.spec.placement.gpus * trial.spec.placement.workers


def _cpus(trial: Trial) -> float:
    return float(trial.spec.placement.cpus_per_worker * trial.spec.placement.workers)
