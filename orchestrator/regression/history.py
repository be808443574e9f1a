"""The verdicts of all nights so far: a row per norm, a column per night, newest first."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.regression.verdict import Night, read_night
from orchestrator.store.base import Store
from orchestrator.store.records import Damaged
from orchestrator.store.verdicts import days_of

MOST_NIGHTS = 60
GAP = "  "


@dataclass(frozen=True)
class History:
    """The newest nights, newest first. Damaged verdicts are left out and named in `damaged`."""

    sweep: str
    nights: tuple[Night, ...]
    damaged: tuple[str, ...] = ()

    @property
    def norms(self) -> tuple[str, ...]:
        """Every norm that was judged in these nights; the newest night's come first."""
        return tuple(dict.fromkeys(norm for night in self.nights for norm in night.norms))

    def before(self, day: str) -> Night | None:
        """The newest night before a date."""
        return next((night for night in self.nights if night.date < day), None)

    def as_json(self) -> dict[str, Any]:
        """What `regress --history --json` prints. A norm has no entry for a night without it."""
        return {
            "sweep": self.sweep,
            "nights": [{"date": night.date, "verdict": night.verdict} for night in self.nights],
            "norms": [
                {
                    "norm": norm,
                    "verdicts": {
                        night.date: verdict
                        for night in self.nights
                        if (verdict := night.of_norm(norm)) is not None
                    },
                }
                for norm in self.norms
            ],
            "damaged": list(self.damaged),
        }

    def as_text(self, width: int | None = None) -> str:
        """The table, in as many pieces as the width takes; no column is cut."""
        if not self.nights:
            return f"{self.sweep}: no night has been judged yet."
        width = shutil.get_terminal_size().columns if width is None else width
        label = max(map(len, (*self.norms, "whole night")))
        column = len(self.nights[0].date)
        count = max(1, (width - label) // (column + len(GAP)))
        pieces = [self.nights[at : at + count] for at in range(0, len(self.nights), count)]
        return "\n\n".join("\n".join(self._piece(nights, label, column)) for nights in pieces)

    def _piece(self, nights: Sequence[Night], label: int, column: int) -> list[str]:
        rows = [("", [night.date for night in nights])]
        rows += [(norm, [night.of_norm(norm) or "-" for night in nights]) for norm in self.norms]
        rows.append(("whole night", [night.verdict for night in nights]))
        return [
            GAP.join([name.ljust(label), *(cell.ljust(column) for cell in cells)]).rstrip()
            for name, cells in rows
        ]


def read_history(store: Store, sweep: str, most: int = MOST_NIGHTS) -> History:
    """The newest verdicts of a sweep; reading creates nothing."""
    days = days_of(store, sweep)
    nights, damaged = [], []
    for day in reversed(days[-most:]):
        found = read_night(store, sweep, day)
        if isinstance(found, Damaged):
            damaged.append(f"damaged: {found}")
        elif found is not None:
            nights.append(found)
    return History(sweep, tuple(nights), tuple(damaged))
