"""What the shell offers at a Tab: verbs, flags, trials of the store, data sets, norms."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator import cli
from orchestrator.plan import Plan
from orchestrator.store.base import Store
from tests.sweeps import comparing, environment, plan_of
from tests.written_store import write_attempt

ASKED = """\
import sys
from orchestrator import cli

sys.argv = ["normsweep"]
try:
    cli.main()
except SystemExit:
    heavy = {"torch", "ray", "mlflow", "pandas", "deepspeed", "kubernetes", "boto3"}
    print("heavy:", sorted(heavy & sys.modules.keys()))
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(), "mine")


def asking(words: str) -> dict[str, str]:
    """The environment in which a shell (bash) asks for what may stand after these words."""
    count = str(len(words.split(" ")) - 1)
    return {"_NORMSWEEP_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": count}


def offered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str
) -> list[str]:
    for name, value in asking(words).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.app(prog_name="normsweep", standalone_mode=False)
    return capsys.readouterr().out.split()


def test_ids_of_the_stores_trials_are_offered(
    store: Store, plan: Plan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in plan.trials:
        write_attempt(store, trial, 10)
    one, other = sorted(trial.id for trial in plan.trials)
    monkeypatch.setenv("NORMSWEEP_STORE", store.uri)
    assert offered(capsys, monkeypatch, "normsweep diff ") == [one, other]
    for verb in ("diff", "retry", "logs", "export", "evaluate"):
        assert offered(capsys, monkeypatch, f"normsweep {verb} {one[:4]}") == [one]
    assert offered(capsys, monkeypatch, f"normsweep retry {one} ") == [other]
    monkeypatch.delenv("NORMSWEEP_STORE")
    asked = f"normsweep logs --store {store.uri} {other[:4]}"
    assert offered(capsys, monkeypatch, asked) == [other]


def test_nothing_is_offered_where_there_is_no_store_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered(capsys, monkeypatch, "normsweep diff ") == []
    assert offered(capsys, monkeypatch, "normsweep diff --store s3://far/away ") == []
    assert list(tmp_path.iterdir()) == []


def test_sets_norms_verbs_and_flags_are_offered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "Set5" in offered(capsys, monkeypatch, "normsweep evaluate x --benchmark Se")
    assert "i_ln" in offered(capsys, monkeypatch, "normsweep check-norm i")
    assert offered(capsys, monkeypatch, "normsweep tri") == ["trials"]
    assert offered(capsys, monkeypatch, "normsweep gc --dr") == ["--dry-run"]


def test_an_answer_imports_nothing_heavy(store: Store, plan: Plan) -> None:
    write_attempt(store, plan.trials[0], 10)
    done = subprocess.run(
        [sys.executable, "-c", ASKED],
        env={**environment(), **asking("normsweep diff "), "NORMSWEEP_STORE": store.uri},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert done.stdout.split("\n")[:2] == [plan.trials[0].id, "heavy: []"], done.stderr
