"""RunSpec, which describes one trial completely, and its JSON, which planning gives to training.

Pure: no torch. `model`, `task`, `data` and `training` can change the weights, so they are the
trial's identity (orchestrator.plan.identity). `observe` and `placement` cannot, and are not part
of it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PlainValidator,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import ErrorDetails

from trainers.catalog import BACKBONES, NORMS, PROBES, TASKS, BadKnob, Ends, UnknownName
from trainers.choice import LONGEST_LIST, Choice, ListedPart, Part, resolved
from trainers.errors import UserError
from trainers.observed import PROBE_NAME

SHA256 = r"^[0-9a-f]{64}$"
# Bounds: far beyond what is useful, and within what a machine can hold. A larger number is a slip.
MOST_STEPS = 100_000_000
MOST_IMAGES = 65_536  # in a batch
SET_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class BadSpec(UserError, ValueError):
    """A RunSpec that is not valid; the message names each field and what would be right."""

    kind = "spec"


def misfit(backbone: Choice) -> str | None:
    """Why no network can have these knobs; None if one can."""
    shape = BACKBONES[backbone.name].shape
    return None if shape is None else shape.misfit(backbone.knobs)


def refusal(backbone: Choice, task: Choice) -> str | None:
    """Why the backbone cannot do the task; None if it can."""
    shape = BACKBONES[backbone.name].shape
    return None if shape is None else shape.refusal(task.name, task.knobs)


def default_ends(backbone: Choice, norm: Choice) -> Ends:
    """The default of `embed_norm` and `end_norm`."""
    ends: Ends = NORMS[norm.name].facts.get("ends", "same")
    return ends if BACKBONES[backbone.name].has_ends else "identity"


class ModelSpec(Part):
    """The network; `embed_norm` follows the patch embedding, `end_norm` precedes the head."""

    backbone: Annotated[Choice, resolved(BACKBONES)]
    norm: Annotated[Choice, resolved(NORMS)]
    embed_norm: Ends
    end_norm: Ends
    stdnorm: bool = Field(
        description="standardise inputs with the DF2K mean and std, and undo it at the output"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if why := misfit(self.backbone):
            raise ValueError(why)
        ends = {self.embed_norm, self.end_norm}
        if not BACKBONES[self.backbone.name].has_ends and ends != {"identity"}:
            raise ValueError(
                f"{self.backbone.name} has no norms at its ends: "
                "embed_norm and end_norm must be identity"
            )
        return self

    @classmethod
    def with_defaults(cls, backbone: Choice, norm: Choice, **given: Any) -> Self:
        """The model with the ends and standardisation that `norm` has by default, unless `given`.

        See trap a in section 1 of the protocol.
        """
        name, knobs = BACKBONES.resolve(backbone.name, backbone.knobs)
        resolved = Choice(name=name, knobs=knobs)
        ends = default_ends(resolved, norm)
        stdnorm = NORMS[norm.name].facts.get("stdnorm", False)
        defaults = {"embed_norm": ends, "end_norm": ends, "stdnorm": stdnorm}
        return cls(backbone=resolved, norm=norm, **{**defaults, **given})


class DataSpec(Part):
    """The training set, by name and by the checksum of its manifest."""

    train: str = Field(pattern=SET_NAME)
    train_sha256: str = Field(pattern=SHA256, description="sha256 of the training set's manifest")


class Recipe(ListedPart):
    """The training recipe, without what differs between trials.

    Defaults are those of section 4 of the paper's protocol.
    """

    steps: int = Field(300_000, ge=1, le=MOST_STEPS, description="optimiser steps")
    batch_size: int = Field(
        16, ge=1, le=MOST_IMAGES, description="images per step over all workers"
    )
    lr: float = Field(2e-4, gt=0, le=1e3, description="learning rate of Adam")
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.99), description="Adam's betas"
    )
    weight_decay: float = Field(0.0, ge=0, le=1e3, description="Adam's, added as an L2 term")
    halve_lr_at: tuple[Annotated[float, Field(gt=0, lt=1)], ...] = Field(
        (5 / 6,),
        max_length=LONGEST_LIST,
        description="fractions of `steps` after which lr is multiplied by `lr_factor`",
    )
    lr_factor: float = Field(
        0.5, gt=0, le=1, description="factor on lr at each fraction in `halve_lr_at`"
    )
    clip_grad_norm: float | None = Field(
        None,
        gt=0,
        le=1e30,
        description="largest 2-norm of all gradients together: a larger one is scaled down to it; "
        "none: no clipping",
    )
    ema_decay: float = Field(
        0.999, ge=0, lt=1, description="decay of the averaged weights, which are evaluated"
    )
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = Field(
        "fp32",
        description="autocast precision; weights and optimiser stay fp32. "
        "`tf32`: fp32 with TF32 matrix products on CUDA",
    )
    flips: bool = Field(True, description="flip training patches at random")
    rotations: bool = Field(
        True, description="turn training patches by a random multiple of 90 degrees"
    )
    sampling: Literal["independent", "epoch"] = Field(
        "independent",
        description="`independent` draws each image anew; "
        "`epoch` takes every image once, in a new order, before any again",
    )
    feature_limit: float | None = Field(
        None,
        gt=0,
        le=1e30,
        description="mean square of a group's features beyond which a trial counts as diverged",
    )


class TrainingSpec(Recipe):
    """The training of one trial."""

    seed: int = Field(0, ge=0, lt=2**31)
    patch_size_px: int = Field(ge=8, le=1024, description="side of a training patch on the LQ side")
    initial: str | None = Field(
        None,
        pattern=SHA256,
        description="sha256 of the file of weights that training starts from; "
        "none: they are drawn from `seed`",
    )
    initial_strict: bool = Field(
        True,
        description="refuse `initial` weights that lack a tensor, or have one of another shape",
    )


class Cadences(ListedPart):
    """What is recorded while training, and how often. It cannot change the weights."""

    log_every: int = Field(
        10, ge=1, le=MOST_STEPS, description="steps between two records of the loss"
    )
    probe_every: int = Field(
        50, ge=1, le=MOST_STEPS, description="steps between two feature traces"
    )
    probe_patches: int = Field(16, ge=1, le=4_096, description="patches in the fixed probe batch")
    probes: tuple[Annotated[str, Field(pattern=PROBE_NAME)], ...] = Field(
        ("features",), max_length=LONGEST_LIST, description="what is measured on the probe batch"
    )
    arrays_every: int | None = Field(
        None, ge=1, le=MOST_STEPS, description="steps between two files of arrays; none: ~100 files"
    )
    evaluate_every: int = Field(
        5_000, ge=1, le=MOST_STEPS, description="steps between two evaluations"
    )
    checkpoint_every: int = Field(
        5_000, ge=1, le=MOST_STEPS, description="steps between two checkpoints"
    )


class ObserveSpec(Cadences):
    """What is observed while one trial trains."""

    evaluate: tuple[Annotated[str, Field(pattern=SET_NAME)], ...] = Field(
        (), max_length=LONGEST_LIST, description="sets evaluated on whole images"
    )

    @field_validator("probes")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            PROBES[name]  # raises UnknownName
        return tuple(dict.fromkeys(names))


SMALLEST_SHARE = 1e-4  # Ray does not divide a GPU further


def _gpus(value: Any) -> Literal["auto"] | float:
    if value == "auto":
        return "auto"
    if type(value) in (int, float) and (value == 0 or SMALLEST_SHARE <= value <= 1):
        return float(value)
    raise ValueError(
        "must be auto, 0, 1, or the fraction of a GPU that a worker takes, such as 0.5"
    )


Gpus = Annotated[
    Literal["auto"] | float,
    PlainValidator(_gpus),
    WithJsonSchema({"anyOf": [{"const": "auto"}, {"type": "number", "minimum": 0, "maximum": 1}]}),
]


class Gang(Part):
    """In how many slices a step is computed, and on what. It changes only rounding."""

    workers: int = Field(
        1, ge=1, le=4_096, description="processes of the gang, each with a slice of every batch"
    )
    micro_batch: int | None = Field(
        None,
        ge=1,
        le=MOST_IMAGES,
        description="images per worker and forward pass; none: the worker's share of the batch",
    )
    zero_stage: Literal[0, 1, 2, 3] = Field(
        0, description="DeepSpeed's ZeRO stage, which says what it shards over the workers"
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        description="`auto` is CUDA for a worker that was given a GPU, and the CPU otherwise",
    )
    cpus_per_worker: int = Field(
        1, ge=1, le=1_024, description="CPU cores of a worker, and its threads"
    )
    gpus_per_worker: Gpus = Field(
        "auto",
        description="0, 1, or a fraction, with which trials of one worker share a GPU. "
        "`auto`: 1 where nodes have GPUs, else 0",
    )
    data_workers: int | None = Field(
        None,
        ge=0,
        le=256,
        description="processes beside each worker that prepare patches in advance; "
        "none: one fewer than its cores on a GPU, 0 on a CPU",
    )
    activation_checkpointing: bool = Field(
        False,
        description="recompute each block in the backward pass: less memory, "
        "about a third more time",
    )

    @property
    def gpus(self) -> float:
        """GPUs of a worker; `auto` counts as none until a plan or run has seen the nodes."""
        return 0.0 if self.gpus_per_worker == "auto" else self.gpus_per_worker


Strategy = Literal["pack", "spread", "strict_pack"]


class PlacementSpec(Gang):
    """The placement of one trial's gang."""

    strategy: Strategy = "pack"


