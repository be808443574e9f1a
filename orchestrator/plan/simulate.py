"""When and where trials would run on a cluster, without one: `normsweep plan --simulate`.

It replays what Tune and Ray do with the launch order. Tune asks for the placement groups of the
first WINDOW trials that wait. Ray gives each of them, in that order, room if there is any, so a
small trial overtakes a gang that does not fit, but only one of the window. Ray (2.60) puts a bundle
on the node on which the largest share of the resources stays free:

    pack          the first bundle there, and as many of the others as fit; then the next node
    spread        every bundle on another node, as long as there are any
    strict_pack   all of them on one node

No schedule is shorter than its bound: the longest trial, and the work of all trials divided by what
there is to do it (GPUs, or CPU cores where a cluster has no GPUs).
"""

from __future__ import annotations

import heapq
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from orchestrator.errors import UserError
from orchestrator.plan.fit import does_not_fit
from orchestrator.plan.trial import Trial

WINDOW = 8  # trials whose placement groups Ray has at a time: TUNE_MAX_PENDING_TRIALS_PG
MOST_NODES, MOST_ON_A_NODE = 10_000, 1_024
ROUNDING = 1e-9  # of shares of a GPU
SAID = "such as nodes=8,gpus=8 or nodes=1,cpus=16: nodes, and what each of them has"
UNLIMITED_CPUS = 1e9


@dataclass(frozen=True)
class Cluster:
    """Equal nodes; `cpus` is None where cores are not what limits a sweep."""

    nodes: int
    gpus: int = 0  # of a node
    cpus: int | None = None  # of a node

    def __str__(self) -> str:
        each = [f"{self.gpus} GPU{'s' * (self.gpus != 1)}"] if self.gpus else []
        each += [] if self.cpus is None else [f"{self.cpus} CPU core{'s' * (self.cpus != 1)}"]
        where = "one node" if self.nodes == 1 else f"{self.nodes} nodes"
        return f"{where} of {' and '.join(each)}"

    @property
    def each_cpus(self) -> float:
        return UNLIMITED_CPUS if self.cpus is None else float(self.cpus)

    @property
    def width(self) -> int:
        """What works at once: GPUs, or cores where there are none."""
        return self.nodes * (self.gpus or self.cpus or 0)


def read_cluster(text: str) -> Cluster:
    """The cluster in `nodes=8,gpus=8`. Raises UserError."""
    found: dict[str, int] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*(nodes|gpus|cpus)\s*=\s*(\d{1,6})\s*", part)
        if match is None or match[1] in found:
            raise UserError(
                f"--simulate {text}: {part.strip() or 'nothing'!r} is not understood. Give a "
                f"cluster {SAID}."
            )
        found[match[1]] = int(match[2])
    nodes, gpus, cpus = found.get("nodes", 1), found.get("gpus", 0), found.get("cpus")
    if not 1 <= nodes <= MOST_NODES or max(gpus, cpus or 0) > MOST_ON_A_NODE:
        raise UserError(
            f"--simulate {text}: at most {MOST_NODES:,} nodes of {MOST_ON_A_NODE:,} GPUs or cores, "
            "and at least one."
        )
    if not gpus and not cpus:
        raise UserError(f"--simulate {text}: nothing to work on. Give a cluster {SAID}.")
    return Cluster(nodes, gpus, cpus)


@dataclass(frozen=True)
class Slot:
    """A GPU of a node, or a core where trials take no GPU.

    Both are counted from 0.
    """

    node: int
    number: int


@dataclass(frozen=True)
class Run:
    """A trial's stay on the cluster, in seconds from the start.

    `slots` are those of its workers, one each.
    """

    trial: Trial
    start_s: float
    end_s: float
    slots: tuple[Slot, ...]


