"""The nights of a gate in MLflow: one run per night, in an experiment beside the sweep's."""

from __future__ import annotations

from orchestrator.plan import Plan
from orchestrator.regression.history import read_history
from orchestrator.regression.measured import Verdict
from orchestrator.regression.verdict import Night
from orchestrator.store import read_store
from orchestrator.store.records import read_bytes
from orchestrator.store.verdicts import days_of, pages_prefix
from orchestrator.tracking.nights import NightValues, log_nights

VERDICTS: tuple[Verdict, ...] = ("pass", "fail", "undecided")
FILES = ("index.html", "report.md", "verdict.csv", "verdict.json")


def sync_nights(plan: Plan, store_uri: str, tracking_uri: str) -> list[str]:
    """Send the verdicts that the tracker lacks, with their pages; returns notes.

    Raises TrackingUnavailable if the tracker does not answer, UserError if its address is not
    valid.
    """
    store = read_store(store_uri)
    days = days_of(store, plan.sweep)
    nights = reversed(read_history(store, plan.sweep).nights)

    def files(day: str) -> dict[str, bytes]:
        found = {
            name: read_bytes(store, f"{pages_prefix(plan.sweep, day)}/{name}") for name in FILES
        }
        return {name: text for name, text in found.items() if isinstance(text, bytes)}

    values = [_values(night, days.index(night.date) + 1) for night in nights]
    return log_nights(tracking_uri, plan, values, files) if values else []


def _values(night: Night, number: int) -> NightValues:
    counts = {f"gates/{verdict}": float(len(night.with_verdict(verdict))) for verdict in VERDICTS}
    values = {
        "/".join(filter(None, question.key)): question.value
        for question in night.questions
        if question.value is not None
    }
    tags = {"normsweep.sweep": night.sweep, "normsweep.verdict": night.verdict}
    return NightValues(number, night.date, {**values, **counts}, tags)
