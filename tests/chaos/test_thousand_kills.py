"""SIGKILL of anything in a running sweep: nothing is trained twice, lost, doubled or left behind.

Sweeps on a local cluster of three raylets, and on a Ray of their own, are disturbed by one kill
after the other, most of them at a moment that the trials' files show: in a step, while a checkpoint
is written, while one is shipped. What each sweep leaves is compared with an undisturbed one.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run.ray import MEMORY_MONITOR
from orchestrator.run.runner import FIXED, UNLESS_ASKED
from tests import gangs, kills
from tests.gangs import CHECKPOINT, SHIPPING, STEP
from tests.intact import Reference, abandoned, shared_memory
from tests.kills import DRIVER, GCS, OFTEN, RANK, RAYLET, TRAINABLE, WORKER, Round, Tally
from tests.local_cluster import join, local_cluster
from tests.ranks import free_port
from tests.sweeps import command, environment

PR_SET_CHILD_SUBREAPER = 36
NODE = {"num_cpus": 2, "object_store_memory": 80 << 20}
SOON = {"RAY_health_check_period_ms": "1000"}  # that Ray notices a dead raylet in 5 s, not in 15
GONE_WITHIN_S = 90.0
KILLS_A_SWEEP = 40
EVERY_OWN_RAY, EVERY_SERVER = 5, 6  # sweep starts Ray by itself, has an MLflow server
SWEEP = """\
# Does it survive?
sweep: {name}
axes:
  backbone: [{{name: swinir-tiny, embed_dim: 8, window_size: 4}}]
  norm: [{norms}]
  task: [sr_x2]
  seed: [{seeds}]
data: {{evaluate: []}}
training: {{steps: {steps}, batch_size: 4, patch_size_px: 8, lr: 1.0e-3, ema_decay: 0.9}}
observe: {{log_every: 1, probe_every: 20, probe_patches: 2, checkpoint_every: {every}}}
resources:
  device: cpu
  overrides: [{{match: {{norm: layer_norm, seed: 0}}, workers: 2, placement: spread}}]
"""
TWELVE = {"norms": "layer_norm, rms_norm, i_ln, none", "seeds": "0, 1, 2", "steps": 160, "every": 8}
THREE = {"norms": "layer_norm, i_ln, none", "seeds": "0", "steps": 80, "every": 5}


class OwnRay:
    """A sweep starts Ray by itself, below its driver."""

    flags: tuple[str, ...] = ()

    def __init__(self, temporary: Path) -> None:
        self._mine = f"{temporary}/ns-"  # where such a Ray keeps its files

    def actors(self) -> dict[str, Any]:
        """Worker actors by their titles, since asking a Ray that comes and goes may hang."""
        node = next(iter(self.raylets()), "")
        mine = gangs.descendants(os.getpid())
        return {
            str(pid): {
                "Pid": pid,
                "State": "ALIVE",
                "ActorClassName": "Worker",
                "Address": {"NodeID": node, "Port": 0},
                "OwnerAddress": {"NodeID": node, "Port": None},
            }
            for pid, words in gangs.commands()
            if pid in mine and words[0].startswith("ray::Worker")
        }

    def raylets(self) -> dict[str, int]:
        return {
            word.partition("=")[2]: pid
            for pid, words in self._processes("raylet")
            for word in words
            if word.startswith("--node_id=")
        }

    def gcs(self) -> int | None:
        return next((pid for pid, _ in self._processes("gcs_server")), None)

    def _processes(self, name: str) -> Iterator[tuple[int, list[str]]]:
        mine = gangs.descendants(os.getpid())
        for pid, words in gangs.commands():
            if pid in mine and words[0].endswith(f"/{name}") and self._mine in " ".join(words):
                yield pid, words

    def mend(self) -> None: ...


class Raylets:
    """A head without CPUs and two raylets, which are replaced when they are gone."""

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self.flags = ("--address", cluster.address)
        self.mend()

    def actors(self) -> dict[str, Any]:
        found: dict[str, Any] = self._cluster.global_state.actor_table(
            None, actor_state_name="ALIVE"
        )
        return found

    def raylets(self) -> dict[str, int]:
        return {
            node.node_id: node.all_processes["raylet"][0].process.pid
            for node in self._cluster.worker_nodes
        }

    def gcs(self) -> int | None:
        return None

    def mend(self) -> None:
        for node in list(self._cluster.worker_nodes):
            if not gangs.lives(node.all_processes["raylet"][0].process.pid):
                self._cluster.remove_node(node, allow_graceful=False)
        while len(self._cluster.worker_nodes) < 2:
            join(self._cluster, **NODE)


@contextmanager
def mlflow_server(folder: Path) -> Iterator[tuple[str, Path]]:
    """An MLflow server: its address and its database."""
    port, database = free_port(), folder / "server.db"
    line = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    line += ["--backend-store-uri", f"sqlite:///{database}"]
    line += ["--artifacts-destination", str(folder / "artifacts")]
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (
        (folder / "server.log").open("wb") as log,
        subprocess.Popen(
            line, cwd=folder, env={**os.environ, **off}, stdout=log, stderr=log
        ) as server,
    ):
        try:
            until = time.monotonic() + 300
            while True:
                with suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/health").close()
                    break
                assert server.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < until, "no answer"
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", database
        finally:
            for pid in [*gangs.descendants(server.pid), server.pid]:
                gangs.kill(pid)


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The temporary folder of all processes, of which this one adopts the orphans."""
    folder = Path(tempfile.mkdtemp(prefix="k-", dir="/tmp"))  # Ray's sockets need a short path
    for name in ("TMPDIR", "RAY_TMPDIR"):
        monkeypatch.setenv(name, str(folder))
    for name, value in {**UNLESS_ASKED, **FIXED, MEMORY_MONITOR: "0", **SOON}.items():
        monkeypatch.setenv(name, value)
    before = shared_memory()
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    yield folder
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    shutil.rmtree(folder, ignore_errors=True)
    left = abandoned(shared_memory() - before)
    assert not left, f"left behind in the shared memory: {left}"


