"""A store that can only be read, such as a colleague's: verbs that only look work, and make nothing
anywhere.
"""

from __future__ import annotations

import ctypes
import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from orchestrator.plan import Plan
from orchestrator.store import open_store
from tests.sweeps import command, environment, plan_of
from tests.written_store import write_attempt, write_ended
from trainers.build import build_model

SWEEP = """# Can it be read?
axes:
  backbone: [{name: swinir-tiny, embed_dim: 8, window_size: 4}]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
data: {evaluate: [embedded-test]}
training: {steps: 20, batch_size: 4, patch_size_px: 8}
"""
PR_CAPBSET_DROP = 24
CAP_DAC_OVERRIDE = 1  # lets root write where the mode forbids it


def like_anybody() -> None:
    """Make modes hold for root too, in a child that is about to start."""
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


def normsweep(folder: Path, *arguments: object, expect: int = 0) -> str:
    """Run a verb in `folder`; returns what it printed."""
    done = subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        preexec_fn=like_anybody,
    )
    assert done.returncode == expect, done.stdout
    assert "Traceback" not in done.stdout, done.stdout
    return done.stdout


def everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Plan, Path]]:
    """A plan, and a read-only folder with its sweep file and its store.

    One trial has completed, and one is under way.
    """
    folder = tmp_path_factory.mktemp("theirs")
    plan, store = plan_of(folder, SWEEP, "read"), open_store(str(folder / "runs"))
    ema = io.BytesIO()
    torch.manual_seed(0)
    torch.save(build_model(plan.trials[0].spec).state_dict(), ema)
    write_ended(store, plan.trials[0], ema=ema.getvalue())
    write_attempt(store, plan.trials[1], 10)
    places = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for place in places:
        place.chmod(0o555)
    touch = subprocess.run(
        ["touch", str(folder / "runs/new")],
        preexec_fn=like_anybody,
        capture_output=True,
        check=False,
    )
    try:
        if touch.returncode == 0:
            pytest.skip("modes do not hold for this user")
        yield plan, folder
    finally:
        for place in places:
            place.chmod(0o755)


@pytest.fixture(autouse=True)
def nothing_is_made(theirs: tuple[Plan, Path], mine: Path) -> Iterator[None]:
    before = everything(theirs[1])
    yield
    assert everything(theirs[1]) == before
    assert {path.name for path in mine.iterdir()} <= {"out", "net.safetensors"}


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    return tmp_path


@pytest.mark.parametrize("verb", ["status", "plan"])
def test_status_and_plan_read_it(verb: str, theirs: tuple[Plan, Path], mine: Path) -> None:
    plan, folder = theirs
    said = normsweep(mine, verb, plan.path, "--store", folder / "runs", "--json")
    found = json.loads(said)
    if verb == "status":
        assert (found["done"], found["running"], found["damage"]) == (1, 1, []), (
            "the other has only just begun"
        )
    else:
        assert [trial["state"] for trial in found["trials"]] == ["done", "running"]


def test_the_report_is_written_elsewhere(theirs: tuple[Plan, Path], mine: Path) -> None:
    plan, folder = theirs
    normsweep(mine, "report", plan.path, "--store", folder / "runs", "--out", mine / "out")
    assert "<b>1 of 2</b> trials ended" in (mine / "out/index.html").read_text()


def test_a_report_that_would_be_written_into_it_says_where_it_can_go(
    theirs: tuple[Plan, Path], mine: Path
) -> None:
    plan, folder = theirs
    assert "--out DIR" in normsweep(mine, "report", plan.path, "--store", folder / "runs", expect=3)


def test_a_trial_is_exported_and_evaluated_from_it(theirs: tuple[Plan, Path], mine: Path) -> None:
    plan, folder = theirs
    trial = plan.trials[0].id
    normsweep(mine, "export", trial, "--to", mine / "net.safetensors", "--store", folder / "runs")
    said = normsweep(mine, "evaluate", trial, "--store", folder / "runs", "--json")
    assert "The result is not kept in the store" in said
    result = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    assert (result["of"], result["benchmark"]) == (trial, "embedded-test")


def test_doctor_says_that_it_cannot_be_written(theirs: tuple[Plan, Path], mine: Path) -> None:
    said = normsweep(
        mine,
        "doctor",
        "--store",
        theirs[1] / "runs",
        "--tracking",
        f"sqlite:///{mine}/m.db",
        expect=3,
    )
    assert re.search(r"^store +problem", said, re.MULTILINE)


def test_a_store_that_is_not_there_is_read_as_empty_and_not_made(
    theirs: tuple[Plan, Path], mine: Path
) -> None:
    plan = theirs[0]
    assert "pending 2" in normsweep(mine, "status", plan.path)
    normsweep(mine, "report", plan.path, "--out", mine / "out")
    assert "no trial 'abcd'" in normsweep(
        mine, "export", "abcd", "--to", "net.safetensors", expect=2
    )
