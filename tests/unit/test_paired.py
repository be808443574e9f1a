from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.regression.mixed_linear_model import MixedLM

from orchestrator.statistics.crossed import mean_squares, other_seeds_and_images
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.moderation import Prior
from orchestrator.statistics.paired import other_images, other_seeds, seed_variance

PRIOR = Prior(0.0009, 4.0, 4.0, 10.0, 10)
ALL = (other_seeds, other_images, other_seeds_and_images)


def drawn(seed: int, shape: tuple[int, int], sds: tuple[float, float, float]) -> np.ndarray:
    """Differences around 0.1 with the standard deviations of seeds, images and the rest."""
    rng = np.random.default_rng(seed)
    a, b, e = (
        rng.normal(0, sd, size)
        for sd, size in zip(sds, ((shape[0], 1), (1, shape[1]), shape), strict=True)
    )
    return 0.1 + a + b + e


def known(found: Interval | Unknown) -> Interval:
    assert isinstance(found, Interval), found
    return found


def why(found: Interval | Unknown) -> str:
    assert isinstance(found, Unknown), found
    return found.reason


def test_other_seeds_is_scipys_paired_t_test_of_the_seeds_means() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(30, 2, (5, 7)), rng.normal(30, 2, (5, 7))
    expected = stats.ttest_rel(one.mean(axis=1), other.mean(axis=1))
    low, high = expected.confidence_interval(0.9)
    found = known(other_seeds(one - other, level=0.9))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert found.estimate / found.standard_error == pytest.approx(expected.statistic, rel=1e-10)
    assert (found.degrees_of_freedom, found.n_seeds, found.n_images) == (4, 5, 7)
    assert found.generalises_to == "other seeds, these images"


def test_other_images_is_scipys_paired_t_test_of_the_images() -> None:
    rng = np.random.default_rng(1)
    one, other = rng.normal(30, 2, (1, 12)), rng.normal(30, 2, (1, 12))
    low, high = stats.ttest_rel(one[0], other[0]).confidence_interval(0.95)
    found = known(other_images(one - other))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert found.generalises_to == "other images, these weights"


def test_a_prior_moderates_the_seeds_variance_and_adds_its_degrees_of_freedom() -> None:
    table = drawn(2, (3, 5), (0.03, 0.05, 0.02))
    own = table.mean(axis=1).var(ddof=1)
    error = math.sqrt((4 * 0.0009 + 2 * own) / 6 / 3)
    low, high = stats.t.interval(0.95, 6, table.mean(), error)
    found = known(other_seeds(table, prior=PRIOR))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert found.degrees_of_freedom == 6


def test_with_a_prior_one_seed_is_enough() -> None:
    low, high = stats.t.interval(0.95, 4, 0.2, 0.03)
    found = known(other_seeds([[0.1, 0.3]], prior=PRIOR))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-10)
    assert known(other_seeds_and_images([[0.1, 0.3]], prior=PRIOR)).standard_error > 0.03


def test_the_variance_of_seeds_and_images_is_that_of_statsmodels_mixed_model() -> None:
    """REML, in a balanced layout whose estimates are positive, equals the analysis of variance."""
    table = drawn(3, (6, 8), (0.03, 0.05, 0.02))
    rows = pd.DataFrame(
        [(s, i, 20 * table[s, i]) for s in range(6) for i in range(8)], columns=["s", "i", "d"]
    )
    fitted = MixedLM.from_formula(
        "d ~ 1", rows, groups=np.ones(48), vc_formula={"s": "0 + C(s)", "i": "0 + C(i)"}
    ).fit(reml=True, method="powell", ftol=1e-12, xtol=1e-10)
    found = known(other_seeds_and_images(table))
    assert found.standard_error == pytest.approx(float(fitted.bse["Intercept"]) / 20, rel=1e-6)
    squares = mean_squares(table)
    components = ((squares.images - squares.rest) / 6, (squares.seeds - squares.rest) / 8)
    assert components == pytest.approx(fitted.vcomp / 400, rel=1e-5)
    assert squares.rest == pytest.approx(fitted.scale / 400, rel=1e-6)


def test_the_mean_squares_add_up_to_the_sum_of_squares() -> None:
    table = drawn(4, (4, 5), (1, 2, 3))
    squares = mean_squares(table)
    total = 3 * squares.seeds + 4 * squares.images + 12 * squares.rest
    assert total == pytest.approx(((table - table.mean()) ** 2).sum(), rel=1e-12)


