"""How a run reports progress: a live table in a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.plan import Gpus, Plan
from orchestrator.plan.fit import too_large_for_a_gpu, waits_for_gpus
from orchestrator.plan.show import duration, gpus_in_words, seconds_left, trials_in_words
from orchestrator.plan.states import State

LINE_EVERY_S = 15.0
LONGEST_TABLE = 30
# Columns that a narrow terminal does without, in this order. Numbers are never cut short.
LEFT_OUT = ("loss", "step")
SHORTEST_NAME = 16  # characters of a trial's name; columns are left out to make room for them
PADDING = 2  # characters around a column
STYLES = {
    State.RUNNING: "bold",
    State.FAILED: "red",
    State.INFEASIBLE: "red",
    State.DAMAGED: "red",
    State.DIVERGED: "magenta",
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
    State.PENDING: 3,
}


@dataclass
class _Row:
    """The display's record of one trial."""

    name: str
    steps: int
    cost_s: float
    state: State = State.PENDING
    step: int = 0
    loss: float | None = None
    psnr: float | None = None
    said: float = field(default=0.0)  # when a line about it was last printed


def _at_first(state: State | None) -> State:
    """The state in which a trial is first shown: pending, unless no run would train it further."""
    return state if state is not None and state.has_ended else State.PENDING


