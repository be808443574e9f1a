"""Training one trial, from the first step to the result: step, probe, evaluate, checkpoint, preemption."""

from __future__ import annotations

import copy
import math
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

import torch
from torch import Tensor, nn

from trainers import checkpoint
from trainers.backbones.drop_path import factors_of_step, rates_of
from trainers.build import build_benchmarks, build_model, build_patches, build_task
from trainers.catalog import NORMS
from trainers.data.cache import Cache
from trainers.durable import write_json
from trainers.engine import Engine, choose_device
from trainers.evaluate import evaluate, means
from trainers.initial import load_initial
from trainers.journal import Journal, encoded
from trainers.kernels import choose_kernels, tf32
from trainers.probes.features import FeatureProbe
from trainers.spec import RunSpec, TrainingSpec

KEPT_CHECKPOINTS = 2
PROBE_STEP = 2**31 - 1  # the probe batch is drawn as the patches of a step no training reaches

Outcome = Literal["completed", "diverged", "preempted"]


@dataclass(frozen=True)
class Rank:
    """This process among the workers of its trial (the environment's RANK, LOCAL_RANK, WORLD_SIZE)."""

    rank: int
    local_rank: int
    world_size: int


class Preemption:
    """Set by SIGTERM; the loop looks at it after every step and ends with a checkpoint."""

    def __init__(self) -> None:
        self.asked = False
        signal.signal(signal.SIGTERM, self._ask)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])  # a driver blocks it for what it starts

    def _ask(self, number: int, frame: FrameType | None) -> None:
        self.asked = True


def learning_rate(training: TrainingSpec, step: int) -> float:
    """The rate of step `step` (from 0): times `lr_factor` from each of the given fractions of all steps (protocol section 4)."""
    milestones = sum(step >= round(fraction * training.steps) for fraction in training.halve_lr_at)
    return training.lr * training.lr_factor**milestones


def micro_batches(spec: RunSpec, rank: int) -> list[slice]:
    """This rank's slices of the global batch, one per forward pass of a step."""
    start = rank * spec.accumulation * spec.micro_batch
    return [slice(start + i * spec.micro_batch, start + (i + 1) * spec.micro_batch) for i in range(spec.accumulation)]


def data_workers(spec: RunSpec, device: torch.device) -> int:
    """Processes that make this rank's patches ahead."""
    asked = spec.placement.data_workers
    if asked is not None:
        return asked
    return spec.placement.cpus_per_worker - 1 if device.type == "cuda" else 0


def update_ema(ema: nn.Module, state: dict[str, Tensor], decay: float, buffers: str = "copied") -> None:
    """Parameters: `decay * ema + (1 - decay) * weight`. Buffers: `copied`, `averaged` in the same way, or `untouched`."""
    parameters = {name for name, _ in ema.named_parameters()}
    for name, average in ema.state_dict().items():
        if name in parameters or buffers == "averaged":
            average.lerp_(state[name], 1 - decay)
        elif buffers == "copied":
            average.copy_(state[name])


