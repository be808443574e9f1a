"""What changed since the night before, in sentences: verdicts, norms, trials, what they ran on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby

from orchestrator.regression.verdict import Night, Question
from orchestrator.report.words import listed

UNKNOWN = "norms that the sweep no longer has"


def changes(night: Night, before: Night | None, norm_of: Mapping[str, str]) -> tuple[str, ...]:
    """Sentences on what changed, verdicts first. `norm_of` has the norm of each trial by id.

    A night's bytes decide its sentences, so they are the same whenever its page is made again.
    """
    if before is None:
        return ("This is the first night.",)
    found = [
        *_verdicts(night, before),
        *_norms(night, before),
        *_asked(night, before),
        *_trials(night, before, norm_of),
        *_made_with(night, before),
    ]
    if not set(night.trials) - set(before.trials):
        found.append("Nothing was trained: the trials are those of the night before.")
    return tuple(found)


def _by_key(night: Night) -> dict[tuple[str, str, str, str], Question]:
    return {question.key: question for question in night.questions}


def _verdicts(night: Night, before: Night) -> Iterator[str]:
    was = _by_key(before)
    turned = [
        (question, was[question.key])
        for question in night.questions
        if question.key in was and was[question.key].verdict != question.verdict
    ]
    for question, old in sorted(turned, key=lambda pair: pair[0].verdict):  # fail, pass, undecided
        said = question.numbers or question.remarks
        yield f"{question.name}: {old.verdict}, now {question.verdict}" + f" ({said})." * bool(said)


def _norms(night: Night, before: Night) -> Iterator[str]:
    if new := [norm for norm in night.norms if norm not in before.norms]:
        yield f"New: {listed(new)}."
    if gone := [norm for norm in before.norms if norm not in night.norms]:
        yield f"No longer judged: {listed(gone)}."


def _asked(night: Night, before: Night) -> Iterator[str]:
    """The gates that are asked anew, or no longer, of norms that both nights judged."""
    both = set(night.norms) & set(before.norms)
    now, was = (
        {question.key for question in one.questions if question.norm in both}
        for one in (night, before)
    )
    for keys, said in ((now - was, "Asked for the first time"), (was - now, "No longer asked")):
        if keys:
            yield f"{said}: {listed(sorted({' of '.join(key[:2]) for key in keys}))}."


def _trials(night: Night, before: Night, norm_of: Mapping[str, str]) -> Iterator[str]:
    """The trials that came and went, by norm. An id covers source, recipe and data."""
    new = sorted(set(night.trials) - set(before.trials), key=lambda t: norm_of.get(t, UNKNOWN))
    kept = {norm_of[trial] for trial in before.trials if trial in norm_of}
    for norm, group in groupby(new, key=lambda trial: norm_of.get(trial, UNKNOWN)):
        count = len(list(group))
        number = f"{count} new trial{'s' * (count != 1)} of {norm}"
        if norm not in before.norms or norm in kept:
            yield f"{number}."
        else:
            yield f"{number}: its source, the recipe, the data or torch has changed."


def _made_with(night: Night, before: Night) -> Iterator[str]:
    for name, now in night.made_with.items():
        was = before.made_with.get(name, ())
        if was and now and was != now:
            yield f"{name}: {listed(was)} before, now {listed(now)}."