def test_from_seven_seeds_on_the_degrees_of_freedom_are_satterthwaites() -> None:
    table = drawn(5, (7, 6), (0.03, 0.05, 0.02))
    squares = mean_squares(table)
    total = squares.seeds + squares.images - squares.rest
    parts = squares.seeds**2 / 6 + squares.images**2 / 5 + squares.rest**2 / 30
    found = known(other_seeds_and_images(table))
    assert found.degrees_of_freedom == pytest.approx(total**2 / parts, rel=1e-10)
    assert found.standard_error == pytest.approx(math.sqrt(total / 42), rel=1e-10)
    assert found.parts == ()


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
def test_with_fewer_seeds_the_squares_of_both_half_widths_add_up(level: float) -> None:
    table = drawn(6, (2, 30), (0.03, 0.05, 0.02))
    squares = mean_squares(table)
    of_seeds = stats.t.ppf((1 + level) / 2, 1) ** 2 * squares.seeds
    of_images = stats.t.ppf((1 + level) / 2, 29) ** 2 * (squares.images - squares.rest)
    found = known(other_seeds_and_images(table, level=level))
    half = math.sqrt((of_seeds + of_images) / 60)
    assert (found.low, found.high) == pytest.approx((table.mean() - half, table.mean() + half))
    assert 1 < found.degrees_of_freedom < 29
    t = stats.t.ppf((1 + level) / 2, found.degrees_of_freedom)
    assert t * found.standard_error == pytest.approx(half, rel=1e-6)


def test_images_that_vary_by_no_more_than_the_rest_add_nothing() -> None:
    table = np.array([[0.1, 0.9, 0.3, 0.6], [0.8, 0.2, 0.7, 0.31], [0.4, 0.3, 0.2, 0.5]])
    squares = mean_squares(table)
    assert squares.images < squares.rest
    both, seeds = known(other_seeds_and_images(table)), known(other_seeds(table))
    assert (both.low, both.high) == pytest.approx((seeds.low, seeds.high))


def test_more_sources_of_variation_make_no_interval_narrower() -> None:
    for seed in range(20):
        table = drawn(seed, (4, 5), (0.03, 0.05, 0.02))
        both = known(other_seeds_and_images(table)).standard_error
        assert both >= known(other_seeds(table)).standard_error
        assert both >= 0.99 * math.sqrt(mean_squares(table).rest / 20)


def test_one_seed_and_no_pool_is_not_a_number() -> None:
    for estimate in (other_seeds, other_seeds_and_images):
        assert why(estimate([[0.1, 0.2, 0.4]])).startswith("one seed: ")
    assert known(other_images([[0.1, 0.2, 0.4]])).n_seeds == 1


def test_one_image_says_nothing_about_others() -> None:
    table = [[0.1], [0.2], [0.4]]
    for estimate in (other_images, other_seeds_and_images):
        assert why(estimate(table)).startswith("one image: ")
    assert known(other_seeds(table)).n_images == 1


@pytest.mark.parametrize("estimate", ALL)
@pytest.mark.parametrize("value", [0.0, 0.25, -3.5])
def test_equal_differences_are_no_certainty(estimate: object, value: float) -> None:
    for prior in ({}, {"prior": PRIOR}) if estimate is not other_images else ({},):
        assert why(estimate(np.full((3, 4), value), **prior)).startswith("all 12 differences equal")  # type: ignore[operator]


def test_differences_that_vary_by_rounding_alone_are_equal() -> None:
    noise = np.random.default_rng(7).normal(0, 1e-14, (3, 5))
    assert "differences equal" in why(other_seeds(noise))


def test_seeds_whose_means_are_equal_are_no_certainty() -> None:
    table = [[0.1, 0.3], [0.3, 0.1]]
    for estimate in (other_seeds, other_seeds_and_images):
        assert "equal means" in why(estimate(table))
    assert known(other_seeds(table, prior=PRIOR)).standard_error > 0
    assert "equal means" in why(other_images([[0.1, 0.1], [0.3, 0.3]]))
    assert "equal means" in why(other_seeds_and_images([[0.1, 0.1], [0.3, 0.3]]))


@pytest.mark.parametrize("estimate", ALL)
@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ([[0.1, math.nan], [0.2, 0.3]], "1 of 4 differences are missing"),
        ([[0.1, math.inf], [0.2, -math.inf]], "2 of 4 differences are infinite"),
        ([[0.1, 0.2], [0.3]], "the layout is incomplete"),
        (np.empty((0, 4)), "no differences"),
        (np.empty((3, 0)), "no differences"),
        ([[1e300, -1e300], [2e300, 1e299]], "too large"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_tables_give_a_sentence(estimate: object, table: object, sentence: str) -> None:
    assert sentence in why(estimate(table))  # type: ignore[operator]


def test_the_variance_that_a_pool_is_made_of_is_that_of_the_seeds_means() -> None:
    assert seed_variance([[1.0, 3.0], [3.0, 5.0]]) == (2.0, 1.0)
    variance, degrees = seed_variance([[1.0, 3.0]])
    assert math.isnan(variance)
    assert degrees == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"low": 2.0},
        {"estimate": math.nan},
        {"level": 1.0},
        {"n_seeds": -1},
        {"standard_error": -1.0},
        {"degrees_of_freedom": 0.0},
    ],
)
def test_an_interval_that_is_none_cannot_be_made(wrong: dict[str, float]) -> None:
    right = {
        "estimate": 0.0,
        "low": -1.0,
        "high": 1.0,
        "standard_error": 0.5,
        "degrees_of_freedom": 3.0,
        "level": 0.95,
        "n_seeds": 4,
        "n_images": 5,
        "generalises_to": "other seeds",
    }
    Interval(**right)  # type: ignore[arg-type]
    with pytest.raises(ValueError):
        Interval(**{**right, **wrong})  # type: ignore[arg-type]
