"""Which trials of a sweep stand beside a row of the paper.

A name of the paper means an entry of a catalogue with some knobs. Where a sweep has several
networks of one family, or several norms that a name may mean, the choice is by size, by the knobs
and by the order of the file, never by the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orchestrator.plan.axes import COMPARED, Axis
from orchestrator.plan.expand import Plan, Trial
from orchestrator.report.paper.printed import Printed
from trainers.catalog import NORMS
from trainers.choice import Choice
from trainers.entries import KnobValue

# The channels of HAT. Table 6 has a HAT that is "wider", without saying how wide.
PAPERS_WIDTH = 180


@dataclass(frozen=True)
class Meaning:
    """What a name of the paper means: an entry with these knobs, and more exactly the `closest`."""

    entry: str
    knobs: Mapping[str, KnobValue] = field(default_factory=dict)
    closest: Mapping[str, KnobValue] = field(default_factory=dict)

    def fits(self, choice: Choice) -> bool:
        return choice.name == self.entry and not _differing(self.knobs, choice)

    def distance(self, choice: Choice) -> int:
        """How many of the closest knobs have other values."""
        return _differing(self.closest, choice)


def _differing(knobs: Mapping[str, KnobValue], choice: Choice) -> int:
    return sum(choice.knobs.get(knob) != value for knob, value in knobs.items())


# The published EMA copies parameters but no buffers, so a BatchNorm's statistics stay at 0 and 1
# (trap b in section 1 of the paper's protocol).
NORM_OF = {
    "layernorm": Meaning("layer_norm"),
    "iln": Meaning("i_ln", {"rescale": True}),
    "iln_norescale": Meaning("i_ln", {"rescale": False}),
    "layerscale": Meaning("layer_scale"),
    "rmsnorm": Meaning("rms_norm"),
    "rezero": Meaning("rezero"),
    "none": Meaning("none"),
    "instancenorm": Meaning("instance_norm"),
    "batchnorm": Meaning("batch_norm", {"eval_stats": "running"}, {"ema_buffers": "untouched"}),
    "batchnorm_trainstats": Meaning("batch_norm", {"eval_stats": "batch"}),
}
FAMILY_OF = {"HAT": "hat", "HAT-wide": "hat", "DRCT": "drct", "SwinIR": "swinir"}


def task_of(row: Printed) -> Meaning:
    """The task of a row. The paper's folders of LR images are named after lr_mode f64."""
    if row.task == "sr":
        assert row.level is not None
        return Meaning("sr", {"scale": row.level}, {"lr_mode": "f64"})
    if row.task == "dn":
        assert row.level is not None
        return Meaning("denoise", {"sigma_255": float(row.level)})
    if row.task == "car":
        assert row.level is not None
        return Meaning("jpeg", {"quality": row.level})
    return Meaning("derain")


@dataclass(frozen=True)
class Network:
    """The trials that stand beside one backbone of the paper on one task.

    They differ in norm and seed alone, and `labels` has the other axes.
    """

    labels: Mapping[str, Any]
    trials: tuple[Trial, ...]

    @property
    def parameters(self) -> int:
        """The largest number of parameters that a norm gives it."""
        return max(trial.parameters for trial in self.trials)

    def norm(self, name: str) -> str | None:
        """The label of the sweep's norm that the paper's name means; None if there is none.

        Of several, it is the one with the fewest knobs off their defaults.
        """
        meaning = NORM_OF[name]
        found = [trial for trial in self.trials if meaning.fits(trial.spec.model.norm)]
        if not found:
            return None
        nearest = min(found, key=lambda trial: _off(meaning, trial.spec.model.norm))
        label: str = nearest.axes[COMPARED]
        return label

    def of(self, norm: str) -> tuple[Trial, ...]:
        """The trials of a norm, by its label."""
        return tuple(trial for trial in self.trials if trial.axes[COMPARED] == norm)


def _off(meaning: Meaning, choice: Choice) -> tuple[int, int]:
    defaults = {**NORMS[choice.name].resolve({}), **meaning.knobs, **meaning.closest}
    return meaning.distance(choice), _differing(defaults, choice)


def has_family(plan: Plan) -> bool:
    """Whether the sweep has a backbone of a family that the paper has."""
    families = set(FAMILY_OF.values())
    return any(trial.spec.model.backbone.name in families for trial in plan.trials)


def network(plan: Plan, row: Printed) -> Network | None:
    """The network that stands beside a row's backbone on its task; None if the sweep has none.

    It is the largest by parameters. HAT is preferably no wider than the paper's, and the "wider"
    HAT of Table 6 preferably wider. Of recipes, the longest; of what is still equal, the first in
    the file.
    """
    task = task_of(row)
    groups: dict[tuple[Any, ...], list[Trial]] = {}
    for trial in plan.trials:
        spec = trial.spec
        if (
            spec.model.backbone.name == FAMILY_OF[row.backbone]
            and task.fits(spec.task)
            and any(meaning.fits(spec.model.norm) for meaning in NORM_OF.values())
        ):
            groups.setdefault(tuple(_labels(plan.axes, trial).items()), []).append(trial)
    found = [Network(dict(labels), tuple(trials)) for labels, trials in groups.items()]

    def rank(candidate: Network) -> tuple[Any, ...]:
        spec = candidate.trials[0].spec
        is_wide = spec.model.backbone["embed_dim"] > PAPERS_WIDTH
        return (
            is_wide == row.backbone.endswith("-wide"),
            -task.distance(spec.task),
            candidate.parameters,
            spec.training.steps,
        )

    return max(found, key=rank, default=None)


def _labels(axes: Sequence[Axis], trial: Trial) -> dict[str, Any]:
    """The labels of a trial on every axis but the norm and the repetitions."""
    return {
        axis.name: trial.axes.get(axis.name)
        for axis in axes
        if axis.name != COMPARED and axis.role != "repeat"
    }
