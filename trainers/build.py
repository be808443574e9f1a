"""From a RunSpec to objects: the one place that turns names into classes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from trainers.backbones.around import Around, MakeNorm
from trainers.catalog import BACKBONES, NORMS, PROBES, TASKS
from trainers.data.cache import Cache
from trainers.data.datasets import dataset
from trainers.data.given import find_for, given_scale, scale_of
from trainers.data.images import NamedImage, in_squares, read_images
from trainers.data.manifests import DatasetProblem
from trainers.norms.affine import Affine
from trainers.norms.none import NoNorm
from trainers.spec import BadSpec, RunSpec
from trainers.tasks.packing import packed_pairs
from trainers.tasks.patches import Epochs, TrainingPatches

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainers.probes.base import Probe
    from trainers.tasks.base import Task


LEAST_PX = 32  # shortest side of an image that is scored


def build_task(spec: RunSpec) -> Task:
    task: Task = TASKS[spec.task.name].load()(**spec.task.knobs)
    return task


def build_model(spec: RunSpec) -> nn.Module:
    """The network, freshly initialised from torch's global generator, so seed that first."""
    model = spec.model
    norm = NORMS[model.norm.name]
    # Where another norm takes its place at the ends, that one gets the knobs that both have.
    at_ends = NORMS[norm.facts.get("same_at_ends", norm.name)]
    ends: dict[str, MakeNorm] = {
        "same": partial(
            at_ends.load(),
            **{k: v for k, v in model.norm.knobs.items() if norm is at_ends or k in at_ends.knobs},
        ),
        "affine": Affine,
        "identity": NoNorm,
    }
    network: nn.Module = BACKBONES[model.backbone.name].load()(
        make_norm=partial(norm.load(), **model.norm.knobs),
        around=Around(
            ends[model.embed_norm], ends[model.end_norm], model.stdnorm, build_task(spec).scale
        ),
        recompute=spec.placement.activation_checkpointing,
        **model.backbone.knobs,
    )
    return network


def build_probes(spec: RunSpec) -> dict[str, Callable[[nn.Module], Probe]]:
    """Constructors of probes by name: those of the spec, and those by which the guard judges.

    So whether a trial has diverged does not depend on what is observed of it. Raises BadSpec where
    one of the user's own cannot be imported, or is not a probe.
    """
    judging = (entry.name for entry in PROBES if entry.facts.get("guards"))
    return {name: _probe_class(name) for name in (*spec.observe.probes, *judging)}


def _probe_class(name: str) -> type[Probe]:
    from trainers.probes.base import Probe

    entry = PROBES[name]
    try:
        found = entry.load()
    except (ImportError, AttributeError) as error:
        if not entry.open_knobs:
            raise
        raise BadSpec(f"probe {name} cannot be imported here: {error}") from error
    if not (isinstance(found, type) and issubclass(found, Probe)):
        raise BadSpec(f"probe {name} is not a subclass of trainers.probes.base.Probe")
    return found


def build_patches(spec: RunSpec, roots: Sequence[Path], cache: Cache) -> TrainingPatches:
    """The training patches, cut from packed images.

    Raises CacheProblem and DatasetProblem, the latter also if the set is not the one that was
    planned.
    """
    source = find_for(
        spec.data.train, given_scale(spec.task), roots, task_scale=scale_of(spec.task)
    )
    if source.sha256 != spec.data.train_sha256:
        raise DatasetProblem(
            f"data set {source.name!r} in {source.folder} has manifest {source.sha256[:12]}, "
            f"but the trial was planned with {spec.data.train_sha256[:12]}. "
            "Plan it again, or restore the data."
        )
    task = build_task(spec)
    pairs = packed_pairs(source, task, cache)
    patch = spec.training.patch_size_px
    side = (patch + task.margin_px) * task.scale
    too_small = [
        f"{file.path}: {pair.gt.shape[1]} x {pair.gt.shape[0]} pixels, "
        f"but a patch needs {side} x {side}"
        for file, pair in zip(source.files, pairs, strict=True)
        if min(pair.gt.shape[:2]) < side
    ]
    if too_small:
        raise DatasetProblem(f"data set {source.name!r}:\n  " + "\n  ".join(too_small))
    training = spec.training
    return TrainingPatches(
        pairs,
        task,
        patch,
        training.seed,
        flips=training.flips,
        rotations=training.rotations,
        epochs=Epochs(len(pairs), training.batch_size, training.seed)
        if training.sampling == "epoch"
        else None,
    )


def build_benchmark(
    name: str,
    task: str,
    roots: Sequence[Path],
    *,
    scale: int | None = None,
    lr_scale: int | None = None,
) -> Sequence[NamedImage]:
    """The images of an evaluation set as `task` is evaluated on them: whole, or cut into squares.

    With `lr_scale`, the LR images of that scale that lie beside them are read too. A set that holds
    its images once for each scale gives those of `scale`. Raises DatasetProblem.
    """
    found = find_for(name, lr_scale, roots, task_scale=scale)
    side = dataset(name).crops_px.get(task)
    if side is None:
        return read_images(found, at_least_px=LEAST_PX, needed_by="a score")
    # Every published image holds a square. One that does not is from another copy of the set:
    # reduced images, thumbnails.
    return in_squares(
        read_images(found, at_least_px=side, needed_by=f"one of {name}'s squares"), side
    )


def build_benchmarks(spec: RunSpec, roots: Sequence[Path]) -> dict[str, Sequence[NamedImage]]:
    """The evaluation sets by name. Raises DatasetProblem."""
    task = spec.task
    scales = {"scale": scale_of(task), "lr_scale": given_scale(task)}
    return {
        name: build_benchmark(name, task.name, roots, **scales) for name in spec.observe.evaluate
    }


def read_exported(path: Path) -> tuple[RunSpec, dict[str, str], dict[str, Tensor]]:
    """Spec, metadata and weights of a file that `normsweep export` wrote.

    Raises OSError where it cannot be read, and ValueError (BadSpec is one) where it is another kind
    of file.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # the file itself is not iterable
            weights = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}") from error
    if "spec" not in metadata:
        raise ValueError("has no `spec` in its metadata")
    return RunSpec.from_json(metadata["spec"]), metadata, weights


def build_trained(
    spec: RunSpec, weights: Mapping[str, Tensor], source: str = "the state"
) -> nn.Module:
    """The network of a spec with these weights, in evaluation mode; messages call them `source`.

    Raises trainers.backbones.published.NotThisNetwork, a ValueError, where weights are missing,
    left over or not finite, or where the network's norm cannot be imported here.
    """
    from trainers.backbones.keys import network_state
    from trainers.backbones.published import NotThisNetwork, Weights, checked, fit

    norm = spec.model.norm.name
    try:
        model = build_model(spec).eval()
    except (ImportError, AttributeError) as error:
        if not NORMS[norm].open_knobs:
            raise
        raise NotThisNetwork(
            f"{source} is of norm {norm}, which cannot be imported here: {error}"
        ) from error
    # Names of our own are taken as they are: those of a user's norm may look like the names of a
    # published network, and would be translated.
    state = weights if weights.keys() == model.state_dict().keys() else network_state(weights)
    model.load_state_dict(fit(checked(Weights(source, state, norm)), model).taken, strict=False)
    return model


def load_exported(path: Path) -> nn.Module:
    """The network of a file that `normsweep export` wrote, in evaluation mode.

    Raises OSError, and ValueError as `read_exported` and `build_trained` do.
    """
    spec, _, weights = read_exported(path)
    return build_trained(spec, weights, str(path))