def _in_words(problem: ErrorDetails) -> str:
    place = ".".join(map(str, problem["loc"])) or "spec"
    return f"{place}: {problem['msg'].removeprefix('Value error, ')}"


class RunSpec(Part):
    """Everything one trial needs.

    `placement.workers * micro_batch * accumulation == training.batch_size`.
    """

    version: Literal[1] = 1
    model: ModelSpec
    task: Annotated[Choice, resolved(TASKS)]
    data: DataSpec
    training: TrainingSpec
    observe: ObserveSpec = ObserveSpec()
    placement: PlacementSpec = PlacementSpec()

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if why := refusal(self.model.backbone, self.task):
            raise ValueError(why)
        workers, batch = self.placement.workers, self.training.batch_size
        if batch % workers:
            raise ValueError(
                f"placement.workers {workers} does not divide training.batch_size {batch}"
            )
        if (batch // workers) % self.micro_batch:
            raise ValueError(
                f"placement.micro_batch {self.micro_batch} does not divide "
                f"the {batch // workers} images of a worker"
            )
        return self

    @property
    def micro_batch(self) -> int:
        """Images per worker and forward pass."""
        return self.placement.micro_batch or self.training.batch_size // self.placement.workers

    @property
    def accumulation(self) -> int:
        """Forward passes per optimiser step and worker."""
        return self.training.batch_size // (self.placement.workers * self.micro_batch)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Raises BadSpec, with a line for each problem."""
        try:
            value = json.loads(text)
        # ValueError also stands for other encodings and for numbers with too many digits.
        except (ValueError, RecursionError) as error:
            raise BadSpec(f"not JSON: {error}") from error
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise BadSpec("\n".join(map(_in_words, error.errors()))) from error
        except (UnknownName, BadKnob) as error:
            raise BadSpec(str(error)) from error

    def to_json(self) -> str:
        return json.dumps(self.model_dump(mode="json"), indent=2) + "\n"
