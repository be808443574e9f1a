"""A trial's gang: a Ray actor per worker, in the trial's placement group, each hosting one rank.

A rank is a process that dies with its actor. It writes only to its local run folder, in the
formats of trainers; the actor ships what is finished to the store. A gang with one dead rank is
ended as a whole: the attempt has failed, and the next one continues from the newest checkpoint.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import socket
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from orchestrator.datasets.roots import DataRoots
from orchestrator.initial import fetch_initial
from orchestrator.plan.gpus import processor
from orchestrator.run.beginnings import beginning
from orchestrator.run.last_words import disk_left, keep_log, log_tail, read_json, stacks_of
from orchestrator.run.memory_kills import MemoryKills
from orchestrator.run.pulse import PulseTaker
from orchestrator.run.ranks import PROJECT, Rank, Ranks
from orchestrator.run.reports import Report
from orchestrator.run.shipping import Shipping
from orchestrator.store import open_store
from orchestrator.store.attempts import ALIVE_EVERY_S
from orchestrator.store.checkpoints import fetch_checkpoint
from orchestrator.store.records import Damaged
from trainers.checkpoint import Start
from trainers.data.cache import Cache, cache_root
from trainers.data.given import given_scale
from trainers.spec import RunSpec

KEEP_LOGS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Assignment:
    """The instructions that every worker of an attempt receives."""

    trial_id: str
    attempt: int
    spec: RunSpec
    store_uri: str
    work: str | None  # local run folders are made in it; None: the node's temporary folder
    # Where a node keeps data sets for all its trials, unless NORMSWEEP_CACHE names another folder;
    # None: in the user's home.
    cache: str | None
    data_roots: tuple[str, ...]
    watched: str = ""  # the metric of which every value is reported


class Worker:
    """Hosts rank `rank` of an attempt, and then of the next one that is placed alike."""

    def __init__(self, assignment: Assignment, rank: int) -> None:
        self._rank = rank
        self._job = assignment
        # While this worker prepares its first attempt, the imports of its rank are under way.
        self._ranks = Ranks(self._environment(), cuda=assignment.spec.placement.gpus > 0)
        self._begin(assignment)

    def again(self, assignment: Assignment) -> None:
        """Leave the attempt before, whatever state its rank is in, for another."""
        self._leave()
        self._begin(assignment)

    def _begin(self, assignment: Assignment) -> None:
        self._job = assignment
        self._store = open_store(assignment.store_uri)
        if assignment.work is not None:
            Path(assignment.work).mkdir(parents=True, exist_ok=True)
        prefix = f"{assignment.trial_id}-rank-{self._rank}-"
        self._out = Path(tempfile.mkdtemp(prefix=prefix, dir=assignment.work))
        self._cache_root = cache_root(Path(assignment.cache) if assignment.cache else None)
        # While this object lives, nothing that it gave out is evicted.
        self._cache: Cache | None = None
        self._data: list[str] = []
        self._process: Rank | None = None
        # Rank 0's, from the choice of a port until the rank has inherited it.
        self._listener: socket.socket | None = None
        self._pulse = PulseTaker(self._out, self._rank)
        self._kills = MemoryKills()
        self._shipping = Shipping(
            self._store,
            assignment.trial_id,
            assignment.attempt,
            self._rank,
            self._out,
            watched=assignment.watched,
        )

    def standing(self) -> tuple[str, dict[str, Any]]:
        """The id of the node that this worker is on, and what is recorded about its rank."""
        node: str = ray.get_runtime_context().get_node_id()
        return node, {
            "rank": self._rank,
            "host": platform.node(),
            "cuda_visible_devices": self._visible_devices(),
            "processor": processor(on_gpu=self._job.spec.placement.gpus > 0),
        }

    def _visible_devices(self) -> str:
        """The GPUs that Ray gave to this worker, if any, for CUDA_VISIBLE_DEVICES."""
        # Ray hides no GPU from a worker that was given none, so its rank would see them all.
        if not self._job.spec.placement.gpus:
            return ""
        return ",".join(ray.get_runtime_context().get_accelerator_ids()["GPU"])

    def rendezvous(self) -> tuple[str, int]:
        """An address of this node and a port on it. Rank 0 inherits the listening socket.

        If the rank had to bind a port that was only chosen here, another process could take it
        first.
        """
        address = ray.util.get_node_ip_address()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server(
            (address, 0), family=family, backlog=self._job.spec.placement.workers
        )
        return address, self._listener.getsockname()[1]

    def fetch_data(self) -> None:
        """Fetch those of the trial's data sets that are on S3 into this node's cache.

        The first worker that asks fetches, and others wait. Raises DatasetProblem, CacheProblem,
        EnvironmentProblem.
        """
        spec = self._job.spec
        self._cache = Cache(self._cache_root)
        names = [spec.data.train, *spec.observe.evaluate]
        roots = DataRoots(self._job.data_roots).fetch(names, self._cache, given_scale(spec.task))
        self._data = [str(root) for root in roots]

    def start(self, address: str, port: int) -> Start:
        """Start the rank from the newest intact checkpoint; returns how it begins."""
        damaged: list[Damaged] = []
        found = fetch_checkpoint(self._store, self._job.trial_id, self._out / "resume", damaged)
        spec_path = self._out / "spec.json"
        spec_path.write_text(self._job.spec.to_json())
        arguments = [str(spec_path), "--out", str(self._out), "--cache", str(self._cache_root)]
        for root in self._data:
            arguments += ["--data", root]
        if found is not None:
            arguments += ["--resume", str(found[1])]
        placement = self._job.spec.placement
        begins = beginning(found[1] if found else None, damaged, placement)
        if (initial := self._fetch_initial(begins)) is not None:
            arguments += ["--initial", str(initial)]
        own = {"RANK": str(self._rank), "WORLD_SIZE": str(placement.workers)}
        own |= {"MASTER_ADDR": address, "MASTER_PORT": str(port)}
        log = self._out / "rank.log"
        self._process = self._ranks.start(arguments, own, log, self._listener)
        if self._listener is not None:
            # The rank's copy holds the port. If ours did too, peers would wait for a dead rank 0.
            self._listener.close()
            self._listener = None
        return begins

    def _environment(self) -> dict[str, str]:
        """The environment that all ranks of this worker have in common."""
        paths = [PROJECT, os.environ.get("PYTHONPATH", "")]
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "LOCAL_RANK": "0",  # a rank sees only its own GPU
            "CUDA_VISIBLE_DEVICES": self._visible_devices(),
            "OMP_NUM_THREADS": str(self._job.spec.placement.cpus_per_worker),
        }

    def _fetch_initial(self, begins: Start) -> Path | None:
        """Fetch the weights that the rank starts from.

        None if it starts from its seed or continues from a checkpoint.
        """
        sha256 = self._job.spec.training.initial
        if sha256 is None or begins.continues:
            return None
        return fetch_initial(self._store, sha256, self._out)

    def poll(self) -> Report:
        """Ship what is due of what the rank has written, and report what is new."""
        assert self._process is not None
        pid = self._process.pid
        self._kills.look(Path(f"/proc/{pid}/cgroup"))
        # Asked before looking at its files, so that an ended rank's last words are not missed.
        exit_code = self._process.poll()
        news = self._shipping.ship(has_ended=exit_code is not None)
        report = Report(
            exit_code,
            news.checkpoints,
            news.step,
            news.values,
            self._shipping.device,
            failure=self._failure(),
            points=news.points,
        )
        if exit_code is None:
            return replace(report, pulse=self._pulse.take(pid))
        return replace(
            report,
            result=read_json(self._out / "result.json"),
            log_tail=log_tail(self._out),
            memory_kill=self._kills.evidence() if exit_code == -signal.SIGKILL else "",
            full_disk=disk_left(self._out, exit_code)
            if exit_code > 0 and report.failure is None
            else "",
        )

    def ask_to_end(self) -> None:
        """Send SIGTERM, at which the rank saves a checkpoint and ends."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def keep_log(self, *, stacks: bool) -> bool:
        """Keep the rank's output in the store, if any; with `stacks`, end it by SIGABRT first."""
        if stacks and self._process is not None and self._process.poll() is None:
            stacks_of(self._process.pid, self._process.poll)
        return keep_log(self._store, self._job.trial_id, self._job.attempt, self._rank, self._out)

    def end(self) -> None:
        """Kill the rank, and remove its run folder."""
        self._leave()
        self._ranks.end()

    def _leave(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._out, ignore_errors=True)

    def _failure(self) -> dict[str, Any] | None:
        """The failure that the rank reported, before it ends: its peers may end first."""
        return read_json(self._out / f"failure-rank-{self._rank}.json")


