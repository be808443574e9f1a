"""`weights`: final weights with the bits of the reference's, seed by seed.

The checksums that results carry are compared, of the weights as trained and of their average. Where
those of files differ, what is in the files is (orchestrator.regression.final_weights).
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.states import State
from orchestrator.regression.beside import as_recorded
from orchestrator.regression.cases import Case, Row
from orchestrator.regression.final_weights import contents_of, files_of
from orchestrator.regression.measured import Measured, Shown, Verdict
from orchestrator.regression.seeds import by_reason
from orchestrator.report.comparable import Final, differing, facts_of
from orchestrator.report.frame import in_words
from orchestrator.statistics.interval import Unknown

UNIT = "seeds with other weights"


def weights(case: Case) -> Iterator[Measured]:
    if case.asked.weights is None:
        return
    key = case.key("weights")
    same: dict[int, bool] = {}
    absent: dict[int, str] = {}
    other_file = ""
    for seed in sorted({*case.rows, *case.reference_rows}):
        found = _differing(case, seed)
        if isinstance(found, Unknown):
            absent[seed] = found.reason
            continue
        same[seed] = not found
        other_file = other_file or (f"{found} differs at seed {seed}" if found else "")
    exact: Verdict | None = "pass" if same and not absent else None
    said = "equal to the bit at every seed" if exact else ""
    wrong = sum(not is_same for is_same in same.values())
    if other_file:
        exact, said = "fail", f"{other_file}, and at {wrong} of {len(same)} seeds in all"
    if case.diverged:
        exact, said = "fail", case.diverged
    left_out = by_reason(absent)
    why = case.untrained or case.without_reference or "; ".join(left_out)
    if why and not why.startswith(("cannot be compared", "could not")):
        why = f"cannot be compared: {why}"
    none = Unknown(said or why)
    yield Measured(
        key,
        case.ids(
            row["trial"]
            for rows in (case.rows, case.reference_rows)
            for seed, row in rows.items()
            if seed in same
        ),
        case.setup(key, None, compared=True),
        tuple(sorted({*same, *case.gone})),
        none,
        0.0,
        0.0,
        none,
        Shown(float(wrong) if same else None, None, None, 0.0, UNIT, "equal"),
        exact,
        said,
        left_out,
    )


def _differing(case: Case, seed: int) -> str | Unknown:
    """The file of weights that differs, "" if none does; Unknown if they cannot be compared."""
    sides = (case.rows.get(seed), case.norm), (case.reference_rows.get(seed), case.reference)
    undone = [
        f"{norm} {in_words(row) if row is not None else 'not there'}"
        for row, norm in sides
        if row is None or row["state"] != State.DONE
    ]
    if undone:
        return Unknown(", ".join(undone))
    own, other = case.rows[seed], case.reference_rows[seed]
    frame = case.ground.both.frame
    facts = [Final("", {}, facts_of(frame, row["trial"])) for row in (own, other)]
    if unlike := differing(facts[0], facts[1], case.norm, case.reference):
        return Unknown(unlike)
    kept = case.ground.against.weights
    files, theirs = _files(case, own), _files(case, other) if kept is None else kept[_id(other)][0]
    if not files or not theirs:
        return Unknown("no final weights are recorded")
    unlike_files = [name for name in files if files[name] != theirs.get(name)]
    if not unlike_files and files.keys() == theirs.keys():
        return ""
    try:
        inside = [
            _contents(case, own),
            _contents(case, other) if kept is None else kept[_id(other)][1],
        ]
    except EnvironmentProblem as error:
        return Unknown(str(error))
    return next(
        (
            name
            for name in sorted({*files, *theirs})
            if files.get(name) != theirs.get(name)
            and (name not in inside[0] or inside[0][name] != inside[1].get(name))
        ),
        "",
    )


def _id(row: Row) -> str:
    return as_recorded(str(row["trial"]))


def _files(case: Case, row: Row) -> dict[str, str]:
    return files_of(case.ground.both.frame.looks[row["trial"]].result)


def _contents(case: Case, row: Row) -> dict[str, str]:
    result = case.ground.both.frame.looks[row["trial"]].result
    return contents_of(case.ground.store, _id(row), result)
