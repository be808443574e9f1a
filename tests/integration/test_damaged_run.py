"""`run` on a damaged store names what it leaves alone. No trial is trained, so no Ray starts."""

from __future__ import annotations

from pathlib import Path

from orchestrator.plan import load_plan
from orchestrator.run.options import RunOptions
from orchestrator.run.runner import run_sweep
from orchestrator.store import open_store
from tests.damage import SWEEP, files_of
from tests.written_store import write_sweep


def test_a_trial_with_a_damaged_journal_is_named_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "held.yaml").write_text(SWEEP)
    plan, store = load_plan(tmp_path / "held.yaml"), tmp_path / "runs"
    write_sweep(open_store(str(store)), plan)
    cut = files_of(store, "journal")[0]
    cut.write_bytes(cut.read_bytes()[:-10])
    trials = {path: path.read_bytes() for path in (store / "trials").rglob("*") if path.is_file()}
    ended = run_sweep(plan, RunOptions(str(store), f"sqlite:///{store}/mlflow.db", quiet=True))
    assert ended.exit_code == 4
    said = "\n".join(ended.warnings)
    assert f"damaged: {cut.relative_to(store)} ends in the middle of a line" in said
    assert "is not trained" in said
    assert f"move {store}/trials/{cut.relative_to(store).parts[1]} away" in said
    assert {
        path: path.read_bytes() for path in (store / "trials").rglob("*") if path.is_file()
    } == trials
