"""What it would take to judge a claim, or to be surer: norms, trials, seeds, hours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.plan.expand import Trial
from orchestrator.plan.show import duration, trials_in_words
from orchestrator.report.claims.lines import Claim
from orchestrator.report.claims.material import Material
from orchestrator.report.claims.parts import Evidence, Part
from orchestrator.report.words import listed
from orchestrator.statistics.interval import Unknown

NAMED = 2  # trials in a sentence


@dataclass(frozen=True)
class Missing:
    """Sentences, and the seconds that the trials in them would take one after the other.

    `absent` are norms, tasks and backbones that the sweep does not have. `first` completes "...,
    which would take" or "..., because": the first of them that is to be done.
    """

    sentences: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    seconds: float = 0.0
    first: str = ""


def missing(
    claim: Claim,
    parts: Sequence[Part],
    undecided: Sequence[Part],
    absent: tuple[str, ...],
    material: Material,
) -> Missing:
    """What a claim lacks; seeds are counted for the `undecided` parts, trials for all."""
    lacking = ", ".join(absent) or ("" if parts else nowhere(claim))
    sentences = [f"not in this sweep: {lacking}"] if lacking else []
    first: dict[str, str] = {}
    trials = {trial.id: trial for part in parts for trial in part.planned}
    waiting = [trial for trial in trials.values() if material.state(trial).is_open]
    if waiting:
        cost = _cost(material, dict.fromkeys((trial.id for trial in waiting), 1))
        sentences.append(
            f"{len(waiting)} of {trials_in_words(len(trials))} {_have(waiting)} not ended "
            f"({_names(waiting)}): {cost}"
        )
        open_trials = f"{trials_in_words(len(waiting))} that {_have(waiting)} not ended"
        first["open"] = f"which would take {open_trials} ({cost})"
    sentences += _broken(trials.values(), material)
    ended = [part for part in undecided if not _waits(part, material)]
    reasons = _reasons(ended)
    advice = list(dict.fromkeys(line for part in ended for line in part.advice))
    sentences += [*reasons, *advice]
    more, doubts = _seeds(ended)
    if more:
        most = max(more.values())
        number = sum(more.values())
        sentences.append(
            f"{most} more seed{'s' * (most != 1)} of each norm: {trials_in_words(number)}, "
            f"{_cost(material, more)}"
        )
        first["seeds"] = f"which would take {sentences[-1]}"
    sentences += doubts
    first |= {"advice": f"which would take {advice[0]}"} if advice else {}
    first |= {"lacking": f"which would take {lacking}"} if lacking else {}
    first |= {"reason": f"because of {(reasons + doubts)[0]}"} if reasons + doubts else {}
    seconds = _seconds(material, dict.fromkeys((trial.id for trial in waiting), 1))
    seconds += _seconds(material, more)
    return Missing(tuple(sentences), absent, seconds, next(iter(first.values()), ""))


def nowhere(claim: Claim) -> str:
    """What a sweep has nowhere that has every norm, task and backbone of a claim, but no part."""
    if (measure := getattr(claim, "measure", None)) is not None:
        return f"several values of {measure}"
    if hasattr(claim, "candidate"):
        return "candidate and reference at one place"
    return "these norms at these places"


def _waits(part: Part, material: Material) -> bool:
    """Whether trials of a part have not ended, so that nothing else is asked for yet."""
    return any(material.state(trial).is_open for trial in part.planned)


def _reasons(parts: Sequence[Part]) -> list[str]:
    """Why parts have no numbers, those with the same reason together."""
    wheres: dict[str, list[str]] = {}
    for part in parts:
        if isinstance(part.evidence, Unknown):
            wheres.setdefault(part.evidence.reason, []).append(part.where)
    return [
        f"{where[0]}{f' and {len(where) - 1} more' if where[1:] else ''}: {reason}"
        for reason, where in wheres.items()
    ]


def _broken(trials: Iterable[Trial], material: Material) -> list[str]:
    """Sentences about trials that ended otherwise than at their last step."""
    by_state: dict[str, list[Trial]] = {}
    for trial in trials:
        state = material.state(trial)
        if not state.is_open and state != "done":
            by_state.setdefault(str(state), []).append(trial)
    return [
        f"{state}: {listed(_brief(trial, material) for trial in found[:NAMED])}"
        + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
        for state, found in by_state.items()
    ]


def _brief(trial: Trial, material: Material) -> str:
    words = material.state_in_words(trial)
    step = words.partition(" at ")[2]
    return f"{trial.name} ({step})" if step else trial.name


def _seeds(undecided: Sequence[Part]) -> tuple[dict[str, int], list[str]]:
    """How many more trials like each of these (by id), and sentences where no number is known.

    More than the sweep has: trials that have not ended count as if they had.
    """
    more: dict[str, int] = {}
    doubts: list[str] = []
    for part in undecided:
        if isinstance(part.evidence, Evidence):
            needed = part.evidence.needed
            if isinstance(needed, int) and part.evidence.n >= part.planned_seeds:
                # They may have fallen short by chance with as many as are needed on average.
                needed = max(needed, part.evidence.n + 1)
        else:
            needed = 2 if part.planned_seeds == 1 else None
        if isinstance(needed, Unknown):
            doubts.append(f"{part.where}: more seeds, how many is not known: {needed.reason}")
        elif needed is not None and needed > part.planned_seeds:
            for cell in part.cells:
                first = cell.trials[0].id
                more[first] = max(more.get(first, 0), needed - len(cell.trials))
    return {trial: number for trial, number in more.items() if number > 0}, doubts[:1]


def _cost(material: Material, numbers: Mapping[str, int]) -> str:
    """`about 12 min`, or `about 30 GPU-hours`, for so many trials like each of these."""
    trials = [(material.estimated[trial], number) for trial, number in numbers.items()]
    gpus = [
        trial.seconds * number * trial.spec.placement.workers * trial.spec.placement.gpus / 3600
        for trial, number in trials
    ]
    if any(gpus):
        return f"about {sum(gpus):,.3g} GPU-hours"
    return f"about {duration(_seconds(material, numbers))} one after the other"


def _seconds(material: Material, numbers: Mapping[str, int]) -> float:
    return sum(material.estimated[trial].seconds * number for trial, number in numbers.items())


def _names(trials: Sequence[Trial]) -> str:
    names = ", ".join(trial.name for trial in trials[:NAMED])
    return names + (f" and {len(trials) - NAMED} more" if len(trials) > NAMED else "")


def _have(trials: Sequence[Trial]) -> str:
    return "has" if len(trials) == 1 else "have"
