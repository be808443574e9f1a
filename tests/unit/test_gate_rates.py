"""A short, seeded version of benchmarks/gate.py; docs/decisions/0023 has the long one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks import gate as benchmark
from benchmarks.gate import (
    COMPONENTS,
    GATE,
    LEAST_CAUGHT,
    MOST_FALSE,
    NIGHTS,
    World,
    caught,
    decayed,
    deviation,
    drawn,
    measure,
    unchanged,
    verdicts,
    worlds,
)
from orchestrator.regression.judging import judge
from orchestrator.store import open_store
from tests import scored_store
from tests.asked import asked, ledger
from tests.scored_store import IMAGES, Truth, write_drawn
from tests.sweeps import plan_of

HALF_YEARS = 100
SD = 0.05
# With more false alarms than this, a rate of at most 5 % is out of the question (p < 0.01).
MOST = int(stats.binom.isf(0.01, HALF_YEARS, MOST_FALSE))


@pytest.mark.parametrize("world", worlds(SD, 3, 1), ids=str)
@pytest.mark.parametrize("questions", [1, 4])
def test_half_years_without_a_change_rarely_see_a_false_alarm(world: World, questions: int) -> None:
    alarmed, passed = unchanged(replace(world, questions=questions), HALF_YEARS, seed=1)
    assert alarmed <= MOST
    assert 0.4 < passed < 0.6  # nights that are open, so that an alarm would not be hidden


@pytest.mark.parametrize("way", ["5 % each night", "looks pooled"])
def test_a_level_that_is_wrong_is_seen(way: benchmark.Way) -> None:
    alarmed, _ = unchanged(World(SD, 3, kept=True), HALF_YEARS, seed=1, way=way)
    assert alarmed > 2 * MOST


@pytest.mark.parametrize("at_start", [False, True])
def test_drops_of_the_margin_are_caught_with_enough_seeds_and_not_with_few(at_start: bool) -> None:
    for world in worlds(SD, 14, 1):
        assert caught(world, HALF_YEARS, 2, at_start=at_start) >= LEAST_CAUGHT - 0.03
        assert caught(replace(world, seeds=3), HALF_YEARS, 2, at_start=at_start) < 0.6


def test_slow_decay_is_caught_before_it_has_cost_the_margin() -> None:
    for world in worlds(SD, 14, 1):
        nights = decayed(world, HALF_YEARS, 3)
        assert benchmark.DECAY * nights[int(0.95 * HALF_YEARS)] < 0.1


def test_the_simulation_judges_as_the_gate_does() -> None:
    """Night by night, over ledgers that make every verdict."""
    seen = set()
    for number, world in enumerate(worlds(0.06, 4, 3)):
        values = drawn(np.random.default_rng(number), world, 1, 30)
        values[:, 15:, 1] -= 0.3
        fails, passes = verdicts(values)
        last_fails, last_passes = verdicts(values, last=4)
        np.testing.assert_array_equal(last_fails, fails[:, -4:])
        np.testing.assert_array_equal(last_passes, passes[:, -4:])
        nights = [
            [asked(tuple(values[0, night, q].tolist()), f"norm {q}") for q in range(3)]
            for night in range(30)
        ]
        looks = ledger(*nights)
        for night, measured in enumerate(nights):
            for q, one in enumerate(judge(measured, looks, GATE)):
                expected = "fail" if fails[0, night, q] else "undecided"
                assert one.verdict == ("pass" if passes[0, night, q] else expected)
                seen.add(one.verdict)
    assert seen == {"pass", "fail", "undecided"}


def test_differences_have_the_deviation_asked_for_and_a_kept_baseline_is_shared() -> None:
    for world in worlds(SD, 40, 2):
        values = drawn(np.random.default_rng(0), world, 4, NIGHTS)
        assert values.std(axis=(0, 1, 3)) == pytest.approx([SD, SD], rel=0.1)
        shared = np.corrcoef(values[0, 0].ravel(), values[0, 1].ravel())[0, 1]
        assert (shared > 0.25) == world.kept


def test_the_components_are_read_from_a_file_that_says_where_they_are_from() -> None:
    components = json.loads(COMPONENTS.read_text())
    assert components["from"]
    assert 0.001 < deviation(components["variances"], components["images"]) < 1


def test_components_are_measured_where_seeds_vary_most(tmp_path: Path) -> None:
    text = """# Same?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
  width: [12, 24]
  seed: [0, 1, 2, 3, 4]
data: {evaluate: [embedded-test]}
"""
    plan = plan_of(tmp_path, text, "measured")
    truth = Truth({"layer_norm": 0.0, "i_ln": 0.1}, seed_sd=0.05)
    sets = {"embedded-test": IMAGES}
    write_drawn(open_store(str(tmp_path / "runs")), plan, truth, sets)
    scores = scored_store.drawn(plan, truth, sets)
    means = {
        (trial.axes["width"], trial.axes["norm"], trial.axes["seed"]): np.mean(
            [image["psnr"] for image in scores[trial.id]["embedded-test"].values()]
        )
        for trial in plan.trials
    }
    deviations = [
        np.std(
            [means[width, "i_ln", seed] - means[width, "layer_norm", seed] for seed in range(5)],
            ddof=1,
        )
        for width in (12, 24)
    ]
    found = measure(str(tmp_path / "runs"), plan.path, ("i_ln", "layer_norm"))
    assert (found["measured"], found["seeds"], found["images"]) == (True, 5, 5)
    assert deviation(found["variances"], 5) == pytest.approx(max(deviations))
