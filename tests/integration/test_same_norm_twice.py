"""One norm under two names, trained: nothing is told apart."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.sweeps import normsweep, run, write_sweep

TWICE = """
from trainers.norms.layer_norm import LayerNorm


class Again(LayerNorm):
    pass
"""
CLAIMS = """
- {id: again_is_better, sentence: "The copy is better.", place: here, statistic: difference,
   candidate: 'twice:Again', reference: layer_norm}
- {id: it_is_worse, sentence: "The copy is worse.", place: here, statistic: difference,
   candidate: layer_norm, reference: 'twice:Again'}
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the report of a sweep of two equal norms and three seeds."""
    folder = tmp_path_factory.mktemp("twice")
    (folder / "twice.py").write_text(TWICE)
    (folder / "mine.yaml").write_text(CLAIMS)
    file = write_sweep(folder, name="twice", norms="layer_norm, 'twice:Again'", steps=20)
    text = file.read_text().replace("  task:", "  seed: [0, 1, 2]\n  task:")
    file.write_text(text.replace("evaluate: []", "evaluate: [embedded-test]"))
    run(file)
    normsweep(folder, "report", file, "--out", "report")
    return folder


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / "report" / name).open() as file:
        return list(csv.DictReader(file))


def test_neither_is_marked(trained: Path) -> None:
    assert {row["in_best_set"] for row in rows(trained, "table.csv")} <= {"", "True"}
    assert 'class="best' not in (trained / "report/index.html").read_text()


def test_no_difference_is_given_without_its_reason(trained: Path) -> None:
    found = rows(trained, "differences.csv")
    assert {row["candidate"] for row in found} == {"twice:Again"}
    assert not any(float(row["p_holm"] or 1) < 0.05 for row in found)
    assert all(row["low"] or row["why"] for row in found)


def test_no_superiority_holds(trained: Path) -> None:
    told = normsweep(trained, "claims", "twice.yaml", "--claims", "mine.yaml", "--json")
    claims = {claim["id"]: claim for claim in json.loads(told.stdout)["claims"]}
    assert {claims[name]["verdict"] for name in ("again_is_better", "it_is_worse")} <= {
        "undecided",
        "fails",
    }
    assert not [
        claim for claim in claims.values() if claim.get("statistic") == "difference"
        and claim["verdict"] == "holds"
    ]  # fmt: skip
