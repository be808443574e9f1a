"""The Ray that trials run on: started or joined, large enough for every gang, and seeing the store."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Trial
from orchestrator.run.options import RunOptions

SHARED_MARK = ".shared"
CONNECT_DEADLINE_S = 10.0
LONGEST_RAY_PATH = 40  # Ray's sockets lie 66 characters deeper, and a socket's path has at most 107
OBJECT_STORE_BYTES = 100 << 20


@contextmanager
def work_folder(options: RunOptions) -> Iterator[Path]:
    """Where ranks and Ray write while a run lasts: beside the store, or in the temporary folder for a remote one."""
    if "://" in options.store:
        with tempfile.TemporaryDirectory(prefix="normsweep-") as temporary:
            yield Path(temporary)
        return
    top = Path(options.store).absolute() / "work"
    top.mkdir(exist_ok=True)
    for left in top.iterdir():  # of drivers that were killed
        if left.name.isdigit() and not psutil.pid_exists(int(left.name)):
            shutil.rmtree(left, ignore_errors=True)
    folder = top / str(os.getpid())
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def ray_cluster(options: RunOptions, work: Path) -> Iterator[None]:
    """A local Ray that ends with us, or the one at --address."""
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    own_folder = work / "ray"
    if options.address is not None:
        _check_listening(options.address)
        settings["address"] = options.address
    else:
        if len(str(own_folder)) > LONGEST_RAY_PATH:
            own_folder = Path(tempfile.mkdtemp(prefix="ns-"))
        settings["address"] = "local"  # without it, Ray would join whatever cluster runs on this machine
        settings["include_dashboard"] = False
        settings["object_store_memory"] = OBJECT_STORE_BYTES
        settings["_temp_dir"] = str(own_folder)
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    settings["runtime_env"] = {"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths))}}
    try:
        ray.init(**settings)
    except (ConnectionError, RuntimeError, TimeoutError, ValueError) as error:
        raise EnvironmentProblem(f"Ray cannot be started or reached ({options.address or 'local'}): {error}") from error
    try:
        yield
    finally:
        ray.shutdown()
        shutil.rmtree(own_folder, ignore_errors=True)


def _check_listening(address: str) -> None:
    """Ray itself waits minutes for a cluster that is not there. `auto` and other names are left to it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_DEADLINE_S).close()
    except OSError as error:
        raise EnvironmentProblem(f"No Ray cluster at --address {address}: {error.strerror or error}") from error


def check_gangs(todo: list[Trial], options: RunOptions) -> None:
    """Name every gang that the cluster cannot hold. With --address, workers still joining are waited for."""
    import ray

    until = time.monotonic() + (options.join_deadline_s if options.address else 0.0)
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        too_large = [(trial, why) for trial in todo if (why := does_not_fit(trial, nodes))]
        if not too_large:
            return
        if time.monotonic() >= until:
            waited = f" after waiting {options.join_deadline_s:.0f} s for workers to join" if options.address else ""
            lines = [f"{trial.name}: {why}" for trial, why in too_large]
            lines.append(f"These gangs are larger than the machine{waited}; change `resources` in the sweep file.")
            raise EnvironmentProblem("\n".join(lines))
        time.sleep(1.0)


def does_not_fit(trial: Trial, nodes: list[Mapping[str, float]]) -> str | None:
    """Why nodes with these resources (`CPU`, `GPU`) can never hold the trial's gang; None if they can."""
    placement = trial.spec.placement
    cpus, gpus, workers = placement.cpus_per_worker, placement.gpus_per_worker, placement.workers
    room = [
        min(int(node.get("CPU", 0) // cpus), int(node.get("GPU", 0) // gpus) if gpus else workers) for node in nodes
    ]
    held = max(room, default=0) if placement.strategy == "strict_pack" else sum(room)
    if held >= workers:
        return None
    each = f"{cpus} CPU" + (f" and {gpus} GPU" if gpus else "")
    where = "one node" if placement.strategy == "strict_pack" else f"{len(nodes)} node{'s' * (len(nodes) != 1)}"
    have = "; ".join(f"{node.get('CPU', 0):g} CPU, {node.get('GPU', 0):g} GPU" for node in nodes)
    return f"{workers} workers of {each} each do not fit on {where} ({have}): {held} would"


def refuse_split_store(options: RunOptions, nodes: list[dict[str, Any]]) -> None:
    """A folder store serves workers on other hosts only where every one of them sees it. Raises UserError."""
    hosts = {node["NodeManagerHostname"] for node in nodes if node["Alive"]}
    if len(hosts) > 1 and "://" not in options.store and not Path(options.store, SHARED_MARK).exists():
        raise UserError(
            f"--store {options.store} is a folder, but the cluster has {len(hosts)} hosts. If each of them sees this folder "
            f"under the same path, say so with: touch {Path(options.store, SHARED_MARK)}"
        )
