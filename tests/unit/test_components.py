from __future__ import annotations

import csv
import io
import math

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.formula.api import ols
from statsmodels.regression.mixed_linear_model import MixedLM
from statsmodels.stats.anova import anova_lm

from benchmarks.calibration_growth import component_cases
from orchestrator.statistics.components import (
    COLUMNS,
    NAMES,
    Component,
    as_rows,
    modified_large_sample,
    variance_components,
)
from orchestrator.statistics.interval import Interval, Unknown

# Houf & Berman (1988), as printed in SAS/STAT 14.2, example 123.2: thermal performance of 10 parts,
# measured by 3 operators, 3 times each. A line is a part: the first operator's three, and so on.
HOUF = """
37 38 37  41 41 40  41 42 41
42 41 43  42 42 42  43 42 43
30 31 31  31 31 31  29 30 28
42 43 42  43 43 43  42 42 42
28 30 29  29 30 29  31 29 29
42 42 43  45 45 45  44 46 45
25 26 27  28 28 30  29 27 27
40 40 40  43 42 42  43 43 41
25 25 25  27 29 28  26 26 26
35 34 34  35 35 34  35 34 35
"""

# Montgomery, Design and Analysis of Experiments, gauge example: 20 parts, 3 operators, twice each.
MONTGOMERY = """
21 20 20 20 19 21
24 23 24 24 23 24
20 21 19 21 20 22
27 27 28 26 27 28
19 18 19 18 18 21
23 21 24 21 23 22
22 21 22 24 22 20
19 17 18 20 19 18
24 23 25 23 24 24
25 23 26 25 24 25
21 20 20 20 21 20
18 19 17 19 18 19
23 25 25 25 25 25
24 24 23 25 24 25
29 30 30 28 31 30
26 26 25 26 25 27
20 20 19 20 20 20
19 21 19 19 21 23
25 26 25 24 25 25
19 19 18 17 19 17
"""


def measured(text: str, parts: int, repeats: int) -> NDArray[np.float64]:
    """Operators stand for seeds and parts for images."""
    table = np.array(text.split(), dtype=np.float64).reshape(parts, 3, repeats)
    return table.transpose(1, 0, 2)


def lines_of(scores: object) -> dict[str, Component]:
    found = variance_components(scores)  # type: ignore[arg-type]
    assert not isinstance(found, Unknown)
    assert tuple(line.name for line in found) == NAMES
    return {line.name: line for line in found}


def interval_of(line: Component) -> Interval:
    assert isinstance(line.variance, Interval)
    return line.variance


def estimates(scores: object) -> list[float]:
    return [interval_of(line).estimate for line in lines_of(scores).values()]


