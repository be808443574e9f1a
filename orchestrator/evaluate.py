"""`normsweep evaluate`: score a trial's final weights, or an exported file, on benchmarks.

Each result holds the precision, the score of every image, for paired statistics, and every choice
that a reader must know to compare it. A trial's results are kept in the store, under
`trials/<id>/evaluations/`.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.datasets.roots import DataRoots
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.export import final_weights
from orchestrator.plan.sets import as_taken, lacks_pairs
from orchestrator.restored import saving
from orchestrator.scores import print_scores
from orchestrator.store import open_store, read_store
from orchestrator.store.base import Store
from orchestrator.store.results import write_evaluation
from trainers.data.cache import Cache, cache_root
from trainers.data.given import given_scale, scale_of
from trainers.data.manifests import DatasetProblem
from trainers.spec import RunSpec

if TYPE_CHECKING:
    from torch import Tensor

    from trainers.data.images import NamedImage
    from trainers.evaluate import Score, Tiling

ALL = "all"
LEAST_TILE_PX = 16


@dataclass(frozen=True)
class EvaluateOptions:
    """The flags of `normsweep evaluate`."""

    benchmarks: tuple[str, ...]
    precisions: tuple[str, ...]
    store: str
    per_channel: bool = False
    tile_px: int | None = None
    overlap_px: int = 16
    workers: int = 1
    save: Path | None = None
    data_roots: tuple[str, ...] = ()
    json_lines: bool = False


@dataclass(frozen=True)
class Subject:
    """The network to evaluate; `trial` is its id where it comes from the store."""

    spec: RunSpec
    weights: Mapping[str, Tensor]
    name: str
    step: int | None
    trial: str | None
    source: str  # the name of its weights in messages


@dataclass(frozen=True)
class Job:
    """One network at one precision on one set: the instructions that every worker receives."""

    spec: RunSpec
    weights: Mapping[str, Tensor]
    benchmark: str
    folders: Sequence[Path]
    precision: str
    options: EvaluateOptions

    @property
    def name(self) -> str:
        """The name of the result in the store, and of the folder of restored images."""
        return result_name(self.benchmark, self.precision, self.options)


def result_name(benchmark: str, precision: str, options: EvaluateOptions) -> str:
    """E.g. `Set5-int8-per-channel-tile-64-16`."""
    parts = [benchmark, precision]
    if is_per_channel(precision, options):
        parts.append("per-channel")
    if options.tile_px:
        parts.append(f"tile-{options.tile_px}-{options.overlap_px}")
    return "-".join(parts)


def is_per_channel(precision: str, options: EvaluateOptions) -> bool:
    return options.per_channel and precision.startswith("int")


def how_run(precision: str, options: EvaluateOptions) -> dict[str, Any]:
    """The fields of a result that say how the network was run."""
    from trainers.precision import HALF, HALF_REVISION

    return {
        "precision": precision,
        "half_revision": HALF_REVISION if precision in HALF else None,
        "per_channel": is_per_channel(precision, options),
        "tile_px": options.tile_px,
        "overlap_px": options.overlap_px if options.tile_px else None,
    }


def evaluate_checkpoint(given: str, options: EvaluateOptions) -> int:
    """Evaluate, keep the results, and print a table or, with `json_lines`, an object per result.

    Returns the exit code. Raises UserError for names that are unknown and choices that do not fit
    together, and EnvironmentProblem for files that cannot be read or written.
    """
    precisions = precisions_asked(options)
    subject = fitting(_subject(given, options))
    benchmarks = options.benchmarks or subject.spec.observe.evaluate
    if not benchmarks:
        raise UserError(
            "Name a set, e.g. --benchmark Set5: this trial was trained without evaluation sets."
        )
    roots = DataRoots(options.data_roots)
    checksums = _checked_sets(subject.spec, benchmarks, roots)
    cache = Cache(cache_root(cache_in(options.store)))
    # Fetched folders stay in the cache for as long as `cache` is alive.
    folders = roots.fetch(benchmarks, cache, given_scale(subject.spec.task))
    results = []
    for benchmark in dict.fromkeys(benchmarks):
        for precision in precisions:
            job = Job(subject.spec, subject.weights, benchmark, folders, precision, options)
            result = result_of(job, subject, checksums[benchmark])
            results.append(result)
            if subject.trial is not None:
                _keep(options.store, subject.trial, job.name, result)
            if options.json_lines:
                print(json.dumps(result), flush=True)
    if not options.json_lines:
        print_scores(subject.name, subject.step, subject.spec.task.name, results)
    return 0


def cache_in(store: str) -> Path | None:
    """The cache beside a folder store that can be written; None means the user's cache."""
    is_ours = "://" not in store and os.access(store, os.W_OK)
    return Path(store) / "cache" if is_ours else None


def _keep(store_uri: str, trial: str, name: str, result: Mapping[str, Any]) -> None:
    """Keep a result in the store; where that cannot be written, printing the result has to do."""
    try:
        write_evaluation(open_store(store_uri), trial, name, result)
    except EnvironmentProblem as error:
        print(f"The result is not kept in the store. {error}", file=sys.stderr)


