"""The photographs inside scikit-image's wheel: sets that are always available."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path


def embedded_names() -> tuple[str, ...]:
    return tuple(embedded_sets())


def embedded_sets() -> dict[str, dict[str, str]]:
    """The checksum of each image, by set and by file name."""
    sets: dict[str, dict[str, str]] = json.loads(
        Path(__file__).with_name("embedded.json").read_bytes()
    )
    return sets


def photographs() -> Path | None:
    """The folder of the installed photographs; None if scikit-image is not installed."""
    found = importlib.util.find_spec("skimage")
    return None if found is None or found.origin is None else Path(found.origin).parent / "data"
