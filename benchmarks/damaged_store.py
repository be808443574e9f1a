"""Damages every kind of store file in many ways, and watches `status`, `plan`, `report` and `run`.

    python benchmarks/damaged_store.py [COUNT] [RUNS]

First come COUNT seeded damages (default 500) of each kind of file, looked at in this process as
`status`, `plan` and `report` do. Then RUNS (default 12) stores of a sweep that was really trained
are each damaged in one file and run again. Prints counts by kind. Exits with 1 if anything raised,
or if a number changed without a word.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from orchestrator.report import tables
from orchestrator.report.contents import Report
from orchestrator.report.families import families
from orchestrator.report.growths import growths, trends
from orchestrator.report.observations import observations
from orchestrator.report.page import render
from orchestrator.store import read_store
from orchestrator.store.survey import survey
from tests import damage
from tests.sweeps import command, environment, run, write_sweep

SEED = 16
ALLOWED = (0, 3, 4)
RUN_DEADLINE_S = 300


def main(count: int, runs: int) -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        plan, store = damage.written(Path(folder))
        before = damage.look(plan, store, tables=True)
        print(
            f"{'kind':12} {'damages':>8} {'named':>8} {'unnamed':>8} {'raised':>8}"
            f" {'silent':>8} {'s':>7}"
        )
        for kind in damage.KINDS:
            wrong += _kind(kind, count, plan, store, before)
    return 1 if wrong + (_runs(runs) if runs else 0) else 0


def _kind(kind: str, count: int, plan, store: Path, before: damage.Seen) -> int:
    """The number of damages of a kind that raised, or changed a number without a word."""
    dice, began = random.Random(f"{SEED} {kind}"), time.monotonic()
    named = unnamed = raised = silent = 0
    for turn in range(count):
        path = dice.choice(damage.files_of(store, kind))
        name, spoilt = dice.choice([*damage.DAMAGES.items(), ("folder", None)])
        content = spoilt(path.read_bytes(), dice) if spoilt else None
        try:
            with damage.damaged(path, content):
                after = damage.look(plan, store)
                if turn % 25 == 0:  # seldom, since the templates see nothing but the frame
                    render(_report(plan, after))
                found = survey(read_store(str(store)))
        except Exception:
            raised += 1
            print(f"{kind}: {name} of {path.relative_to(store)}")
            traceback.print_exc()
            continue
        named, unnamed = named + bool(found), unnamed + (not found)
        if changed := damage.numbers_that_changed_unsaid(before, after):
            silent += 1
            print(f"{kind}: {name} of {path.relative_to(store)} changes {changed} without a word")
    seconds = time.monotonic() - began
    print(
        f"{kind:12} {count:8} {named:8} {unnamed:8} {raised:8} {silent:8} {seconds:7.1f}",
        flush=True,
    )
    return raised + silent


def _report(plan, seen: damage.Seen) -> Report:
    """A report without figures, which would take seconds."""
    grown, differences = growths(seen.frame), families(seen.frame)
    return Report(
        plan,
        seen.frame,
        families=differences,
        comparisons=tables.comparisons(seen.frame, differences),
        spreads=(),
        growths=grown,
        trends=trends(seen.frame, grown),
        figures=[],
        written=datetime.now(UTC),
        paper=(),
        observed=observations(seen.frame),
    )


def _runs(runs: int) -> int:
    """The number of runs of a damaged store that raised, or exited with a code they must not."""
    wrong, dice = 0, random.Random(SEED)
    with tempfile.TemporaryDirectory() as top:
        trained = Path(top, "trained")
        run(write_sweep(trained, name="held", norms="layer_norm, i_ln"))
        kinds = [kind for kind in damage.KINDS if damage.files_of(trained / "runs", kind)]
        for turn in range(runs):
            kind = kinds[turn % len(kinds)]
            name, spoilt = dice.choice(list(damage.DAMAGES.items()))
            copy = Path(shutil.copytree(trained, Path(top, str(turn))))
            path = dice.choice(damage.files_of(copy / "runs", kind))
            path.write_bytes(spoilt(path.read_bytes(), dice))
            done = subprocess.run(
                command("run", "held.yaml"),
                cwd=copy,
                env=environment(),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=RUN_DEADLINE_S,
                check=False,
            )
            said = [line for line in done.stdout.splitlines() if "damaged" in line]
            bad = done.returncode not in ALLOWED or "Traceback" in done.stdout
            wrong += bad
            told = said[-1] if said else ""
            print(
                f"run: {kind}, {name}: exit {done.returncode}{' WRONG' if bad else ''}  {told}",
                flush=True,
            )
            if bad:
                print(done.stdout)
    return wrong


if __name__ == "__main__":
    sys.exit(main(*(int(word) for word in (*sys.argv[1:3], *("500", "12")[len(sys.argv[1:3]) :]))))
