"""What a trial costs besides its steps: a sweep of trials of one step beside Tune's no-op.

    python benchmarks/start_up.py [--trials 8] [--slots 2]

The same number of trials, one after the other on the same number of slots: `normsweep run` on
quickstart's smallest network, and a trainable of plain Ray Tune that does nothing. Every phase is
between two times that the store or the journal keeps:

    result -> attempt        from a result to the next attempt on that slot
    attempt -> rank          to the rank's process
    rank -> built            imports, data, network, DeepSpeed
    built -> first step      probes and the first evaluation, then the step
    first step -> result     last evaluation, checkpoint, shipping

CPU seconds are sampled from the processes; what one uses after the last sample is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]
SWEEP = """\
# What does a trial cost besides its steps?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm]
  task: [sr_x2]
  width: [12]
  seed: [{seeds}]
training: {{steps: 1, batch_size: 8, patch_size_px: 16, lr: 2.0e-3, ema_decay: 0.95}}
observe: {{log_every: 1, probe_every: 1, probe_patches: 8, evaluate_every: 1, checkpoint_every: 1}}
resources: {{device: cpu}}
"""
PHASES = (
    "result -> attempt",
    "attempt -> rank",
    "rank -> built",
    "built -> first step",
    "first step -> result",
)
# By what a process's command line contains; the first that fits.
KINDS = {
    "warm server": "trainers.warm",
    "rank": "-m trainers",
    "Tune's trainable": "Trainable",
    "gang's actor": "ray::Worker",
    "no-op": "NoOp",
}
SAMPLE_EVERY_S = 0.05


def no_op(trials: int, slots: int) -> None:
    """Run trials that do nothing, and print when each was complete."""
    import ray
    from ray import tune

    class NoOp(tune.Trainable):
        def step(self) -> dict[str, Any]:
            return {"done": True}

    class Times(tune.Callback):
        def on_trial_complete(self, *arguments: Any, **info: Any) -> None:
            print("complete", time.time(), flush=True)

    # Ray writes its last words there even as it ends.
    with tempfile.TemporaryDirectory(prefix="ns-", ignore_cleanup_errors=True) as storage:
        ray.init("local", num_cpus=slots, include_dashboard=False, _temp_dir=storage)
        tune.Tuner(
            tune.with_resources(NoOp, {"CPU": 1}),
            param_space={"trial": tune.grid_search(list(range(trials)))},
            run_config=tune.RunConfig(
                storage_path=storage,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                callbacks=[Times()],
            ),
        ).fit()


def cpu_of(process: psutil.Popen, cpu: dict[str, dict[int, float]]) -> None:
    """Keep the CPU seconds of a process's descendants until it ends, by kind and process id."""
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        with suppress(psutil.NoSuchProcess):
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    line = " ".join(child.cmdline())
                    kind = next((kind for kind, word in KINDS.items() if word in line), None)
                    if kind is not None:
                        used = child.cpu_times()
                        cpu.setdefault(kind, {})[child.pid] = used.user + used.system
        time.sleep(SAMPLE_EVERY_S)


def timed(command: list[str]) -> tuple[float, str, dict[str, float]]:
    """Wall seconds of a command, its output, and CPU seconds by kind of process."""
    cpu: dict[str, dict[int, float]] = {}
    began = time.perf_counter()
    process = psutil.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    sampler = threading.Thread(target=cpu_of, args=(process, cpu))
    sampler.start()
    output = process.communicate()[0]
    wall_s = time.perf_counter() - began
    sampler.join()
    if process.returncode:
        sys.exit(output)
    return wall_s, output, {kind: sum(used.values()) for kind, used in cpu.items()}


def phases(store: Path, slots: int) -> tuple[dict[str, list[float]], list[float]]:
    """Seconds of every phase, one for each trial, and the times of results."""
    found: dict[str, list[float]] = {name: [] for name in PHASES}
    trials = []
    for result in store.glob("trials/*/result.json"):
        (attempt,) = result.parent.glob("attempts/*")
        lines = [
            json.loads(line)
            for segment in sorted(attempt.glob("journal/*.jsonl"))
            for line in segment.read_bytes().splitlines()
        ]
        trials.append(
            (
                json.loads((attempt / "attempt.json").read_bytes())["started"],
                (attempt / "start.json").stat().st_mtime,
                next(line["time"] for line in lines if line.get("event") == "started"),
                next(line["time"] for line in lines if "train/loss" in line.get("values", ())),
                result.stat().st_mtime,
            )
        )
    trials.sort()
    ends = sorted(trial[-1] for trial in trials)
    for i, times in enumerate(trials):
        if i >= slots:  # the result that freed the slot
            found[PHASES[0]].append(times[0] - ends[i - slots])
        for name, start, end in zip(PHASES[1:], times, times[1:], strict=False):
            found[name].append(end - start)
    return found, ends


def a_trial(ends: list[float], slots: int) -> float:
    """Seconds between results once the first of every slot is there."""
    return (ends[-1] - ends[slots - 1]) / (len(ends) - slots)


def shown(
    ours: tuple[float, list[float], dict[str, float]],
    peer: tuple[float, list[float], dict[str, float]],
    slots: int,
) -> None:
    trials = len(ours[1])
    for name, (wall_s, ends, cpu) in {"normsweep": ours, "Tune's no-op": peer}.items():
        each = {kind: f"{used / trials:.1f} s" for kind, used in sorted(cpu.items())}
        print(
            f"{name:13s} {wall_s:6.1f} s in all, {wall_s / trials:5.2f} s a trial; "
            f"{a_trial(ends, slots):5.2f} s after the first of each slot. CPU a trial: {each}"
        )
    print(
        f"ratio         {ours[0] / peer[0]:6.2f} in all; "
        f"{a_trial(ours[1], slots) / a_trial(peer[1], slots):5.2f} after the first of each slot"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--no-op", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.no_op:
        no_op(options.trials, options.slots)
        return
    again = [sys.executable, __file__, "--no-op"]
    again += ["--trials", str(options.trials), "--slots", str(options.slots)]
    wall_s, output, cpu = timed(again)
    ends = [float(line.split()[1]) for line in output.splitlines() if line.startswith("complete")]
    peer = (wall_s, ends, cpu)
    with tempfile.TemporaryDirectory(prefix="ns-") as folder:
        file, store = Path(folder, "one-step.yaml"), Path(folder, "runs")
        file.write_text(SWEEP.format(seeds=", ".join(map(str, range(options.trials)))))
        command = [sys.executable, "-m", "orchestrator", "run", str(file), "--store", str(store)]
        command += ["--max-concurrent", str(options.slots)]
        wall_s, _, cpu = timed(command)
        seconds, ends = phases(store, options.slots)
    for name, values in seconds.items():
        later = values if name == PHASES[0] else values[options.slots :]
        first = "" if name == PHASES[0] else f"   first: {max(values[: options.slots]):5.2f} s"
        print(f"{name:21s} {statistics.median(later):5.2f} s{first}")
    print(f"{'slot free to first step':23s} {slot_to_step(seconds, options.slots):.2f} s")
    shown((wall_s, ends, cpu), peer, options.slots)


def slot_to_step(seconds: dict[str, list[float]], slots: int) -> float:
    """The median over trials that took a slot over, from its result to the first step."""
    rest = zip(*(seconds[name][slots:] for name in PHASES[1:4]), strict=True)
    return statistics.median(
        free + sum(parts) for free, parts in zip(seconds[PHASES[0]], rest, strict=True)
    )


if __name__ == "__main__":
    main()
