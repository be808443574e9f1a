"""Reads files of claims: lists of mappings, one for each claim, with the caret at what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from orchestrator.errors import UserError
from orchestrator.plan.claims import ClaimFile, claim_file
from orchestrator.plan.expand import Plan
from orchestrator.plan.limits import shown
from orchestrator.plan.source import Problem, Source, parsed
from orchestrator.plan.sweep import shape_problems, unknown
from orchestrator.report.claims.lines import SAID, Claim
from orchestrator.report.claims.statistics import STATISTICS

PAPER = Path(__file__).parent / "paper.yaml"
MOST_CLAIMS = 200
FORM = "- {id: a_name, sentence: What is claimed., statistic: growing, norms: [layer_norm]}"


@cache
def paper() -> tuple[Claim, ...]:
    """The paper's claims."""
    return read_claims(claim_file(PAPER))


def own_claims(plan: Plan, given: Path | None = None) -> tuple[Claim, ...]:
    """The user's own claims: those of the file `given`, then those that the sweep file names.

    Raises UserError with every problem of both files.
    """
    return claims_of(plan.claims, given)


def claims_of(named: ClaimFile | None, given: Path | None = None) -> tuple[Claim, ...]:
    """The same, by the file that a sweep names, before there is a plan."""
    files: list[ClaimFile] = []
    problems: list[str] = []
    if given is not None:
        try:
            files.append(claim_file(given))
        except UserError as error:
            problems.append(str(error))
    if named is not None and named.text not in [file.text for file in files]:
        files.append(named)
    found: list[Claim] = []
    taken = {claim.id: "the paper's claims" for claim in paper()} if files else {}
    for file in files:
        try:
            read = read_claims(file, taken)
        except UserError as error:
            problems.append(str(error))
            continue
        found += read
        taken |= {claim.id: str(file.path) for claim in read}
    if problems:
        raise UserError("\n".join(problems))
    return tuple(found)


def read_claims(file: ClaimFile, taken: Mapping[str, str] | None = None) -> tuple[Claim, ...]:
    """The claims of a file. `taken` are ids that others have, with whose they are.

    Raises UserError with every problem.
    """
    source = parsed(file.path, file.text)
    if source.value is None:
        raise UserError(
            f"{file.path}: is empty. A file of claims is a list of lines such as\n{FORM}"
        )
    if not isinstance(source.value, list):
        raise source.error([Problem((), f"a file of claims is a list of lines such as {FORM}")])
    if not 0 < len(source.value) <= MOST_CLAIMS:
        number = len(source.value)
        raise source.error([Problem((), f"has {number} claims; 1 to {MOST_CLAIMS} fit")])
    problems: list[Problem] = []
    claims = [_claim(i, item, source, problems) for i, item in enumerate(source.value)]
    problems += _taken(source, taken or {})
    if problems:
        raise source.error(problems)
    return tuple(claim for claim in claims if claim is not None)


def _claim(i: int, item: Any, source: Source, problems: list[Problem]) -> Claim | None:
    if not isinstance(item, dict):
        problems.append(Problem((i,), f"must be a mapping such as {FORM[2:]}, not {shown(item)}"))
        return None
    shape, values = Claim, item
    name = item.get("statistic")
    if isinstance(name, str) and name in STATISTICS:
        shape = STATISTICS[name].shape
    else:
        # Its own fields are unknown, so only those that every claim has are checked.
        values = {key: value for key, value in item.items() if key in Claim.model_fields}
        if isinstance(name, str):
            problems.append(
                Problem((i, "statistic"), unknown("statistic", name, tuple(STATISTICS)))
            )
    try:
        return shape.model_validate(values)
    except ValidationError as error:
        errors = error.errors()
        for one in errors:
            if one["type"] == SAID:
                place = (i, *one["loc"], *filter(None, (one["ctx"]["knob"],)))
                problems.append(Problem(place, one["ctx"]["message"]))
        others = [{**one, "loc": (i, *one["loc"])} for one in errors if one["type"] != SAID]
        fields = tuple(shape.model_fields)
        problems += shape_problems(others, source, lambda _: fields)  # type: ignore[arg-type]
    return None


def _taken(source: Source, taken: Mapping[str, str]) -> list[Problem]:
    """Problems: ids that come twice, or that other claims have."""
    problems, first = [], dict[str, int]()
    for i, item in enumerate(source.value):
        name = item.get("id") if isinstance(item, dict) else None
        if not isinstance(name, str):
            continue
        if name in first:
            line = source.position((first[name], "id")).line
            problems.append(
                Problem((i, "id"), f"the id {name!r} is given twice; first on line {line}")
            )
        elif name in taken:
            problems.append(Problem((i, "id"), f"the id {name!r} is taken by {taken[name]}"))
        first.setdefault(name, i)
    return problems
