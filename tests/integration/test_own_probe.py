"""A probe from a user's own file: trained with, and an error of it told as the probe's."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from safetensors.numpy import load_file

from tests.sweeps import environment
from tests.tiny import tiny_spec
from trainers import journal

OWN = """
import numpy as np
from trainers.probes.base import Before, Largest, Observation, Probe, groups_of


class Peak(Probe):
    def __init__(self, network):
        self.groups, self.largest = groups_of(network), Largest()

    def looks(self):
        for group in self.groups:
            yield group, self.look

    def look(self, x):
        self.largest.add(x.max())
        return 2 * x  # which changes nothing

    def observation(self):
        return Observation({"peak/all": self.largest.whole()}, {"peak": np.array([1.0])})


class Shaky(Peak):
    def look(self, x):
        return {}["a table of this probe's own"]
"""


def trained(folder: Path, *probes: str) -> subprocess.CompletedProcess[str]:
    (folder / "own_probes.py").write_text(OWN)
    spec = tiny_spec(observe={"probes": probes}).to_json()
    (folder / "run.json").write_text(spec)
    return subprocess.run(
        [sys.executable, "-m", "trainers", "run.json", "--out", "out"],
        cwd=folder,
        env=environment() | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=280,
    )


def failure(folder: Path) -> dict[str, str]:
    found: dict[str, str] = json.loads((folder / "out/failure-rank-0.json").read_text())
    return found


def test_a_probe_of_ones_own_measures_beside_the_others(tmp_path: Path) -> None:
    done = trained(tmp_path, "own_probes:Peak", "features")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = list(journal.read(tmp_path / "out" / "journal.jsonl"))
    values = {(n, line["step"]): v for line in lines for n, v in line.get("values", {}).items()}
    largest = [values["feature/max_abs/group_0", 0], values["feature/max_abs/group_1", 0]]
    assert 0 < values["peak/all", 0] <= max(largest)
    assert {step for name, step in values if name == "peak/all"} == {0, 3, 6}
    arrays = tmp_path / "out" / "probes" / "own_probes.Peak" / "step-00000003.safetensors"
    assert load_file(arrays)["peak"].tolist() == [1.0]


def test_an_error_of_a_probe_of_ones_own_is_told_as_the_probes(tmp_path: Path) -> None:
    assert trained(tmp_path, "own_probes:Shaky").returncode == 1
    said = failure(tmp_path)
    assert said["kind"] == "probe"
    begins = (
        'the probe own_probes:Shaky raised KeyError: "a table of this probe\'s own" (own_probes.py'
    )
    assert said["message"].startswith(begins)
    assert said["traceback"].splitlines()[1].endswith("in look"), "the user's frame first"
