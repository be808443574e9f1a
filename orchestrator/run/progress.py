"""How a run reports progress: a live table in a terminal, plain lines elsewhere, or JSON."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console, Group
from rich.live import Live

from orchestrator.plan import Gpus, Plan
from orchestrator.plan.fit import too_large_for_a_gpu
from orchestrator.plan.on_gpus import waits_for_gpus
from orchestrator.plan.show import duration, gpus_in_words, seconds_left, trials_in_words
from orchestrator.plan.states import State
from orchestrator.run.lines import as_plain, json_line
from orchestrator.run.live_table import Row, Share, short_names, table_of

LINE_EVERY_S = 15.0
HEADS = 4  # lines of a terminal that the table's title, heads and last line take


def _at_first(state: State | None, *, is_to_train: bool) -> State:
    """The state in which a trial is first shown: the store's, or pending if it will be tried anew.

    One that was interrupted stays so until it runs, as everywhere else.
    """
    if state is None:
        return State.PENDING
    stays = not is_to_train or state.has_ended or state == State.INTERRUPTED
    return state if stays else State.PENDING


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
        short = short_names(plan)
        self._rows = {
            trial.id: Row(
                trial.name,
                short[trial.id],
                trial.spec.training.steps,
                trial.seconds,
                _at_first(states.get(trial.id), is_to_train=reached is None or trial.id in reached),
                step=self._reached.get(trial.id, 0),
                begun=self._reached.get(trial.id, 0),
            )
            for trial in plan.trials
        }
        self._quiet = quiet
        self._json = json_lines
        self._phase = ""
        self._printed: dict[str, Any] = {}  # by trial, the last line of JSON about it
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._began = time.monotonic()
        self._moved: set[str] = set()
        self._trained_by: dict[str, tuple[str, str]] = {}  # by trial: host and run, if others
        self._moving = threading.Lock()
        self._share = Share()  # of all rows together
        for row in self._rows.values():
            self._recount(row)
        self.warnings: list[str] = []
        shows = self._console.is_terminal and not self._console.is_dumb_terminal
        live = shows and not quiet and not json_lines
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
        with self._moving:
            for trial in plan.trials:
                row = self._rows[trial.id]
                row.cost_s = trial.seconds
                self._recount(row)
        trials = [trial for trial in plan.trials if trial.id in self._reached]
        if waits_for_gpus(self._plan):
            self.say(f"Placement: {gpus_in_words(gpus)}")
            self.line({"event": "placement", "auto_gpus": gpus.auto, "why": gpus.why})
        for warning in too_large_for_a_gpu(trials, gpus):
            self.warn(warning)
        left = duration(seconds_left(trials, self._reached))
        self.say(f"{trials_in_words(len(trials))} to train, about {left} one after the other.")

    def phase(self, name: str) -> None:
        """Show what the run does now; "" once trials speak for themselves."""
        self._phase = name
        if not name:
            return
        self.line({"event": "phase", "phase": name})
        if self._live is None and not self._json:
            self.say(f"{self._clock()}  {name}")

    def say(self, text: str) -> None:
        """Print a sentence for people, unless they asked for quiet."""
        if not self._quiet:
            self._console.print(text, soft_wrap=True)

    def warn(self, text: str) -> None:
        """Print a sentence for people, even if they asked for quiet, and keep it in `warnings`."""
        self.warnings.append(text)
        self._console.print(text, style="yellow", soft_wrap=True)

    def changed(self, trial_id: str, state: State, result: Mapping[str, Any] | None = None) -> None:
        """Show that a trial has gone on or changed its state."""
        row = self._rows[trial_id]
        before = row.doing
        self._phase = ""
        with self._moving:
            self._moved.add(trial_id)
            row.state, row.has_moved = state, True
            if result:
                row.phase = str(result.get("phase") or "")
                row.step = int(result.get("step", row.step))
                row.loss = result.get("loss", row.loss)
                row.psnr = result.get("psnr", row.psnr)
            self._recount(row)
        turned = row.doing != before
        if self._json:
            fields = {
                "event": "trial",
                "trial": trial_id,
                "name": row.name,
                "state": state,
                "phase": row.doing if row.doing != state else None,
                "step": row.step,
                "steps": row.steps,
                "loss": row.loss,
                "psnr": row.psnr,
            }
            if self._printed.get(trial_id) != (fields := as_plain(fields)):
                self._printed[trial_id] = fields
                self.line(fields)
        is_due = row.step != row.said_step and time.monotonic() - row.said > LINE_EVERY_S
        if not self._json and self._live is None and (turned or is_due):
            with self._moving:
                row.said, row.said_step = time.monotonic(), row.step
                self._recount(row)
            self.say(f"{self._clock()}  {row.name}: {self._in_words(row)}   {self._overall()}")

    def elsewhere(self, trial_id: str, step: int, host: str, run: str) -> None:
        """Show that another run trains a trial, and once that it is this one, on this host."""
        name = self._rows[trial_id].name
        if self._trained_by.get(trial_id) != (host, run):
            self._trained_by[trial_id] = host, run
            about = {"trial": trial_id, "name": name, "host": host, "run": run}
            self.line({"event": "elsewhere", **about})
            if not self._json:
                self.say(f"{self._clock()}  {name}: is trained on {host} by run {run}")
        self.changed(trial_id, State.RUNNING, {"phase": f"on {host}", "step": step})

    def freed(self, trial_id: str, why: str) -> None:
        """Show that a trial's other trainer is dead, so that it is this run's to train."""
        host, run = self._trained_by.pop(trial_id, ("", ""))
        by = f" by run {run} on {host}" if run else ""
        self.say(f"{self._rows[trial_id].name}: is no longer trained{by}: {why}")
        self.changed(trial_id, State.INTERRUPTED)

    def moved(self) -> frozenset[str]:
        """The ids of the trials that have changed since the last call. Any thread may call it."""
        with self._moving:
            moved, self._moved = self._moved, set()
        return frozenset(moved)

    def line(self, record: Mapping[str, Any]) -> None:
        """Print one JSON object to stdout, if JSON was asked for."""
        if self._json:
            print(json_line(record), file=sys.stdout, flush=True)

    def _clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:3d}:{seconds:02d}"

    def _in_words(self, row: Row) -> str:
        words: list[str] = [row.doing]
        if row.state.is_under_way and not row.phase:
            words.append(f"step {row.step}/{row.steps}")
        if row.loss is not None:
            words.append(f"loss {row.loss:.4f}")
        if row.psnr is not None:
            words.append(f"PSNR {row.psnr:.2f}")
        return ", ".join(words)

    def _recount(self, row: Row) -> None:
        """Bring the sums up to date with a row.

        Every line of output has them, and there may be ten thousand rows to add up.
        """
        before, row.counted = row.counted, row.share
        self._share = self._share.plus(row.counted).minus(before)

    def _overall(self) -> str:
        return f"[{self._share.ended}/{len(self._rows)} ended{self._eta()}]"

    def _eta(self) -> str:
        """The time left: the plan's estimates, scaled by how they have held in this run so far."""
        total, done = self._share.cost_us, self._share.done_us
        elapsed = time.monotonic() - self._began
        return (
            f", about {duration(elapsed * (total - done) / done)} left"
            if done > 0.02 * total and done < total
            else ""
        )

    def _table(self) -> Group:
        what = f"{self._phase}... " if self._phase else ""
        title = f"{self._plan.sweep} {self._clock().strip()} {what}{self._overall()}"
        console = self._console
        return table_of(title, list(self._rows.values()), console.width, console.height - HEADS)
