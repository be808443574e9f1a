"""A trial while it trains: a method for each thing that the loop does with it, in that order."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from torch import nn

from trainers import checkpoint
from trainers.crops import CROPS, Keeper, crops
from trainers.data.images import NamedImage, Pixels
from trainers.ema import Ema
from trainers.engine import Engine
from trainers.evaluate import Score, evaluate, means, score_inputs
from trainers.guard import Guard
from trainers.journal import encoded_scores
from trainers.kernels import tf32
from trainers.probes.base import Probe, ProbeBatch
from trainers.probes.files import arrays_every
from trainers.progress import CHECKPOINT, ENDING, EVALUATION, PROBE, STEP, Progress
from trainers.recorder import Recorder
from trainers.spec import RunSpec
from trainers.steps import Steps, learning_rate
from trainers.system import Machine
from trainers.tasks.base import Task

KEPT_CHECKPOINTS = 2  # should the newest be damaged, training continues from the one before

Outcome = Literal["completed", "diverged", "preempted"]


@dataclass
class Pace:
    """Steps per second since the last record, counting only the time spent on steps."""

    steps: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        self.steps, self.seconds = self.steps + 1, self.seconds + seconds

    def take(self) -> float:
        """Return the pace, and begin to measure anew."""
        pace = self.steps / self.seconds
        self.steps, self.seconds = 0, 0.0
        return pace


class Trial:
    """One rank's part of a trial, `done` steps into it.

    All ranks call its methods in the same order.
    """

    def __init__(
        self,
        spec: RunSpec,
        out: Path,
        *,
        engine: Engine,
        ema: Ema,
        steps: Steps,
        done: int,
        guard: Guard,
        recorder: Recorder,
        progress: Progress,
        machine: Machine | None,
        probe_batch: ProbeBatch,
        probes: Mapping[str, Callable[[nn.Module], Probe]],
        task: Task,
        benchmarks: Mapping[str, Sequence[NamedImage]],
    ) -> None:
        self.done = done
        self.guard = guard
        self._spec = spec
        self._checkpoints = out / "checkpoints"
        self._engine = engine
        self._ema = ema
        self._steps = steps
        self._recorder = recorder
        self._progress = progress
        self._machine = machine  # of rank 0, which records
        self._probe_batch = probe_batch
        self._probes = probes
        self._task = task
        self._benchmarks = benchmarks
        self._pace = Pace()
        self._loss = 0.0  # of the last step, the mean over ranks

    @property
    def is_over(self) -> bool:
        return self.done == self._spec.training.steps or not self.guard.sound

    def is_due(self, every: int) -> bool:
        """Whether it is time for what happens after `every` steps, and at the end of a trial."""
        return self.is_over or self.done % every == 0

    def step(self, *, asked: bool) -> bool:
        """Take one optimiser step, and return whether any rank was asked to end.

        `asked` says whether this one was.
        """
        self._progress.at(STEP, self.done)
        started = time.monotonic()
        loss = self._steps.take(self.done)
        self._loss, asked_share = self._engine.mean_over_ranks([loss, float(asked)])
        self.done += 1
        self._pace.add(time.monotonic() - started)
        self.guard.check_loss(self._loss, overflowed=self._engine.overflowed)
        return asked_share > 0

    def watch(self) -> None:
        """Record what the machine is doing, if that is due."""
        if self._machine is not None and (values := self._machine.due()):
            self._recorder.machine(self.done, values)

    def log(self) -> None:
        """Record the loss of the last step, with learning rate, pace and gradients."""
        training, engine = self._spec.training, self._engine
        values = {
            "train/loss": self._loss,
            "train/lr": learning_rate(training, self.done - 1),
            "train/images_per_s": self._pace.take() * training.batch_size,
            "train/memory_gb": engine.memory_gb,
            "train/parameters": engine.num_parameters,
        }
        if (norm := engine.grad_norm) is not None:
            values["train/grad_norm"] = norm
        if training.precision == "fp16":
            values["train/loss_scale"] = engine.loss_scale
        self._recorder.metrics(self.done, values)

    def probe(self) -> None:
        """Probe the network: the guard sees everything, the recorder what was asked for."""
        self._progress.at(PROBE, self.done)
        # At the precision of steps, since traces show what is trained (docs/decisions/0009).
        with tf32(self._spec.training.precision == "tf32"):
            observed = self._probe_batch.measure(self._probes)
        self.guard.check_features(
            value for seen in observed.values() for value in seen.mean_squares
        )
        arrays = self.is_due(arrays_every(self._spec))  # where the guard has just ended it, as well
        for name in self._spec.observe.probes:
            self._recorder.observation(self.done, name, observed[name], arrays=arrays)

    def evaluate(self) -> None:
        """Score the EMA weights on the benchmarks, whose images are dealt out over the ranks.

        At step 0 the degraded inputs are scored as well, for comparison. At the end, crops of the
        first set are kept.
        """
        self._progress.at(EVALUATION, self.done)
        engine, task = self._engine, self._task
        first = next(iter(self._benchmarks), None)
        mine = slice(engine.rank, None, engine.world_size)
        for name, images in self._benchmarks.items():
            # The average is not under autocast: scores are float32 whatever a trial is trained in.
            keeper = Keeper(images) if name == first and self.is_over else None
            part = evaluate(
                self._ema.network,
                task,
                images,
                engine.device,
                index_slice=mine,
                keep=partial(self._restored, keeper),
            )
            scores = self._of_all_ranks(part)
            values = {f"val/{name}/{metric}": value for metric, value in means(scores).items()}
            self._recorder.metrics(self.done, values)
            self._record_scores("scores", name, scores)
            if self.done == 0:
                beat = partial(self._restored, None)
                inputs = score_inputs(task, images, index_slice=mine, keep=beat)
                self._record_scores("input_scores", name, self._of_all_ranks(inputs))
            if keeper:
                restored = {
                    image: crop
                    for kept in engine.gather_objects(keeper.kept)
                    for image, crop in kept.items()
                }
                self._recorder.arrays(self.done, CROPS, crops(task, name, images, restored))

    def _restored(self, keeper: Keeper | None, name: str, pixels: Pixels) -> None:
        self._progress.at(EVALUATION, self.done)
        if keeper:
            keeper.keep(name, pixels)

    def _of_all_ranks(self, part: list[Score]) -> list[Score]:
        return [score for part in self._engine.gather_objects(part) for score in part]

    def _record_scores(self, event: str, name: str, scores: Sequence[Score]) -> None:
        how = self._task.how_scored()
        self._recorder.event(self.done, event, set=name, **how, images=encoded_scores(scores))

    def checkpoint(self) -> None:
        self._progress.at(CHECKPOINT, self.done)
        name = self._engine.save(
            self._checkpoints, self.done, self._ema.state(), sound=self.guard.sound
        )
        self._recorder.event(self.done, "checkpoint", name=name)
        checkpoint.discard_older(self._checkpoints, KEPT_CHECKPOINTS)

    def end(self) -> Outcome:
        """Record how the trial ended, and leave the gang."""
        self._progress.at(ENDING, self.done)
        outcome: Outcome = "preempted"
        if self.is_over:
            outcome = "completed" if self.guard.sound else "diverged"
        self._recorder.end(self.done, outcome, final=self.is_over, why=self.guard.why)
        self._engine.close()
        return outcome
