"""The whole page on stores that are hard to report on."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pandas as pd
import pytest

from orchestrator.plan import Plan, Trial
from orchestrator.report.page import write_report
from orchestrator.store import open_store
from orchestrator.store.base import Store
from tests.unit.test_growths import planned
from tests.written_growth import blown_up, power, write_curve

AWKWARD = {"widths": "12, 24, 36", "seeds": "0, 1", "more": "  lr: [1.0e-4, 2.0e-4]\n"}


def write_odd(store: Store, trial: Trial, number: int) -> None:
    """One of five kinds of trial: pending, diverged, infinite, at a level, half way."""
    match number % 5:
        case 0:
            return
        case 1:
            write_curve(store, trial, blown_up(30), outcome="diverged", until=50)
        case 2:
            write_curve(store, trial, blown_up(100), extra={"mine/peak": math.inf})
        case 3:
            extra = {"mine/peak": math.nan, "mine/flat/group_0": 1.0}
            write_curve(store, trial, power(0.0), extra=extra)
        case _:
            write_curve(store, trial, power(1.0), outcome=None, until=100)


def page_of(plan: Plan, folder: Path) -> tuple[str, Path]:
    page = Path(write_report(plan, str(folder / "runs")).page)
    return page.read_text(), page.parent


def test_a_page_with_every_kind_of_trial_has_words_in_place_of_numbers(tmp_path: Path) -> None:
    plan = planned(tmp_path, **AWKWARD)
    store = open_store(str(tmp_path / "runs"))
    for number, trial in enumerate(plan.trials):
        write_odd(store, trial, number)
    text, folder = page_of(plan, tmp_path)
    shown = re.sub(r"<svg.*?</svg>|<style.*?</style>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|None)\b", shown)
    for said in ("diverged at step 50", "pending", "running, step 100 of 200", "not a number in"):
        assert said in shown
    grown = pd.read_csv(folder / "growth.csv")
    assert len(grown) == 2 * 3 * 2
    assert set(grown["verdict"]) <= {"growing", "undecided"}
    assert set(pd.read_csv(folder / "correlation.csv")["lr"]) == {1e-4, 2e-4}


@pytest.mark.parametrize(
    ("widths", "seeds", "said"),
    [
        ("12", "0", "All networks have one size"),
        ("12, 24", "0, 1", "2 sizes with ended trials: no correlation"),
        ("12, 24, 36", "0", "one seed: no spread over seeds to judge from"),
    ],
)
def test_few_sizes_and_seeds_are_sentences(
    widths: str, seeds: str, said: str, tmp_path: Path
) -> None:
    plan = planned(tmp_path, widths, seeds)
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials:
        slope = 0.5 + trial.axes["width"] / 100 + trial.axes["seed"] / 50
        write_curve(store, trial, power(slope))
    text, folder = page_of(plan, tmp_path)
    assert said in text
    assert said in (folder / "report.md").read_text()
