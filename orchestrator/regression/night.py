"""A night of a gate: train what is new, judge it, keep the verdict, and say so.

    plan -> trials that the store lacks -> numbers -> looks -> verdict -> page, JUnit -> MLflow
         -> notification

The looks and the verdict count; each is put once, the verdict last. All that follows is made from
it, and is made again when the night is run again. So a night that was killed anywhere is continued
by the same command, to the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator import signals
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan
from orchestrator.plan.axes import COMPARED
from orchestrator.plan.gate import GatePlan
from orchestrator.regression.baseline import write_baseline
from orchestrator.regression.judging import judge, overall
from orchestrator.regression.looks import recorded
from orchestrator.regression.measured import Judged
from orchestrator.regression.measuring import measure
from orchestrator.regression.options import NightOptions
from orchestrator.regression.verdict import Night, exit_code, file_of, night_of, read_night
from orchestrator.report.frame import Frame, read_frame
from orchestrator.run.runner import run_sweep
from orchestrator.store import open_store
from orchestrator.store.base import Store
from orchestrator.store.names import claim_name
from orchestrator.store.records import Damaged
from orchestrator.store.trials import looks_at
from orchestrator.store.verdicts import days_of, put_verdict, verdict_key
from orchestrator.tracking import shown
from trainers.errors import did_you_mean


@dataclass(frozen=True)
class Concluded:
    """How a night ended: tonight's judgement and the verdict that the date keeps, if any.

    They differ if something changed after the date had got its verdict. `trained` counts the
    trials that this command trained or tried to; `warnings` have been printed, `notes` have not.
    """

    night: Night
    kept: Night | None
    exit_code: int
    trained: int
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def gate_of(plan: Plan) -> GatePlan:
    """The gate of a plan. Raises UserError if its file has none."""
    if plan.gate is None:
        raise UserError(
            f"{plan.path}: no `gate:` to judge. Add one, at least\n"
            "    gate: {baseline: layer_norm, margin: 0.1}\n"
            "with a norm of the sweep as baseline (docs/regression.md)."
        )
    return plan.gate


def judge_night(plan: Plan, options: NightOptions) -> Concluded:
    """Train what the store lacks, judge it, and keep the verdict of the date.

    With a candidate, only it is judged, and the date gets no verdict; the look counts all the same.
    Raises UserError; EnvironmentProblem where the store or the machine fails, or where the date is
    before that of the newest verdict.
    """
    gate, store = gate_of(plan), open_store(options.run.store)
    shown(options.run.tracking)  # refuses an address that is not valid, before anything is trained
    among = _among(plan, gate, options.candidate)
    _check_clock(store, plan.sweep, options.day)
    claim_name(plan, store)
    lacking = _lacking(store, among)
    warnings = run_sweep(plan, options.run, lacking).warnings if lacking else ()
    signals.check()
    frame = read_frame(plan, store)
    _check_over(plan, frame, among)
    judged = _judged(plan, gate, frame, store, options)
    night = night_of(plan.sweep, options.day, judged, overall(judged, gate.asked), frame.looks)
    kept: Night | None = None
    notes: tuple[str, ...] = () if lacking else (*plan.warnings, *frame.damage)
    if not options.candidate:
        kept, said = _keep(store, night)
        notes = (*notes, *said)
    code = exit_code(night.verdict, gate.asked)
    return Concluded(night, kept, code, len(lacking), warnings, notes)


def _among(plan: Plan, gate: GatePlan, candidate: str) -> frozenset[str]:
    """The ids of the trials to judge: all, or those of a candidate and its baseline.

    Raises UserError if there is no such candidate.
    """
    if not candidate:
        return frozenset(trial.id for trial in plan.trials)
    known = [*gate.candidates, *(label for label, _ in gate.unavailable)]
    if candidate not in known:
        raise UserError(
            f"--candidate {candidate}: not a candidate of the gate."
            f"{did_you_mean(candidate, known)} Known: {', '.join(known)}."
        )
    norms = {candidate, gate.norm}
    # A norm whose knobs are spelled out may be folded into another one's trials.
    folded = frozenset(point.into for point in plan.folded if str(point.axes[COMPARED]) in norms)
    named = frozenset(trial.id for trial in plan.trials if str(trial.axes[COMPARED]) in norms)
    return named | folded


def _check_clock(store: Store, sweep: str, day: str) -> None:
    newest = max(days_of(store, sweep), default="")
    if day < newest:
        raise EnvironmentProblem(
            f"The clock stands at {day}, but the newest verdict of {sweep} is of {newest}. "
            f"Set the clock, or name the night: --date {newest}."
        )


def _lacking(store: Store, among: frozenset[str]) -> frozenset[str]:
    """The ids of the trials to train. Final checkpoints are read through, as `run` does."""
    looks = looks_at(store, sorted(among), verify=True)
    return frozenset(trial for trial, look in looks.items() if not look.has_ended)


def _check_over(plan: Plan, frame: Frame, among: frozenset[str]) -> None:
    """Refuse to judge a night of which trials go on elsewhere: the verdict would be another one.

    Two nights at once take trials from each other; the later one has them all in the end.
    """
    left = [
        trial.name
        for trial in plan.trials
        if trial.id in among and frame.looks[trial.id].state.is_open
    ]
    if left:
        raise EnvironmentProblem(
            f"{len(left)} of the night's trials have not ended, such as {left[0]}; another run may "
            "have taken them over. Nothing was judged: run this again when that one has ended."
        )


def _judged(
    plan: Plan, gate: GatePlan, frame: Frame, store: Store, options: NightOptions
) -> tuple[Judged, ...]:
    measured = measure(plan, frame, store)
    if options.candidate:
        measured = tuple(one for one in measured if one.key.norm == options.candidate)
    looks = recorded(store, plan.sweep, options.day, measured)
    return judge(measured, looks, gate.asked)


def _keep(store: Store, night: Night) -> tuple[Night | None, Sequence[str]]:
    """Put the night's verdict; returns the one that the date has now, and what to say about it."""
    if put_verdict(store, night.sweep, night.date, file_of(night)):
        return night, ()
    kept = read_night(store, night.sweep, night.date)
    if isinstance(kept, Damaged):
        raise EnvironmentProblem(
            f"{kept}. The verdict of {night.date} cannot be kept beside it: move {store.uri}/"
            f"{verdict_key(night.sweep, night.date)} away, and run this again. "
            f"Tonight's judgement: {night.sentence}"
        )
    if kept is None:  # somebody has just moved it away
        put_verdict(store, night.sweep, night.date, file_of(night))
        return night, ()
    if kept == night:
        return kept, ()
    return kept, (
        f"{night.date} has its verdict already ({kept.verdict}), which stays; judged again, with "
        f"what has changed since, it would be: {night.sentence}",
    )


def update_baseline(plan: Plan, options: NightOptions) -> tuple[Path, tuple[str, ...]]:
    """Train what the store lacks, and write the gate's baseline file from all of it.

    Returns the file, and warnings. Raises UserError if the gate has no such file, or if a trial
    that it needs has not ended.
    """
    gate, store = gate_of(plan), open_store(options.run.store)
    if gate.file is None:
        against = gate.norm or (gate.sweep.name if gate.sweep is not None else "")
        raise UserError(
            f"--update-baseline: the gate of {plan.path} is compared with {against}, not with a "
            "baseline file. Write `baseline: NAME.json` in its `gate:`."
        )
    claim_name(plan, store)
    lacking = _lacking(store, frozenset(trial.id for trial in plan.trials))
    warnings = run_sweep(plan, options.run, lacking).warnings if lacking else ()
    signals.check()
    write_baseline(gate.file, plan, read_frame(plan, store), store, date=options.day)
    return gate.file, warnings
