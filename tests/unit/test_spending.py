from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from orchestrator.statistics.spending import WINDOWS, drop, share, windows


@pytest.mark.parametrize("looks", [1, 7, 200])
@pytest.mark.parametrize("error_rate", [0.01, 0.05, 0.4])
def test_any_looks_in_a_row_spend_at_most_the_error_rate(looks: int, error_rate: float) -> None:
    shares = [share(number, error_rate, looks) for number in range(1, 1000 + looks)]
    for start in (0, 1, 10, 500):
        assert math.fsum(shares[start : start + looks]) <= error_rate
    assert math.fsum(shares[:looks]) > 0.8 * error_rate  # and little of it is wasted


def test_the_first_looks_have_the_most_and_all_at_least_half_of_an_even_share() -> None:
    shares = [share(number, 0.05, 200) for number in range(1, 1001)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.05 * (0.5 * 6 / math.pi**2 + 0.0025))
    assert shares[9] == pytest.approx(0.05 * (0.5 * 6 / math.pi**2 / 100 + 0.0025))
    assert min(shares) >= 0.05 / 200 / 2


@pytest.mark.parametrize(("look", "error_rate", "looks"), [(0, 0.05, 200), (1, 0, 200), (1, 1, 0)])
def test_a_share_of_nothing_is_an_error(look: int, error_rate: float, looks: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        share(look, error_rate, looks)


@pytest.mark.parametrize(("looks", "seeds"), [(1, 2), (2, 5), (3, 3), (30, 5), (200, 4)])
def test_a_drop_is_the_smallest_t_over_windows_times_their_number(looks: int, seeds: int) -> None:
    table = np.random.default_rng(looks).normal(-0.1, 0.2, (looks, seeds))
    filled = [window for window in WINDOWS if window <= looks]
    assert windows(looks) == tuple(filled)
    p_values = [
        stats.ttest_1samp(table[-window:].mean(axis=0), 0.03, alternative="less").pvalue
        for window in filled
    ]
    found = drop(table, 0.03)
    assert found.p_value == pytest.approx(min(1, len(filled) * min(p_values)), rel=1e-9)
    assert found.window == filled[int(np.argmin(p_values))]


def test_looks_that_repeat_the_same_numbers_make_nothing_surer() -> None:
    once = np.array([[-0.04, -0.01, -0.03]])
    alone = drop(once, 0.0).p_value
    for times in (3, 9, 81):
        again = drop(np.repeat(once, times, axis=0), 0.0)
        assert again.p_value == pytest.approx(len(windows(times)) * alone)


def test_slow_decay_that_no_look_shows_is_seen_in_a_long_window() -> None:
    rng = np.random.default_rng(5)
    table = rng.normal(-0.02, 0.05, (81, 8))
    assert drop(table[-1:], 0.0).p_value > 1e-3
    found = drop(table, 0.0)
    assert (found.p_value < 1e-4, found.window) == (True, 81)


def test_seeds_that_do_not_differ_are_no_evidence() -> None:
    assert drop([[-1.0, -1.0, -1.0]], 0.0).p_value == 1.0
    assert drop([[-1.0, -1.0 - 1e-13]], 0.0).p_value == 1.0


@pytest.mark.parametrize("looks", [[], [[0.1]], [0.1, 0.2], [[0.1, math.nan]], [[0.1, -math.inf]]])
def test_what_is_no_table_of_looks_is_an_error(looks: Sequence[object]) -> None:
    with pytest.raises(ValueError, match="looks"):
        drop(np.array(looks, dtype=float), 0.0)
