from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, optimize, stats

from orchestrator.statistics.interval import Unknown
from orchestrator.statistics.moderation import MOST_DEGREES, Prior, fitted, moderated, prior_from

# limma's own reference output, tests/limma-Tests.Rout.save (R 3.5.0), the example "Similar to Mette
# Langaas 19 May 2004": $sigma, $df.residual, and what eBayes prints for them.
SIGMA = np.array([1.3425032, 0.4647155, 1.1993444, 0.9428569, 0.9421509])
DEGREES = np.array([6.0, 6, 6, 6, 4])
S2_PRIOR, DF_PRIOR = 0.923179, 9.306153
S2_POST = [1.2677996, 0.6459499, 1.1251558, 0.9097727, 0.9124980]
COEFFICIENTS, UNSCALED = (
    [3.537333, 4.355578, 3.197645, 2.697734, 3.502304],
    [0.8164966] * 4 + [1.1547005],
)
P_VALUES = [1.529450e-03, 7.144893e-06, 2.109270e-03, 3.381970e-03, 7.124839e-03]


def test_the_prior_is_limmas() -> None:
    variance, degrees = fitted(SIGMA**2, DEGREES)
    assert variance == pytest.approx(S2_PRIOR, rel=2e-6)
    assert degrees == pytest.approx(DF_PRIOR, rel=2e-6)


def test_the_posterior_variances_and_p_values_are_limmas() -> None:
    prior = Prior(S2_PRIOR, DF_PRIOR, DF_PRIOR, 28, 5)
    for sigma, degrees, posterior, coefficient, unscaled, p in zip(
        SIGMA, DEGREES, S2_POST, COEFFICIENTS, UNSCALED, P_VALUES, strict=True
    ):
        found = moderated(sigma**2, degrees, prior)
        assert found.variance == pytest.approx(posterior, rel=1e-6)
        t = coefficient / math.sqrt(found.variance) / unscaled
        assert 2 * stats.t.sf(t, found.degrees_of_freedom) == pytest.approx(p, rel=1e-4)


def test_the_prior_has_the_moments_of_the_log_variances() -> None:
    """s^2 / s_0^2 is F(d, d_0): mean and variance of its logarithm, integrated."""
    values = np.array([0.2, 1.1, 0.7, 3.0, 0.05, 0.9, 1.4, 0.3])
    s2, d0 = fitted(values, np.full(8, 2.0))

    def moment(power: int) -> float:
        density = stats.f(2, d0)
        return float(
            integrate.quad(
                lambda x: density.pdf(math.exp(x)) * math.exp(x) * x**power, -40, 40, limit=400
            )[0]
        )

    logs = np.log(values)
    assert logs.mean() == pytest.approx(math.log(s2) + moment(1), rel=1e-6)
    assert logs.var(ddof=1) == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-6)


def test_the_prior_is_near_that_of_greatest_likelihood_in_a_large_pool() -> None:
    rng = np.random.default_rng(0)
    true = 0.0009 * 8 / rng.chisquare(8, 20000)
    values = true * rng.chisquare(4, 20000) / 4

    def minus_log_likelihood(at: np.ndarray) -> float:
        s2, d0 = np.exp(at)
        return -float(np.sum(stats.f.logpdf(values / s2, 4, d0) - math.log(s2)))

    best = np.exp(
        optimize.minimize(minus_log_likelihood, np.log([0.001, 5.0]), method="Nelder-Mead").x
    )
    assert fitted(values, np.full(20000, 4.0)) == pytest.approx(tuple(best), rel=0.05)
    assert best == pytest.approx([0.0009, 8], rel=0.1)


def test_variances_that_differ_by_chance_alone_are_pooled() -> None:
    values = np.array([1.0, 1.1, 0.9, 1.05, 0.95])
    variance, degrees = fitted(values, np.full(5, 2.0))
    assert (variance, degrees) == (pytest.approx(1.0), math.inf)


def test_a_prior_counts_for_no_more_than_it_is_known() -> None:
    many = prior_from([1.0, 1.1, 0.9] * 20, [2.0] * 60)
    few = prior_from([1.0, 1.1, 0.9], [1.0] * 3)
    assert isinstance(many, Prior)
    assert isinstance(few, Prior)
    assert (many.estimated_degrees, many.degrees_of_freedom, many.n_cells) == (
        math.inf,
        MOST_DEGREES,
        60,
    )
    assert (few.pooled_degrees, few.degrees_of_freedom) == (3.0, 1.5)


def test_a_prior_of_cells_that_differ_counts_as_smyth_estimates_it() -> None:
    prior = prior_from([0.01, 1.0, 100.0, 0.1, 10.0, 1000.0], [10.0] * 6)
    assert isinstance(prior, Prior)
    assert prior.degrees_of_freedom == prior.estimated_degrees < 1


@pytest.mark.parametrize(
    ("variances", "sentence"),
    [
        ([], "0 other cells"),
        ([1.0], "1 other cells"),
        ([1.0, math.nan, 2.0], "1 of 3 variances"),
        ([1.0, math.inf, math.inf], "2 of 3 variances"),
        ([0.0, 0.0, 0.0, 1.0], "most of the 4 variances to pool are zero"),
    ],
)
def test_a_pool_that_says_nothing_gives_a_sentence(variances: list[float], sentence: str) -> None:
    found = prior_from(variances, [1.0] * len(variances))
    assert isinstance(found, Unknown)
    assert sentence in found.reason


def test_a_zero_among_the_variances_does_not_make_the_prior_zero() -> None:
    prior = prior_from([0.0, 1.0, 1.2, 0.8], [2.0] * 4)
    assert isinstance(prior, Prior)
    assert prior.variance > 0


def test_each_variance_needs_its_degrees_of_freedom() -> None:
    for degrees in ([1.0], [1.0, 0.0]):
        with pytest.raises(ValueError, match="degrees of freedom"):
            prior_from([1.0, 2.0], degrees)
