"""Sends what `normsweep evaluate` has kept of a trial to the trial's run in a tracker.

Each mean over a set becomes a value `eval/<set>/<precision>/<metric>` at the step of the weights;
the precision also names tiles and steps per channel (`int8-per-channel-tile-64-16`). The tag
`normsweep.evaluation.<set>-<precision>` holds the record's checksum, so that each is sent once;
before it was sent, followed by `@` and the time that its values have, in ms since 1970.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath

from orchestrator.store.base import Store
from orchestrator.store.records import CHECKSUM, EVALUATION, canonical_sha256, read_record
from orchestrator.tracking.base import Tracker, Value
from trainers.catalog import METRICS

SENT = "normsweep.evaluation."
MEANS = (*METRICS.names, "non_finite")


def sent_evaluations(tags: Mapping[str, str]) -> dict[str, str]:
    """The checksums of the evaluations that a run has, by name, from its tags."""
    return {name.removeprefix(SENT): text for name, text in tags.items() if name.startswith(SENT)}


def send_evaluations(
    tracker: Tracker, run_id: str, sent: dict[str, str], store: Store, keys: Iterable[str]
) -> None:
    """Send the evaluations at `keys` that are not among the `sent`, which learns of them.

    One that is damaged is passed over. Raises TrackingUnavailable.
    """
    for key in keys:
        name = PurePosixPath(key).stem
        record = read_record(store, key, EVALUATION)
        if not isinstance(record, dict) or not isinstance(step := record.get("step"), int):
            continue
        checksum = record.get(CHECKSUM) or canonical_sha256(record)
        if (said := sent.get(name, "")) == checksum:
            continue
        # No record says when it was made. One that is replaced is sent later, and so is the newest.
        # Kept beforehand: with another time, values that are sent again would be there twice.
        if not said.startswith(begun := f"{checksum}@"):
            said = f"{begun}{round(time.time() * 1000)}"
            tracker.set_tags(run_id, {f"{SENT}{name}": said})
            sent[name] = said
        time_ms = int(said.removeprefix(begun))
        place = f"eval/{record['benchmark']}/{name.removeprefix(record['benchmark'] + '-')}"
        values = ((metric, _number(record.get(metric))) for metric in MEANS)
        tracker.log(
            run_id,
            [
                Value(f"{place}/{m}", step, value, time_ms)
                for m, value in values
                if value is not None
            ],
        )
        tracker.set_tags(run_id, {f"{SENT}{name}": checksum})
        sent[name] = checksum


def _number(value: object) -> float | None:
    """A mean as a record has it, `"inf"` for infinity; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except ValueError:
        return None
