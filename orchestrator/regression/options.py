"""The flags of `normsweep regress`, and the addresses to notify. It imports nothing heavy."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.run.options import RunOptions

VARIABLE = "NORMSWEEP_NOTIFY"
# A comma may also stand inside an address, between two recipients of a mail.
BETWEEN = re.compile(r"\s*\n\s*|\s*,\s*(?=[A-Za-z][A-Za-z0-9+.-]*://)")


@dataclass(frozen=True)
class NightOptions:
    """The flags of `normsweep regress`. `day` is the night's date.

    `out` is a folder for the page, `junit` a file, `addresses` whom to notify.
    """

    run: RunOptions
    day: str
    candidate: str = ""
    out: Path | None = None
    junit: Path | None = None
    addresses: tuple[str, ...] = field(default=(), repr=False)


def addresses() -> tuple[str, ...]:
    """The addresses to notify, taken out of the environment, which every process here inherits."""
    given = os.environ.pop(VARIABLE, "")
    return tuple(part for part in BETWEEN.split(given.strip()) if part.strip(" ,"))
