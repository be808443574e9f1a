"""How `normsweep evaluate FILE` reports progress: a line per evaluation, or JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console

from orchestrator.plan.show import duration
from orchestrator.run.evaluations import Evaluation
from orchestrator.run.lines import json_line
from orchestrator.store.records import CHECKSUM


class Telling:
    """Tells how each of `number` evaluations ended; with `quiet`, only what went wrong."""

    def __init__(self, number: int, *, quiet: bool, json_lines: bool) -> None:
        self._number = number
        self._quiet = quiet
        self._json = json_lines
        self._console = Console(stderr=True, highlight=False, markup=False, emoji=False)
        self._began = time.monotonic()
        self._ended = 0
        self.warnings: list[str] = []

    def begin(self) -> None:
        """Count the time that is left from now on: Ray has started."""
        self._began = time.monotonic()

    def tell(self, text: str, *, is_problem: bool = False) -> None:
        """Print a sentence. Problems are kept in `warnings`, and told even with `quiet`."""
        style = "yellow" if is_problem else None
        if is_problem:
            self.warnings.append(text)
        if is_problem or not self._quiet:
            self._console.print(text, style=style, markup=False, soft_wrap=True)

    def ended(self, one: Evaluation, result: Mapping[str, Any] | None, problem: str) -> None:
        """Tell that an evaluation is kept, or why it failed."""
        self._ended += 1
        if result is None:
            self.tell(f"not evaluated: {one}: {problem}", is_problem=True)
            self.line(one, "failed", {"problem": problem})
            return
        self.line(one, "evaluated", result)
        if not self._json:
            score = f"PSNR {float(result['psnr']):.3f}, SSIM {float(result['ssim']):.4f}"
            self.tell(f"{one}: {score}   [{self._ended}/{self._number}{self._left()}]")

    def line(self, one: Evaluation, state: str, fields: Mapping[str, Any]) -> None:
        """Print one JSON object to stdout, if JSON was asked for."""
        if self._json:
            names = {"trial": one.trial.id, "name": one.trial.name, "benchmark": one.benchmark}
            names["precision"] = one.precision
            rest = {name: value for name, value in fields.items() if name != CHECKSUM}
            record = {"event": "evaluation", "state": state, **names, **rest}
            print(json_line(record), flush=True)

    def _left(self) -> str:
        elapsed = time.monotonic() - self._began
        left = elapsed * (self._number - self._ended) / self._ended
        return f", about {duration(left)} left" if self._ended < self._number else ""
