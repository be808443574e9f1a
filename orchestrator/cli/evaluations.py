"""`normsweep evaluate` for a sweep file, in a child process that signals do not reach, as `run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.exits import exit_code
from orchestrator.cli.options import finder, weights
from orchestrator.cli.sweeps import print_end
from orchestrator.errors import UserError

if TYPE_CHECKING:
    from orchestrator.evaluate import EvaluateOptions
    from orchestrator.run.options import RunOptions


def evaluate_sweep_file(
    file: Path, data: list[str] | None, options: EvaluateOptions, run: RunOptions
) -> int:
    """Evaluate all trials of a sweep; returns the exit code. Raises UserError."""
    from orchestrator.run.driver import drive

    if options.save is not None:
        raise UserError("--save is for one trial: give its id in place of the sweep file.")

    def work() -> int:
        from orchestrator.plan import load_plan

        plan = load_plan(file, finder(data), weights(options.store, check=False))
        from orchestrator.run.evaluating import evaluate_sweep

        ended = evaluate_sweep(plan, options, run)
        print_end(ended, run)
        return ended.exit_code

    return drive(lambda: exit_code(work), lambda *_: None, "what is evaluated is kept", run)
