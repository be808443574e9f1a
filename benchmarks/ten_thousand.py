"""Ten thousand trials: their `status`, and running them on 16 slots beside plain Ray Tune.

    python benchmarks/ten_thousand.py [--trials 1000] [--seconds 5] [--slots 16] [--known 10000]

First a store is written of `--known` trials, of which two thirds have ended, as many as there are
slots run, and the rest are pending. `normsweep status` is timed on it in a folder and, where the
test services are (tests/s3.py), on a real S3 server on this machine. Goals: 3 s and 15 s.

Then `--trials` trials are run by orchestrator.run.tuning, with its progress in lines, its actors
and a store in a folder. Only the rank's process is missing: a timer of `--seconds` that uses no CPU
stands in for it (benchmarks/standing_in.py), so that 16 slots need no 16 cores. Before it, in the
same Ray, plain Tune runs as many trials that sleep for as long, with `reuse_actors` and without
loggers. Neither has MLflow. The ideal is trials * seconds / slots: no time between two trials of a
slot, and none to start the first. Goal: 1.05 times the ideal, and a driver whose memory does not
grow: MB per 1,000 trials are those between the first third of the run and its end.

CPU seconds are those of the driver's process; other work on the machine delays the rest. A run of
10,000 trials of 5 s takes 52 minutes at best, so the default is 1,000 of them.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from benchmarks.large_plan import command
from benchmarks.report_scale import write_trial
from orchestrator.plan import Plan, load_plan
from orchestrator.run.runner import set_environment
from orchestrator.store import FolderStore, attempts, folder

GOAL_TRIALS = 10_000
SWEEP = """\
# What do ten thousand trials cost besides their steps?
sweep: ten-thousand
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, rms_norm, i_ln, none]
  task: [sr_x2]
  width: [12]
  seed: {seeds}
training: {{steps: 1, batch_size: 8, patch_size_px: 16}}
observe: {{log_every: 1, probe_every: 1, evaluate_every: 1, checkpoint_every: 1}}
resources: {{device: cpu}}
"""
NORMS = 4
SAMPLE_EVERY_S = 0.5


def planned(path: Path, trials: int) -> Plan:
    """A plan of this many trials, rounded up to whole seeds."""
    path.write_text(SWEEP.format(seeds=list(range(-(-trials // NORMS)))))
    return load_plan(path)


def write_store(plan: Plan, path: Path, running: int) -> None:
    """A store in which two thirds of the trials have ended, and `running` others run."""
    synced, folder.fsync = folder.fsync, lambda path: None
    store = FolderStore(path)
    ended = 2 * len(plan.trials) // 3
    for number, trial in enumerate(plan.trials[:ended]):
        short = trial.spec.training.model_copy(update={"steps": 3})
        spec = trial.spec.model_copy(update={"training": short})
        write_trial(store, replace(trial, spec=spec), number)
    for trial in plan.trials[ended : ended + running]:
        record = {"host": "bench-1", "versions": {}, "commit": ""}
        attempts.say_alive(store, trial.id, attempts.new_attempt(store, trial, record))
    folder.fsync = synced


def time_status(where: Path, known: int, running: int) -> None:
    """Print how long `status` takes, in a folder and on S3."""
    plan, store = planned(where / "known.yaml", known), where / "known"
    write_store(plan, store, running)
    number = len(plan.trials)
    cpu, wall, memory = command("status", str(where / "known.yaml"), "--store", str(store))
    said = f"{cpu:.1f} s of CPU, {wall:.1f} s, {memory:.0f} MB"
    print(f"status of {number:,} trials in a folder: {said} (goal 3 s)", flush=True)
    with s3_server(where / "s3") as root:
        if root is None:
            print("status on S3 was not measured: the test services are missing (tests/s3.py)")
            return
        # The server keeps its objects as files, so that nothing has to be sent through it.
        shutil.move(store, root / "bench" / "known")
        cpu, wall, memory = command(
            "status", str(where / "known.yaml"), "--store", "s3://bench/known"
        )
        said = f"{cpu:.1f} s of CPU, {wall:.1f} s, {memory:.0f} MB"
        print(f"status of {number:,} trials on S3: {said} (goal 15 s)", flush=True)


@contextlib.contextmanager
def s3_server(root: Path) -> Iterator[Path | None]:
    """A real S3 server that this process and its children use, with a bucket `bench`, or None."""
    from tests.ranks import free_port
    from tests.s3 import ACCESS, SECRET, SERVICES, service

    if not (SERVICES / "run").exists() or shutil.which("zstd") is None:
        yield None
        return
    (root / "bench").mkdir(parents=True)
    port = free_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    address = ("--port", f"127.0.0.1:{port}", "posix", str(root))
    keys = {"ROOT_ACCESS_KEY": ACCESS, "ROOT_SECRET_KEY": SECRET}
    with service("versitygw", *address, port=port, **keys):
        yield root


@dataclass(frozen=True)
class Used:
    """What running trials took: seconds, CPU seconds of the driver, and its growth."""

    wall_s: float
    cpu_s: float
    mb_per_thousand: float
    mb: float


def measured(run: Callable[[], object], trials: int) -> Used:
    """What a call takes that runs so many trials."""
    process, over = psutil.Process(), threading.Event()
    began, cpu = time.monotonic(), time.process_time()
    samples = [(0.0, process.memory_info().rss)]

    def sample() -> None:
        while not over.wait(SAMPLE_EVERY_S):
            samples.append((time.monotonic() - began, process.memory_info().rss))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        run()
    finally:
        over.set()
        thread.join()
    wall = time.monotonic() - began
    last = samples[-1][1]
    first = next((rss for at, rss in samples if at >= wall / 3), last)
    growth = (last - first) / 1e6 / (2 / 3 * trials / 1_000)
    return Used(wall, time.process_time() - cpu, growth, last / 1e6)


def run_tune(trials: int, where: Path) -> None:
    """Run trials that sleep, by plain Tune."""
    from ray import tune

    from benchmarks.standing_in import Sleep

    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)  # it misses its loggers' files
    tune.Tuner(
        tune.with_resources(Sleep, {"CPU": 1}),
        param_space={"trial": tune.grid_search(list(range(trials)))},
        tune_config=tune.TuneConfig(reuse_actors=True),
        run_config=tune.RunConfig(
            name="plain",
            storage_path=str(where / "plain"),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    ).fit()


def run_driver(plan: Plan, where: Path) -> None:
    """Run a plan's trials, of which the store has none, as `normsweep run` does."""
    from benchmarks.standing_in import Trainable
    from orchestrator.run import tuning
    from orchestrator.run.budget import Budget
    from orchestrator.run.folders import work_folder
    from orchestrator.run.options import RunOptions
    from orchestrator.run.progress import Progress
    from orchestrator.run.ray import place
    from orchestrator.store import open_store

    tuning.GangTrainable = Trainable
    options = RunOptions(store=str(where / "runs"), tracking="")
    open_store(options.store)
    begun = {trial.id: 0 for trial in plan.trials}
    there, gpus = place(plan, begun.keys(), options)
    with work_folder(options) as work:
        progress = Progress(there, {}, quiet=False, json_lines=False, reached=begun)
        progress.placed(there, gpus)
        errors = tuning.tune_trials(
            there,
            list(there.trials),
            options,
            progress,
            work=work,
            commit="",
            begun=begun,
            budget=Budget(None, None),
        )
    ended = len(list((where / "runs/trials").glob("*/result.json")))
    assert (ended, errors) == (len(plan.trials), {}), (ended, errors)


