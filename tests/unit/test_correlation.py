"""Correlations of the largest feature with model size, and the intervals they come with."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from orchestrator.plan.axes import axes_named
from orchestrator.report.correlation import (
    Correlation,
    as_frame,
    correlations,
    divergence,
    max_over_groups,
)
from orchestrator.report.frame import Frame
from orchestrator.statistics.correlation import spearman


def frame_of(
    curves: dict[tuple[str, int, int], dict[int, tuple[float, ...]]],
    states: dict[Any, str] | None = None,
) -> Frame:
    """A frame from the mean square of each group, by (norm, width, seed) and step.

    Trials are done unless `states` says otherwise.
    """
    trials, points = [], []
    for key, curve in curves.items():
        norm, width, seed = key
        axes = {
            "backbone": "swinir-tiny",
            "norm": norm,
            "task": "sr_x2",
            "width": width,
            "depth": 2,
            "seed": seed,
            "size": f"w{width} d2",
        }
        name = f"{norm}-{width}-{seed}"
        state = (states or {}).get(key, "done")
        trials.append(
            {"trial": name, **axes, "parameters": width * 100, "state": state, "step": max(curve)}
        )
        for step, groups in curve.items():
            points += [
                {
                    "trial": name,
                    **axes,
                    "metric": f"feature/mean_square/group_{i}",
                    "step": step,
                    "value": value,
                }
                for i, value in enumerate(groups)
            ]
    return Frame(pd.DataFrame(trials), pd.DataFrame(points))


def found_in(frame: Frame) -> tuple[Correlation, ...]:
    return correlations(frame, divergence(frame))


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


def test_the_trace_of_a_trial_is_its_largest_group() -> None:
    curve = max_over_groups(frame_of({("i_ln", 12, 0): {0: (1.0, 3.0), 10: (5.0, 2.0)}}))
    assert list(zip(curve["step"], curve["value"], strict=True)) == [(0, 3.0), (10, 5.0)]


def test_a_group_that_is_not_a_number_is_not_hidden_by_the_others() -> None:
    curve = max_over_groups(frame_of({("i_ln", 12, 0): {0: (math.nan, 3.0)}}))
    assert curve["value"].isna().all()


def test_the_step_is_the_last_that_all_completed_trials_share() -> None:
    rows = divergence(
        frame_of(
            {
                ("i_ln", 12, 0): {0: (1.0,), 10: (2.0,), 20: (3.0,)},
                ("i_ln", 24, 0): {0: (1.0,), 10: (4.0,)},
            }
        )
    )
    assert dict(zip(rows["width"], rows["value"], strict=True)) == {12: 2.0, 24: 4.0}
    assert set(rows["step"]) == {10}


def test_a_trial_that_diverged_before_the_step_counts_as_infinite() -> None:
    curves = {
        ("i_ln", 12, 0): {0: (1.0,), 20: (3.0,)},
        ("i_ln", 24, 0): {0: (1.0,), 10: (math.nan,)},
    }
    rows = divergence(frame_of(curves, {("i_ln", 24, 0): "diverged"}))
    assert dict(zip(rows["width"], rows["value"], strict=True)) == {12: 3.0, 24: math.inf}
    assert set(rows["step"]) == {20}


def test_trials_under_way_are_left_out_once_any_has_ended() -> None:
    curves = {("i_ln", 12, 0): {0: (1.0,), 20: (3.0,)}, ("i_ln", 24, 0): {0: (1.0,)}}
    rows = divergence(frame_of(curves, {("i_ln", 24, 0): "running"}))
    assert list(rows["width"]) == [12]


def test_trials_under_way_are_compared_while_none_has_ended() -> None:
    curves = {("i_ln", 12, 0): {0: (1.0,), 20: (3.0,)}, ("i_ln", 24, 0): {0: (1.5,)}}
    rows = divergence(frame_of(curves, dict.fromkeys(curves, "running")))
    assert dict(zip(rows["width"], rows["value"], strict=True)) == {12: 1.0, 24: 1.5}


def test_n_counts_sizes_and_not_seeds() -> None:
    curves = {
        ("i_ln", width, seed): {10: (float(width + seed),)}
        for width, seed in product((12, 24, 36, 48), (0, 1, 2))
    }
    found = found_in(frame_of(curves))
    assert {line.rank.n for line in found} == {4}


def with_axis(frames: dict[Any, Frame], name: str) -> Frame:
    """Join frames into one, told apart by an axis."""
    trials, points = (
        pd.concat(
            [
                getattr(frame, table).assign(
                    **{name: label}, trial=lambda rows, at=label: rows["trial"] + f"-{at}"
                )
                for label, frame in frames.items()
            ]
        )
        for table in ("trials", "points")
    )
    return Frame(trials, points, axes=axes_named([name]))


def test_sizes_are_correlated_within_every_value_of_a_recipe_axis() -> None:
    rising = {
        ("i_ln", width, seed): {10: (float(width),)}
        for width in (12, 24, 36, 48)
        for seed in (0, 1)
    }
    falling = {key: {10: (1 / key[1],)} for key in rising}
    frame = with_axis({1e-4: frame_of(rising), "none": frame_of(falling)}, "clip_grad_norm")
    found = {(line.labels["clip_grad_norm"], line.measure): line.rank for line in found_in(frame)}
    assert {key: (rank.rho, rank.n) for key, rank in found.items()} == {
        (1e-4, "parameters"): (1.0, 4),
        (1e-4, "width"): (1.0, 4),
        ("none", "parameters"): (-1.0, 4),
        ("none", "width"): (-1.0, 4),
    }
    assert list(as_frame(frame, found_in(frame)).columns)[:5] == [
        "backbone",
        "task",
        "norm",
        "clip_grad_norm",
        "measure",
    ]


def test_trials_of_other_lengths_are_compared_each_at_their_own_step() -> None:
    short = {("i_ln", width, 0): {10: (float(width),)} for width in (12, 24)}
    long = {("i_ln", width, 0): {10: (float(width),), 20: (2.0 * width,)} for width in (12, 24)}
    rows = divergence(with_axis({10: frame_of(short), 20: frame_of(long)}, "steps"))
    assert dict(
        zip(zip(rows["steps"], rows["width"], strict=True), rows["value"], strict=True)
    ) == {
        (10, 12): 12.0,
        (10, 24): 24.0,
        (20, 12): 24.0,
        (20, 24): 48.0,
    }


def test_growth_is_the_ratio_between_the_largest_and_the_smallest_size() -> None:
    found = found_in(
        frame_of({("i_ln", width, 0): {10: (value,)} for width, value in ((24, 6.0), (12, 2.0))})
    )
    by_measure = {line.measure: line for line in found}
    assert by_measure["width"].growth == pytest.approx(3.0)
    assert (by_measure["width"].smallest, by_measure["width"].largest) == (12, 24)


def test_only_what_varies_is_correlated() -> None:
    found = found_in(frame_of({("i_ln", width, 0): {10: (1.0,)} for width in (12, 24)}))
    assert {line.measure for line in found} == {"parameters", "width"}


def test_a_store_without_traces_has_no_correlations() -> None:
    frame = frame_of({("i_ln", 12, 0): {0: (1.0,)}})
    empty = Frame(frame.trials, frame.points.iloc[:0])
    assert found_in(empty) == ()
    assert list(as_frame(empty, ()).columns)[:3] == ["backbone", "task", "norm"]