def precisions_asked(options: EvaluateOptions) -> tuple[str, ...]:
    """The precisions, with `all` spelled out. Raises UserError for flags that do not fit."""
    from trainers.precision import BITS, PRECISIONS

    asked = PRECISIONS if ALL in options.precisions else tuple(dict.fromkeys(options.precisions))
    for precision in asked:
        if precision not in PRECISIONS:
            raise UserError(
                f"--precision {precision}: give one of {', '.join(PRECISIONS)}, or {ALL}."
            )
    if options.per_channel and not BITS.keys() & set(asked):
        raise UserError(
            f"--per-channel needs --precision {' or '.join(BITS)}: it is about integer weights."
        )
    if options.tile_px is not None and options.tile_px < LEAST_TILE_PX:
        raise UserError(
            f"--tile {options.tile_px}: a tile needs at least {LEAST_TILE_PX} LQ pixels."
        )
    return asked


def _subject(given: str, options: EvaluateOptions) -> Subject:
    path = Path(given)
    if path.suffix == ".safetensors" or path.is_file():
        from trainers.build import read_exported

        try:
            spec, metadata, weights = read_exported(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error
        except ValueError as error:
            raise UserError(
                f"{path}: {error}. Give a file that `normsweep export` wrote, or a trial's id."
            ) from error
        step = metadata.get("step", "")
        name, at = metadata.get("trial") or path.name, int(step) if step.isdecimal() else None
        return Subject(spec, weights, name, at, None, str(path))
    return trained_subject(read_store(options.store), given)


def trained_subject(store: Store, given: str) -> Subject:
    """A completed trial's network. Raises what `final_weights` raises."""
    found = final_weights(store, given)
    spec, name = RunSpec.from_json(found.spec), found.trial
    return Subject(spec, found.tensors, name, found.step, name, f"trial {name}")


def fitting(subject: Subject) -> Subject:
    """The subject with the weights of the network that is built from it.

    Building it here, before any worker starts, turns weights that do not fit into a UserError.
    """
    from trainers.build import build_trained

    network = build_trained(subject.spec, subject.weights, subject.source)
    return replace(subject, weights=network.state_dict())


def _checked_sets(spec: RunSpec, benchmarks: Sequence[str], roots: DataRoots) -> dict[str, str]:
    """The checksum of each set.

    Raises one UserError that names every set that is missing or does not fit the task.
    """
    problems, checksums = [], {}
    for name in benchmarks:
        try:
            found = as_taken(roots.find(name), spec.task)
        except DatasetProblem as error:
            problems.append(str(error))
            continue
        if why := lacks_pairs(found, spec.task):
            problems.append(why)
        checksums[name] = found.sha256
        for note in found.notes:
            print(note, file=sys.stderr)
    if problems:
        raise UserError("\n".join(problems))
    return checksums


def result_of(job: Job, subject: Subject, set_sha256: str) -> dict[str, Any]:
    """The result of one job, with its images dealt out to the workers."""
    from trainers.build import build_task
    from trainers.evaluate import means, score_inputs
    from trainers.journal import encoded, encoded_scores

    workers = job.options.workers
    if workers == 1:
        parts = [_scores(job, 0)]
    else:
        # Not forked, since CUDA and torch's threads do not survive that.
        with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(_scores, [job] * workers, range(workers)))
    # Sorted, so that the result does not depend on the number of workers.
    scores = sorted((score for part in parts for score in part), key=lambda score: score["name"])
    task = build_task(job.spec)
    is_plain = job.precision == "fp32" and not job.options.tile_px
    inputs = score_inputs(task, _images(job)) if is_plain else None
    return {
        "of": subject.name,
        "step": subject.step,
        "set_sha256": set_sha256,
        "benchmark": job.benchmark,
        **how_run(job.precision, job.options),
        "task": job.spec.task.model_dump(mode="json"),
        **task.how_scored(),
        **{metric: encoded(value) for metric, value in means(scores).items()},
        "images": encoded_scores(scores),
        **({} if inputs is None else {"input_images": encoded_scores(inputs)}),
        "versions": {
            name: version(name) for name in ("torch", "numpy", "scikit-image", "normsweep")
        },
    }


def _images(job: Job) -> Sequence[NamedImage]:
    from trainers.build import build_benchmark

    task = job.spec.task
    scales = {"scale": scale_of(task), "lr_scale": given_scale(task)}
    return build_benchmark(job.benchmark, task.name, job.folders, **scales)


def _scores(job: Job, worker: int) -> list[Score]:
    """The scores of this worker's share of the images."""
    import torch

    from trainers.build import build_task, build_trained
    from trainers.evaluate import Tiling, evaluate
    from trainers.kernels import choose_kernels
    from trainers.precision import at_precision

    options = job.options
    if options.workers > 1 and not torch.cuda.is_available():
        torch.set_num_threads(max(1, torch.get_num_threads() // options.workers))
    cuda = torch.cuda.device_count()
    device = torch.device("cuda", worker % cuda) if cuda else torch.device("cpu")
    choose_kernels(device)
    model = at_precision(
        build_trained(job.spec, job.weights).to(device),
        job.precision,
        per_channel=is_per_channel(job.precision, options),
    )
    images = _images(job)
    tiling: Tiling | None = Tiling(options.tile_px, options.overlap_px) if options.tile_px else None
    keep = None
    if options.save is not None:
        keep = saving(options.save, job.name, [image.name for image in images])
    mine = slice(worker, None, options.workers)
    return evaluate(
        model, build_task(job.spec), images, device, index_slice=mine, tiling=tiling, keep=keep
    )
