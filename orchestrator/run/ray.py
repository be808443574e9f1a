"""The Ray cluster that trials run on: started or joined, large enough, and seeing the store."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any

from orchestrator.collecting import no_collecting
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Gpus, Plan, Trial, placed
from orchestrator.plan.fit import does_not_fit
from orchestrator.plan.gpus import counted, of_this_machine, smallest_gb
from orchestrator.plan.on_gpus import wants_cuda
from orchestrator.run.driver import lost
from orchestrator.run.folders import temporary_folder
from orchestrator.run.options import RunOptions
from orchestrator.run.ray_start import start, start_local
from trainers import own

SHARED_MARK = ".shared"
CONNECT_DEADLINE_S = 10.0
# Ray's monitor of memory counts its own processes, and kills the small ones that watch over a rank
# before the rank, which Tune does not survive. With 0 it is off: the kernel kills the largest
# process, the rank, and its trial is tried again. The template of jobs says the same.
MEMORY_MONITOR = "RAY_memory_monitor_refresh_ms"
LONGEST_RAY_PATH = 40  # Ray's sockets are 66 characters deeper; a socket's path has at most 107
OBJECT_STORE_BYTES = 100 << 20  # it holds next to nothing here
VITAL = ("raylet", "gcs_server")
WATCH_EVERY_S = 0.5
KIND = "accelerator_type:"  # Ray's resource of a node that has such an accelerator


@contextmanager
def ray_cluster(options: RunOptions, work: Path) -> Iterator[None]:
    """A local Ray cluster that ends with this process, or the one at --address."""
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    own_folder, elsewhere = work / "ray", ExitStack()
    if options.address is not None:
        _check_listening(options.address)
        settings["address"] = options.address
    else:
        if len(str(own_folder)) > LONGEST_RAY_PATH:
            own_folder = elsewhere.enter_context(temporary_folder())
        # Without this, Ray would join whatever cluster runs on this machine.
        settings["address"] = "local"
        settings["include_dashboard"] = False
        settings["object_store_memory"] = OBJECT_STORE_BYTES
        settings["_temp_dir"] = str(own_folder)
        os.environ.setdefault(MEMORY_MONITOR, "0")
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    settings["runtime_env"] = {
        "env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, paths)), **own.as_environment()}
    }
    try:
        # Ray (2.60) prints what its processes say about themselves to stdout, whatever
        # `log_to_driver` says. Ours is for results.
        ray._private.worker.print_to_stdstream = lambda data, **_: os.write(
            2, f"{data}\n".encode(errors="replace")
        )
        with chdir(work):  # Ray puts the working folder ahead of libraries on its workers' paths
            if options.address is None:
                start_local(settings)
            else:
                start(lambda: ray.init(**settings), options.address)
        with _watched():
            yield
    finally:
        # A reference to an object that another thread drops while Ray shuts down ends this process.
        # The threads of the mirror have none, but Python's collector may find some in theirs.
        with no_collecting():
            ray.shutdown()
        shutil.rmtree(own_folder, ignore_errors=True)
        elsewhere.close()


@contextmanager
def _watched() -> Iterator[None]:
    """End this process with a sentence if one of Ray's vital processes dies.

    Ray itself would end it with a dump.
    """
    import ray

    node = ray._private.worker._global_node
    vital = (
        [(kind, info.process) for kind in VITAL for info in node.all_processes.get(kind, ())]
        if node
        else []
    )
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_EVERY_S):
            for kind, process in vital:
                if (code := process.poll()) is not None:
                    how = (
                        f"was killed by {signal.Signals(-code).name}"
                        if code < 0
                        else f"ended with exit code {code}"
                    )
                    lost(
                        f"Ray's {kind} (process {process.pid}) {how}, "
                        "and with it all training on this machine"
                    )

    thread = threading.Thread(target=watch, name="ray-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def refuse_without_cuda(plan: Plan, todo: AbstractSet[str], options: RunOptions) -> None:
    """Raise EnvironmentProblem if trials say `device: cuda` and local ranks would find no CUDA.

    Local ranks have the torch of this Python. On a cluster each rank finds out for itself
    (trainers.engine.choose_device), and its trial is given up at once.
    """
    if options.address is not None or not wants_cuda(plan, "", among=todo):
        return
    import torch

    if torch.cuda.is_available():
        return
    here = of_this_machine()
    built = f"torch {torch.__version__} is built without CUDA"
    why = (
        here.why if not here.auto else "torch sees no CUDA device" if torch.version.cuda else built
    )
    raise EnvironmentProblem(str(plan.source.error(wants_cuda(plan, why, among=todo))))


def _check_listening(address: str) -> None:
    """Raise EnvironmentProblem if nothing listens there. Ray itself would wait for minutes.

    `auto` and other names are left to Ray.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_DEADLINE_S).close()
    except OSError as error:
        raise EnvironmentProblem(
            f"No Ray cluster at --address {address}: {error.strerror or error}"
        ) from error


