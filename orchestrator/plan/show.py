"""Shows a plan: as text for people, as JSON for programs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from orchestrator.errors import UserError
from orchestrator.hints import hint
from orchestrator.plan.besides import Seen, besides
from orchestrator.plan.expand import Plan, Trial
from orchestrator.plan.fit import sharing_problems, too_large_for_a_gpu
from orchestrator.plan.gate_words import gate_as_json, gate_as_text
from orchestrator.plan.gpus import Gpus
from orchestrator.plan.groups import GROUPED, MOST_ROWS, axes_in_words, grouped
from orchestrator.plan.keeping import in_words
from orchestrator.plan.on_gpus import placed, waits_for_gpus, wants_cuda
from orchestrator.plan.point import Excluded
from orchestrator.plan.states import State
from trainers.spec import RunSpec

MIB = 1 << 20
MOST_LISTED = 2_000  # trials that `plan` prints in a table; of more it prints groups
MOST_EXCLUDED = 20  # points of one rule that `plan` lists; of more it says how many
COUNTED: tuple[State, ...] = (
    State.DONE,
    State.RUNNING,
    State.INTERRUPTED,
    State.PENDING,
    State.FAILED,
    State.DIVERGED,
    State.STOPPED,
    State.INFEASIBLE,
    State.DAMAGED,
)


def counts(plan: Plan, states: Mapping[str, State]) -> dict[str, Any]:
    """The number of trials in each state, which add up to the total."""
    return tally(plan.sweep, [states.get(trial.id, State.PENDING) for trial in plan.trials])


def tally(sweep: str, states: Sequence[State]) -> dict[str, Any]:
    """The number of trials in each of these states; one that is about to be retried is running."""
    seen: Counter[State] = Counter(
        State.RUNNING if state == State.RETRYING else state for state in states
    )
    return {"sweep": sweep, "total": len(states), **{state: seen[state] for state in COUNTED}}


def seconds_left(trials: Iterable[Trial], reached: Mapping[str, int]) -> float:
    """The estimated time of what is left of the trials in `reached`, which gives their steps."""
    return sum(
        trial.seconds * max(0.0, 1 - reached[trial.id] / trial.spec.training.steps)
        for trial in trials
        if trial.id in reached
    )


def as_json(plan: Plan, states: Mapping[str, State], gpus: Gpus) -> dict[str, Any]:
    """The plan as JSON; `spec` is what the file says, `resources` and estimates assume `gpus`.

    `trials` is an iterator, which `indented` writes: 100,000 of them are 400 MB of text.
    """
    assumed = placed(plan, gpus, among=frozenset())
    return {
        "sweep": plan.sweep,
        "gpus": {"auto": gpus.auto, "why": gpus.why, "memory_gb": gpus.memory_gb},
        "trials": (
            {
                "id": trial.id,
                "name": trial.name,
                "axes": dict(trial.axes),
                "spec": written.spec.model_dump(mode="json"),
                "resources": trial.spec.placement.model_dump(mode="json"),
                "parameters": trial.parameters,
                "estimated_memory_bytes": trial.memory_bytes,
                "estimated_seconds": round(trial.seconds, 1),
                "state": states.get(trial.id, State.PENDING) if states else None,
            }
            for written, trial in zip(plan.trials, assumed.trials, strict=True)
        ),
        "excluded": [
            {"axes": dict(e.axes), "rule": dict(e.rule), "line": e.line} for e in plan.excluded
        ],
        "folded": [{"axes": dict(f.axes), "into": f.into} for f in plan.folded],
        "warnings": [*plan.warnings, *_too_large(assumed, gpus)],
        **({} if plan.gate is None else {"gate": gate_as_json(plan.gate)}),
        **({} if plan.keep is None else {"keep": plan.keep.asked.model_dump(mode="json")}),
    }


def indented(document: Mapping[str, Any]) -> Iterator[str]:
    """The text of `json.dumps(document, indent=2)` in pieces; an iterator is written as a list."""
    between = "{"
    for key, value in document.items():
        yield f"{between}\n  {json.dumps(key)}: "
        if isinstance(value, Iterator):
            yield from _listed(value)
        else:
            yield json.dumps(value, indent=2).replace("\n", "\n  ")
        between = ","
    yield "\n}" if document else "{}"


def _listed(items: Iterator[Any]) -> Iterator[str]:
    between = "["
    for item in items:
        yield f"{between}\n    " + json.dumps(item, indent=2).replace("\n", "\n    ")
        between = ","
    yield "[]" if between == "[" else "\n  ]"


def as_text(plan: Plan, states: Mapping[str, State], gpus: Gpus) -> str:
    """The plan as a table and the remarks below it, assuming `gpus`."""
    is_open = waits_for_gpus(plan)
    plan = _assumed(plan, gpus)
    lines = [f"{plan.sweep}: {plan.question}" if plan.question else plan.sweep, ""]
    over = {State.DONE, State.DIVERGED, *([State.STOPPED] if plan.stop is not None else [])}
    left = [trial for trial in plan.trials if states.get(trial.id) not in over]
    if len(plan.trials) > MOST_LISTED:
        lines += _summarised(plan, states, left)
    else:
        lines += _rows(plan, states)
    total = sum(trial.seconds for trial in left)
    lines += [
        "",
        f"{trials_in_words(len(plan.trials))}, {len(left):,} to run: "
        f"about {duration(total)} one after the other.",
    ]
    lines.append("Memory (per worker) and time are estimates (orchestrator/plan/cost.py).")
    if any(trial.has_own_norm for trial in plan.trials):
        lines.append("+: and those of the norm, which training counts.")
    if is_open:
        lines.append(f"Assumed: {gpus_in_words(gpus)} `run` goes by the nodes that it finds.")
    lines += [in_words(plan.keep)] if plan.keep is not None else []
    lines += [*_too_large(plan, gpus), *_sets(plan)]
    if said := _besides(plan):
        lines += ["", *said]
    if plan.gate is not None:
        lines += ["", *gate_as_text(plan.gate)]
    if plan.excluded:
        lines += ["", f"Excluded: {len(plan.excluded)}"]
        for (line, rule), points in _by_rule(plan.excluded).items():
            if len(points) > MOST_EXCLUDED:
                lines.append(f"  {len(points)} by line {line}: {rule}")
            else:
                lines += [f"  {point}  by line {line}: {rule}" for point in points]
    if plan.folded:
        lines += ["", f"Folded, because they are the same trial as another: {len(plan.folded)}"]
        lines += [f"  {_axes(f.axes)}  is  {f.into}" for f in plan.folded[:MOST_LISTED]]
        if len(plan.folded) > MOST_LISTED:
            lines.append(f"  ... and {len(plan.folded) - MOST_LISTED:,} more")
    if plan.warnings:
        lines += ["", "Warnings", *(f"  {warning}" for warning in plan.warnings)]
    return "\n".join(lines)


def _assumed(plan: Plan, gpus: Gpus) -> Plan:
    """The plan on these GPUs, as far as it is shown: without any, `auto` costs what 0 costs."""
    is_as_it_is = not gpus.auto and not wants_cuda(plan, "")
    return plan if is_as_it_is else placed(plan, gpus, among=frozenset())


def _rows(plan: Plan, states: Mapping[str, State]) -> list[str]:
    """A table of the trials."""
    rows: list[tuple[str, ...]] = [
        ("id", "trial", "workers", "parameters", "memory", "time", "state")
    ]
    for trial in plan.trials:
        workers = trial.spec.placement.workers
        state = states.get(trial.id, State.PENDING) if states else "?"
        memory = f"{trial.memory_bytes / MIB:,.0f} MiB"
        rows.append(
            (
                trial.id,
                trial.name,
                str(workers),
                f"{trial.parameters:,}{'+' * trial.has_own_norm}",
                memory,
                duration(trial.seconds),
                state,
            )
        )
    return table(rows)


def _summarised(plan: Plan, states: Mapping[str, State], left: Sequence[Trial]) -> list[str]:
    """What is in a plan of too many trials to list: its axes, and its trials in groups."""
    groups = grouped(plan.trials, left)
    rows: list[tuple[str, ...]] = [
        (*GROUPED, "trials", "to run", "parameters", "memory", "time, one after the other")
    ]
    for group in groups[:MOST_ROWS]:
        least, most = min(group.parameters), max(group.parameters)
        rows.append(
            (
                *map(str, group.labels),
                f"{group.trials:,}",
                f"{group.to_run:,}" if states else "?",
                f"{least:,}" if least == most else f"{least:,} to {most:,}",
                f"{group.memory_bytes / MIB:,.0f} MiB",
                duration(group.seconds),
            )
        )
    lines = [*axes_in_words(plan.axes, plan.trials), "", *table(rows)]
    if rest := groups[MOST_ROWS:]:
        number = sum(group.trials for group in rest)
        seconds = duration(sum(group.seconds for group in rest))
        lines.append(f"... and {trials_in_words(number)} in {len(rest):,} groups more, {seconds}.")
    if states:
        seen = counts(plan, states)
        lines += ["", "  ".join(f"{name} {seen[name]:,}" for name in COUNTED if seen[name])]
    return [*lines, "", f"--json lists every trial; this is the sum of {len(plan.trials):,}."]


def _sets(plan: Plan) -> list[str]:
    """The data sets of each task, if they differ."""
    one_of_each = {trial.axes["task"]: trial for trial in plan.trials}
    of_task = {
        str(task): (
            f"trained on {trial.spec.data.train}",
            f"scored on {', '.join(trial.spec.observe.evaluate) or 'no set'}",
        )
        for task, trial in one_of_each.items()
    }
    if len(set(of_task.values())) < 2:
        return []
    rows: list[tuple[str, ...]] = [
        (f"  {task}", ", ".join(words)) for task, words in of_task.items()
    ]
    return ["", "Data sets, by task", *table(rows)]


def _besides(plan: Plan) -> list[str]:
    """What else differs between the norms than the norm in the blocks."""
    found = besides(
        Seen(trial.axes, trial.spec, None if trial.has_own_norm else trial.parameters)
        for trial in plan.trials
    )
    if not found:
        return []
    heading = f"Besides the norm in the blocks, against {found[0].baseline}"
    return [heading, *(f"  {one}" for one in found)]


def _by_rule(excluded: Sequence[Excluded]) -> dict[tuple[int, str], list[str]]:
    """The excluded points in words, by the line and the words of the rule that takes them out."""
    found: dict[tuple[int, str], list[str]] = {}
    for one in excluded:
        found.setdefault((one.line, _axes(one.rule)), []).append(_axes(one.axes))
    return found


def _too_large(plan: Plan, gpus: Gpus) -> list[str]:
    """Warnings about what would not fit on this machine's GPUs.

    They are not errors, since the sweep may be meant for other machines.
    """
    shared = [
        f"On this machine: {problem.message}" for problem in sharing_problems(plan.trials, gpus)
    ]
    lacking = (
        [] if gpus.auto else [plan.source.placed(problem) for problem in wants_cuda(plan, gpus.why)]
    )
    return [*lacking, *shared, *too_large_for_a_gpu(plan.trials, gpus)]


def difference(plan: Plan, one: str, other: str) -> str:
    """A table of the fields in which two trials differ.

    Raises UserError if a prefix of an id names no trial, or several.
    """
    a, b = (_trial(plan, prefix) for prefix in (one, other))
    rows = [("field", a.name, b.name), *differing(a.spec, b.spec)]
    return "\n".join(table(rows)) if len(rows) > 1 else f"{a.name} and {b.name} do not differ"


def differing(one: RunSpec, other: RunSpec) -> list[tuple[str, str, str]]:
    """The fields in which two specs differ, each with both values; `-` where one lacks it."""
    fields_a, fields_b = (dict(_fields("", spec.model_dump(mode="json"))) for spec in (one, other))
    found = []
    for field in dict.fromkeys([*fields_a, *fields_b]):
        values = [str(fields.get(field, "-")) for fields in (fields_a, fields_b)]
        if values[0] != values[1]:
            found.append((field, values[0], values[1]))
    return found


def gpus_in_words(gpus: Gpus) -> str:
    """The meaning of `gpus_per_worker: auto` on these GPUs, as a sentence."""
    what = "a GPU for each worker" if gpus.auto else "training on the CPU"
    return f"{what}, since {gpus.why} (`gpus_per_worker: auto` is {gpus.auto})."


def trials_in_words(number: int) -> str:
    """`1 trial`, `12 trials`."""
    return f"{number:,} trial{'s' * (number != 1)}"


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `12 d`, `35 years`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    days = seconds / 86400
    return f"{days:.1f} d" if days < 1000 else f"{days / 365:,.0f} years"


def _trial(plan: Plan, prefix: str) -> Trial:
    trial = plan.trial(prefix)
    if trial is None:
        several = [t.id for t in plan.trials if t.id.startswith(prefix)]
        why = f"begins {len(several)} trial ids" if several else "is not a trial of this file"
        raise UserError(f"--diff: {prefix!r} {why}; `{hint(f'plan {plan.path}')}` lists them")
    return trial


def _fields(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _fields(f"{prefix}.{key}" if prefix else key, inner)
    else:
        yield prefix, value


def _axes(axes: Mapping[str, Any]) -> str:
    return " ".join(f"{axis}={value}" for axis, value in axes.items())


def table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """The lines of a table, in columns as wide as their longest cell."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