def drawn(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    dice = np.random.default_rng(7)
    return (
        30.0
        + 0.5 * dice.standard_normal((shape[0], 1, 1))
        + 2.0 * dice.standard_normal((1, shape[1], 1))
        + 0.4 * dice.standard_normal((*shape[:2], 1))
        + 0.2 * dice.standard_normal(shape)
    )


def as_frame(scores: NDArray[np.float64]) -> pd.DataFrame:
    rows = [(*index, value) for index, value in np.ndenumerate(scores)]
    flat = [(index[0], index[1], value) for *index, value in rows]
    return pd.DataFrame(flat, columns=["seed", "image", "score"])


def test_montgomerys_gauge_has_his_mean_squares_and_a_negative_component() -> None:
    lines = lines_of(measured(MONTGOMERY, 20, 2))
    squares = [lines[name].mean_square for name in ("image", "seed", "seed x image", "rest")]
    assert squares == pytest.approx([62.391, 1.308, 0.712, 0.992], abs=6e-4)
    estimated = {name: interval_of(line).estimate for name, line in lines.items()}
    assert estimated["image"] == pytest.approx(10.2798, abs=1e-4)
    assert estimated["seed"] == pytest.approx(0.0149, abs=1e-4)
    assert estimated["seed x image"] == pytest.approx(-0.1399, abs=1e-4)
    assert estimated["rest"] == pytest.approx(0.9917, abs=1e-4)
    assert lines["seed x image"].note == "below 0: consistent with 0"


def test_mean_squares_are_those_of_statsmodels_analysis_of_variance() -> None:
    for scores in (measured(HOUF, 10, 3), measured(MONTGOMERY, 20, 2), drawn((3, 6, 2))):
        table = anova_lm(ols("score ~ C(seed) * C(image)", as_frame(scores)).fit(), typ=2)
        known = (table["sum_sq"] / table["df"]).tolist()
        found = [line.mean_square for line in lines_of(scores).values()]
        assert found == pytest.approx(known, rel=1e-9)


def test_estimates_are_those_of_statsmodels_restricted_likelihood_where_all_are_positive() -> None:
    scores = measured(HOUF, 10, 3)
    frame = as_frame(scores).assign(whole=1)
    model = MixedLM.from_formula(
        "score ~ 1",
        frame,
        groups="whole",
        re_formula="0",
        vc_formula={
            "a seed": "0 + C(seed)",
            "b image": "0 + C(image)",
            "c both": "0 + C(seed):C(image)",
        },
    )
    known = model.fit(reml=True)
    assert estimates(scores) == pytest.approx([*known.vcomp, known.scale], rel=2e-3)


def test_without_repeats_the_interaction_is_part_of_the_rest_and_says_so() -> None:
    scores = drawn((3, 8, 1))[:, :, 0]
    lines = lines_of(scores)
    assert isinstance(lines["seed x image"].variance, Unknown)
    assert "one score per seed and image" in lines["seed x image"].note
    assert lines["rest"].note == "contains seed x image"
    table = anova_lm(ols("score ~ C(seed) + C(image)", as_frame(scores)).fit(), typ=2)
    seed, image, rest = table["sum_sq"] / table["df"]
    assert interval_of(lines["rest"]).estimate == pytest.approx(rest)
    assert interval_of(lines["seed"]).estimate == pytest.approx((seed - rest) / 8)
    assert interval_of(lines["image"]).estimate == pytest.approx((image - rest) / 3)


def test_the_rest_has_the_interval_of_chi_square() -> None:
    rest = interval_of(lines_of(measured(HOUF, 10, 3))["rest"])
    low, high = 60 * rest.estimate / stats.chi2.ppf([0.975, 0.025], 60)
    assert (rest.low, rest.high) == pytest.approx((low, high))
    assert rest.degrees_of_freedom == 60


def test_an_interval_holds_0_exactly_if_the_f_test_does_not_reject_it() -> None:
    for n in (1, 2, 4, 9, 30):
        for m in (1, 2, 9, 99, 400):
            for q, limit in ((0.025, 0), (0.975, 1)):
                edge = float(stats.f.isf(q, n, m))
                for ratio in (edge * 0.999, edge * 1.001):
                    found = modified_large_sample(ratio, n, 1.0, m)[limit]
                    assert (found > 0) == (ratio > edge), (n, m, ratio)


def test_without_a_second_mean_square_the_interval_is_chi_squares() -> None:
    low, high = modified_large_sample(2.0, 9, 1e-12, 9)
    known = 9 * 2.0 / stats.chi2.ppf([0.975, 0.025], 9)
    assert (low, high) == pytest.approx(tuple(known))


def test_a_component_that_is_there_is_above_0_and_has_no_note() -> None:
    lines = lines_of(measured(HOUF, 10, 3))
    assert interval_of(lines["image"]).low > 0
    assert lines["image"].note == ""
    weak = lines_of(measured(MONTGOMERY, 20, 2))["seed"]
    assert interval_of(weak).estimate > 0 > interval_of(weak).low
    assert weak.note == "consistent with 0"


def test_a_component_far_below_0_doubts_the_model() -> None:
    """Each image's scores sum to the same: seeds that compete are not independent."""
    dice = np.random.default_rng(0)
    scores = dice.standard_normal((4, 60))
    line = lines_of(scores - scores.mean(axis=0))["image"]
    assert interval_of(line).high < 0
    assert "may not be independent" in line.note


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((0, 5), "no seed: its variance cannot be estimated"),
        ((1, 5), "one seed: its variance cannot be estimated"),
        ((3, 1), "one image: its variance cannot be estimated"),
        ((3, 0), "no image: its variance cannot be estimated"),
        ((3, 5, 0), "no repeat: its variance cannot be estimated"),
    ],
)
def test_one_seed_or_one_image_is_a_sentence(shape: tuple[int, ...], reason: str) -> None:
    assert variance_components(np.ones(shape)) == Unknown(reason)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_a_sentence_with_its_place(bad: float) -> None:
    scores = drawn((3, 5, 2))
    scores[1, 4, 0] = bad
    found = variance_components(scores)
    assert isinstance(found, Unknown)
    assert found.reason == "scores that are not finite: 1, the first of seed 1 and image 4"


@pytest.mark.parametrize("value", [0.0, 31.7])
def test_equal_scores_everywhere_are_a_sentence(value: float) -> None:
    found = variance_components(np.full((3, 5, 2), value))
    assert isinstance(found, Unknown)
    assert "all scores are equal" in found.reason


def test_seeds_with_equal_scores_leave_no_rest_and_no_traceback() -> None:
    lines = lines_of(np.tile(np.arange(5.0), (3, 1)))
    assert interval_of(lines["rest"]).high == 0
    assert interval_of(lines["seed"]).estimate == 0
    assert lines["seed"].note == "consistent with 0"


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="1 axes"):
        variance_components([1.0, 2.0])


def test_the_table_is_a_csv_with_an_empty_cell_where_there_is_no_number() -> None:
    found = variance_components(drawn((3, 8, 1)))
    assert not isinstance(found, Unknown)
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS)
    writer.writeheader()
    writer.writerows(as_rows(found))
    rows = list(csv.DictReader(io.StringIO(file.getvalue())))
    assert [row["component"] for row in rows] == list(NAMES)
    assert [row["variance"] == "" for row in rows] == [False, False, True, False]
    assert float(rows[0]["low"]) == interval_of(found[0]).low
    assert all(row["note"] or row["low"] for row in rows)


@pytest.mark.parametrize(
    ("shape", "variances"),
    [
        ((2, 5, 2), (0.01, 4.0, 0.02, 0.01)),
        ((3, 24, 1), (0.0, 4.0, 0.002, 0.001)),
        ((5, 30, 2), (1.0, 1.0, 1.0, 1.0)),
    ],
)
def test_95_of_100_intervals_hold_the_variance(
    shape: tuple[int, int, int], variances: tuple[float, float, float, float]
) -> None:
    """600 cases: 95 % is known to 1.8 (2 sd)."""
    held = component_cases(np.random.default_rng(8), 600, shape=shape, variances=variances)
    assert all(0.93 <= share <= 0.98 for share in held if not math.isnan(share))
