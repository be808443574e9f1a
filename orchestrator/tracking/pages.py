"""Links to the pages of MLflow that show sweeps, for `normsweep ui`."""

from __future__ import annotations

from orchestrator.tracking import sqlite
from orchestrator.tracking.address import Address
from orchestrator.tracking.base import TrackingUnavailable
from orchestrator.tracking.health import why_away
from orchestrator.tracking.views import TAG, runs_link


def links(address: Address, server: str) -> dict[str, str]:
    """The page of each of our experiments' runs at `server`, by name, the last touched one first.

    There are none where MLflow does not answer.
    """
    if address.database is not None:
        found = sqlite.experiments(address.database, TAG)
    elif why_away(address.uri) is not None:
        found = []
    else:
        from orchestrator.tracking.mlflow import experiments

        address.sign_in()
        try:
            found = experiments(address)
        except TrackingUnavailable:
            found = []
    return {name: runs_link(server, number, has_view=view) for number, name, view in found}
