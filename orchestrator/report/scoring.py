"""How each task of a sweep is scored, in a sentence, as it stands below the scores."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.plan.expand import Plan
from orchestrator.report.protocol import Recorded
from trainers.catalog import TASKS
from trainers.choice import Choice

# What makes the scores of other work incomparable. The decibels were measured on Classic5.
BEWARE = {
    "jpeg": "Scores on Y cannot be compared with these, nor can LQ without halved chroma (4:4:4), "
    "which adds 0.3 to 0.5 dB.",
    "derain": "Scores on RGB cannot be compared with these.",
    "derain_synthetic": "Synthetic rain is for development: its scores cannot be compared with "
    "those of any published set.",
}
SQUARES = (
    "Urban100 is cut into its 1,004 squares of 256 px for {}; the score is the mean over squares."
)
CUT = ("denoise", "jpeg")  # the tasks that published work scores on squares of Urban100


def scored(plan: Plan, recorded: Recorded) -> list[str]:
    """A sentence for each task: the channels compared, the border, where LQ images come from."""
    specs: dict[str, list[Choice]] = {}
    cut: dict[str, None] = {}
    for trial in plan.trials:
        for spec in recorded.get(trial.id) or (trial.spec,):
            name = str(trial.axes["task"])
            known = specs.setdefault(name, [])
            if spec.task not in known:
                known.append(spec.task)
            if spec.task.name in CUT and "Urban100" in spec.observe.evaluate:
                cut[name] = None
    lines = [_sentence(name, found) for name, found in specs.items()]
    return [*lines, *([SQUARES.format(", ".join(cut))] if cut else [])]


def _sentence(name: str, specs: Sequence[Choice]) -> str:
    """`jpeg_40: RGB, no border; Pillow's encoder, chroma 4:2:0; quality 40.`"""
    parts = []
    for spec in specs:
        how = str(TASKS[spec.name].facts["scored"]).partition(": ")[2]
        knobs = ", ".join(f"{knob} {_short(value)}" for knob, value in spec.knobs.items())
        parts.append(f"{how}; {knobs}" if knobs else how)
    beware = [BEWARE[kind] for kind in dict.fromkeys(spec.name for spec in specs) if kind in BEWARE]
    return " ".join([f"{name}: {', or '.join(parts)}.", *beware])


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
