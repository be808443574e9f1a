"""Brings a tracker up to date with a store, after the run: `normsweep sync`."""

from __future__ import annotations

from orchestrator.plan import Plan
from orchestrator.store import read_store
from orchestrator.store.names import report_prefix
from orchestrator.store.records import read_bytes
from orchestrator.tracking.mirror import Mirror


def sync_sweep(plan: Plan, store_uri: str, tracking_uri: str) -> list[str]:
    """Bring the tracker up to date with the store, and with the report in it.

    Returns notes on what had to be restored.
    """
    mirror = Mirror(tracking_uri, plan)
    store = read_store(store_uri)
    mirror.sync(store, plan.trials)
    mirror.send_evaluations(store, plan.trials)
    prefix = report_prefix(plan.sweep)
    kept = {key.removeprefix(f"{prefix}/"): read_bytes(store, key) for key in store.list(prefix)}
    report = {
        name: text.decode(errors="replace")
        for name, text in kept.items()
        if isinstance(text, bytes)
    }
    if report:
        mirror.log_report(report)
    return mirror.notes
