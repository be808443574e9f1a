from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.multiplicity import best_set, holm


def pair(estimate: float, error: float = 0.01, degrees: float = 8) -> Interval:
    half = error * float(stats.t.ppf(0.975, degrees))
    return Interval(
        estimate, estimate - half, estimate + half, error, degrees, 0.95, 9, 5, "other seeds"
    )


def pairs(means: dict[str, float]) -> dict[tuple[str, str], Interval | Unknown]:
    return {(a, b): pair(means[a] - means[b]) for a, b in itertools.combinations(means, 2)}


@pytest.mark.parametrize("seed", range(10))
def test_holm_is_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).uniform(0, 0.1, 12) ** 1.5
    assert holm(p.tolist()) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)


def test_holm_on_a_family_by_hand() -> None:
    """0.01 x 4, 0.0125 x 3 (smaller than the step before), 0.04 x 2, 0.9 x 1."""
    assert holm([0.04, 0.01, 0.9, 0.0125]) == pytest.approx((0.08, 0.04, 0.9, 0.04))


def test_holm_of_ties_and_of_nothing() -> None:
    assert holm([0.02, 0.02]) == (0.04, 0.04)
    assert holm([]) == ()


@pytest.mark.parametrize("p", [math.nan, -0.1, 1.1])
def test_what_is_no_p_value_is_refused(p: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        holm([0.1, p])


def test_what_is_surely_worse_is_left_out_and_the_rest_is_not() -> None:
    found = best_set(["a", "b", "c"], pairs({"a": 30.0, "b": 29.995, "c": 29.5}))
    assert found.members == ("a", "b")
    (worse,) = found.worse
    assert (worse.name, worse.than) == ("c", "a")
    assert worse.p_value < 1e-6


def test_the_best_can_be_the_lowest() -> None:
    means = {"a": 0.1, "b": 0.5}
    assert best_set(["a", "b"], pairs(means)).members == ("b",)
    assert best_set(["a", "b"], pairs(means), higher_is_better=False).members == ("a",)


def test_the_order_in_which_a_pair_stands_does_not_matter() -> None:
    means = {"a": 30.0, "b": 29.0, "c": 30.001}
    turned = pairs(dict(reversed(means.items())))
    assert best_set("abc", pairs(means)).members == best_set("abc", turned).members == ("a", "c")


def test_the_adjusted_p_value_is_bonferronis_within_a_norm_and_holms_over_them() -> None:
    differences = {("a", "b"): pair(0.03), ("a", "c"): pair(0.06), ("b", "c"): pair(0.03)}
    p_b, p_c = 2 * stats.t.sf(3, 8), 2 * stats.t.sf(6, 8)
    found = best_set("abc", differences, alpha=0.2)
    assert {one.name: one.p_value for one in found.worse} == pytest.approx(
        {"c": 3 * p_c, "b": 2 * p_b}
    )
    stricter = best_set("abc", differences, alpha=0.2, sets=4)
    assert {one.name: one.p_value for one in stricter.worse} == pytest.approx(
        {"c": 12 * p_c, "b": 8 * p_b}
    )


def test_a_pair_without_a_number_leaves_both_in_and_is_said() -> None:
    differences: dict[tuple[str, str], Interval | Unknown] = {("a", "b"): Unknown("one seed: x")}
    found = best_set("abc", {**differences, ("a", "c"): pair(1.0)})
    assert found.members == ("a", "b")
    assert found.unknown == (("a", "b", "one seed: x"), ("b", "c", "not compared"))


def test_one_norm_is_the_best_of_itself() -> None:
    assert best_set(["a"], {}).members == ("a",)
    assert best_set([], {}).members == ()


def test_of_equal_norms_none_is_left_out_more_often_than_promised() -> None:
    """Five equal norms, four seeds: 1,000 families, of which 5 % may leave any out."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(1000):
        scores = rng.normal(30, 0.03, (5, 4))
        differences: dict[tuple[str, str], Interval | Unknown] = {}
        for a, b in itertools.combinations(range(5), 2):
            d = scores[a] - scores[b]
            differences["abcde"[a], "abcde"[b]] = pair(
                float(d.mean()), float(d.std(ddof=1)) / 2, degrees=3
            )
        wrong += len(best_set("abcde", differences).members) < 5
    assert wrong / 1000 < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 1000)
    assert wrong > 0


def test_bonferroni_costs_what_the_docstring_says() -> None:
    """3 % with many degrees of freedom, 12 % at six for four norms and 25 % for nine."""
    limits = {(4, 6): 1.12, (9, 6): 1.26, (4, 2000): 1.03, (9, 2000): 1.035}
    for norms, degrees in limits:
        pairs_in_all = norms * (norms - 1) / 2
        ours = stats.t.isf(0.025 / pairs_in_all, degrees)
        tukey = stats.studentized_range.ppf(0.95, norms, degrees) / math.sqrt(2)
        assert 1 <= ours / tukey < limits[norms, degrees]


@pytest.mark.parametrize(
    ("names", "more"), [("aa", {}), ("ab", {"alpha": 0.0}), ("ab", {"sets": 0})]
)
def test_a_set_that_makes_no_sense_is_refused(names: str, more: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        best_set(names, {}, **more)  # type: ignore[arg-type]
