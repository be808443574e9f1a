"""The lines of JSON that `normsweep run --json` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any


def as_plain(value: Any) -> Any:
    """A value as JSON can hold it: null for a number that is not finite."""
    if isinstance(value, Mapping):
        return {key: as_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def json_line(record: Mapping[str, Any]) -> str:
    """One line: an event, and when it was printed (ISO 8601, UTC)."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return json.dumps({**as_plain(record), "time": now}, allow_nan=False)
