"""docs/tutorial.md, followed by a new user: every command and file of it, in its order."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).parents[2] / "docs" / "tutorial.md"
# What follows each other in the page: a file to save, or commands to type.
STEPS = re.compile(r'^```(?:yaml title="([^"]+)"|sh)\n(.*?)^```', re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The output of each command, in a folder that is empty at first."""
    folder = tmp_path_factory.mktemp("calm-study")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    outputs: dict[str, str] = {}
    for file, text in STEPS.findall(TUTORIAL.read_text()):
        if file:
            (folder / file).write_text(text)
            continue
        for line in text.splitlines():
            done = subprocess.run(
                ["bash", "-c", line],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                timeout=400,
                check=False,
            )
            assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
            outputs[line] = done.stdout
    return outputs


def test_every_step_is_there(said: dict[str, str]) -> None:
    verbs = [line.split()[1] for line in said if line.startswith("normsweep ")]
    assert verbs == [
        *("doctor", "new-norm", "check-norm", "validate", "plan", "run", "claims", "plan")
    ]


def test_the_norm_keeps_its_promises(said: dict[str, str]) -> None:
    assert "8 of 8 promises are as expected" in said["normsweep check-norm calm:Calm"]


def test_the_verdict_on_it_is_a_sentence_with_its_uncertainty(said: dict[str, str]) -> None:
    verdicts = said["normsweep claims calm.yaml"]
    answer = " ".join(verdicts.split("\n\n")[1].split())
    assert re.search(
        r"“Calm restores images at most 0\.5 dB worse than LayerNorm\.?” "
        r"\([-+][\d.]+ dB \[[-+][\d.]+, [-+][\d.]+\], 3 seeds, 2 images\)",
        answer,
    )
    assert re.search(r"(HOLDS|FAILS|UNDECIDED)  Calm keeps features bounded\.", verdicts)


def test_the_power_says_how_many_seeds_would_do(said: dict[str, str]) -> None:
    assert re.search(r"\d+ seeds", said["normsweep plan calm.yaml --power 0.5"])
