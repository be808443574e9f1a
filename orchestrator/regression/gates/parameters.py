"""`parameters`: as many as the reference's network has."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.regression.cases import Case
from orchestrator.regression.measured import Measured, Shown
from orchestrator.statistics.interval import Unknown

UNIT = "parameters"


def parameters(case: Case) -> Iterator[Measured]:
    """The answer, which needs no training: counts follow from the specs."""
    if case.asked.parameters is None:
        return
    key = case.key("parameters")
    setup = case.setup(key, None, compared=True)
    own = int(next(iter(case.rows.values()))["parameters"])
    if why := case.without_reference:
        none = Unknown(why)
        shown = Shown(own, None, None, None, UNIT, "equal")
        yield Measured(key, case.trials, setup, (), none, 0.0, 0.0, none, shown)
        return
    rows = case.reference_rows
    theirs = int(next(iter(rows.values()))["parameters"])
    said = f"{own:,} parameters" + (
        "" if own == theirs else f", and {theirs:,} of {case.reference}"
    )
    trials = tuple(sorted({*case.trials, *(row["trial"] for row in rows.values())}))
    yield Measured(
        key,
        trials,
        setup,
        tuple(sorted(case.rows)),
        Unknown(said),
        0.0,
        0.0,
        Unknown(said),
        Shown(own, None, None, theirs, UNIT, "equal"),
        "pass" if own == theirs else "fail",
        said,
    )
