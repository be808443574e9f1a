"""Spearman's rank correlation, and the intervals that it comes with."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from orchestrator.statistics.correlation import spearman


def test_rho_equals_scipys() -> None:
    x, y = [1.0, 2, 3, 4, 5, 6, 7], [2.0, 1, 4, 3, 7, 5, 6]
    assert spearman(x, y).rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_the_interval_is_fishers_z_with_bonett_and_wrights_error() -> None:
    x, y = list(range(10)), [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
    rank = spearman(x, y)
    assert rank.rho is not None
    half = 1.959963984540054 * math.sqrt((1 + rank.rho**2 / 2) / 7)
    assert rank.low == pytest.approx(math.tanh(math.atanh(rank.rho) - half))
    assert rank.high == pytest.approx(math.tanh(math.atanh(rank.rho) + half))


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_pairs_give_words_instead_of_a_number(n: int) -> None:
    rank = spearman(list(range(n)), list(range(n)))
    assert rank.rho is None
    assert str(rank) == f"n = {n}: no correlation"


def test_two_distinct_sizes_give_no_correlation_however_many_pairs() -> None:
    rank = spearman([1, 1, 1, 2, 2, 2], [1, 2, 3, 4, 5, 6])
    assert rank.rho is None
    assert "2 distinct values" in rank.note


def test_three_pairs_give_no_interval() -> None:
    rank = spearman([1, 2, 3], [1, 2, 3])
    assert (rank.rho, rank.low, rank.high) == (1.0, None, None)
    assert "no interval" in str(rank)


def test_four_pairs_in_perfect_order_prove_nothing() -> None:
    rank = spearman([1, 2, 3, 4], [10, 20, 30, 40])
    assert rank.rho == 1.0
    assert rank.high == 1.0
    assert rank.low is not None
    assert rank.low < 0


@pytest.mark.parametrize("sign", [1, -1])
def test_the_interval_holds_rho(sign: int) -> None:
    for n in range(4, 40):
        rank = spearman(list(range(n)), [sign * value for value in range(n)])
        assert rank.low is not None
        assert rank.high is not None
        assert rank.rho is not None
        assert -1 <= rank.low <= rank.rho <= rank.high <= 1


def test_infinity_ranks_highest() -> None:
    assert spearman([1, 2, 3, 4], [1.0, 2.0, 3.0, math.inf]).rho == 1.0
