"""A short, seeded version of benchmarks/calibration.py; docs/decisions/0019 has the long one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks import calibration
from benchmarks.calibration import BAND, MOST_WRONG, Row, Truth, calibrate, effects
from benchmarks.crossed_intervals import analysis_of_variance, ours, tables
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.paired import other_seeds

FAMILIES = 40


@pytest.mark.parametrize(("noise", "seeds", "images"), [("normal", 2, 5), ("heavy", 3, 5)])
def test_pooled_intervals_and_verdicts_keep_their_error_rates(
    noise: calibration.Noise, seeds: int, images: int
) -> None:
    rows = calibrate(Truth(), noise, seeds, images, FAMILIES, seed=1)
    assert [(row.scope, row.way) for row in rows] == [
        ("seeds", "alone"),
        ("seeds", "pooled"),
        ("seeds, images", "alone"),
        ("seeds, images", "pooled"),
    ]
    for row in rows:
        if row.way == "pooled":
            assert not list(row.problems(FAMILIES)), row
    alone, pooled = rows[:2]
    assert pooled.power[0] > 1.3 * alone.power[0]
    assert pooled.power[1] > pooled.power[0] > 0.25


def too_sure(table: Any, **more: Any) -> Interval | Unknown:
    """As `other_seeds`, as if the standard error were half as large."""
    found = other_seeds(table, **more)
    assert isinstance(found, Interval)
    half = (found.high - found.low) / 4
    return Interval(
        found.estimate,
        found.estimate - half,
        found.estimate + half,
        found.standard_error / 2,
        found.degrees_of_freedom,
        found.level,
        found.n_seeds,
        found.n_images,
        found.generalises_to,
    )


def test_an_interval_that_is_too_sure_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "SCOPES", {"seeds": too_sure})
    rows = calibrate(Truth(), "normal", 3, 5, FAMILIES, seed=1)
    problems = [problem for row in rows for problem in row.problems(FAMILIES)]
    assert any("coverage" in problem for problem in problems)
    assert any("wrong families" in problem for problem in problems)


def test_a_row_far_outside_is_a_problem_and_one_inside_is_none() -> None:
    def row(coverage: float, wrong: float) -> Iterator[str]:
        return Row(
            "normal", 2, 5, "seeds", "alone", coverage, wrong, 0.0, (0.1, 0.2), 0.1
        ).problems(1000)

    assert not list(row(sum(BAND) / 2, MOST_WRONG))
    assert len(list(row(0.85, 0.2))) == 2
    assert len(list(row(0.999, 0.0))) == 1


def test_the_simulated_differences_have_the_standard_deviations_asked_for() -> None:
    truth = Truth(seed=0.3, image=0.2, interaction=0.0, rest=0.0)
    rng = np.random.default_rng(0)
    for noise in ("normal", "unequal"):
        drawn = [effects(rng, truth, noise, 100, 200)[0] for _ in range(10)]
        tables = np.concatenate([scores[:, 1] - scores[:, 0] for scores in drawn])
        assert tables.mean(axis=1).std() == pytest.approx(0.2, rel=0.25)
        expected = 0.3 * (np.sqrt(1.5) if noise == "unequal" else 1)  # E of 6 / chi^2(6) is 1.5
        assert np.sqrt(tables.mean(axis=2).var(axis=1).mean()) == pytest.approx(expected, rel=0.1)


def test_satterthwaites_interval_is_too_short_with_two_seeds_and_ours_is_not() -> None:
    data = tables(np.random.default_rng(0), False, 0.03, (1500, 2, 100))
    found = {**analysis_of_variance(data), **ours(data)}
    coverage = {
        name: float(np.mean((low <= 0) & (high >= 0))) for name, (low, high) in found.items()
    }
    assert coverage["Satterthwaite"] < 0.9
    assert BAND[0] < coverage["ours"] < BAND[1]
