"""The live table of a run: a row for each trial, in any terminal from 40 columns on.

Numbers are never cut. A name leaves out the axes of which the sweep has one value, and goes on in
the next line where it is too long. Nothing is read as markup: labels have brackets.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rich.console import Group
from rich.table import Table
from rich.text import Text

from orchestrator.plan import Plan
from orchestrator.plan.axes import COMPARED, trial_name
from orchestrator.plan.states import State

LONGEST_TABLE = 30
# Columns that a narrow terminal does without, in this order.
LEFT_OUT = ("loss", "step")
SHORTEST_NAME = 16  # characters of a trial's name; columns are left out to make room for them
PADDING = 2  # characters around a column
STYLES = {
    State.RUNNING: "bold",
    State.FAILED: "red",
    State.INFEASIBLE: "red",
    State.DAMAGED: "red",
    State.DIVERGED: "magenta",
    State.STOPPED: "cyan",
    State.INTERRUPTED: "dim",
    State.PENDING: "dim",
}
LAST = 4
PLACES = {  # in the table, from the top
    State.RUNNING: 0,
    State.RETRYING: 0,
    State.FAILED: 1,
    State.INFEASIBLE: 1,
    State.DAMAGED: 1,
    State.DIVERGED: 2,
    State.INTERRUPTED: 3,
    State.PENDING: 3,
}


class Share(NamedTuple):
    """What a row adds to the sums over all rows. Whole numbers, so that no sum drifts."""

    ended: int = 0  # trials that need no more training
    cost_us: int = 0  # estimated, of what this run trains or has trained
    done_us: int = 0  # the part of it that is behind

    def plus(self, other: Share) -> Share:
        return Share(*map(operator.add, self, other))

    def minus(self, other: Share) -> Share:
        return Share(*map(operator.sub, self, other))


@dataclass
class Row:
    """The display's record of one trial."""

    name: str
    short: str  # for the table
    steps: int
    cost_s: float
    state: State = State.PENDING
    step: int = 0
    begun: int = 0  # the step from which this run trains it
    has_moved: bool = False  # in this run
    loss: float | None = None
    psnr: float | None = None
    phase: str = ""  # what an attempt does before it trains
    said: float = field(default=0.0)  # when a line about it was last printed
    said_step: int = -1  # and at which step
    counted: Share = field(default_factory=Share)  # what the sums have of it

    @property
    def doing(self) -> str:
        """The state, or the phase of a trial that does not train yet."""
        if self.state == State.STOPPED:
            return self.state.at(self.step, self.steps)
        return self.phase if self.phase and self.state == State.RUNNING else self.state

    @property
    def share(self) -> Share:
        """What it adds to the sums; a trial that had ended before this run counts only as ended."""
        ahead = max(1, self.steps - self.begun)
        cost_us = round(1e6 * self.cost_s * ahead / self.steps)
        if self.state.is_open:
            return Share(0, cost_us, cost_us * max(0, self.step - self.begun) // ahead)
        return Share(1, cost_us, cost_us) if self.has_moved else Share(1)


def short_names(plan: Plan) -> dict[str, str]:
    """The names of trials by id, without the axes that have one value in the whole sweep."""
    values: dict[str, set[str]] = {}
    for trial in plan.trials:
        for axis, label in trial.axes.items():
            values.setdefault(axis, set()).add(str(label))
    kept = {axis for axis, labels in values.items() if len(labels) > 1} or {COMPARED}
    return {trial.id: trial_name(trial.axes, only=kept) for trial in plan.trials}


def table_of(title: str, rows: Sequence[Row], width: int, height: int = LONGEST_TABLE) -> Group:
    """The table in a terminal of so many columns and lines; with more trials it says how many.

    The title is above it and not its own, which would be wrapped at the table's width.
    """
    ordered = sorted(rows, key=lambda row: PLACES.get(row.state, LAST))
    most = max(1, min(LONGEST_TABLE, height))
    shown = [(row, _cells(row)) for row in ordered[:most]]
    widths = {
        column: max(len(column), *(len(cells[column]) for _, cells in shown))
        for column in shown[0][1]
    }
    longest = max(len(row.short) for row, _ in shown)
    for column in LEFT_OUT:
        if _left(widths, width) < min(longest, SHORTEST_NAME):
            del widths[column]
    room = max(1, _left(widths, width))
    table = Table(box=None)
    table.add_column("trial", overflow="fold", min_width=min(room, longest), max_width=room)
    for column, most_wide in widths.items():
        table.add_column(
            column,
            justify="left" if column == "state" else "right",
            no_wrap=True,
            min_width=most_wide,
        )
    for row, cells in shown:
        texts = (Text(row.short), *(Text(cells[column]) for column in widths))
        table.add_row(*texts, style=STYLES.get(row.state, "green"))
    if len(ordered) > most:
        table.caption, table.caption_justify = Text(f"... and {len(ordered) - most} more"), "left"
    return Group(Text(title), table)


def _left(widths: Mapping[str, int], width: int) -> int:
    """The characters that columns of these widths leave for the names of trials."""
    return width - sum(one + PADDING for one in widths.values()) - PADDING


def _cells(row: Row) -> dict[str, str]:
    """The cells of a trial's row after its name."""
    return {
        "state": row.doing,
        "step": f"{row.step}/{row.steps}" if row.step else "",
        "loss": "" if row.loss is None else f"{row.loss:.4f}",
        "PSNR": "" if row.psnr is None else f"{row.psnr:.2f}",
    }
