from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower

from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.power import Spread, power_of, seeds_needed, smallest_detectable


def interval(error: float, degrees: float) -> Interval:
    half = error * float(stats.t.ppf(0.975, degrees))
    return Interval(0.0, -half, half, error, degrees, 0.95, 5, 5, "other seeds")


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_power_is_statsmodels(seeds: int) -> None:
    """statsmodels counts the other tail as well, which is a wrong sign; one-sided at alpha / 2."""
    for size in (0.2, 1.0, 3.0):
        expected = TTestPower().power(size, seeds, 0.025, alternative="larger")
        found = power_of(size, 1 / math.sqrt(seeds), seeds - 1)
        assert found == pytest.approx(expected, rel=1e-6)


def test_power_is_how_often_a_difference_is_found() -> None:
    rng = np.random.default_rng(0)
    samples = rng.normal(0.05, 0.03, (40000, 4))
    found = stats.ttest_1samp(samples, 0, axis=1).pvalue < 0.05
    assert power_of(0.05, 0.03 / 2, 3) == pytest.approx(found.mean(), abs=0.01)
    assert power_of(-0.05, 0.03 / 2, 3) == power_of(0.05, 0.03 / 2, 3)


def test_power_is_a_number_however_large_the_difference() -> None:
    """scipy's noncentral t is NaN at 39 standard errors for some degrees of freedom."""
    shifts = [*np.arange(1.0, 60.0, 0.25), 1e3, 1e6, 1e150]
    for degrees in (1, 1.5, 2, 3, 20, 99.5, 999):
        powers = [power_of(shift, 1.0, degrees) for shift in shifts]
        assert all(0 <= power <= 1 + 1e-12 for power in powers)
        assert np.all(np.diff(powers) >= -1e-7), degrees


@pytest.mark.parametrize("degrees", [1, 1.5, 3, 20])
def test_power_far_out_is_the_noncentral_ts(degrees: float) -> None:
    critical = float(stats.t.ppf(0.975, degrees))
    for shift in (30.5, 33.0, 37.0):
        expected = float(stats.nct.sf(critical, degrees, shift))
        assert power_of(shift, 1.0, degrees) == pytest.approx(expected, rel=1e-6)


def test_seeds_that_are_more_than_enough_are_enough() -> None:
    """1,000 seeds lie 39 standard errors out here, where scipy's noncentral t is NaN."""
    found = seeds_needed(0.05, Spread((0.05 / 39.2) ** 2 * 1000))
    assert found == 8


def test_power_without_limit_of_degrees_is_the_normal_distributions() -> None:
    expected = stats.norm.sf(1.959963984540054 - 2)
    assert power_of(2.0, 1.0, math.inf) == pytest.approx(expected)
    assert power_of(2.0, 1.0, 1e7) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("seeds", [2, 3, 5, 20])
def test_the_smallest_detectable_difference_is_statsmodels(seeds: int) -> None:
    size = TTestPower().solve_power(nobs=seeds, alpha=0.025, power=0.8, alternative="larger")
    found = smallest_detectable(interval(0.03 / math.sqrt(seeds), seeds - 1))
    assert found == pytest.approx(0.03 * float(size), rel=1e-5)


def test_the_seeds_needed_are_statsmodels_rounded_up() -> None:
    for difference in (0.02, 0.03, 0.05, 0.1):
        needed = TTestPower().solve_power(
            effect_size=difference / 0.03, alpha=0.05, power=0.8, alternative="two-sided"
        )
        assert seeds_needed(difference, Spread(0.03**2)) == max(2, math.ceil(float(needed)))


def test_a_prior_saves_seeds() -> None:
    alone, pooled = (seeds_needed(0.05, Spread(0.0009, prior_degrees=d)) for d in (0, 6))
    assert isinstance(alone, int)
    assert isinstance(pooled, int)
    assert pooled < alone


def test_a_huge_difference_still_needs_two_seeds() -> None:
    assert seeds_needed(100.0, Spread(0.0009, prior_degrees=6)) == 2


def test_no_number_of_seeds_makes_up_for_few_images() -> None:
    found = seeds_needed(0.05, Spread(0.0009, images=0.0005, image_degrees=4))
    assert isinstance(found, Unknown)
    assert "from the images" in found.reason
    enough = seeds_needed(0.05, Spread(0.0009, images=0.000025, image_degrees=99))
    assert isinstance(enough, int)
    alone = seeds_needed(0.05, Spread(0.0009))
    assert isinstance(alone, int)
    assert enough <= alone + 1


def test_too_many_seeds_is_a_sentence() -> None:
    found = seeds_needed(1e-4, Spread(0.0009), most=50)
    assert isinstance(found, Unknown)
    assert found.reason == "50 seeds would not do: a standard error of 0.00424 is left"


def test_what_is_unknown_has_no_smallest_difference() -> None:
    assert smallest_detectable(Unknown("one seed: x")) == Unknown("one seed: x")
    certain = Interval(0.0, 0.0, 0.0, 0.0, 3, 0.95, 4, 5, "other seeds")
    assert isinstance(smallest_detectable(certain), Unknown)
    assert isinstance(seeds_needed(0.05, Spread(0.0)), Unknown)


@pytest.mark.parametrize(
    ("difference", "spread"),
    [(0.0, Spread(1.0)), (math.nan, Spread(1.0)), (0.1, Spread(-1.0)), (0.1, Spread(math.nan))],
)
def test_a_question_that_makes_no_sense_is_refused(difference: float, spread: Spread) -> None:
    with pytest.raises(ValueError):
        seeds_needed(difference, spread)


def test_a_difference_of_many_standard_errors_is_found_at_every_number_of_seeds() -> None:
    """scipy's noncentral t has no number around 38 standard errors."""
    for shift in np.linspace(30, 45, 61):
        for degrees in (5, 61, 999):
            assert power_of(shift, 1.0, degrees) == pytest.approx(1.0)
    assert seeds_needed(0.5, Spread(0.01)) == 3
