"""Training one trial, from the first step to the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from trainers.backbones.published import Fit
from trainers.build import build_benchmarks, build_model, build_patches, build_probes, build_task
from trainers.catalog import NORMS
from trainers.checkpoint import Checkpoint, Start, start_from
from trainers.data.cache import Cache
from trainers.ema import Ema
from trainers.engine import Engine, choose_device
from trainers.guard import Guard
from trainers.initial import load_initial
from trainers.kernels import choose_kernels
from trainers.preemption import Preemption
from trainers.probes.base import ProbeBatch
from trainers.progress import Progress
from trainers.recorder import Recorder
from trainers.spec import RunSpec
from trainers.steps import Steps
from trainers.system import Machine
from trainers.tasks.patches import TrainingPatches
from trainers.trial import Outcome, Trial

# The probe batch is drawn like the patches of a step, one that no training reaches.
PROBE_STEP = 2**31 - 1


@dataclass(frozen=True)
class Rank:
    """This process among its trial's workers.

    The values are those of RANK, LOCAL_RANK and WORLD_SIZE in the environment.
    """

    rank: int
    local_rank: int
    world_size: int


@dataclass(frozen=True)
class Given:
    """What a process has for its trial, besides the spec.

    `resume` is the checkpoint to start from, if there is one. `initial` is the file that
    `training.initial` names by its content; a run that continues does not read it.
    """

    rank: Rank
    resume: Path | None
    data_roots: Sequence[Path]
    cache: Cache
    initial: Path | None = None


def train(spec: RunSpec, out: Path, given: Given) -> Outcome:
    """Train `spec` in the run folder `out`.

    Raises DatasetProblem where the data are not what the spec says, CacheProblem where the node
    cannot hold them decoded, InitialProblem where the file is not the spec's or does not fit.
    """
    observe, asked = spec.observe, False
    preemption = Preemption()
    trial = _begin(spec, out, given)
    # It is over already if a kill came between the last checkpoint and the result.
    if trial.done == 0 or trial.is_over:
        trial.probe()
        trial.evaluate()
    if trial.is_over:
        # The result names the checkpoint of its step, and a trial that diverges at step 0 has none.
        trial.checkpoint()
    while not trial.is_over and not asked:
        asked = trial.step(asked=preemption.asked)
        trial.watch()
        if trial.is_due(observe.log_every):
            trial.log()
        if trial.is_due(observe.probe_every):
            trial.probe()
        if trial.is_due(observe.evaluate_every):
            trial.evaluate()
        if asked or trial.is_due(observe.checkpoint_every):
            trial.checkpoint()
    return trial.end()


def _begin(spec: RunSpec, out: Path, given: Given) -> Trial:
    """The trial as its checkpoint left it, or at step 0, with this rank in its gang."""
    training = spec.training
    progress = Progress(out, given.rank.rank)
    device = choose_device(spec, given.rank.local_rank)
    choose_kernels(device)
    task = build_task(spec)
    patches = build_patches(spec, given.data_roots, given.cache)
    benchmarks = build_benchmarks(spec, given.data_roots)
    begins, found = start_from(given.resume, given.rank.world_size, spec.placement.zero_stage)
    model, taken = _network(spec, begins, found, given.initial)
    # A copy of the model once it has its initial weights, and before DeepSpeed takes it over.
    ema = Ema(model, training.ema_decay, str(spec.model.norm.knobs.get("ema_buffers", "copied")))
    engine = Engine(model, spec, device)
    ema.to(device)
    probe_batch = _probe_batch(spec, engine, patches)
    recorder = Recorder(out, engine.rank)
    guard = Guard(training.feature_limit, engine.all_ranks)

    done = 0
    recorder.event(
        0, "started", device=str(device), world_size=engine.world_size, torch=torch.__version__
    )
    if taken is not None:
        recorder.event(0, "initial", sha256=training.initial, **taken.as_lists())
    if found is not None and begins.continues:
        averages, guard.sound = engine.load(found, convert=begins.how == "converted")
        ema.load(averages)
        done = found.step
        recorder.event(done, "resumed", checkpoint=found.folder.name, how=begins.how)
    elif given.resume is not None:
        recorder.event(0, "restarted", reason=begins.sentence)
    if begins.is_surprising and engine.rank == 0:
        print(f"This trial {begins.sentence}", file=sys.stderr, flush=True)
    return Trial(
        spec,
        out,
        engine=engine,
        ema=ema,
        steps=Steps(spec, engine, ema, patches, first=done),
        done=done,
        guard=guard,
        recorder=recorder,
        progress=progress,
        machine=Machine(device) if engine.rank == 0 else None,
        probe_batch=probe_batch,
        probes=build_probes(spec),
        task=task,
        benchmarks=benchmarks,
    )


def _network(
    spec: RunSpec, begins: Start, found: Checkpoint | None, initial: Path | None
) -> tuple[nn.Module, Fit | None]:
    """The network with the weights that the gang begins from, and what it took from `initial`."""
    torch.manual_seed(spec.training.seed)
    model = build_model(spec)
    # Loaded after every draw, so that what the file lacks starts as it would without a file.
    taken = None if begins.continues else load_initial(model, spec, initial)
    if begins.how == "converted" and found is not None:
        model.load_state_dict(torch.load(found.folder / "weights.pt", weights_only=True))
    return model, taken


def _probe_batch(spec: RunSpec, engine: Engine, patches: TrainingPatches) -> ProbeBatch:
    lq, _ = patches.batch(PROBE_STEP, slice(0, spec.observe.probe_patches))
    # Images may go through the network in parts, unless the norm takes statistics over all of them.
    norm = NORMS[spec.model.norm.name].load()
    at_once = None if getattr(norm, "statistics_of_micro_batch", False) else spec.micro_batch
    return ProbeBatch(engine.network, lq.to(engine.device), at_once=at_once)
