"""The table of outcomes: complete, consistent, and the one that docs/errors.md shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.plan.outcomes import (
    CHECKPOINT,
    FAILURES,
    FINAL,
    OF_MEMORY,
    RESULTS,
    UNCOUNTED,
    failure_kind,
)
from orchestrator.plan.states import State
from orchestrator.store.records import OUT_OF_MEMORY

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/errors.md").read_text().partition("## How an attempt can fail")[2]


def test_every_result_has_a_state_and_every_kind_one_line() -> None:
    assert {State.of_outcome(kind).has_result for kind in RESULTS} == {True}
    assert not RESULTS.keys() & FAILURES.keys()


def test_what_is_final_is_counted_and_what_halves_is_not() -> None:
    """Final kinds end a trial at once; those of memory end it when nothing is left to halve."""
    assert not FINAL & UNCOUNTED
    assert OF_MEMORY <= UNCOUNTED
    assert OUT_OF_MEMORY in OF_MEMORY


def test_the_kinds_that_a_rank_writes_are_in_the_table() -> None:
    written = set()
    for path in (ROOT / "trainers").rglob("*.py"):
        text = path.read_text()
        written |= set(re.findall(r'^    kind = "([^"]+)"', text, re.MULTILINE))
        written |= set(re.findall(r'write_failure\(out, rank, "([^"]+)"', text))
    assert {"data", "cache", "disk full", "bug", "spec", "initial"} <= written
    assert written <= FAILURES.keys()


@pytest.mark.parametrize("kind", [kind for kind in FAILURES if kind not in (CHECKPOINT, "other")])
def test_the_documentation_says_what_a_kind_means_and_whether_it_counts(kind: str) -> None:
    (row,) = re.findall(rf"^\| `{kind}` \|.*$", DOCUMENT, re.MULTILINE)
    outcome = FAILURES[kind]
    assert outcome.words in row
    follows = "no" if outcome.final else "yes" if outcome.counted else "not counted"
    assert row.rstrip(" |").endswith(f"| {follows}")


def test_a_kind_of_another_version_is_a_failure_like_any_other() -> None:
    foreign = failure_kind("own code")
    assert foreign.is_trouble and foreign.counted and not foreign.final
