"""A baseline file: the final scores of a sweep's trials, to be reviewed and kept with the code.

    {"version": 1, "sweep": "regression", "date": "2026-11-29", "content_sha256": "...",
     "trials": [{"trial": "0a1b...", "norm": "i_ln", "task": "sr_x2", "place": "w16 d2 ...",
                 "seed": 0, "spec": {...}, "parameters": 12345, "step": 2000,
                 "attempts": [{"commit": "...", "torch": "2.13.0"}], "machines": ["..."],
                 "weights": {"ema.pt": "..."}, "tensors": {"ema.pt": "..."},
                 "scores": [{"set": "Set5", "metric": "psnr", "how": "border_px 2, ...",
                             "set_sha256": "", "images": {"baby.png": 33.1}}]}]}

`content_sha256` is the checksum of all the rest. The file has what comparable trials agree in
(orchestrator.report.comparable), so that a comparison with it is refused for the same reasons as
one of two trials. `weights` are the checksums of files, `tensors` of what is in them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field, TypeAdapter

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.hints import hint
from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Plan, Trial
from orchestrator.plan.states import State
from orchestrator.regression.beside import Other
from orchestrator.regression.cases import as_asked, place_of
from orchestrator.regression.final_weights import contents_of, files_of
from orchestrator.report.comparable import FP32, NOT_RECORDED, Final, Key
from orchestrator.report.frame import SCORE_COLUMNS, Frame, in_words, records
from orchestrator.report.pairs import index_of
from orchestrator.store.base import Store
from orchestrator.store.records import (
    CHECKSUM,
    Count,
    Name,
    Sha256,
    Text,
    Value,
    canonical_sha256,
    checked_record,
    parsed,
    sealed,
)
from orchestrator.store.trials import Look
from trainers.catalog import METRICS
from trainers.choice import Part
from trainers.durable import write_aside
from trainers.journal import encoded
from trainers.spec import BadSpec, RunSpec

VERSION = 1
MOST_NAMED = 10


class KeptScores(Part):
    """The scores of one set by one metric, by image; `how` and `set_sha256` may be ""."""

    set: Name
    metric: Name
    how: Text
    set_sha256: Text
    images: Annotated[dict[Text, Value], Field(min_length=1)]


class KeptAttempt(Part):
    commit: Text
    torch: Text


class KeptTrial(Part):
    """One trial. `norm`, `task` and `place` are for people; `spec` says what was trained."""

    trial: Name
    norm: Text
    task: Text
    place: Text
    seed: Count
    spec: dict[Text, Any]
    parameters: Count
    step: Count
    attempts: list[KeptAttempt]
    machines: list[Text]
    weights: dict[Text, Sha256]
    tensors: dict[Text, Sha256]
    scores: list[KeptScores]


class _File(Part):
    version: Literal[1]
    sweep: Text
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    content_sha256: Sha256
    trials: Annotated[list[KeptTrial], Field(min_length=1)]


FILE: TypeAdapter[_File] = TypeAdapter(_File)


@dataclass(frozen=True)
class Baseline:
    """The content of a file. `sha256` is its checksum, `specs` what its trials trained, by id."""

    path: Path
    sweep: str
    date: str
    sha256: str
    trials: tuple[KeptTrial, ...]
    specs: Mapping[str, RunSpec]

    @property
    def weights(self) -> dict[str, tuple[Mapping[str, str], Mapping[str, str]]]:
        """The checksums of each trial's final weights: of the files, and of their contents."""
        return {kept.trial: (kept.weights, kept.tensors) for kept in self.trials}

    def other(self) -> Other:
        """Its trials as a frame, to be put beside a sweep's (orchestrator.regression.beside)."""
        rows = [
            {
                "trial": kept.trial,
                "parameters": kept.parameters,
                "state": State.DONE.value,
                "reason": "",
                "step": kept.step,
                "steps": self.specs[kept.trial].training.steps,
                "evaluate": tuple(dict.fromkeys(scores.set for scores in kept.scores)),
            }
            for kept in self.trials
        ]
        images = pd.DataFrame(
            [row for kept in self.trials for row in _image_rows(kept)],
            columns=["trial", *SCORE_COLUMNS],
        )
        frame = Frame(
            pd.DataFrame(rows),
            pd.DataFrame(columns=["trial", "metric", "step", "value"]),
            recorded={trial: (spec,) for trial, spec in self.specs.items()},
            looks={kept.trial: _look(kept) for kept in self.trials},
            images=images,
        )
        return Other(as_asked(frame), self.specs)


def _remedy() -> str:
    again = hint("regress FILE --update-baseline")
    return f"Take it back from version control, or write it anew: {again}"