def place(plan: Plan, todo: AbstractSet[str], options: RunOptions) -> tuple[Plan, Gpus]:
    """Place the plan on the cluster's GPUs, once every gang of the trials `todo` has room there.

    With --address, it waits for workers that are still joining. Raises EnvironmentProblem, which
    names every gang that the cluster cannot hold, and UserError if trials that share a GPU need
    more memory than it has.
    """
    import ray

    until = time.monotonic() + (options.join_deadline_s if options.address else 0.0)
    while True:
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        gpus = gpus_of(nodes, options.auto_gpus)
        there = placed(plan, gpus, among=todo)
        trials = [trial for trial in there.trials if trial.id in todo]
        too_large = [(trial, why) for trial in trials if (why := does_not_fit(trial, nodes))]
        if not too_large:
            return there, gpus
        if time.monotonic() >= until:
            waited = (
                f" after waiting {options.join_deadline_s:.0f} s for workers to join"
                if options.address
                else ""
            )
            lines = [f"{trial.name}: {why}" for trial, why in too_large]
            where = "cluster" if options.address else "machine"
            lines.append(
                f"These gangs do not fit on the {where}{waited}. "
                "Change `resources` in the sweep file."
            )
            if gpus.auto and any(_asks_by_default(plan, trial) for trial, _ in too_large):
                lines.append(
                    f"`gpus_per_worker: auto` is 1, since {gpus.why}. 0 would train on the CPU."
                )
            if not gpus.auto:
                lines += map(
                    plan.source.placed,
                    wants_cuda(plan, gpus.why, among={trial.id for trial, _ in too_large}),
                )
            raise EnvironmentProblem("\n".join(lines))
        time.sleep(1.0)


def _asks_by_default(plan: Plan, trial: Trial) -> bool:
    written = plan.trial(trial.id)
    return (
        written is not None
        and trial.spec.placement.gpus > 0
        and written.spec.placement.gpus_per_worker == "auto"
    )


def gpus_of(nodes: Sequence[Mapping[str, float]], auto: int | None = None) -> Gpus:
    """The GPUs of nodes with these resources.

    `auto`, if given, decides what `gpus_per_worker: auto` is, whatever the nodes have.
    """
    having = [node for node in nodes if node.get("GPU", 0) >= 1]
    kinds = {name.removeprefix(KIND) for node in having for name in node if name.startswith(KIND)}
    is_known = all(any(name.startswith(KIND) for name in node) for node in having)
    memory_gb = smallest_gb(kinds) if is_known else None
    if auto is not None:
        return Gpus(auto, f"--auto-gpus is {auto}", memory_gb)
    if not having:
        return Gpus(0, "no node has a GPU")
    has = (
        f"{len(having)} of {len(nodes)} nodes ha{'s' if len(having) == 1 else 've'}"
        if len(nodes) > 1
        else "the node has"
    )
    return Gpus(1, f"{has} {counted(sum(node['GPU'] for node in having), kinds)}", memory_gb)


def refuse_split_store(options: RunOptions, nodes: list[dict[str, Any]]) -> None:
    """Raise UserError for a folder store on several hosts, unless it is marked as shared."""
    hosts = {node["NodeManagerHostname"] for node in nodes if node["Alive"]}
    if (
        len(hosts) > 1
        and "://" not in options.store
        and not Path(options.store, SHARED_MARK).exists()
    ):
        raise UserError(
            f"--store {options.store} is a folder, but the cluster has {len(hosts)} hosts. "
            "If each of them sees this folder under the same path, say so with: "
            f"touch {Path(options.store, SHARED_MARK)}"
        )