def train(
    spec: RunSpec,
    out: Path,
    *,
    rank: Rank,
    resume: Path | None,
    data_roots: Sequence[Path],
    cache: Cache,
    initial: Path | None = None,
) -> Outcome:
    """Train `spec` in the run folder `out`, from the intact checkpoint in `resume` where one is given.

    `initial` is the file that `training.initial` names by its content; a run that continues does not read it.

    Raises trainers.data.manifests.DatasetProblem where the data are not what the spec says, CacheProblem where the node
    cannot hold them decoded, InitialProblem where the file is not the spec's or does not fit the network.
    """
    preemption = Preemption()
    training, observe = spec.training, spec.observe
    device = choose_device(spec, rank.local_rank)
    choose_kernels(device)
    task = build_task(spec)
    patches = build_patches(spec, data_roots, cache)
    benchmarks = build_benchmarks(spec, data_roots)

    torch.manual_seed(training.seed)
    model = build_model(spec)
    begins, found = checkpoint.start_from(resume, rank.world_size, spec.placement.zero_stage)
    # After every draw: what the file lacks starts as it would without one. Before the copy: the EMA starts there too.
    start = None if begins.continues else load_initial(model, spec, initial)
    if begins.how == "converted" and found is not None:
        model.load_state_dict(torch.load(found.folder / "weights.pt", weights_only=True))
    ema = copy.deepcopy(model)
    engine = Engine(model, spec, device)
    ema.to(device).eval()
    probe_lq, _ = patches.batch(PROBE_STEP, slice(0, observe.probe_patches))
    # Images of a batch may be looked at apart unless they share their statistics.
    norm = NORMS[spec.model.norm.name].load()
    apart = None if getattr(norm, "statistics_of_micro_batch", False) else spec.micro_batch
    probe = FeatureProbe(engine.network, probe_lq.to(device), at_once=apart)
    slices = micro_batches(spec, engine.rank)
    rates = rates_of(engine.module)

    checkpoints = out / "checkpoints"
    journal = Journal(out / "journal.jsonl") if engine.rank == 0 else None
    last: dict[str, float] = {}

    def record(step: int, values: dict[str, float]) -> None:
        last.update(values)
        if journal is not None:
            journal.metrics(step, values)

    def note(step: int, event: str, **fields: object) -> None:
        if journal is not None:
            journal.event(step, event, **fields)

    def measure(step: int) -> bool:
        """The feature trace; whether features are finite and within the limit, on every rank."""
        with tf32(training.precision == "tf32"):
            values = probe.measure()
        record(step, values)
        traces = [v for name, v in values.items() if name.startswith("feature/mean_square/")]
        sound = all(math.isfinite(v) and v <= (training.feature_limit or math.inf) for v in traces)
        return engine.all_ranks(sound)  # a rank that left alone would leave the others waiting in a collective

    def evaluate_all(step: int) -> None:
        """The benchmarks on EMA weights, images dealt out over the ranks."""
        for name, images in benchmarks.items():
            mine = evaluate(ema, task, images, device, index_slice=slice(engine.rank, None, engine.world_size))
            scores = [score for part in engine.gather_objects(mine) for score in part]
            record(step, {f"val/{name}/{metric}": value for metric, value in means(scores).items()})
            told = [{key: encoded(v) if isinstance(v, float) else v for key, v in score.items()} for score in scores]
            note(step, "scores", set=name, **task.how_scored(), images=sorted(told, key=lambda score: score["name"]))

    def save(step: int) -> None:
        name = engine.save(checkpoints, step, ema.state_dict(), sound=sound)
        note(step, "checkpoint", name=name)
        checkpoint.discard_older(checkpoints, KEPT_CHECKPOINTS)

    def to_device(batch: Tensor) -> Tensor:
        return batch.to(device, non_blocking=True)

    def train_step(step: int) -> float:
        """One optimiser step; returns this rank's mean loss."""
        engine.set_lr(learning_rate(training, step))
        torch.manual_seed(training.seed * 1_000_003 + step)  # nothing of ours draws from it; a user's norm may
        total = torch.zeros((), dtype=torch.float64, device=device)
        for part in slices:
            lq, gt = next(batches)
            factors = factors_of_step(rates, training.seed, step, part)
            with tf32(training.precision == "tf32"):
                output = engine.forward(to_device(lq), None if factors is None else to_device(factors))
                loss = nn.functional.l1_loss(output.float(), to_device(gt))
                engine.backward_and_step(loss)
            total += loss.detach() / len(slices)
        engine.average_buffers()
        with engine.full_state() as state:
            update_ema(ema, state, training.ema_decay, spec.model.norm.knobs.get("ema_buffers", "copied"))
        return total.item()

    note(0, "started", device=str(device), world_size=engine.world_size, torch=torch.__version__)
    done, sound, asked = 0, True, 0.0
    if start is not None:
        note(0, "initial", sha256=training.initial, **start.as_lists())
    if found is not None and begins.continues:
        averages, sound = engine.load(found, convert=begins.how == "converted")
        ema.load_state_dict(averages)
        done = found.step
        note(done, "resumed", checkpoint=found.folder.name, how=begins.how)
    elif resume is not None:
        note(0, "restarted", reason=begins.sentence)
    if begins.is_surprising and engine.rank == 0:
        print(f"This trial {begins.sentence}", file=sys.stderr, flush=True)

    places = ((step, part) for step in range(done, training.steps) for part in slices)
    batches = patches.stream(places, data_workers(spec, device), pinned=device.type == "cuda")
    if done in (0, training.steps) or not sound:  # a kill may have come between a last checkpoint and the result
        sound = measure(done) and sound
        evaluate_all(done)
    if not sound or done == training.steps:
        save(done)
    busy_s, busy_steps = 0.0, 0
    while done < training.steps and sound and not asked:
        started = time.monotonic()
        loss = train_step(done)
        mean_loss, asked = engine.mean_over_ranks([loss, float(preemption.asked)])
        done += 1
        busy_s, busy_steps = busy_s + time.monotonic() - started, busy_steps + 1
        sound = math.isfinite(mean_loss) and not engine.overflowed
        ending = done == training.steps
        if ending or not sound or done % observe.log_every == 0:
            rate = busy_steps * training.batch_size / busy_s
            lr = learning_rate(training, done - 1)
            values = {"train/loss": mean_loss, "train/lr": lr, "train/images_per_s": rate}
            if (norm := engine.grad_norm) is not None:
                values["train/grad_norm"] = norm
            if training.precision == "fp16":
                values["train/loss_scale"] = engine.loss_scale
            record(done, values)
            busy_s, busy_steps = 0.0, 0
        if ending or not sound or done % observe.probe_every == 0:
            sound = measure(done) and sound
        if ending or not sound or done % observe.evaluate_every == 0:
            evaluate_all(done)
        if ending or not sound or asked or done % observe.checkpoint_every == 0:
            save(done)

    outcome: Outcome = "diverged" if not sound else "completed" if done == training.steps else "preempted"
    note(done, outcome)
    if journal is not None:
        journal.close()
        if outcome != "preempted":
            metrics = {name: encoded(value) for name, value in last.items()}
            result = {"outcome": outcome, "step": done, "checkpoint": checkpoint.folder_name(done), "metrics": metrics}
            write_json(out / "result.json", result)
    engine.close()
    return outcome
