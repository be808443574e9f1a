"""`normsweep plan` plans any sweep file or says what is wrong, quickly and in little memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.mutated import mutations
from tests.planned import shipped

COUNT = 2_000
SEED = 16


@pytest.mark.timeout(600)
def test_two_thousand_mutated_sweep_files_are_planned_or_refused_in_words() -> None:
    """In their own process, so that memory is measured and a crash of the interpreter seen."""
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.planned", str(COUNT), str(SEED)],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    outcomes = [json.loads(line) for line in ran.stdout.splitlines()]
    assert not [
        f"{outcome['name']}: {outcome['wrong']}" for outcome in outcomes if outcome["wrong"]
    ]
    assert (ran.returncode, len(outcomes)) == (0, COUNT), ran.stderr[-2_000:]
    codes = Counter(outcome["code"] for outcome in outcomes)
    assert min(codes[0], codes[2]) > COUNT / 20, (
        "mutations that are all refused, or none, try little"
    )


def test_a_seed_gives_the_same_mutations() -> None:
    texts = shipped()
    assert (
        list(mutations(texts, 32, 1))
        == list(mutations(texts, 32, 1))
        != list(mutations(texts, 32, 2))
    )