def time_running(where: Path, trials: int, seconds: float, slots: int) -> None:
    """Print what running trials takes, beside plain Tune and the ideal."""
    set_environment()  # before Ray is imported
    import ray

    from benchmarks.standing_in import SECONDS

    os.environ[SECONDS] = str(seconds)
    plan = planned(where / "run.yaml", trials)
    number = len(plan.trials)
    ideal = number * seconds / slots
    root = str(Path(__file__).parents[1])
    ray.init(
        "local",
        num_cpus=slots,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=str(where / "ray"),
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    try:
        print(f"{number:,} trials of {seconds:g} s on {slots} slots, ideally {ideal:.0f} s")
        if number < GOAL_TRIALS:
            print(f"These are fewer than the {GOAL_TRIALS:,} of the goal: see --trials.")
        peer = measured(lambda: run_tune(number, where), number)
        print(in_words("plain Tune", peer, number, ideal), flush=True)
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
            ours = measured(lambda: run_driver(plan, where), number)
        print(in_words("normsweep", ours, number, ideal))
        print(f"ratio to plain Tune: {ours.wall_s / peer.wall_s:.2f} (goal 1.05 of the ideal)")
    finally:
        ray.shutdown()


def in_words(name: str, used: Used, trials: int, ideal: float) -> str:
    return (
        f"{name:10}  {used.wall_s:7.1f} s, {used.wall_s / ideal:.2f} of the ideal, "
        f"{1e3 * used.wall_s / trials:.0f} ms a trial; driver: {1e3 * used.cpu_s / trials:.1f} ms "
        f"of CPU a trial, {used.mb:.0f} MB, {used.mb_per_thousand:+.1f} MB per 1,000 trials"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=1_000, help="to run; 0: none")
    parser.add_argument("--seconds", type=float, default=5.0, help="that a trial takes")
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--known", type=int, default=GOAL_TRIALS, help="to look at; 0: none")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # Ray's sockets need a short path, and write there even as Ray ends.
    with tempfile.TemporaryDirectory(prefix="ns-", ignore_cleanup_errors=True) as made:
        if given.known:
            time_status(Path(made), given.known, given.slots)
        if given.trials:
            time_running(Path(made), given.trials, given.seconds, given.slots)


if __name__ == "__main__":
    main()