@dataclass(frozen=True)
class Schedule:
    """When and where every trial runs."""

    cluster: Cluster
    runs: tuple[Run, ...]  # in the order of their starts

    @property
    def makespan_s(self) -> float:
        return max((run.end_s for run in self.runs), default=0.0)

    @cached_property
    def work_s(self) -> float:
        """GPU-seconds, or core-seconds on a cluster without GPUs."""
        return sum((run.end_s - run.start_s) * _width(run.trial, self.cluster) for run in self.runs)

    @property
    def shared_s(self) -> float:
        """The work divided by what there is to do it: no schedule is shorter."""
        return self.work_s / self.cluster.width

    @property
    def longest_s(self) -> float:
        """The longest trial: no schedule is shorter."""
        return max((run.end_s - run.start_s for run in self.runs), default=0.0)

    @property
    def bound_s(self) -> float:
        return max(self.shared_s, self.longest_s)

    @property
    def utilisation(self) -> float:
        """The share of the GPUs' (or cores') time up to the end in which they are held."""
        return self.shared_s / self.makespan_s if self.makespan_s else 1.0


def _width(trial: Trial, cluster: Cluster) -> float:
    placement = trial.spec.placement
    each = placement.gpus if cluster.gpus else float(placement.cpus_per_worker)
    return each * placement.workers


@dataclass
class _Node:
    number: int
    gpus: list[float]  # the free share of each
    cpus: float  # free
    rows: list[int]  # numbers of free cores, where these are the slots

    def fits(self, worker: _Worker) -> bool:
        return worker.cpus <= self.cpus and (not worker.gpus or self._gpu(worker.gpus) is not None)

    def score(self, worker: _Worker) -> float:
        """The sum over resources of the share of what is free that would stay free."""
        free = sum(self.gpus)
        of_gpus = (free - worker.gpus) / free if worker.gpus else 0.0
        return (self.cpus - worker.cpus) / self.cpus + of_gpus  # it fits, so some is free

    def take(self, worker: _Worker) -> _Place:
        """Give a worker its room."""
        self.cpus -= worker.cpus
        gpu = self._gpu(worker.gpus) if worker.gpus else None
        if gpu is not None:
            self.gpus[gpu] -= worker.gpus
        cores = [heapq.heappop(self.rows) for _ in range(int(worker.cpus) if self.rows else 0)]
        return _Place(self, worker, gpu, tuple(cores))

    def _gpu(self, share: float) -> int | None:
        """The fullest GPU on which this share is free."""
        fitting = [i for i, free in enumerate(self.gpus) if free >= share - ROUNDING]
        return min(fitting, key=lambda i: self.gpus[i], default=None)


class _Worker(NamedTuple):
    gpus: float
    cpus: float


@dataclass(frozen=True)
class _Place:
    """A worker's room on a node."""

    node: _Node
    worker: _Worker
    gpu: int | None
    cores: tuple[int, ...]

    def give_back(self) -> None:
        self.node.cpus += self.worker.cpus
        if self.gpu is not None:
            self.node.gpus[self.gpu] += self.worker.gpus
        for core in self.cores:
            heapq.heappush(self.node.rows, core)

    @property
    def slots(self) -> tuple[Slot, ...]:
        numbers = self.cores if self.gpu is None else (self.gpu,)
        return tuple(Slot(self.node.number, number) for number in numbers)


def simulate(
    trials: Sequence[Trial], seconds: Mapping[str, float], cluster: Cluster, window: int = WINDOW
) -> Schedule:
    """Run trials, in launch order, each for the seconds given by its id.

    Raises UserError if the cluster can never hold one of them.
    """
    _refuse(trials, cluster)
    cores = cluster.cpus if cluster.cpus is not None and not cluster.gpus else 0
    node = {"CPU": cluster.each_cpus, "GPU": float(cluster.gpus)}
    return Schedule(
        cluster, tuple(replayed(trials, seconds, [node] * cluster.nodes, window, cores))
    )


