"""The evaluations that are asked of a sweep: of which trials, on which sets, and what is kept.

An evaluation is one trial's final weights at one precision on one set. The store's is taken for it
if it is of the same weights, the same content of the set, and the same precision and tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from orchestrator.errors import UserError
from orchestrator.evaluate import EvaluateOptions, how_run, result_name
from orchestrator.plan import Plan, Trial
from orchestrator.plan.sets import as_taken, lacks_pairs, needs_pairs
from orchestrator.plan.states import State
from orchestrator.store.base import Store
from orchestrator.store.freed import FREED, freed_in_words
from orchestrator.store.journals import READERS
from orchestrator.store.listing import listed
from orchestrator.store.records import EVALUATION, Record, read_record
from orchestrator.store.results import evaluation_key
from orchestrator.store.trials import Look, glance
from trainers.data.manifests import DatasetProblem, ImageSet
from trainers.spec import RunSpec


@dataclass(frozen=True)
class Evaluation:
    """One evaluation that is asked for. `step` is that of the weights, `key` its place."""

    trial: Trial
    benchmark: str
    set_sha256: str
    precision: str
    step: int
    key: str

    def __str__(self) -> str:
        """E.g. `i_ln sr_x2 w24 d2 swinir-tiny s0: Set5 int8`."""
        return f"{self.trial.name}: {self.benchmark} {self.precision}"


@dataclass(frozen=True)
class Asked:
    """What is to do, what the store has already, and sentences on what is left out.

    `looks` are at all trials, `without_weights` those that lack the final weights for it.
    """

    todo: tuple[Evaluation, ...]
    kept: tuple[tuple[Evaluation, Record], ...]
    looks: Mapping[str, Look]
    without_weights: tuple[Trial, ...]
    notes: tuple[str, ...]

    def left_out(self) -> Iterator[str]:
        """A sentence for each trial without final weights."""
        for trial in self.without_weights:
            look = self.looks[trial.id]
            result = look.result
            if result is not None and FREED in result:
                why = f"were {freed_in_words(result[FREED])}"
                yield f"{trial.name} is left out, since its final weights {why}."
                continue
            state = look.state.at(look.step, trial.spec.training.steps)
            yield f"{trial.name} is left out, since it has no final weights: {state}."


def asked(
    plan: Plan, store: Store, find: Callable[[str], ImageSet], options: EvaluateOptions
) -> Asked:
    """Look at every trial and every set. `options.precisions` are spelled out.

    Raises UserError for sets that are not there, and if there is nothing that could be evaluated.
    """
    sets, notes = sets_of_tasks(plan, find, options.benchmarks)
    with ThreadPoolExecutor(READERS) as readers:
        found = list(readers.map(lambda trial: _of_trial(store, trial, sets, options), plan.trials))
    if not any(sets.values()):
        raise UserError("\n".join([*notes, "No set is left that a task of the sweep can take."]))
    looks = {look.trial: look for look, _ in found}
    every = [both for _, ones in found for both in ones]
    freed = {trial for trial, look in looks.items() if FREED in (look.result or ())}
    lacking = [one for one, record in every if record is None]
    cut = {one.trial.id for one in lacking if one.trial.id in freed}
    return Asked(
        tuple(one for one in lacking if one.trial.id not in freed),
        tuple((one, record) for one, record in every if record is not None),
        looks,
        tuple(t for t in plan.trials if looks[t.id].state != State.DONE or t.id in cut),
        notes,
    )


def _of_trial(
    store: Store,
    trial: Trial,
    sets: Mapping[str, Mapping[str, str]],
    options: EvaluateOptions,
) -> tuple[Look, list[tuple[Evaluation, Record | None]]]:
    """A glance at a trial, and its evaluations, each with the store's, if it has it."""
    listing = listed(store, trial.id)
    look = glance(store, listing)
    if look.result is None or look.state != State.DONE:
        return look, []
    step, found = int(look.result["step"]), []
    for benchmark, sha256 in sets[str(trial.axes["task"])].items():
        for precision in options.precisions:
            key = evaluation_key(trial.id, result_name(benchmark, precision, options))
            one = Evaluation(trial, benchmark, sha256, precision, step, key)
            is_there = key in listing.evaluations
            found.append((one, _kept(store, one, options) if is_there else None))
    return look, found


def _kept(store: Store, one: Evaluation, options: EvaluateOptions) -> Record | None:
    """The store's evaluation, unless it is damaged or of something else."""
    record = read_record(store, one.key, EVALUATION)
    wanted: dict[str, Any] = {
        "of": one.trial.id,
        "step": one.step,
        "benchmark": one.benchmark,
        "set_sha256": one.set_sha256,
        **how_run(one.precision, options),
    }
    is_it = isinstance(record, dict) and all(record.get(k) == v for k, v in wanted.items())
    return record if is_it and isinstance(record, dict) else None


def sets_of_tasks(
    plan: Plan, find: Callable[[str], ImageSet], benchmarks: Sequence[str]
) -> tuple[dict[str, dict[str, str]], tuple[str, ...]]:
    """The sets that each task is evaluated on, with their checksums as it takes them, and notes.

    Without `benchmarks` they are the trials' own. Of those that are given, a task takes what fits
    it, and a note says why it leaves out the others. Raises UserError for sets that are not there.
    """
    tasks = {str(trial.axes["task"]): trial.spec for trial in plan.trials}
    asked_of = {task: benchmarks or spec.observe.evaluate for task, spec in tasks.items()}
    found, problems = {}, []
    for name in dict.fromkeys(name for names in asked_of.values() for name in names):
        try:
            found[name] = find(name)
        except DatasetProblem as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(problems))
    if not found:
        raise UserError("Name a set, e.g. --benchmark Set5: the sweep has no evaluation sets.")
    notes = [note for one in found.values() for note in one.notes]
    checksums: dict[str, dict[str, str]] = {task: {} for task in tasks}
    for task, spec in tasks.items():
        for name in dict.fromkeys(asked_of[task]):
            try:
                if why := _misfit(found[name], spec):
                    raise DatasetProblem(why)
                checksums[task][name] = as_taken(found[name], spec.task).sha256
            except DatasetProblem as error:
                notes.append(f"{task} is not evaluated on {name}: {error}")
    return checksums, tuple(dict.fromkeys(notes))


def _misfit(found: ImageSet, spec: RunSpec) -> str:
    """Why a set is not for a task; "" if it is, as one is that the sweep itself names for it."""
    is_own = found.name in spec.observe.evaluate
    if found.lq_files and not needs_pairs(spec.task) and not is_own:
        return f"it is a set of pairs, for another kind of task than {spec.task.name}"
    return lacks_pairs(found, spec.task)
