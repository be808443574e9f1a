"""The verbs of this machine: doctor, ui."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import STORE, TRACKING, AsJson, StoreUri, TrackingUri

verbs = typer.Typer()


@verbs.command()
def doctor(
    store: StoreUri = STORE, tracking: TrackingUri = TRACKING, as_json: AsJson = False
) -> int:
    """Check versions, devices, store and tracking, and say what to do about each problem."""
    from orchestrator.doctor import run_doctor
    from orchestrator.tracking.address import tracking_of

    return run_doctor(store, tracking_of(store, tracking), as_json=as_json)


@verbs.command()
def ui(
    tracking: TrackingUri = TRACKING,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    store: StoreUri = STORE,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
) -> int:
    """Run the MLflow server that shows the runs, and open the sweep that was last touched."""
    from orchestrator.tracking.address import tracking_of
    from orchestrator.ui import run_ui

    return run_ui(tracking_of(store, tracking), host, port, opens=not no_open)
