"""The verbs of this machine: doctor, ui."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.options import (
    NAMESPACE,
    STORE,
    TRACKING,
    AsJson,
    Context,
    Namespace,
    StoreUri,
    TrackingUri,
)
from orchestrator.errors import UserError

verbs = typer.Typer()
HOST = "127.0.0.1"


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
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="[JOB]",
            help="A job on a cluster, or its sweep: show its MLflow, wherever --tracking is, and "
            "Ray's dashboard, on ports of this machine.",
        ),
    ] = None,
    tracking: TrackingUri = TRACKING,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = HOST,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    store: StoreUri = STORE,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    context: Context = None,
    namespace: Namespace = NAMESPACE,
) -> int:
    """Run the MLflow server that shows the runs, and open the sweep that was last touched.

    With JOB, forward this machine's ports to the job's pages on its cluster, until Ctrl-C.
    """
    if job is not None:
        from orchestrator.cluster.kube import Kube
        from orchestrator.cluster.pages import show_pages

        if host != HOST:
            raise UserError(f"--host {host}: a job's pages are shown to this machine alone.")
        return show_pages(Kube(context, namespace), job, port, opens=not no_open)
    from orchestrator.tracking.address import tracking_of
    from orchestrator.ui import run_ui

    return run_ui(tracking_of(store, tracking), host, port, opens=not no_open)