class Progress:
    """Shows every change of a trial; with `quiet`, only what went wrong.

    It is a context manager: leaving it ends the live table.
    """

    def __init__(
        self,
        plan: Plan,
        states: Mapping[str, State],
        *,
        quiet: bool,
        json_lines: bool,
        reached: Mapping[str, int] | None = None,
    ) -> None:
        """`reached`: the trials that this run trains, with the steps from which they continue."""
        self._plan = plan
        self._reached = dict(reached or {})
        self._rows = {
            trial.id: _Row(
                trial.name,
                trial.spec.training.steps,
                trial.seconds,
                _at_first(states.get(trial.id)),
                step=self._reached.get(trial.id, 0),
            )
            for trial in plan.trials
        }
        self._quiet = quiet
        self._json = json_lines
        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self._moved: set[str] = set()
        self._moving = threading.Lock()
        self.warnings: list[str] = []
        live = self._console.is_terminal and not quiet and not json_lines
        self._live = (
            Live(get_renderable=self._table, console=self._console, refresh_per_second=2)
            if live
            else None
        )

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def placed(self, plan: Plan, gpus: Gpus) -> None:
        """Show what trials run on. Their estimates in `plan` may differ from those known so far."""
        for trial in plan.trials:
            self._rows[trial.id].cost_s = trial.seconds
        trials = [trial for trial in plan.trials if trial.id in self._reached]
        if waits_for_gpus(self._plan):
            self.say(f"Placement: {gpus_in_words(gpus)}")
            self.line({"event": "placement", "auto_gpus": gpus.auto, "why": gpus.why})
        for warning in too_large_for_a_gpu(trials, gpus):
            self.warn(warning)
        left = duration(seconds_left(trials, self._reached))
        self.say(f"{trials_in_words(len(trials))} to train, about {left} one after the other.")

    def say(self, text: str) -> None:
        """Print a sentence for people, unless they asked for quiet."""
        if not self._quiet:
            self._console.print(text, markup=False, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a sentence for people, even if they asked for quiet, and keep it in `warnings`."""
        self.warnings.append(text)
        self._console.print(text, style="yellow", markup=False, soft_wrap=True)

    def changed(self, trial_id: str, state: State, result: Mapping[str, Any] | None = None) -> None:
        """Show that a trial has gone on or changed its state."""
        with self._moving:
            self._moved.add(trial_id)
        row = self._rows[trial_id]
        turned = row.state != state
        row.state = state
        if result:
            row.step = int(result.get("step", row.step))
            row.loss = result.get("loss", row.loss)
            row.psnr = result.get("psnr", row.psnr)
        if self._json:
            fields = {
                "event": "trial",
                "trial": trial_id,
                "name": row.name,
                "state": state,
                "step": row.step,
            }
            self.line({**fields, "steps": row.steps, "loss": row.loss, "psnr": row.psnr})
        elif self._live is None and (turned or time.monotonic() - row.said > LINE_EVERY_S):
            row.said = time.monotonic()
            self.say(f"{self._clock()}  {row.name}: {self._in_words(row)}   {self._overall()}")

    def moved(self) -> frozenset[str]:
        """The ids of the trials that have changed since the last call. Any thread may call it."""
        with self._moving:
            moved, self._moved = self._moved, set()
        return frozenset(moved)

    def line(self, record: Mapping[str, Any]) -> None:
        """Print one JSON object to stdout, if JSON was asked for."""
        if self._json:
            # NaN is not JSON.
            finite = {k: None if isinstance(v, float) and v != v else v for k, v in record.items()}
            print(json.dumps(finite), file=sys.stdout, flush=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:3d}:{seconds:02d}"

    def _in_words(self, row: _Row) -> str:
        words: list[str] = [row.state]
        if row.state.is_under_way:
            words.append(f"step {row.step}/{row.steps}")
        if row.loss is not None:
            words.append(f"loss {row.loss:.4f}")
        if row.psnr is not None:
            words.append(f"PSNR {row.psnr:.2f}")
        return ", ".join(words)

    def _overall(self) -> str:
        done = sum(not row.state.is_open for row in self._rows.values())
        return f"[{done}/{len(self._rows)} ended{self._eta()}]"

    def _eta(self) -> str:
        """The time left: the plan's estimates, scaled by how they have held in this run so far."""
        total = done = 0.0
        for row in self._rows.values():
            if row.state.is_open or row.said:
                total += row.cost_s
                done += row.cost_s * (row.step / row.steps if row.state.is_open else 1)
        elapsed = time.monotonic() - self._began
        return (
            f", about {duration(elapsed * (total - done) / done)} left"
            if done > 0.02 * total and done < total
            else ""
        )

    def _table(self) -> Table:
        table = Table(
            title=f"{self._plan.sweep} {self._clock().strip()} {self._overall()}",
            title_justify="left",
            box=None,
        )
        rows = sorted(self._rows.values(), key=lambda row: PLACES.get(row.state, LAST))
        shown = [(row, _cells(row)) for row in rows[:LONGEST_TABLE]]
        widths = {
            column: max(len(column), *(len(cells[column]) for _, cells in shown))
            for column in shown[0][1]
        }
        longest = max(len(row.name) for row, _ in shown)
        for column in LEFT_OUT:
            if self._left(widths) < min(longest, SHORTEST_NAME):
                del widths[column]
        table.add_column(
            "trial", no_wrap=True, overflow="ellipsis", max_width=max(1, self._left(widths))
        )
        for column, width in widths.items():
            table.add_column(
                column,
                justify="left" if column == "state" else "right",
                no_wrap=True,
                min_width=width,
            )
        for row, cells in shown:
            table.add_row(
                row.name,
                *(cells[column] for column in widths),
                style=STYLES.get(row.state, "green"),
            )
        if len(rows) > LONGEST_TABLE:
            table.add_row(f"... and {len(rows) - LONGEST_TABLE} more", style="dim")
        return table

    def _left(self, widths: Mapping[str, int]) -> int:
        """The characters that columns of these widths leave for the names of trials."""
        return self._console.width - sum(width + PADDING for width in widths.values()) - PADDING


def _cells(row: _Row) -> dict[str, str]:
    """The cells of a trial's row after its name."""
    return {
        "state": row.state,
        "step": f"{row.step}/{row.steps}" if row.step else "",
        "loss": "" if row.loss is None else f"{row.loss:.4f}",
        "PSNR": "" if row.psnr is None else f"{row.psnr:.2f}",
    }
