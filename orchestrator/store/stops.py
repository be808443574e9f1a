"""Decisions of early stopping: each written once, before anyone acts on it.

    sweeps/<sweep>/stops/<policy>/<trial>/<step>.json

`<policy>` is a digest of the file's `stop` section, so that other settings make decisions of their
own. A decision that let a trial go on is kept as well: what later ones are compared with depends on
the order in which trials came.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from orchestrator.plan import Plan
from orchestrator.plan.states import State
from orchestrator.store.base import Store
from orchestrator.store.journals import READERS
from orchestrator.store.records import (
    Count,
    Name,
    Record,
    Seconds,
    Shape,
    Text,
    Value,
    read_record,
    sealed,
)
from orchestrator.store.results import result_key, stated_result
from orchestrator.store.trials import Look
from trainers.journal import encoded

STOPPED = "stopped"  # the outcome in a result


class DecisionRecord(Shape):
    trial: Name
    group: Text
    order: Count
    rung: Annotated[float, Field(ge=0)]
    step: Count
    value: Value
    cutoff: Value | None
    decision: Literal["continue", "stop"]
    time: Seconds


DECISION = TypeAdapter(DecisionRecord)


@dataclass(frozen=True)
class Decision:
    """What was decided about a trial at a rung.

    `value`: of the metric at `step`, the first report from `rung` on. `cutoff`: what it was
    compared with; None for the first trial to come. `order`: how many decisions came before.
    """

    trial: str
    group: str
    order: int
    rung: float
    step: int
    value: float
    cutoff: float | None
    stops: bool

    @property
    def key(self) -> str:
        return f"{self.trial}/{self.step:08d}.json"


def stops_prefix(sweep: str, policy: str) -> str:
    return f"sweeps/{sweep}/stops/{policy}"


def keep(store: Store, prefix: str, made: Decision) -> Decision:
    """Write a decision; if another driver has made it already, return the one that stands."""
    fields = asdict(made)
    decision = "stop" if fields.pop("stops") else "continue"
    record = {**fields, "value": encoded(made.value), "decision": decision, "time": time.time()}
    key = f"{prefix}/{made.key}"
    if store.put_once(key, sealed(record)):
        return made
    there = read_record(store, key, DECISION)
    if isinstance(there, dict):
        return _decision(there)
    store.put(key, sealed(record))  # it was damaged, and can be made again
    return made


def kept(store: Store, prefix: str) -> list[Decision]:
    """All intact decisions, in the order in which they were made."""
    with ThreadPoolExecutor(READERS) as readers:
        found = readers.map(lambda key: read_record(store, key, DECISION), store.list(prefix))
        records = [record for record in found if isinstance(record, dict)]
    ordered = sorted(records, key=lambda one: (one["order"], one["time"], one["trial"]))
    return [_decision(record) for record in ordered]


def standing(store: Store, prefix: str, trial_id: str) -> Decision | None:
    """The decision to stop a trial, if it was made."""
    return next((made for made in kept(store, f"{prefix}/{trial_id}") if made.stops), None)


def _decision(record: Record) -> Decision:
    names = ("trial", "group", "order", "step")
    cutoff = record["cutoff"]
    return Decision(
        **{name: record[name] for name in names},
        rung=float(record["rung"]),
        value=float(record["value"]),
        cutoff=None if cutoff is None else float(cutoff),
        stops=record["decision"] == "stop",
    )


def has_ended_for(plan: Plan, look: Look) -> bool:
    """Whether a run of this sweep would leave a trial as it is.

    One that was stopped is over only for the sweep that stopped it, with the same `stop`: any other
    trains it on from its checkpoint.
    """
    if look.state != State.STOPPED or look.result is None:
        return look.has_ended
    decision = look.result.get("stopped_by")
    if plan.stop is None or not isinstance(decision, Mapping):
        return False
    return (decision.get("sweep"), decision.get("policy")) == (plan.sweep, plan.stop.policy)


def stopped_at(result: Record) -> int:
    """The step for which a stopped trial's end was decided; its checkpoint may be a later one."""
    decision = result.get("stopped_by")
    step = decision.get("step") if isinstance(decision, Mapping) else None
    return step if isinstance(step, int) and not isinstance(step, bool) else int(result["step"])


def reopen(store: Store, trial_id: str) -> None:
    """Let a trial that was stopped train on: without its result it is open, with all that it has.

    The decision that stopped it stays, for the sweep that made it.
    """
    result = stated_result(store, trial_id)
    if isinstance(result, dict) and result["outcome"] == STOPPED:
        store.delete(result_key(trial_id))
