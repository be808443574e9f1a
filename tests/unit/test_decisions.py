from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from orchestrator.statistics.crossed import other_seeds_and_images
from orchestrator.statistics.decisions import (
    Decision,
    equivalence,
    non_inferiority,
    p_differs,
    p_greater,
    p_less,
    superiority,
)
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.paired import other_seeds

QUESTIONS = (superiority, non_inferiority, equivalence)


def interval(estimate: float, half: float, degrees: float = 5, level: float = 0.95) -> Interval:
    """An interval of t with this half width."""
    error = half / stats.t.ppf((1 + level) / 2, degrees)
    return Interval(
        estimate, estimate - half, estimate + half, error, degrees, level, 6, 5, "other seeds"
    )


def of(values: np.ndarray) -> Interval:
    found = other_seeds(values[:, None])
    assert isinstance(found, Interval)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_p_values_are_scipys(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.05, 0.1, 6)
    for alternative, p in (("two-sided", p_differs), ("greater", p_greater), ("less", p_less)):
        expected = stats.ttest_1samp(values, 0.02, alternative=alternative).pvalue
        assert p(of(values), 0.02) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_equivalence_is_statsmodels_two_one_sided_tests(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.02, 0.1, 9)
    expected, _, _ = DescrStatsW(values).ttost_mean(-0.1, 0.1)
    found = equivalence(of(values), 0.1)
    assert found.p_value == pytest.approx(expected, rel=1e-9)
    assert (found.verdict == "holds") == (expected < 0.05)


@pytest.mark.parametrize(
    ("question", "estimate", "half", "margin", "verdict"),
    [
        (superiority, 0.3, 0.1, 0.0, "holds"),
        (superiority, 0.05, 0.1, 0.0, "undecided"),
        (superiority, -0.3, 0.1, 0.0, "fails"),
        (superiority, 0.3, 0.1, 0.25, "undecided"),
        (superiority, 0.05, 0.1, 0.2, "fails"),
        (non_inferiority, -0.05, 0.1, 0.2, "holds"),
        (non_inferiority, -0.15, 0.1, 0.2, "undecided"),
        (non_inferiority, -0.5, 0.1, 0.2, "fails"),
        (non_inferiority, 0.5, 0.1, 0.0, "holds"),
        (equivalence, 0.02, 0.05, 0.1, "holds"),
        (equivalence, 0.08, 0.05, 0.1, "undecided"),
        (equivalence, 0.0, 0.2, 0.1, "undecided"),
        (equivalence, -0.3, 0.1, 0.1, "fails"),
        (equivalence, 0.0, 0.01, 0.0, "undecided"),
    ],
)
def test_verdicts(
    question: Callable[[Interval, float], Decision],
    estimate: float,
    half: float,
    margin: float,
    verdict: str,
) -> None:
    found = question(interval(estimate, half), margin)
    assert (found.verdict, found.margin) == (verdict, margin)


def test_superiority_holds_exactly_if_its_p_value_is_below_half_of_alpha() -> None:
    for estimate in np.linspace(0, 0.3, 61):
        found = superiority(interval(float(estimate), 0.1), 0.1)
        assert found.p_value is not None
        assert (found.verdict == "holds") == (found.p_value < 0.025)


def test_the_level_of_the_interval_is_that_of_the_decision() -> None:
    strict = interval(0.12, 0.11 * 2.0, level=0.999)
    assert equivalence(strict, 0.3).verdict == "undecided"
    assert equivalence(interval(0.12, 0.11), 0.3).verdict == "holds"


@pytest.mark.parametrize("level", [0.5, 0.9, 0.95, 0.999, 0.9999999])
def test_the_p_value_of_an_interval_of_parts_is_that_of_the_level_that_ends_at_the_value(
    level: float,
) -> None:
    table = np.random.default_rng(3).normal(0, 0.03, (3, 1)) + np.linspace(0, 0.3, 20)
    table = table + np.random.default_rng(4).normal(0, 0.02, (3, 20))
    found = other_seeds_and_images(table, level=level)
    usual = other_seeds_and_images(table)
    assert isinstance(found, Interval)
    assert isinstance(usual, Interval)
    assert len(usual.parts) == 2
    assert p_differs(usual, found.low) == pytest.approx(1 - level, rel=1e-6)
    assert p_differs(usual, found.high) == pytest.approx(1 - level, rel=1e-6)
    assert p_greater(usual, found.high) == pytest.approx((1 + level) / 2, rel=1e-6)
    assert p_greater(usual, usual.estimate) == pytest.approx(0.5)
    assert 0 < p_greater(usual, -1e30) < 1e-15


@pytest.mark.parametrize("question", QUESTIONS)
def test_no_interval_is_undecided_and_never_no_difference(
    question: Callable[[Unknown, float], Decision],
) -> None:
    assert question(Unknown("one seed: x"), 0.1) == Decision("undecided", None, 0.1, "one seed: x")


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_interval_without_an_error_decides_nothing(
    question: Callable[[Interval, float], Decision],
) -> None:
    certain = Interval(0.3, 0.3, 0.3, 0.0, 4, 0.95, 5, 5, "other seeds")
    found = question(certain, 0.1)
    assert (found.verdict, found.p_value) == ("undecided", None)
    assert "zero" in found.reason
    assert p_differs(certain) == 1


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("margin", [-0.1, math.nan, math.inf])
def test_a_margin_is_a_finite_number_of_at_least_zero(
    question: Callable[[Interval, float], Decision], margin: float
) -> None:
    with pytest.raises(ValueError, match="margin"):
        question(interval(0.0, 0.1), margin)