def read_baseline(path: Path) -> Baseline:
    """The baseline in a file.

    Raises:
        UserError: the file is missing, cannot be read, or is not as it was written. The message
            names it and says what is wrong.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}. {_remedy()}") from error
    try:
        found = _checked(content)
        specs = {kept.trial: _spec_of(kept) for kept in found.trials}
    except ValueError as error:
        said = str(error)
        raise UserError(
            f"{path}: {said}{'.' if not said.endswith('.') else ''} {_remedy()}"
        ) from None
    return Baseline(path, found.sweep, found.date, found.content_sha256, tuple(found.trials), specs)


def _checked(content: bytes) -> _File:
    """The file's content. Raises ValueError with words that follow the file's name."""
    value = parsed(content)
    if not isinstance(value, dict):
        raise ValueError("is not a baseline: it has no fields")
    version = value.get("version")
    if type(version) is not int:
        raise ValueError("is not a baseline: it has no version, a whole number")
    if version != VERSION:
        raise ValueError(f"has version {version}, and this normsweep reads version {VERSION}")
    if not isinstance(value.get(CHECKSUM), str):
        raise ValueError(f"lacks its {CHECKSUM}")
    if value[CHECKSUM] != canonical_sha256(value):
        raise ValueError(
            f"was edited after it was written: its {CHECKSUM} is that of other content"
        )
    found = FILE.validate_python(checked_record(content, FILE))
    if len({kept.trial for kept in found.trials}) < len(found.trials):
        raise ValueError("has one trial twice")
    return found


def _spec_of(kept: KeptTrial) -> RunSpec:
    try:
        return RunSpec.from_json(json.dumps(kept.spec))
    except BadSpec as error:
        why = " ".join(str(error).split())[:300]
        raise ValueError(
            f"has a trial, {kept.trial}, that this version cannot train: {why}"
        ) from None


def _look(kept: KeptTrial) -> Look:
    tried = tuple({"commit": one.commit, "versions": {"torch": one.torch}} for one in kept.attempts)
    ranks = tuple({"processor": machine} for machine in kept.machines)
    return Look(kept.trial, State.DONE, tried=tried, ranks=ranks)


def _image_rows(kept: KeptTrial) -> Iterator[list[Any]]:
    for scores in kept.scores:
        for image, value in scores.images.items():
            yield [
                *(kept.trial, scores.set, image, scores.metric, float(value), kept.step),
                *("training", FP32, "", scores.how, scores.set_sha256),
            ]


# --- writing


def write_baseline(path: Path, plan: Plan, frame: Frame, store: Store, *, date: str = "") -> None:
    """Write the baseline of a sweep of which every trial is done; `date` is today by default (UTC).

    Equal trials and an equal date give equal bytes.

    Raises:
        UserError: a trial is not done, or was not scored on one of its sets; it is named.
        EnvironmentProblem: the file cannot be written, or final weights cannot be read.
    """
    frame = as_asked(frame)
    rows = {row["trial"]: row for row in records(frame.trials)}
    lacking = [
        f"{trial.name} ({why})"
        for trial in plan.trials
        if (why := _why_lacking(frame, trial, rows[trial.id]))
    ]
    if lacking:
        more = f" and {len(lacking) - MOST_NAMED} more" if len(lacking) > MOST_NAMED else ""
        raise UserError(
            f"{plan.path}: the baseline is not written, since {len(lacking)} of "
            f"{len(plan.trials)} trials cannot be in it: {', '.join(lacking[:MOST_NAMED])}{more}. "
            f"Train them first: {hint(f'run {plan.path}')}"
        )
    record = {
        "version": VERSION,
        "sweep": plan.sweep,
        "date": date or datetime.now(UTC).date().isoformat(),
        "trials": [
            _kept(plan, frame, store, trial).model_dump(mode="json")
            for trial in sorted(plan.trials, key=lambda trial: trial.id)
        ],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, sealed(record))
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written: {error.strerror}") from error


def _why_lacking(frame: Frame, trial: Trial, row: Mapping[str, Any]) -> str:
    """Why a trial cannot be part of a baseline; "" if it can."""
    if row["state"] != State.DONE:
        return in_words(row)
    finals = index_of(frame).finals
    for name in trial.spec.observe.evaluate:
        for metric in METRICS.names:
            if isinstance(why := finals.get(Key(trial.id, name, metric), "not scored"), str):
                return f"{name}: {why}"
    return ""


def _kept(plan: Plan, frame: Frame, store: Store, trial: Trial) -> KeptTrial:
    look = frame.looks[trial.id]
    finals = index_of(frame).finals
    (spec,) = frame.recorded.get(trial.id, ())[-1:] or (trial.spec,)
    step = int(look.result["step"]) if look.result else trial.spec.training.steps
    attempts = dict.fromkeys(
        (attempt.get("commit", ""), attempt.get("versions", {}).get("torch", ""))
        for attempt in look.tried
    )
    return KeptTrial(
        trial=trial.id,
        norm=str(trial.axes[COMPARED]),
        task=str(trial.axes["task"]),
        place=place_of(plan.axes, trial.axes),
        seed=trial.spec.training.seed,
        spec=spec.model_dump(mode="json", exclude={"observe", "placement"}),
        parameters=trial.parameters,
        step=step,
        attempts=[KeptAttempt(commit=commit, torch=torch) for commit, torch in attempts],
        machines=list(dict.fromkeys(rank.get("processor", "") for rank in look.ranks)),
        weights=files_of(look.result),
        tensors=contents_of(store, trial.id, look.result),
        scores=[
            _kept_scores(key, final)
            for name in sorted(set(trial.spec.observe.evaluate))
            for metric in METRICS.names
            if isinstance(final := finals.get(key := Key(trial.id, name, metric)), Final)
        ],
    )


def _kept_scores(key: Key, final: Final) -> KeptScores:
    how = final.facts["scored with"]
    return KeptScores.model_validate(
        {
            "set": key.set,
            "metric": key.metric,
            "how": "" if how == NOT_RECORDED else how,
            "set_sha256": final.set_sha256,
            "images": {image: encoded(value) for image, value in sorted(final.values.items())},
        }
    )
