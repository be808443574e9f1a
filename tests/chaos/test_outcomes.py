"""What can go wrong in a rank has an outcome each: a sweep in which it happens is completed, with a
cause, a place and a log for everything, and no traceback.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.plan.states import State
from orchestrator.store import read_store
from orchestrator.store.survey import survey
from tests.sweeps import (
    command,
    environment,
    normsweep,
    ranks,
    results,
    sealed_checkpoints,
    wait_for,
    write_sweep,
)
from tests.tiny import tiny_spec
from tests.unit.test_torn_checkpoints import damages
from trainers.checkpoint import newest_intact

MEMORY = Path("/sys/fs/cgroup/memory")  # version 1
LIMIT_BYTES = 64 << 20
STEPS = 60
# Each does once, or at some step, what a machine, a mistake or a recipe does to a training.
NORMS = """
import math
import os
import signal
import time

import torch
from torch import nn
from trainers.norms.base import Norm, Normed

HERE = os.path.dirname(os.path.abspath(__file__))


class Scaled(Norm):
    made = calls = 0

    def __init__(self, dim):
        super().__init__()
        Scaled.made += 1
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x):
        Scaled.calls += self.training
        return Normed(self.acted(x, Scaled.calls // Scaled.made) * self.weight)


def first(what):
    try:
        os.close(os.open(os.path.join(HERE, what), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


class Stops(Scaled):
    def acted(self, x, step):
        if step > 30 and first("stopped"):
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(1.0)  # once woken, it may go on for a moment before the stacks are written
        return x


class NotANumber(Scaled):
    def acted(self, x, step):
        return x * math.nan if step > 5 else x


class Explodes(Scaled):
    def acted(self, x, step):
        return x * 100.0 if step > 5 else x


class Eats(Scaled):
    kept = []

    def acted(self, x, step):
        group = os.environ.get("NORMSWEEP_TEST_CGROUP", "")
        if group and step > 30 and first("eaten"):
            with open(os.path.join(group, "cgroup.procs"), "w") as procs:
                procs.write(str(os.getpid()))
            time.sleep(2.0)
            while True:
                Eats.kept.append(bytearray(os.urandom(1 << 20)))
        return x
"""
TRIALS = ("Stops", "NotANumber", "Explodes", "Eats")


@pytest.fixture(scope="module")
def group() -> Iterator[Path | None]:
    """A control group with little memory; None where none can be made."""
    try:
        # Inside the one that this process is in.
        mine = next(
            line.split(":", 2)[2]
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if "memory" in line.split(":")[1].split(",")
        )
        folder = MEMORY / mine.lstrip("/") / f"normsweep-test-{os.getpid()}"
        folder.mkdir()
    except (OSError, StopIteration):
        yield None
        return
    (folder / "memory.limit_in_bytes").write_text(str(LIMIT_BYTES))
    yield folder
    folder.rmdir()


class Ended:
    """A sweep in which every norm met its misfortune, as it was after its end."""

    def __init__(self, folder: Path, done: subprocess.CompletedProcess[str]) -> None:
        self.folder, self.code, self.said = folder, done.returncode, done.stderr
        self.summary: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])

    def trial(self, norm: str) -> dict[str, Any]:
        (found,) = [one for one in self.summary["trials"] if f":{norm}" in one["name"]]
        return found

    def overcome(self, norm: str) -> list[dict[str, Any]]:
        return [one for one in self.summary["retries"] if f":{norm}" in one["name"]]

    def log(self, one: dict[str, Any]) -> str:
        return (self.folder / "runs" / one["log"]).read_text()


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory, group: Path | None) -> Ended:
    folder = tmp_path_factory.mktemp("misfortunes")
    (folder / "misfortunes.py").write_text(NORMS)
    norms = ", ".join(f"'misfortunes:{name}'" for name in TRIALS)
    file = write_sweep(folder, norms=norms, steps=STEPS)
    limited = "ema_decay: 0.9, feature_limit: 100.0"
    file.write_text(file.read_text().replace("ema_decay: 0.9", limited))
    variables = environment() | {
        "NORMSWEEP_HUNG_AFTER_S": "6",
        "NORMSWEEP_TEST_CGROUP": "" if group is None else str(group),
    }
    done = subprocess.run(
        command("run", file, "--json"),
        env=variables,
        cwd=folder,
        capture_output=True,
        timeout=280,
        check=False,
        text=True,
    )
    assert done.returncode == 4, done.stdout + done.stderr  # two have diverged
    return Ended(folder, done)


def test_the_sweep_is_complete_and_nobody_saw_a_traceback(ended: Ended) -> None:
    states = {name: ended.trial(name)["state"] for name in TRIALS}
    assert states == {
        "Stops": State.DONE,
        "NotANumber": State.DIVERGED,
        "Explodes": State.DIVERGED,
        "Eats": State.DONE,
    }
    assert "Traceback" not in ended.said
    assert 'File "' not in ended.said
    found = normsweep(ended.folder, "status", "chaos.yaml", "--json").stdout
    assert json.loads(found)["retries"] == ended.summary["retries"]


def test_a_stopped_rank_is_hung_named_and_continued_from_its_checkpoint(ended: Ended) -> None:
    (found,) = ended.overcome("Stops")
    assert (found["kind"], found["attempt"], found["rank"]) == ("hung", 1, 0)
    assert "its process stopped (SIGSTOP)" in found["message"]
    assert found["step"] == 20 and found["reached"] >= 20
    assert found["host"]
    stacks = ended.log(found)
    assert "Fatal Python error: Aborted" in stacks
    assert "misfortunes.py" in stacks and "in acted" in stacks, "where it was"
    assert "Stops" in ended.said and "took no step within its deadline" in ended.said
    assert ended.trial("Stops")["attempts"] == 2


def test_a_trial_that_diverged_names_step_and_layer(ended: Ended) -> None:
    nan, large = ended.trial("NotANumber"), ended.trial("Explodes")
    assert nan["why"].startswith("the loss is nan; features are not finite from group_")
    assert 0 < nan["step"] < STEPS
    assert large["why"].startswith("mean square of features in group_")
    assert large["step"] == 20, "the next probe after step 5"
    for trial in (nan, large):
        assert f"diverged at step {trial['step']}: {trial['why']}" in ended.said
        assert trial["attempts"] == 1, "it is a result"


def test_a_rank_killed_for_host_memory_is_known_by_the_kernels_count(
    ended: Ended, group: Path | None
) -> None:
    if group is None:
        pytest.skip("no control group can be made here")
    (found,) = ended.overcome("Eats")
    assert (found["kind"], found["rank"], found["step"]) == ("host_oom", 0, 20)
    assert "was killed for host memory" in found["message"]
    assert f"{group}/memory.oom_control counts 1 kills" in found["message"]
    assert ended.trial("Eats")["attempts"] == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB."""
    folder = tmp_path / "a-disk-that-is-small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def fill(disk: Path) -> Path:
    """Fill a disk to the last byte, with a file that is returned."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        size = 1 << 20
        while size:
            try:
                written = file.write(b"x" * size)
                size = size if written == size else size // 2
            except OSError:
                size //= 2
    return filler


@pytest.mark.timeout(600)
def test_a_full_disk_costs_an_attempt_and_tears_nothing(small_disk: Path) -> None:
    """Full during steps and checkpoints, then once more when the report is written."""
    file = write_sweep(small_disk, steps=400, checkpoint_every=20)
    with subprocess.Popen(
        command("run", file),
        cwd=small_disk,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as driver:
        wait_for(lambda: sealed_checkpoints(small_disk), driver, deadline_s=240.0)
        filler = fill(small_disk)
        wait_for(lambda: not ranks(small_disk), driver)
        filler.unlink()
        output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    assert "Traceback" not in output
    (failure,) = (small_disk / "runs/trials").glob("*/attempts/1/failure.json")
    kept = json.loads(failure.read_text())
    assert kept["kind"] == "disk full", kept
    assert "MB free" in kept["message"] and str(small_disk) in kept["message"]
    assert "found its disk full" in output
    assert survey(read_store(str(small_disk / "runs"))) == [], "nothing is torn"
    before = results(small_disk)
    fill(small_disk)
    done = normsweep(small_disk, "report", file, expect=3)
    assert "No space left on device" in done.stderr and "MB free" in done.stderr
    assert "Traceback" not in done.stderr
    assert results(small_disk) == before


@pytest.mark.campaign
def test_of_a_gang_of_two_the_stopped_rank_is_named(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, steps=400, workers=2)
    driver = subprocess.Popen(
        command("run", file, "--json"),
        cwd=tmp_path,
        env=environment() | {"NORMSWEEP_HUNG_AFTER_S": "6"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    wait_for(lambda: sealed_checkpoints(tmp_path), driver)
    one = next(rank for rank in ranks(tmp_path) if number_of(rank) == 1)
    one.send_signal(signal.SIGSTOP)
    output, _ = driver.communicate(timeout=200)
    (found,) = json.loads(output.splitlines()[-1])["retries"]
    assert (found["kind"], found["rank"]) == ("hung", 1)
    assert "its process stopped (SIGSTOP)" in found["message"]
    logs = [path.read_text() for path in (tmp_path / "runs").glob("trials/*/attempts/1/log/*")]
    assert len(logs) == 2
    assert all("Fatal Python error: Aborted" in log for log in logs), "stacks of both"


def number_of(rank: psutil.Process) -> int:
    """A rank's number, from its run folder: a forked one has the environment of its server."""
    words = rank.cmdline()
    _, _, rest = Path(words[words.index("--out") + 1]).name.rpartition("-rank-")
    return int(rest.partition("-")[0])


@pytest.mark.campaign
def test_a_real_checkpoint_torn_at_any_4_kib_is_never_loaded(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(tiny_spec(observe={"checkpoint_every": 3}).to_json())
    words = [sys.executable, "-m", "trainers", "run.json", "--out", "out"]
    subprocess.run(words, cwd=tmp_path, env=environment(), check=True, timeout=280)
    checkpoints = tmp_path / "out/checkpoints"
    older, newest = sorted(checkpoints.iterdir())
    for path in sorted(path for path in newest.rglob("*") if path.is_file()):
        for what in damages(path):
            found = newest_intact(checkpoints)
            assert found is not None and found.folder == older, what
    assert newest_intact(checkpoints).folder == newest
