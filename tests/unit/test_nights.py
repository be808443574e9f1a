"""Nights one after another: what changed, the history, and the page that shows both."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.regression.changes import changes
from orchestrator.regression.history import History, read_history
from orchestrator.regression.page import render
from orchestrator.store.base import Store
from orchestrator.store.verdicts import verdict_key
from tests.integration.test_report import Page
from tests.nights import SWEEP, judged, keep, night
from tests.sweeps import plan_of
from trainers.choice import Choice

SHEET = """# Is every norm as good as it was?
sweep: nightly
axes: {backbone: [swinir-tiny], norm: [layer_norm, i_ln, rms_norm], task: [sr_x2], seed: [0, 1, 2]}
training: {steps: 40, batch_size: 4, patch_size_px: 16}
"""
ASKED = Gate(baseline=Choice(name="layer_norm"), growth=5.0, at_most={"train/loss": 0.1})
GATE = GatePlan(ASKED, ("i_ln", "rms_norm"), "layer_norm")
DAYS = ("2026-11-27", "2026-11-28", "2026-11-29")


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return replace(plan_of(tmp_path, SHEET), gate=GATE)


NORM_OF = {"a": "layer_norm", "b": "i_ln", "c": "i_ln", "d": "rms_norm"}


def test_the_first_night_is_called_so() -> None:
    assert changes(night(DAYS[0], judged()), None, NORM_OF) == ("This is the first night.",)


def test_a_night_on_which_nothing_was_trained_says_so_and_nothing_else() -> None:
    one, other = (night(day, judged()) for day in DAYS[:2])
    said = changes(other, one, NORM_OF)
    assert said == ("Nothing was trained: the trials are those of the night before.",)


def test_what_changed_is_named_verdicts_first() -> None:
    before = replace(
        night(DAYS[0], judged(trials=("a", "b")), judged("none", trials=("a",))),
        made_with={"torch": ("2.13.0",), "commit": ("c0ffee",)},
    )
    now = replace(
        night(
            DAYS[1],
            judged("i_ln", "fail", value=-0.3, trials=("a", "c")),
            judged("rms_norm", trials=("a", "d")),
            judged("i_ln", gate="growth", trials=("c",)),
        ),
        made_with={"torch": ("2.14.0",), "commit": ("c0ffee",)},
    )
    # The sweep has no trial b any more: a changed source has taken its place by c.
    norm_of = {trial: norm for trial, norm in NORM_OF.items() if trial != "b"}
    assert changes(now, before, norm_of) == (
        "psnr of i_ln, sr_x2, embedded-test, w8 d2: pass, now fail "
        "(-0.300 dB [-0.350, -0.250], at least -0.100 dB, n = 3).",
        "New: rms_norm.",
        "No longer judged: none.",
        "Asked for the first time: growth of i_ln.",
        "1 new trial of i_ln: its source, the recipe, the data or torch has changed.",
        "1 new trial of rms_norm.",
        "torch: 2.13.0 before, now 2.14.0.",
    )


def test_a_seed_more_is_no_change_of_source() -> None:
    one = night(DAYS[0], judged(trials=("a", "b")))
    other = night(DAYS[1], judged(trials=("a", "b", "c")))
    assert changes(other, one, NORM_OF) == ("1 new trial of i_ln.",)


@pytest.fixture
def three(store: Store) -> Store:
    """A store with three nights: i_ln fails on the last, rms_norm comes on the second."""
    keep(
        store,
        night(DAYS[0], judged()),
        night(DAYS[1], judged(), judged("rms_norm", "undecided", value=None)),
        night(
            DAYS[2],
            judged("i_ln", "fail", value=-0.3),
            judged("i_ln", gate="growth"),
            judged("rms_norm"),
        ),
    )
    return store


def test_the_history_has_a_row_per_norm_and_a_column_per_night_newest_first(three: Store) -> None:
    found = read_history(three, SWEEP)
    assert found.as_text(100).splitlines() == [
        "             2026-11-29  2026-11-28  2026-11-27",
        "i_ln         fail        pass        pass",
        "rms_norm     pass        undecided   -",
        "whole night  fail        undecided   pass",
    ]
    assert found.as_json()["norms"][1] == {
        "norm": "rms_norm",
        "verdicts": {"2026-11-29": "pass", "2026-11-28": "undecided"},
    }
    assert [one["verdict"] for one in found.as_json()["nights"]] == ["fail", "undecided", "pass"]


def test_a_narrow_terminal_cuts_no_night(three: Store) -> None:
    text = read_history(three, SWEEP).as_text(30)
    assert all(len(line) <= 30 for line in text.splitlines())
    assert all(day in text for day in DAYS)


def test_the_history_ends_at_sixty_nights_and_names_damaged_ones(store: Store) -> None:
    days = [f"2026-{month:02d}-{day:02d}" for month in (9, 10, 11) for day in range(1, 26)]
    keep(store, *(night(day, judged()) for day in days))
    store.put(verdict_key(SWEEP, days[-2]), b"{")
    found = read_history(store, SWEEP)
    assert [one.date for one in found.nights] == [*reversed(days[-60:-2] + days[-1:])]
    assert "regressions/nightly/2026-11-24.json is cut off" in found.damaged[0]


def test_no_night_yet_is_said(store: Store) -> None:
    assert read_history(store, SWEEP).as_text() == "nightly: no night has been judged yet."


def test_the_page_has_the_verdict_what_changed_the_questions_and_the_history(
    plan: Plan, three: Store
) -> None:
    history = read_history(three, SWEEP)
    files = render(plan, GATE, history.nights[0], history)
    text = files["index.html"]
    page = Page(text)
    assert page.open == []
    assert not page.fetched
    assert len(page.ids) == len(set(page.ids))
    words = re.sub(r"<[^>]+>", " ", text[text.index("</style>") :])
    parts = ["Fail: 1 of 3 failed", "What changed since 2026-11-28", "pass, now fail", "Questions"]
    parts += ["-0.300 dB", "at least -0.100 dB", "History", "2026-11", "29", "28", "27", "The gate"]
    at = 0
    for part in parts:
        at = words.index(part, at)
    assert "0.05 for any false alarm in 200 looks" in words
    assert "train/loss at most 0.1" in words


def test_a_page_made_again_later_shows_no_later_night(plan: Plan, three: Store) -> None:
    history = read_history(three, SWEEP)
    alone = History(SWEEP, history.nights[1:])
    assert render(plan, GATE, history.nights[1], history) == render(
        plan, GATE, history.nights[1], alone
    )


def test_markdown_and_csv_say_the_same_as_the_page(plan: Plan, three: Store) -> None:
    history = read_history(three, SWEEP)
    files = render(plan, GATE, history.nights[0], history)
    text = files["report.md"]
    assert text.startswith("# nightly\n")
    assert "Night of 2026-11-29: 1 fail, 2 pass, from 2 trials of `a_sweep.yaml`." in text
    assert "\n## What changed since 2026-11-28\n" in text
    rows = list(csv.DictReader(io.StringIO(files["verdict.csv"])))
    assert [(row["gate"], row["norm"], row["verdict"], row["n"]) for row in rows] == [
        ("growth", "i_ln", "pass", "3"),
        ("psnr", "i_ln", "fail", "3"),
        ("psnr", "rms_norm", "pass", "3"),
    ]
    assert rows[0]["trials"] == "a; b"
