"""What makes two trials comparable: their final scores, and all that they must agree in.

Two trials are compared if they differ in nothing but the norm and what belongs to it (the ends of
the network, the standardisation of inputs), their placement, and what was observed. So they agree
in the rest of the spec, the commit of the code, the step of the final score, the images, and how
these were scored. A frame may ask for others of RECORDED in place of the commit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

from orchestrator.plan.states import State
from orchestrator.report.frame import Frame, in_words
from orchestrator.store.trials import Look
from trainers.catalog import METRICS
from trainers.spec import RunSpec

FP32 = "fp32"
# The one column of a trial whose journal has the mean of a set but not the scores of its images.
MEAN = "(mean of the set)"
NOT_RECORDED = "not recorded"
HALF_REVISION = "half_revision"  # only scores at half precision have it
OF_THE_NORM = frozenset(
    {"model.norm", "model.embed_norm", "model.end_norm", "model.stdnorm", "training.seed"}
)
# What cannot change the weights, or only says how `initial` was read.
NOT_COMPARED = frozenset({"version", "observe", "placement", "training.initial_strict"})
# What a trial's attempts recorded, by the names in `Frame.agree`. A build of torch is not told from
# another one of the same version: its machine is.
RECORDED: Mapping[str, Callable[[Look], Sequence[str]]] = {
    "commit": lambda look: [attempt.get("commit", "") for attempt in look.tried],
    "torch": lambda look: [
        attempt.get("versions", {}).get("torch", "").partition("+")[0] for attempt in look.tried
    ],
    "machine": lambda look: [rank.get("processor", "") for rank in look.ranks],
}
SHA256 = re.compile(r"[0-9a-f]{13,64}")
MOST_NAMED = 3


@dataclass(frozen=True)
class Final:
    """A trial's final scores of one set by one metric.

    `values` are by image, or by MEAN alone. `facts` are what a comparable trial has as well;
    `set_sha256` may be "", which agrees with any.
    """

    trial: str
    values: Mapping[str, float]
    facts: Mapping[str, str]
    set_sha256: str = ""

    def without(self, facts: Collection[str]) -> Final:
        """The same scores, without some facts."""
        if not any(name in self.facts for name in facts):
            return self
        kept = {name: value for name, value in self.facts.items() if name not in facts}
        return replace(self, facts=kept)

    @property
    def mean(self) -> float:
        """Over the images; infinite or NaN if any of them is."""
        values = self.values.values()
        return math.fsum(values) / len(values) if all(map(math.isfinite, values)) else sum(values)


@dataclass(frozen=True)
class Key:
    """What was scored: the trial, the set, the metric, and how the network ran."""

    trial: str
    set: str
    metric: str
    precision: str = FP32
    tile: str = ""

    @property
    def is_plain(self) -> bool:
        """Whether it is about fp32 on whole images."""
        return (self.precision, self.tile) == (FP32, "")


def finals(frame: Frame) -> dict[Key, Final | str]:
    """The final scores of all completed trials; a text says why scores cannot be used.

    What training scored at its last step comes before an evaluation of the same kind, and scores of
    images before a mean alone.
    """
    found: dict[Key, Final | str] = {}
    done = {row["trial"]: row["step"] for row in frame.rows if row["state"] == State.DONE}
    facts = {trial: facts_of(frame, trial) for trial in done}
    evaluated: dict[Key, Final | str] = {}
    for source, key, step, how, sha256, values in _scored(frame):
        if key.trial not in done:
            continue
        last = done[key.trial]
        score: Final | str = (
            values
            if isinstance(values, str)
            else Final(
                key.trial,
                values,
                {
                    **facts[key.trial],
                    "final step": f"{last:.0f}",
                    **_scored_with(how),
                },
                sha256,
            )
        )
        if source == "training" and step == last:
            found[key] = score
        elif source == "evaluation":
            if step != last:
                score = f"evaluated at {_step(step)}, trained to {_step(last)}"
            evaluated[key] = _one_of(evaluated.get(key), score)
    means = {
        key: Final(
            key.trial,
            {MEAN: value},
            {
                **facts[key.trial],
                "final step": f"{done[key.trial]:.0f}",
                "scored with": NOT_RECORDED,
            },
        )
        for key, value in _means(frame, done)
    }
    return {**means, **evaluated, **found}


def _scored_with(how: str) -> dict[str, str]:
    """How scores were made, and by which version of half precision, if that says anything."""
    parts = how.split(", ") if how else []
    of_half = [part for part in parts if part.startswith(HALF_REVISION)]
    kept = [part for part in parts if part not in of_half]
    revision = {HALF_REVISION: of_half[0].removeprefix(f"{HALF_REVISION} ")} if of_half else {}
    return {"scored with": ", ".join(kept) or NOT_RECORDED, **revision}


def _one_of(earlier: Final | str | None, score: Final | str) -> Final | str:
    """Two evaluations that ran the network alike: the newer one, unless they scored differently."""
    if isinstance(earlier, Final) and isinstance(score, Final):
        unlike = differing(earlier, score, "one evaluation", "another")
        return f"evaluated twice: {unlike}" if unlike else score
    return earlier if isinstance(earlier, str) else score


def _scored(
    frame: Frame,
) -> Iterator[tuple[str, Key, float | None, str, str, dict[str, float] | str]]:
    """Source, key, step, how, checksum and scores by image of whatever was scored.

    In place of scores, a text says that they cannot be told apart.
    """
    if frame.images.empty:
        return
    rows = frame.images[frame.images["metric"].isin(METRICS.names)]
    last = rows["trial"].map(dict(zip(frame.trials["trial"], frame.trials["step"], strict=True)))
    rows = rows[(rows["source"] == "evaluation") | (rows["step"] == last)]
    by = ["source", "trial", "set", "metric", "inference_precision", "tile"]
    by += ["step", "how_scored", "set_sha256"]
    steps = rows["step"].astype(object).where(rows["step"].notna(), None)  # NaN equals no other
    rows = rows.assign(step=steps)
    columns = (rows[name].tolist() for name in [*by, "image", "value"])
    found: dict[tuple[Any, ...], dict[str, float]] = {}  # a tenth of the time of pandas' groups
    twice: dict[tuple[Any, ...], str] = {}
    for *values, image, value in zip(*columns, strict=True):
        scored = tuple(values)
        scores = found.setdefault(scored, {})
        if image in scores:
            twice.setdefault(scored, f"has two scores of one image, {image}")
        scores[image] = float(value)
    for scored, scores in found.items():
        source, trial, name, metric, precision, tile, step, how, sha256 = scored
        key = Key(trial, name, metric, precision or FP32, tile)
        yield source, key, step, how, sha256, twice.get(scored, scores)


def _means(frame: Frame, done: Mapping[str, float]) -> Iterator[tuple[Key, float]]:
    """What training scored at its last step, as means of sets."""
    rows = frame.ends.metrics(lambda metric: metric.startswith("val/"))
    rows = rows[rows["step"].isin(set(done.values()))]
    for trial, name, step, value in zip(
        rows["trial"], rows["metric"], rows["step"], rows["value"], strict=True
    ):
        dataset, _, metric = name.removeprefix("val/").rpartition("/")
        if done.get(trial) == step and metric in METRICS.names:
            yield Key(trial, dataset, metric), float(value)


def _step(step: float | None) -> str:
    return f"step {step:.0f}" if step is not None and step == step else "a step not recorded"


def why_missing(row: Mapping[str, Any], asked: str = "") -> str:
    """Why a trial has no final score: `diverged at step 37`, `done, not evaluated at int8`."""
    if row["state"] != State.DONE:
        return in_words(row)
    return f"done, not evaluated{asked}"


_facts: WeakKeyDictionary[Frame, dict[str, Mapping[str, str]]] = WeakKeyDictionary()


def facts_of(frame: Frame, trial: str) -> Mapping[str, str]:
    """What a trial was trained with, by name; values are texts, several of them in one."""
    known = _facts.setdefault(frame, {})  # a trial is asked about by every claim
    if trial not in known:
        known[trial] = _facts_of(frame, trial)
    return known[trial]


def _facts_of(frame: Frame, trial: str) -> dict[str, str]:
    facts: dict[str, list[str]] = {}
    for spec in frame.recorded.get(trial, ()):
        for name, value in _fields(spec):
            facts.setdefault(name, []).append(_short(value))
    for name in frame.agree:
        said = RECORDED[name](frame.looks[trial]) if trial in frame.looks else ()
        facts[name] = [_short(value or NOT_RECORDED) for value in said] or [NOT_RECORDED]
    return {name: ", then ".join(dict.fromkeys(values)) for name, values in facts.items()}


def _fields(spec: RunSpec) -> Iterator[tuple[str, Any]]:
    """The fields of a spec that comparable trials have in common, by dotted name."""
    return _flat(spec.model_dump(mode="json"), "")


def _flat(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, item in value.items():
        dotted = f"{prefix}{name}"
        if dotted in OF_THE_NORM or dotted in NOT_COMPARED:
            continue
        if isinstance(item, dict):
            yield from _flat(item, f"{dotted}.")
        else:
            yield dotted, item


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if SHA256.fullmatch(text) else text


def differing(one: Final, other: Final, name: str, other_name: str) -> str:
    """What two trials disagree in, with both values: `commit aa for i_ln, bb for rms_norm`."""
    names = [*one.facts, *(fact for fact in other.facts if fact not in one.facts)]
    if one.facts == other.facts:
        names = []  # as it nearly always is: of a thousand trials, 16,000 pairs are asked about
    unlike = {
        fact: f"{fact} {one.facts.get(fact, 'none')} for {name}, "
        f"{other.facts.get(fact, 'none')} for {other_name}"
        for fact in names
        if one.facts.get(fact) != other.facts.get(fact)
    }
    if "training.steps" in unlike:  # which explains the other
        unlike.pop("final step", None)
    said = list(unlike.values())
    if set(one.values) != set(other.values):
        said.append(_other_images(one, other, name, other_name))
    elif one.set_sha256 and other.set_sha256 and one.set_sha256 != other.set_sha256:
        sums = (_short(one.set_sha256), _short(other.set_sha256))
        said.append(f"set with checksum {sums[0]} for {name}, {sums[1]} for {other_name}")
    more = [f"and {len(said) - MOST_NAMED} more"] if len(said) > MOST_NAMED else []
    return "; ".join(said[:MOST_NAMED] + more)


def _other_images(one: Final, other: Final, name: str, other_name: str) -> str:
    if MEAN in one.values or MEAN in other.values:
        counts = [
            "the mean alone" if MEAN in final.values else f"{len(final.values)} images"
            for final in (one, other)
        ]
        return f"scores of {counts[0]} for {name}, of {counts[1]} for {other_name}"
    only = [
        f"{_named(set(a.values) - set(b.values))} only for {whose}"
        for a, b, whose in ((one, other, name), (other, one, other_name))
        if set(a.values) - set(b.values)
    ]
    counted = f"{len(one.values)} images for {name}, {len(other.values)} for {other_name}"
    return f"{counted} ({', '.join(only)})"


def _named(images: Iterable[str]) -> str:
    names = sorted(images)
    more = [f"and {len(names) - MOST_NAMED} more"] if len(names) > MOST_NAMED else []
    return ", ".join(names[:MOST_NAMED] + more)
