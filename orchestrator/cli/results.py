"""The verbs of a sweep's results: report, claims, sync."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.options import (
    STORE,
    TRACKING,
    AsJson,
    Claims,
    Data,
    File,
    StoreUri,
    TrackingUri,
    finder,
    own_claims,
    weights,
)

verbs = typer.Typer()


@verbs.command()
def report(
    file: File,
    store: StoreUri = STORE,
    tracking: TrackingUri = TRACKING,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Default: STORE/sweeps/NAME/report.")
    ] = None,
    claims: Claims = None,
    all_traces: Annotated[
        bool, typer.Option("--all-traces", help="Write every point to traces.csv.")
    ] = False,
    data: Data = None,
) -> int:
    """Write the report of a sweep: HTML, Markdown and CSV."""
    from orchestrator.plan import load_plan

    planned = load_plan(file, finder(data), weights(store, check=False))
    own = own_claims(planned, claims)
    from orchestrator.store import read_store
    from orchestrator.store.reading import read_trials

    opened = read_store(store)
    # Trials are read while pandas and matplotlib are imported.
    readings = read_trials(opened, [trial.id for trial in planned.trials])
    from orchestrator.report.frame import read_frame
    from orchestrator.report.page import write_report

    frame = read_frame(planned, opened, readings)
    written = write_report(
        planned, store, tracking, out, frame=frame, own=own, all_traces=all_traces
    )
    print(written.page)
    return 0


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

    planned = load_plan(file, finder(data), weights(store, check=False))
    own = own_claims(planned, claims)
    from orchestrator.report.claims import show
    from orchestrator.report.claims.judging import claims as judge
    from orchestrator.report.frame import read_frame
    from orchestrator.store import read_store

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
    from orchestrator.tracking.mirror import sync_sweep

    notes = sync_sweep(planned, store, tracking)
    if planned.gate is not None:
        from orchestrator.regression.tracked import sync_nights

        notes += sync_nights(planned, store, tracking)
    for note in notes:
        print(note, file=sys.stderr)
    return 0