def replayed(
    trials: Sequence[Trial],
    seconds: Mapping[str, float],
    resources: Sequence[Mapping[str, float]],
    window: int = WINDOW,
    cores: int = 0,
) -> list[Run]:
    """The runs of trials, each of which fits on nodes with these resources (`CPU`, `GPU`).

    `cores`: how many of a node are slots, where GPUs are not.
    """
    nodes = [
        _Node(i, [1.0] * int(node.get("GPU", 0)), node.get("CPU", 0.0), list(range(cores)))
        for i, node in enumerate(resources)
    ]
    queue, waiting = deque(trials), list[Trial]()
    ends: list[tuple[float, int]] = []  # when a run ends, and its number
    runs: list[Run] = []
    held: list[list[_Place]] = []
    now = 0.0
    while queue or waiting:
        while queue and len(waiting) < window:
            waiting.append(queue.popleft())
        left = []
        for trial in waiting:
            places = _places(trial, nodes)
            if places is None:
                left.append(trial)
                continue
            slots = tuple(slot for place in places for slot in place.slots)
            heapq.heappush(ends, (now + seconds[trial.id], len(runs)))
            runs.append(Run(trial, now, now + seconds[trial.id], slots))
            held.append(places)
        if len(left) < len(waiting):
            waiting = left  # whose place in the window the next ones take
            continue
        now = ends[0][0]
        while ends and ends[0][0] <= now:
            for place in held[heapq.heappop(ends)[1]]:
                place.give_back()
    return runs


def _places(trial: Trial, nodes: Sequence[_Node]) -> list[_Place] | None:
    """Where Ray puts a gang; None if there is no room for all of it, and then nothing is taken."""
    placement = trial.spec.placement
    worker = _Worker(placement.gpus, float(placement.cpus_per_worker))
    taken: list[_Place] = []
    place = {"pack": _pack, "spread": _spread, "strict_pack": _strict_pack}[placement.strategy]
    if place(worker, placement.workers, nodes, taken):
        return taken
    for one in reversed(taken):
        one.give_back()
    return None


def _best(worker: _Worker, nodes: Iterable[_Node]) -> _Node | None:
    """The node that stays freest, the first of several."""
    return max((n for n in nodes if n.fits(worker)), key=lambda n: n.score(worker), default=None)


def _pack(worker: _Worker, number: int, nodes: Sequence[_Node], taken: list[_Place]) -> bool:
    rest = list(nodes)
    while len(taken) < number:
        if (node := _best(worker, rest)) is None:
            return False
        while len(taken) < number and node.fits(worker):
            taken.append(node.take(worker))
        rest.remove(node)
    return True


def _spread(worker: _Worker, number: int, nodes: Sequence[_Node], taken: list[_Place]) -> bool:
    rest = list(nodes)
    while len(taken) < number:
        node = _best(worker, rest) or _best(worker, nodes)
        if node is None:
            return False
        taken.append(node.take(worker))
        rest = [one for one in rest if one is not node]
    return True


def _strict_pack(worker: _Worker, number: int, nodes: Sequence[_Node], taken: list[_Place]) -> bool:
    gang = _Worker(worker.gpus * number, worker.cpus * number)
    roomy = [node for node in nodes if _holds(node, worker, number)]
    node = max(roomy, key=lambda node: node.score(gang), default=None)
    if node is not None:
        taken += [node.take(worker) for _ in range(number)]
    return node is not None


def _holds(node: _Node, worker: _Worker, number: int) -> bool:
    if worker.cpus * number > node.cpus:
        return False
    if not worker.gpus:
        return True
    return sum(int((free + ROUNDING) / worker.gpus) for free in node.gpus) >= number


def _refuse(trials: Iterable[Trial], cluster: Cluster) -> None:
    """Raise UserError if there is a trial for which the cluster never has room."""
    nodes = [{"CPU": cluster.each_cpus, "GPU": float(cluster.gpus)}] * cluster.nodes
    seen: set[tuple[object, ...]] = set()
    for trial in trials:
        placement = trial.spec.placement
        kind = (placement.workers, placement.gpus, placement.cpus_per_worker, placement.strategy)
        if kind in seen:
            continue
        seen.add(kind)
        if does_not_fit(trial, nodes) is not None:
            each = f"{placement.gpus:g} GPU and " if placement.gpus else ""
            raise UserError(
                f"--simulate: {trial.name} would never start on {cluster}: its {placement.workers} "
                f"worker{'s' * (placement.workers != 1)} take {each}{placement.cpus_per_worker} "
                f"CPU core{'s' * (placement.cpus_per_worker != 1)} each ({placement.strategy})."
            )