class Gang:
    """All workers of one attempt, on `nodes`.

    `waiting` is called every ALIVE_EVERY_S while a worker takes its time. Any method raises
    ray.exceptions.RayActorError if a worker is dead.
    """

    def __init__(self, assignment: Assignment, waiting: Callable[[], None]) -> None:
        placement = assignment.spec.placement
        group = ray.util.get_current_placement_group()
        actor = ray.remote(Worker)
        self._workers = [
            actor.options(
                num_cpus=placement.cpus_per_worker,
                num_gpus=placement.gpus,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    group, placement_group_bundle_index=rank
                ),
            ).remote(assignment, rank)
            for rank in range(placement.workers)
        ]
        self.spec = assignment.spec  # of the newest attempt
        self.has_ended = False
        self._waiting = waiting
        self._taking: list[ray.ObjectRef] = []
        self.nodes: frozenset[str] = frozenset()
        self.ranks: list[dict[str, Any]] = []  # what is recorded about each

    def take(self, assignment: Assignment, waiting: Callable[[], None]) -> None:
        """Leave the attempt before for another that is placed alike; `gather` waits for it."""
        self.spec, self._waiting = assignment.spec, waiting
        self._taking = [worker.again.remote(assignment) for worker in self._workers]

    def gather(self) -> None:
        """Wait until every worker is up, and note where.

        This, `fetch_data` and `start` are called in this order. Each raises RayTaskError, whose
        cause is what went wrong.
        """
        self._all(self._taking)
        standing = self._all(worker.standing.remote() for worker in self._workers)
        self.nodes = frozenset(node for node, _ in standing)
        self.ranks = [rank for _, rank in standing]

    def fetch_data(self) -> None:
        """Have every node fetch the trial's data sets that are elsewhere."""
        self._all(worker.fetch_data.remote() for worker in self._workers)

    def start(self) -> Start:
        """Start every rank; returns how they begin."""
        ((address, port),) = self._all([self._workers[0].rendezvous.remote()])
        starts: list[Start] = self._all(
            worker.start.remote(address, port) for worker in self._workers
        )
        return starts[0]

    def poll(self) -> list[Report]:
        """Ship finished checkpoints, and report what every rank has done since the last time."""
        return self._all(worker.poll.remote() for worker in self._workers)

    def _all(self, calls: Iterable[ray.ObjectRef]) -> list[Any]:
        calls = list(calls)
        while ray.wait(calls, num_returns=len(calls), timeout=ALIVE_EVERY_S)[1]:
            self._waiting()
        answers: list[Any] = ray.get(calls)
        return answers

    def keep_logs(self, *, stacks: bool) -> set[int]:
        """Keep what the ranks have printed. Returns those whose workers still answer."""
        kept = set()
        calls = [worker.keep_log.remote(stacks=stacks) for worker in self._workers]
        ray.wait(calls, num_returns=len(calls), timeout=KEEP_LOGS_WITHIN_S)
        for rank, call in enumerate(calls):
            with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
                if ray.get(call, timeout=0):
                    kept.add(rank)
        return kept

    def rank_of(self, error: Exception) -> int | None:
        """The rank whose worker an error of Ray is about, if it says so."""
        ids = [worker._actor_id.hex() for worker in self._workers]
        actor = getattr(error, "actor_id", None) or getattr(error, "_actor_id", None)
        return ids.index(actor) if actor in ids else None

    def ask_to_end(self) -> None:
        ray.get([worker.ask_to_end.remote() for worker in self._workers])

    def end(self) -> None:
        """End every rank and worker, whatever state they are in."""
        self.has_ended = True
        for worker in self._workers:
            # One that is dead already took its rank with it.
            with contextlib.suppress(ray.exceptions.RayError, TimeoutError):
                ray.get(worker.end.remote(), timeout=10)
            ray.kill(worker)
