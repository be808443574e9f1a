"""A norm from a user's own file: checked, planned, trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.sweeps import command, environment, results, write_sweep
from tests.tiny import tiny_spec

OWN = """
import torch
from torch import nn
from trainers.norms.base import Norm, Normed


class Gain(Norm):
    def __init__(self, dim, start=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((dim,), start))

    def forward(self, x):
        return Normed(x * self.weight)


class Remembers(Norm):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        self.last = x
        return Normed(x)


class Shaky(Norm):
    def __init__(self, dim):
        super().__init__()

    def forward(self, x):
        return Normed(self.looked_up(x))

    def looked_up(self, x):
        return {}["a table of this norm's own"]


class NoNorm:
    pass
"""


def normsweep(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """In a folder where `own_norms.py` lies."""
    (folder / "own_norms.py").write_text(OWN)
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=240,
    )


SHADOWS = (
    "copy",
    "random",
    "types",
    "torch",
    "yaml",
    "trainers",
    "ray",
    "numpy",
    "typer",
    "psutil",
)


def test_a_norm_of_ones_own_is_trained_whatever_else_lies_beside_it(tmp_path: Path) -> None:
    """The norm lies beside the sweep, under a name of Python's own, and imports a file beside it; others shadow nothing."""
    here, beside = tmp_path / "here", tmp_path / "beside"
    file = write_sweep(beside, name="own", norms="{name: 'copy:Gain', start: 0.5}", steps=2)
    here.mkdir()
    for folder in (here, beside):
        for name in SHADOWS:
            (folder / f"{name}.py").write_text(
                f"raise RuntimeError('{folder}/{name}.py shadows a module')\n"
            )
    (beside / "copy.py").write_text(
        "from sibling import *\n" + OWN.replace("start=1.0", "start=ONE")
    )
    (beside / "sibling.py").write_text("ONE = 1.0\n")
    script = [
        sys.executable,
        "-P",
        "-m",
        "orchestrator",
        "run",
        str(file),
    ]  # as the command `normsweep` starts
    done = subprocess.run(
        script, cwd=here, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result["outcome"] for result in results(here).values()] == ["completed"]


def test_modules_of_the_working_folder_shadow_none_of_a_verb(tmp_path: Path) -> None:
    for name in SHADOWS:
        if name != "types":  # which Python itself imports before it comes to any line of ours
            (tmp_path / f"{name}.py").write_text(
                f"raise RuntimeError('{name}.py shadows a module')\n"
            )
    for verb in (
        ["plan", str(write_sweep(tmp_path, norms="'own_norms:Gain'"))],
        ["check-norm", "own_norms:Gain"],
    ):
        done = normsweep(tmp_path, *verb)
        assert done.returncode == 0, done.stdout + done.stderr


def test_check_norm_prints_what_holds_and_what_does_not(tmp_path: Path) -> None:
    good = normsweep(tmp_path, "check-norm", "own_norms:Gain", "--knobs", "{start: 0.5}")
    assert good.returncode == 0, good.stdout + good.stderr
    assert "8 of 8 promises" in good.stdout
    bad = normsweep(tmp_path, "check-norm", "own_norms:Remembers")
    assert bad.returncode == 4
    assert "no_memory        BROKEN" in bad.stdout
    assert "norm1.last" in bad.stdout


def test_check_norm_says_what_cannot_be_checked(tmp_path: Path) -> None:
    said = {
        "own_norms:Nope": "has no attribute 'Nope'",
        "own_norms:NoNorm": "not a subclass of trainers.norms.base.Norm",
        "nowhere:X": "no module 'nowhere'",
        "iln": "Did you mean 'i_ln'?",
    }
    for name, expected in said.items():
        done = normsweep(tmp_path, "check-norm", name)
        assert (done.returncode, expected in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
    assert (
        "has no knob 'epps'"
        in normsweep(tmp_path, "check-norm", "i_ln", "--knobs", "{epps: 1}").stderr
    )


def test_an_error_of_a_norm_of_ones_own_is_told_as_the_norms(tmp_path: Path) -> None:
    (tmp_path / "own_norms.py").write_text(OWN)
    spec = tiny_spec().model_dump(mode="json")
    spec["model"]["norm"] = {"name": "own_norms:Shaky", "knobs": {}}
    (tmp_path / "run.json").write_text(json.dumps(spec))
    words = [sys.executable, "-m", "trainers", "run.json", "--out", "out"]
    variables = environment()
    variables["PYTHONPATH"] += os.pathsep + str(tmp_path)
    done = subprocess.run(
        words, cwd=tmp_path, env=variables, capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 1
    failure = json.loads((tmp_path / "out/failure-rank-0.json").read_text())
    assert failure["kind"] == "norm"
    assert failure["message"].startswith(
        'the norm own_norms:Shaky raised KeyError: "a table of this norm\'s own" (own_norms.py, line '
    )
    assert failure["traceback"].splitlines()[1].endswith("in forward"), "the user's frame first"
