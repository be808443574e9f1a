"""`parameters`: as many as the reference's network has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.regression.cases import Case, Row
from orchestrator.regression.measured import Measured, Shown
from orchestrator.report.frame import COUNTED
from orchestrator.statistics.interval import Unknown
from trainers.catalog import NORMS

UNIT = "parameters"


def parameters(case: Case) -> Iterator[Measured]:
    """The answer. Planning counts, and training where a norm is from outside."""
    if case.asked.parameters is None:
        return
    key = case.key("parameters")
    setup = case.setup(key, None, compared=True)
    own, theirs = _count(case.rows), _count(case.reference_rows)
    trials = case.ids(
        row["trial"] for rows in (case.rows, case.reference_rows) for row in rows.values()
    )
    shown = Shown(own, None, None, theirs, UNIT, "equal")
    if why := (case.unavailable and case.untrained) or case.without_reference or _uncounted(case):
        none = Unknown(why)
        yield Measured(key, trials, setup, (), none, 0.0, 0.0, none, shown)
        return
    said = f"{own:,} parameters"
    if own != theirs:
        said += f", and {theirs:,} of {case.reference}"
    yield Measured(
        key,
        trials,
        setup,
        tuple(sorted(case.rows)),
        Unknown(said),
        0.0,
        0.0,
        Unknown(said),
        shown,
        "pass" if own == theirs else "fail",
        said,
    )


def _uncounted(case: Case) -> str:
    """Why the parameters of a norm from outside are not known, if so."""
    if not NORMS[case.cell.trials[0].spec.model.norm.name].open_knobs:
        return ""
    counted = set(case.ground.own.frame.metric(COUNTED)["trial"])
    if counted & {row["trial"] for row in case.rows.values()}:
        return ""
    return f"no trial of {case.candidate} has recorded {COUNTED}, and planning cannot count them"


def _count(rows: Mapping[int, Row]) -> int | None:
    """The parameters of the network of trials that differ in their seed alone."""
    return next((int(row["parameters"]) for row in rows.values()), None)
