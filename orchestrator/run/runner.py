"""Runs a sweep: what the store does not hold yet, by Ray Tune, the same on a laptop and on a cluster."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import EnvironmentProblem, NormsweepError, UserError
from orchestrator.plan import Plan, Trial
from orchestrator.plan.show import counts, duration
from orchestrator.run.progress import Progress
from orchestrator.store import open_store
from orchestrator.store.base import Store
from orchestrator.store.trials import ended, give_up, read_failure, trial_states
from orchestrator.tracking.mlflow import Mirror, TrackingUnavailable

MIRROR_EVERY_S = 2.0
CONNECT_DEADLINE_S = 10.0
SHARED_MARK = ".shared"
LONGEST_RAY_PATH = 40  # Ray's sockets lie 66 characters deeper, and a socket's path has at most 107
OBJECT_STORE_BYTES = 100 << 20


@dataclass(frozen=True)
class RunOptions:
    """The flags of `normsweep run`."""

    store: str
    tracking: str
    address: str | None = None
    max_concurrent: int | None = None
    join_deadline_s: float = 300.0
    quiet: bool = False
    json_lines: bool = False
    data_roots: tuple[Path, ...] = ()


def run_sweep(plan: Plan, options: RunOptions) -> int:
    """Train what is missing, mirror it, write the report. Returns the exit code.

    Raises EnvironmentProblem where the machine cannot hold a gang or a service fails.
    """
    store = open_store(options.store)
    done = ended(store, plan.trials)
    todo = [trial for trial in plan.trials if trial.id not in done]
    states = trial_states(options.store, plan)
    with Progress(plan, states, quiet=options.quiet, json_lines=options.json_lines) as progress:
        if done:
            progress.say(f"{len(done)} of {len(plan.trials)} trials are done already.")
        with _mirroring(plan, store, options, frozenset(done), progress) as mirror:
            interrupted = bool(todo) and _train(plan, todo, store, options, progress)
    return _finish(plan, store, options, progress, mirror, interrupted=interrupted, trained=len(todo))


def _finish(
    plan: Plan,
    store: Store,
    options: RunOptions,
    progress: Progress,
    mirror: Mirror | None,
    *,
    interrupted: bool,
    trained: int,
) -> int:
    """Report, summary, exit code."""
    states = trial_states(options.store, plan)
    summary: dict[str, Any] = {**counts(plan, states), "trained": trained, "report": None}
    failures = {trial.name: read_failure(store, trial.id) for trial in plan.trials if states[trial.id] == "failed"}
    for name, failure in failures.items():
        if failure is not None:
            progress.warn(f"failed: {name}: {failure['kind']}: {failure['message']}")
    if interrupted:
        progress.warn(f"Interrupted. What is done is kept; the same command continues: normsweep run {plan.path}")
    else:
        from orchestrator.report.page import write_report

        page = write_report(plan, options.store, None, None)
        summary["report"] = str(page)
        if mirror is not None:
            with suppress(TrackingUnavailable):
                mirror.log_report(page.parent)
        progress.say(
            f"{plan.sweep}: {summary['done']} done, {summary['diverged']} diverged, {summary['failed']} failed, "
            f"{summary['pending']} pending.\nReport: {page}\nRuns:   normsweep ui --tracking {options.tracking}"
        )
    progress.line({"event": "summary", **summary})
    if interrupted:
        return 130
    return 0 if summary["done"] + summary["diverged"] == summary["total"] and not summary["diverged"] else 4


@contextmanager
def _mirroring(
    plan: Plan, store: Store, options: RunOptions, reused: frozenset[str], progress: Progress
) -> Iterator[Mirror | None]:
    """MLflow follows the store in a thread of its own, so that a slow server holds no trial up."""
    try:
        mirror = Mirror(options.tracking, plan)
        mirror.sync(store, plan.trials, reused=reused)
    except TrackingUnavailable as error:
        progress.warn(str(error))
        yield None
        return
    over = threading.Event()
    told = False

    def follow() -> None:
        nonlocal told
        while not over.wait(MIRROR_EVERY_S):
            try:
                mirror.sync(store, [trial for trial in plan.trials if trial.id not in reused], reused=reused)
            except NormsweepError as error:
                if not told:
                    progress.warn(str(error))
                told = True

    thread = threading.Thread(target=follow, name="mlflow-mirror", daemon=True)
    thread.start()
    try:
        yield mirror
    finally:
        over.set()
        thread.join()
        try:
            mirror.sync(store, plan.trials, reused=reused)
        except TrackingUnavailable as error:
            progress.warn(str(error))


def _train(plan: Plan, todo: list[Trial], store: Store, options: RunOptions, progress: Progress) -> bool:
    """Drive Ray Tune over the trials that are left; returns whether a Ctrl-C ended it."""
    os.environ.update(
        RAY_USAGE_STATS_ENABLED="0",
        RAY_CHDIR_TO_TRIAL_DIR="0",
        RAY_DEDUP_LOGS="0",
        RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
        TUNE_DISABLE_AUTO_CALLBACK_LOGGERS="1",
        TUNE_MAX_PENDING_TRIALS_PG="8",
        RAY_AIR_NEW_OUTPUT="0",
    )
    import ray

    with _work_folder(options) as work, _ray(options, work):
        _check_gangs(todo, options, ray)
        from orchestrator.run.tuning import tune_trials

        estimate = sum(trial.seconds for trial in todo)
        progress.say(f"{len(todo)} trials to train, about {duration(estimate)} one after the other.")
        trained = tune_trials(plan, todo, options, progress, work=work, commit=_commit())
    for trial_id, error in trained.errors.items():
        give_up(store, trial_id, error)
    return trained.interrupted


@contextmanager
def _work_folder(options: RunOptions) -> Iterator[Path]:
    """Where ranks and Ray write while a run lasts: beside the store, or in the temporary folder for a remote one."""
    if "://" in options.store:
        with tempfile.TemporaryDirectory(prefix="normsweep-") as temporary:
            yield Path(temporary)
        return
    top = Path(options.store).absolute() / "work"
    top.mkdir(exist_ok=True)
    for left in top.iterdir():  # of drivers that were killed
        if left.name.isdigit() and not Path(f"/proc/{left.name}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = top / str(os.getpid())
    folder.mkdir(exist_ok=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _ray(options: RunOptions, work: Path) -> Iterator[None]:
    """A local Ray that ends with us, or the one at --address."""
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False, "include_dashboard": False}
    if options.address is not None:
        _check_listening(options.address)
        settings = {"address": options.address, "log_to_driver": False, "configure_logging": False}
    else:
        settings["address"] = "local"  # without it, Ray would join whatever cluster runs on this machine
        settings["object_store_memory"] = OBJECT_STORE_BYTES
        if len(str(work / "ray")) <= LONGEST_RAY_PATH:
            settings["_temp_dir"] = str(work / "ray")
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


def _check_listening(address: str) -> None:
    """Ray itself waits minutes for a cluster that is not there. `auto` and other names are left to it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        return
    try:
        socket.create_connection((host, int(port)), timeout=CONNECT_DEADLINE_S).close()
    except OSError as error:
        raise EnvironmentProblem(f"No Ray cluster at --address {address}: {error.strerror or error}") from error


def _check_gangs(todo: list[Trial], options: RunOptions, ray: Any) -> None:
    """Name every gang that the cluster cannot hold. With --address, workers still joining are waited for."""
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


def _commit() -> str:
    """The commit of the checkout that runs, empty in an installed wheel."""
    try:
        command = [
            "git",
            "-C",
            str(Path(__file__).parent),
            "describe",
            "--always",
            "--dirty",
            "--abbrev=12",
            "--exclude=*",
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def refuse_split_store(options: RunOptions, nodes: list[dict[str, Any]]) -> None:
    """A folder store serves workers on other hosts only where every one of them sees it. Raises UserError."""
    hosts = {node["NodeManagerHostname"] for node in nodes if node["Alive"]}
    if len(hosts) > 1 and "://" not in options.store and not Path(options.store, SHARED_MARK).exists():
        raise UserError(
            f"--store {options.store} is a folder, but the cluster has {len(hosts)} hosts. If each of them sees this folder "
            f"under the same path, say so with: touch {Path(options.store, SHARED_MARK)}"
        )