class Campaign:
    """Sweeps in folders of their own, each compared with an undisturbed one of the same trials."""

    def __init__(self, folder: Path, temporary: Path, tally: Tally, trials: dict[str, Any]) -> None:
        self._folder = folder
        self._temporary = temporary
        self._tally = tally
        self._trials = trials
        self._reference: Reference | None = None

    def disturb(
        self,
        number: int,
        place: kills.Place,
        wanted: int,
        orders: Iterator[tuple[str, str | None]],
        *,
        server: tuple[str, Path] | None = None,
    ) -> None:
        name = f"kills-{number}"
        folder = self._folder / str(number)
        folder.mkdir()
        file = folder / f"{name}.yaml"
        file.write_text(SWEEP.format(name=name, **self._trials))
        flags = [*place.flags, *(["--tracking", server[0]] if server else [])]
        database = server[1] if server else folder / "runs/mlflow.db"
        before = set(os.listdir(self._temporary))
        began = time.monotonic()
        round_ = Round(
            number,
            command("run", file, *flags),
            folder,
            environment(),
            place,
            random.Random(f"{self._tally.seed}/{number}/when"),
            server=server is not None,
        )
        round_.play(wanted, orders)
        trained_s = time.monotonic() - began
        violations = [*round_.violations, *round_.left(GONE_WITHIN_S)]
        new = set(os.listdir(self._temporary)) - before
        # torch makes a folder for compiled kernels, one for each user, and keeps it.
        new = {name for name in new if not name.startswith("torchinductor_")}
        violations += [f"left behind: {self._temporary / one}" for one in sorted(new)]
        if self._reference is None:
            self._reference = Reference(folder / "runs", database, name)
        violations += self._reference.violations(folder / "runs", database, name)
        about = f"seed {self._tally.seed}, sweep {number}, {flags}: "
        self._tally.add(round_, [about + one for one in violations])
        print(
            f"sweep {number}: {len(round_.kills)} kills in {trained_s:.0f} s, checked in "
            f"{time.monotonic() - began - trained_s:.0f} s; given up {round_.given_up}; "
            f"{' '.join(flags)}",
            *(about + one for one in violations),
            self._tally.table(),
            sep="\n",
            flush=True,
        )
        if not violations:
            shutil.rmtree(folder / "runs")


@pytest.mark.campaign
@pytest.mark.timeout(1800)  # on a busy machine
def test_one_kill_of_each_victim(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tally = Tally(None, "1")
    campaign = Campaign(tmp_path, temporary, tally, THREE)
    each = [
        (RANK, CHECKPOINT),
        (WORKER, SHIPPING),
        (TRAINABLE, STEP),
        (RAYLET, STEP),
        (DRIVER, SHIPPING),
    ]
    with local_cluster(monkeypatch, num_cpus=0) as cluster:
        place = Raylets(cluster)
        campaign.disturb(0, place, 0, chain(each))
        campaign.disturb(1, place, len(each), chain(each, repeat(each[0])))
    assert not tally.violations
    assert len(tally.kills) == len(each)
    assert {kill["victim"] for kill in tally.kills} == {victim for victim, _ in each}


@pytest.mark.campaign
@pytest.mark.timeout(24 * 3600)
def test_nothing_is_lost_whatever_is_killed_whenever(
    tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """$NORMSWEEP_KILLS (20) kills, drawn by the seed $NORMSWEEP_KILLS_SEED (1).

    Runs that keep their tallies in one folder, $NORMSWEEP_KILLS_TALLY, add up.
    """
    wanted = int(os.environ.get("NORMSWEEP_KILLS", "20"))
    kept = os.environ.get("NORMSWEEP_KILLS_TALLY")
    tally = Tally(Path(kept) if kept else None, os.environ.get("NORMSWEEP_KILLS_SEED", "1"))
    campaign = Campaign(tmp_path, temporary, tally, TWELVE)
    # Whose trainable one is, Ray's table says, which is not asked about a Ray of a sweep's own.
    alone = {victim: often for victim, often in OFTEN.items() if victim != TRAINABLE}
    in_cluster = {victim: often for victim, often in OFTEN.items() if victim != GCS}
    with local_cluster(monkeypatch, num_cpus=0) as cluster, mlflow_server(tmp_path) as server:
        raylets = Raylets(cluster)
        campaign.disturb(0, raylets, 0, iter([("", None)]))
        number = 0
        while len(tally.kills) < wanted:
            number += 1
            has_own = number % EVERY_OWN_RAY == 0
            dice = random.Random(f"{tally.seed}/{number}/whom")
            campaign.disturb(
                number,
                OwnRay(temporary) if has_own else raylets,
                min(KILLS_A_SWEEP, wanted - len(tally.kills)),
                kills.orders(dice, alone if has_own else in_cluster),
                server=server if number % EVERY_SERVER == 1 else None,
            )
    assert not tally.violations, "\n".join(tally.violations)
