"""A norm from a user's own file: checked, planned, trained."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweeps import environment, normsweep, results, write_sweep
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with `own_norms.py` in it."""
    (tmp_path / "own_norms.py").write_text(OWN)
    return tmp_path


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


def test_a_users_norm_is_trained_whatever_else_is_beside_it(tmp_path: Path) -> None:
    """The norm is beside the sweep, in a file named like one of Python's modules, and imports its
    neighbour. Files there that are named like a library shadow nothing.
    """
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
    # -P: the command `normsweep` does not put the working folder on the path either.
    script = [sys.executable, "-P", "-m", "orchestrator", "run", str(file)]
    done = subprocess.run(
        script, cwd=here, env=environment(), capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [result["outcome"] for result in results(here).values()] == ["completed"]


def test_modules_in_the_working_folder_shadow_nothing_that_a_verb_imports(folder: Path) -> None:
    for name in SHADOWS:
        if name != "types":  # Python itself imports it before it reaches any line of ours
            (folder / f"{name}.py").write_text(
                f"raise RuntimeError('{name}.py shadows a module')\n"
            )
    normsweep(folder, "plan", write_sweep(folder, norms="'own_norms:Gain'"))
    normsweep(folder, "check-norm", "own_norms:Gain")


def test_check_norm_prints_what_holds_and_what_does_not(folder: Path) -> None:
    good = normsweep(folder, "check-norm", "own_norms:Gain", "--knobs", "{start: 0.5}")
    assert "8 of 8 promises" in good.stdout
    bad = normsweep(folder, "check-norm", "own_norms:Remembers", expect=4)
    assert "no_memory        BROKEN" in bad.stdout
    assert "norm1.last" in bad.stdout


def test_check_norm_says_what_cannot_be_checked(folder: Path) -> None:
    said = {
        "own_norms:Nope": "has no attribute 'Nope'",
        "own_norms:NoNorm": "not a subclass of trainers.norms.base.Norm",
        "nowhere:X": "no module 'nowhere'",
        "iln": "Did you mean 'i_ln'?",
    }
    for name, expected in said.items():
        told = normsweep(folder, "check-norm", name, expect=2).stderr
        assert expected in told
        assert "Traceback" not in told
    bad_knob = normsweep(folder, "check-norm", "i_ln", "--knobs", "{epps: 1}", expect=2)
    assert "has no knob 'epps'" in bad_knob.stderr


def test_an_error_raised_in_a_users_norm_is_reported_as_the_norms(folder: Path) -> None:
    spec = tiny_spec().model_dump(mode="json")
    spec["model"]["norm"] = {"name": "own_norms:Shaky", "knobs": {}}
    (folder / "run.json").write_text(json.dumps(spec))
    words = [sys.executable, "-m", "trainers", "run.json", "--out", "out"]
    variables = environment()
    variables["PYTHONPATH"] += os.pathsep + str(folder)
    done = subprocess.run(
        words, cwd=folder, env=variables, capture_output=True, timeout=240, check=False
    )
    assert done.returncode == 1
    failure = json.loads((folder / "out/failure-rank-0.json").read_text())
    assert failure["kind"] == "norm"
    assert failure["message"].startswith(
        "the norm own_norms:Shaky raised KeyError: "
        '"a table of this norm\'s own" (own_norms.py, line '
    )
    assert failure["traceback"].splitlines()[1].endswith("in forward"), "the user's frame first"
