"""The guard decides whether a trial has diverged: by loss, features, and what other ranks saw."""

from __future__ import annotations

import math

import pytest

from trainers.guard import Guard


def guard(limit: float | None = None, *, others_agree: bool = True) -> Guard:
    return Guard(limit, lambda holds: holds and others_agree)


@pytest.mark.parametrize(
    ("loss", "sound"), [(0.1, True), (1e30, True), (math.nan, False), (math.inf, False)]
)
def test_a_loss_that_is_not_finite_is_divergence(loss: float, sound: bool) -> None:
    found = guard()
    found.check_loss(loss, overflowed=False)
    assert found.sound == sound


def test_a_step_left_out_for_its_gradients_is_divergence() -> None:
    found = guard()
    found.check_loss(0.1, overflowed=True)
    assert not found.sound


@pytest.mark.parametrize(
    ("limit", "value", "sound"),
    [
        (None, 1e300, True),
        (None, math.nan, False),
        (None, math.inf, False),
        (5.0, 5.0, True),
        (5.0, 5.1, False),
        (5.0, math.nan, False),
    ],
)
def test_features_are_finite_and_within_the_limit(
    limit: float | None, value: float, sound: bool
) -> None:
    found = guard(limit)
    found.check_features([1.0, value])
    assert found.sound == sound


def test_what_one_rank_sees_is_seen_by_all() -> None:
    found = guard(others_agree=False)
    found.check_features([1.0])
    assert not found.sound


def test_a_trial_that_has_diverged_stays_so() -> None:
    found = guard(5.0)
    found.check_features([6.0])
    found.check_features([1.0])
    found.check_loss(0.1, overflowed=False)
    assert not found.sound


def test_every_rank_is_asked_also_once_the_trial_has_diverged() -> None:
    asked = []
    found = Guard(None, lambda holds: asked.append(holds) or holds)
    found.check_loss(math.nan, overflowed=False)
    found.check_features([1.0])
    assert asked == [True], "a rank that does not ask leaves the others waiting"
    assert not found.sound


def test_what_was_seen_names_the_first_group_of_layers() -> None:
    found = guard(5.0)
    found.check_features([1.0, 5.0])
    found.check_loss(0.1, overflowed=False)
    assert found.why == ""
    found.check_features([1.0, 6.0, 70.0])
    assert found.why == "mean square of features in group_1 is 6, above 5"
    found = guard()
    found.check_loss(math.nan, overflowed=False)
    found.check_features([1.0, math.inf, math.nan])
    assert found.why == "the loss is nan; features are not finite from group_1 on"
    found = guard(others_agree=False)
    found.check_features([1.0])
    assert found.why == "features are out of range on another rank"
