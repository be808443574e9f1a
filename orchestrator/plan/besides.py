"""What differs between the norms of a sweep besides the norm in the blocks.

A comparison of norms is one of all that comes with them. The published i-LN differs from its
LayerNorm baseline in the norms at the ends of the network, in the standardisation of its input and
in `eps` as well (docs/decisions/0002).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.plan.axes import COMPARED
from trainers.spec import ModelSpec, RunSpec, TrainingSpec

BASELINE = "layer_norm"
ENDS = {"embed_norm": "after the embedding", "end_norm": "before the head"}
AT_AN_END = {"same": "as in the blocks", "affine": "scale and shift alone", "identity": "nothing"}
OF_A_TRIAL = frozenset({"seed"})


@dataclass(frozen=True)
class Seen:
    """One trial: its labels, the spec that it was or will be trained with, and its parameters.

    These are None if they are not known, as those of a norm from outside before it is trained.
    """

    labels: Mapping[str, Any]
    spec: RunSpec
    parameters: int | None


@dataclass(frozen=True)
class Besides:
    """What else is different for `norm` than for `baseline`, in phrases; none is "nothing"."""

    norm: str
    baseline: str
    phrases: tuple[str, ...]

    def __str__(self) -> str:
        said = "; ".join(self.phrases) or f"nothing else differs from {self.baseline}"
        return f"{self.norm}: {said}"


def reference_norm(norms: Sequence[str]) -> str:
    """The norm that others are compared with: layer_norm, or else the first of the file."""
    return BASELINE if BASELINE in norms else norms[0]


def besides(trials: Iterable[Seen]) -> tuple[Besides, ...]:
    """For each norm but the baseline, what its trials have that is different, in file order.

    Trials are paired that differ in no other label. A norm that has none in common with the
    baseline is left out, since nothing can be said of it.
    """
    cells: dict[tuple[Any, ...], dict[str, Seen]] = {}
    norms: dict[str, None] = {}
    for trial in trials:
        place = tuple([label for name, label in trial.labels.items() if name != COMPARED])
        norm = str(trial.labels[COMPARED])
        cells.setdefault(place, {})[norm] = trial
        norms[norm] = None
    if len(norms) < 2:
        return ()
    base = reference_norm(list(norms))
    found = []
    for norm in norms:
        pairs = _distinct(
            (cell[norm], cell[base]) for cell in cells.values() if norm in cell and base in cell
        )
        if norm != base and pairs:
            phrases = (phrase for pair in pairs for phrase in _phrases(*pair))
            found.append(Besides(norm, base, (*dict.fromkeys(phrases), *_parameters(pairs))))
    return tuple(found)


def _distinct(pairs: Iterable[tuple[Seen, Seen]]) -> list[tuple[Seen, Seen]]:
    """The pairs, without those that share networks, task and recipes with an earlier one."""
    found: dict[tuple[int, ...], tuple[Seen, Seen]] = {}
    for own, other in pairs:
        one, two = own.spec, other.spec
        recipes = () if one.training is two.training else (id(one.training), id(two.training))
        found.setdefault((id(one.model), id(two.model), id(one.task), *recipes), (own, other))
    return list(found.values())


def _phrases(own: Seen, other: Seen) -> Iterator[str]:
    yield from _of_models(own.spec.model, other.spec.model)
    if own.spec.training != other.spec.training:
        yield from _of_training(own.spec.training, other.spec.training)


def _of_models(own: ModelSpec, other: ModelSpec) -> Iterator[str]:
    for field, where in ENDS.items():
        one, two = getattr(own, field), getattr(other, field)
        if one != two:
            yield f"{where} {AT_AN_END[one]}, not {AT_AN_END[two]}"
    if own.stdnorm != other.stdnorm:
        yield f"inputs {'' if own.stdnorm else 'not '}standardised"
    for knob, value in own.norm.knobs.items():
        theirs = other.norm.knobs.get(knob, value)
        if theirs != value:
            yield f"{knob} {_shown(value)}, not {_shown(theirs)}"


def _of_training(own: TrainingSpec, other: TrainingSpec) -> Iterator[str]:
    for field in TrainingSpec.model_fields:
        one, two = getattr(own, field), getattr(other, field)
        if one != two and field not in OF_A_TRIAL:
            yield f"{field} {_shown(one)}, not {_shown(two)}"


def _parameters(pairs: Sequence[tuple[Seen, Seen]]) -> Iterator[str]:
    """`28 fewer parameters (0.1 %)`, or from how many to how many over the sizes."""
    known = [
        (own.parameters, other.parameters)
        for own, other in pairs
        if own.parameters is not None and other.parameters is not None
    ]
    if not known:
        yield "its parameters are counted when it trains"
        return
    more = sorted({own - other for own, other in known})
    if more == [0]:
        return
    shares = [abs(own - other) / other for own, other in known]
    percent = f"{100 * max(shares):.2g} %"
    if more[0] < 0 < more[-1] or (len(more) > 1 and 0 in more):
        yield f"from {more[0]:+,} to {more[-1]:+,} parameters (at most {percent})"
        return
    counts = sorted({abs(count) for count in more})
    span = f"{counts[0]:,}" if len(counts) == 1 else f"{counts[0]:,} to {counts[-1]:,}"
    most = "" if len({f"{100 * share:.2g}" for share in shares}) == 1 else "at most "
    yield f"{span} {'more' if more[0] > 0 else 'fewer'} parameters ({most}{percent})"


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
