"""The verbs of a sweep's results: report, claims, sync."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import hints
from orchestrator.cli.flags import spread
from orchestrator.cli.options import (
    STORE,
    TRACKING,
    AsJson,
    Claims,
    Data,
    Default,
    File,
    StoreUri,
    TrackingUri,
    claims_check,
    finder,
    own_claims,
    weights,
)
from orchestrator.cli.stores import check_store
from orchestrator.collecting import rarely_from_now_on
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.plan import Plan
    from orchestrator.report.frame import Frame

verbs = typer.Typer()


@dataclass(frozen=True)
class PageFlags:
    """What is written, and where."""

    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Default: STORE/sweeps/NAME/report, or STORE/compared/NAME/NAME for several.",
        ),
    ] = None
    latex: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write the tables in LaTeX to this folder as well."),
    ] = None
    claims: Claims = None
    all_traces: Annotated[
        bool, typer.Option("--all-traces", help="Write every point to traces.csv.")
    ] = False


@verbs.command()
@spread
def report(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE...", help="A sweep file, or several to compare."),
    ],
    page: PageFlags,
    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            metavar="URI",
            help="Where trials are kept: a folder or s3://BUCKET/PREFIX. Default: NORMSWEEP_STORE, "
            f"or {STORE}. With several files, one for all or one for each.",
        ),
    ] = None,
    tracking: TrackingUri = TRACKING,
    data: Data = None,
) -> int:
    """Write the report of a sweep, or of several side by side: HTML, Markdown, LaTeX and CSV."""
    from orchestrator.plan import load_plan

    rarely_from_now_on()
    stores = _stores(files, store)
    check = claims_check(page.claims)
    plans = [
        load_plan(file, finder(data), weights(where, check=False), check_claims=check)
        for file, where in zip(files, stores, strict=True)
    ]
    own = [claim for plan in plans for claim in own_claims(plan, page.claims)]
    own = [claim for i, claim in enumerate(own) if claim not in own[:i]]
    for where in dict.fromkeys(stores):
        check_store(where)
    planned, frame, prefix = _read(plans, stores)
    from orchestrator.report.page import write_files, write_report
    from orchestrator.tracking.address import tracking_of

    written = write_report(
        planned,
        stores[0],
        None if prefix else tracking_of(stores[0], tracking),
        page.out,
        frame=frame,
        own=tuple(own),
        all_traces=page.all_traces,
        prefix=prefix,
    )
    if page.latex is not None:
        tables = {name: text for name, text in written.files.items() if name.endswith(".tex")}
        write_files(tables, page.latex)
    print(written.page)
    return 0


def _read(plans: Sequence[Plan], stores: Sequence[str]) -> tuple[Plan, Frame, str]:
    """What the stores hold, of several sweeps as one; and where a store keeps a report on several.

    For one sweep that is "".
    """
    from orchestrator.store import read_store
    from orchestrator.store.reading import read_trials

    opened = [read_store(where) for where in stores]
    readings = [
        read_trials(one, [trial.id for trial in plan.trials])
        for one, plan in zip(opened, plans, strict=True)
    ]
    import_module("orchestrator.report.page")  # with pandas and matplotlib, while trials are read
    from orchestrator.report.frame import read_frame

    frames = [read_frame(*one) for one in zip(plans, opened, readings, strict=True)]
    if len(plans) == 1:
        return plans[0], frames[0], ""
    from orchestrator.report import several

    labels = several.labels_of(plans, stores)
    joined = several.joined(list(map(several.One, labels, plans, frames)))
    return *joined, several.place_of(labels)


def _stores(files: Sequence[Path], given: Sequence[str] | None) -> list[str]:
    """The store of each file. Raises UserError if their numbers do not fit."""
    stores = list(given or [os.environ.get("NORMSWEEP_STORE") or STORE])
    if len(stores) == 1:
        stores *= len(files)
    if len(stores) != len(files):
        raise UserError(
            f"--store is given {len(stores)} times for {len(files)} "
            f"file{'s' * (len(files) > 1)}: give it once, or once for each file."
        )
    if len(set(zip(files, stores, strict=True))) < len(files):
        raise UserError(
            "The same file is given twice with one store. To compare two dates of a sweep, give a "
            "store for each: --store OLD --store NEW."
        )
    is_one = len(set(stores)) == 1 and not isinstance(stores[0], Default)
    hints.remember(hints.STORE, stores[0] if is_one else None)
    return stores


@verbs.command()
def claims(
    file: File,
    store: StoreUri = STORE,
    claims: Claims = None,
    as_json: AsJson = False,
    data: Data = None,
) -> int:
    """Judge the paper's claims, and your own, by what the store holds of a sweep."""
    from orchestrator.plan import load_plan

    check = claims_check(claims)
    planned = load_plan(file, finder(data), weights(store, check=False), check_claims=check)
    own = own_claims(planned, claims)
    from orchestrator.report.claims import show
    from orchestrator.report.claims.judging import claims as judge
    from orchestrator.report.frame import read_frame
    from orchestrator.store import read_store

    check_store(store)
    found = judge(planned, read_frame(planned, read_store(store)), own)
    if as_json:
        print(json.dumps(show.as_json(planned, found), indent=2, allow_nan=False))
    else:
        print(show.as_text(planned, found))
    return 0


@verbs.command()
def sync(
    file: File, store: StoreUri = STORE, tracking: TrackingUri = TRACKING, data: Data = None
) -> int:
    """Bring MLflow up to date with the store, e.g. after its server was down."""
    from orchestrator.plan import load_plan

    planned = load_plan(file, finder(data), weights(store, check=False))
    from orchestrator.tracking.address import tracking_of
    from orchestrator.tracking.sync import sync_sweep

    check_store(store)
    tracking = tracking_of(store, tracking)

    notes = sync_sweep(planned, store, tracking)
    if planned.gate is not None:
        from orchestrator.regression.tracked import sync_nights

        notes += sync_nights(planned, store, tracking)
    for note in notes:
        print(note, file=sys.stderr)
    return 0
