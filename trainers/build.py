"""RunSpec to objects: the one place that turns names into classes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.catalog import BACKBONES, NORMS, TASKS
from trainers.data.cache import Cache
from trainers.data.images import NamedImage, read_images
from trainers.data.manifests import DatasetProblem, find_set
from trainers.norms.affine import Affine
from trainers.norms.none import NoNorm
from trainers.spec import RunSpec
from trainers.tasks.packing import packed_pairs
from trainers.tasks.patches import TrainingPatches

if TYPE_CHECKING:
    from torch import nn

    from trainers.tasks.base import Task


def build_task(spec: RunSpec) -> Task:
    return TASKS[spec.task.name].load()(**spec.task.knobs)


def build_model(spec: RunSpec) -> nn.Module:
    """The network, freshly initialised from torch's global generator: seed that first."""
    model = spec.model
    norm = NORMS[model.norm.name]
    at_ends = NORMS[norm.facts.get("same_at_ends", norm.name)]
    ends = {
        "same": partial(
            at_ends.load(), **{k: v for k, v in model.norm.knobs.items() if norm is at_ends or k in at_ends.knobs}
        ),
        "affine": Affine,
        "identity": NoNorm,
    }
    return BACKBONES[model.backbone.name].load()(
        make_norm=partial(norm.load(), **model.norm.knobs),
        make_embed_norm=ends[model.embed_norm],
        make_end_norm=ends[model.end_norm],
        stdnorm=model.stdnorm,
        scale=build_task(spec).scale,
        recompute=spec.placement.activation_checkpointing,
        **model.backbone.knobs,
    )


def build_patches(spec: RunSpec, roots: Sequence[Path], cache: Cache) -> TrainingPatches:
    """The training patches, from packed images. Raises DatasetProblem, also where the set is not the one that was planned;
    CacheProblem.
    """
    source = find_set(spec.data.train, roots)
    if source.sha256 != spec.data.train_sha256:
        raise DatasetProblem(
            f"data set {source.name!r} in {source.folder} has manifest {source.sha256[:12]}, "
            f"but the trial was planned with {spec.data.train_sha256[:12]}: plan it again, or restore the data"
        )
    task = build_task(spec)
    pairs = packed_pairs(source, task, cache)
    patch = spec.training.patch_size_px
    too_small = [
        f"{file.path}: is {pair.gt.shape[1]} x {pair.gt.shape[0]} pixels, but a patch needs {side} x {side}"
        for side in [(patch + task.margin_px) * task.scale]
        for file, pair in zip(source.files, pairs, strict=True)
        if min(pair.gt.shape[:2]) < side
    ]
    if too_small:
        raise DatasetProblem(f"data set {source.name!r}:\n  " + "\n  ".join(too_small))
    return TrainingPatches(pairs, task, patch, spec.training.seed)


def build_benchmarks(spec: RunSpec, roots: Sequence[Path]) -> dict[str, Sequence[NamedImage]]:
    """The evaluation sets by name. Raises DatasetProblem."""
    return {name: read_images(find_set(name, roots), at_least_px=32) for name in spec.observe.evaluate}


def load_exported(path: Path) -> nn.Module:
    """The network of a file that `normsweep export` wrote, in evaluation mode."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        spec = RunSpec.from_json(file.metadata()["spec"])
        weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    model = build_model(spec).eval()
    model.load_state_dict(weights)
    return model
