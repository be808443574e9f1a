from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from orchestrator.plan.gate import Gate
from orchestrator.regression.judging import judge, overall
from orchestrator.regression.looks import Look
from orchestrator.regression.measured import Judged, Measured
from orchestrator.statistics.interval import Unknown
from orchestrator.statistics.spending import share
from tests.asked import asked, ledger

GATE = Gate(baseline="layer_norm")
WORSE = (-0.31, -0.29, -0.30, -0.32, -0.28)
EQUAL = (0.01, -0.01, 0.02, 0.0, -0.015)
WIDE = (0.2, -0.25, -0.1, 0.05, -0.2)


def judged(measured: Measured, *nights: list[Measured]) -> Judged:
    """The verdict on a question after these nights."""
    (found,) = judge([measured], ledger(*nights), GATE)
    return found


def p_of(values: tuple[float, ...], limit: float = 0.0) -> float:
    return float(stats.ttest_1samp(values, limit, alternative="less").pvalue)


def noise(seed: int, mean: float = 0.0, seeds: int = 5) -> tuple[float, ...]:
    return tuple(np.random.default_rng(seed).normal(mean, 0.05, seeds).tolist())


def test_a_norm_that_is_surely_worse_fails() -> None:
    one = asked(WORSE)
    found = judged(one, [one])
    assert (found.verdict, found.look, found.window, found.missing) == ("fail", 1, 1, "")
    assert found.level == share(1, 0.05, 200)
    assert found.p_value == pytest.approx(p_of(WORSE))


def test_an_equal_norm_passes_and_what_is_not_known_is_undecided() -> None:
    equal, wide = asked(EQUAL), asked(WIDE)
    assert judged(equal, [equal]).verdict == "pass"
    found = judged(wide, [wide])
    assert found.verdict == "undecided"
    assert "more seeds" in found.missing


def test_surely_worse_by_surely_less_than_the_margin_passes() -> None:
    one = asked((-0.031, -0.03, -0.029, -0.0305, -0.03))
    found = judged(one, [one])
    assert found.p_value is not None
    assert found.p_value < found.level
    assert found.verdict == "pass"


def test_a_drop_of_exactly_the_margin_fails() -> None:
    one = asked((-0.095, -0.105, -0.1, -0.11, -0.09))
    assert judged(one, [one]).verdict == "fail"


def test_numbers_that_were_looked_at_before_have_the_same_verdict_on_every_later_night() -> None:
    nights = [[asked(noise(night, -0.05)), asked(noise(night, 0.1), "none")] for night in range(30)]
    then = [
        judge(night, ledger(*nights[: number + 1]), GATE) for number, night in enumerate(nights)
    ]
    looks = ledger(*nights, [asked(noise(99), "new"), asked(WORSE, "newer")])
    for night, verdicts in zip(nights, then, strict=True):
        assert repr(judge(night, looks, GATE)) == repr(verdicts)
    assert [one.look for verdicts in then for one in verdicts] == [
        number for number in range(1, 31) for _ in "ab"
    ]


def test_a_source_that_is_reverted_has_the_verdict_it_had() -> None:
    first, second = asked(EQUAL), asked(WORSE)
    assert judged(first, [first], [second], [first]) == judged(first, [first])
    assert judged(second, [first], [second], [first]) == judged(second, [first], [second])


def test_a_change_that_changes_no_bit_is_no_new_look() -> None:
    first, again = asked(WORSE), asked(WORSE, trials=("other", "trials"))
    found = judged(again, *([asked(noise(night))] for night in range(9)), [first], [again])
    assert (found.look, found.verdict) == (10, "fail")


def decaying() -> list[list[Measured]]:
    """40 nights of an equal norm, then 40 of one that is worse by less than seeds differ by."""
    made = []
    for night in range(80):
        values = 3 * np.array(noise(3000 + night, seeds=9)) - 0.1 * (night >= 40)
        made.append([asked(tuple(values.tolist()))])
    return made


def test_decay_that_no_night_shows_is_seen_over_many() -> None:
    nights = decaying()
    for night in nights:
        found = judge(night, [replace(ledger(night)[0], number=80)], GATE)  # without history
        assert found[0].verdict != "fail"
    (last,) = judge(nights[-1], ledger(*nights), GATE)
    assert (last.verdict, last.window) == ("fail", 27)


def test_with_another_setup_history_begins_anew_and_the_count_of_looks_does_not() -> None:
    nights = decaying()
    values = nights[-1][0].values
    assert isinstance(values, tuple)
    other = asked(values, setup="b")
    found = judged(other, *nights, [other])
    assert (found.verdict, found.look, found.window) == ("undecided", 81, 1)
    assert found.p_value == pytest.approx(p_of(values))


def test_a_seed_more_begins_the_history_anew_and_a_seed_less_keeps_it() -> None:
    nights = [[asked(noise(night, -0.04))] for night in range(9)]
    more = asked(noise(50, -0.04, seeds=6))
    assert judged(more, *nights, [more]).p_value == pytest.approx(p_of(noise(50, -0.04, 6)))
    fewer = asked(noise(50, -0.04)[1:], seeds=(1, 2, 3, 4))
    table = [noise(night, -0.04)[1:] for night in range(9)] + [noise(50, -0.04)[1:]]
    by_window = [p_of(tuple(np.mean(table[-window:], axis=0))) for window in (1, 3, 9)]
    found = judged(fewer, *nights, [fewer]).p_value
    assert found == pytest.approx(3 * min(by_window))


def test_the_questions_of_one_look_share_its_level_and_those_of_another_do_not() -> None:
    names = ("a", "b", "c")
    values = [(-0.05, -0.02, -0.09), (-0.3, -0.31, -0.295), (-0.2, -0.1, -0.3)]
    asked_of = [asked(numbers, name) for numbers, name in zip(values, names, strict=True)]
    alone = sorted((p_of(numbers), name) for numbers, name in zip(values, names, strict=True))
    expected, largest = {}, 0.0
    for place, (p, name) in enumerate(alone):
        largest = max(largest, (3 - place) * p)
        expected[name] = min(1.0, largest)
    found = judge(asked_of, ledger(asked_of), GATE)
    assert {one.measured.key.norm: one.p_value for one in found} == pytest.approx(expected)
    one_by_one = judge(asked_of, ledger(*([one] for one in asked_of)), GATE)
    assert [one.p_value for one in one_by_one] == pytest.approx([p_of(one) for one in values])
    assert [one.look for one in one_by_one] == [1, 2, 3]


def test_a_norm_that_turns_up_later_is_judged_at_the_look_it_turns_up_at() -> None:
    old = [[asked(noise(night))] for night in range(12)]
    new = asked(WORSE, "brand_new")
    found = judged(new, *old, [new])
    assert (found.look, found.level, found.window) == (13, share(13, 0.05, 200), 1)
    assert found.p_value == pytest.approx(p_of(WORSE))


@pytest.mark.parametrize("verdict", ["pass", "fail", "undecided"])
def test_exact_verdicts_stand_and_spend_nothing(verdict: str) -> None:
    exact = asked(
        Unknown("no noise"), "same", exact=verdict, said="could not be trained: no module"
    )
    noisy = asked(WORSE)
    both = judge([exact, noisy], ledger([exact, noisy]), GATE)
    assert both[1] == judged(noisy, [noisy])
    assert (both[0].verdict, both[0].look, both[0].level, both[0].p_value) == (
        verdict,
        0,
        0.0,
        None,
    )
    assert both[0].missing == (exact.said if verdict == "undecided" else "")


def test_scores_that_are_the_same_to_the_bit_pass() -> None:
    for seeds in (1, 3):
        same = asked((0.0,) * seeds)
        assert judged(same, [same]).verdict == "pass"
    strict = asked((0.0, 0.0), pass_above=0.01, fail_below=0.01)
    assert judged(strict, [strict]).verdict == "undecided"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((-0.3,), "1 more seed: one alone does not show how much seeds differ"),
        ((-0.3, -0.3, -0.3), "all 3 seeds have the value -0.3"),
        ((-0.3, -math.inf, 0.1), "1 of 3 seeds have an infinite value"),
        ((math.inf, math.inf), "2 of 2 seeds have an infinite value"),
        ((-0.3, 1e200), "too large to compute with"),
        (Unknown("the torch versions differ: 2.12 and 2.13"), "the torch versions differ"),
    ],
)
def test_what_cannot_be_tested_is_undecided_and_says_why(
    values: tuple[float, ...] | Unknown, said: str
) -> None:
    interval = Unknown("no interval")
    one = asked(values) if isinstance(values, Unknown) else asked((0.1, 0.2), interval=interval)
    if not isinstance(values, Unknown):
        one = replace(one, values=values, seeds=tuple(range(len(values))))
    found = judged(one, [one], [asked(WORSE, "other")])
    assert (found.verdict, found.look, found.level, found.window) == ("undecided", 0, 0.0, 0)
    assert found.p_value is None
    assert said in found.missing


def test_an_interval_that_is_unknown_is_undecided_unless_the_alarm_is_sure() -> None:
    unknown = Unknown("one image: nothing tells how much other images would differ")
    for values, verdict in ((EQUAL, "undecided"), (WORSE, "fail")):
        one = asked(values, interval=unknown)
        found = judged(one, [one])
        assert found.verdict == verdict
        assert found.missing == (unknown.reason if verdict == "undecided" else "")


def test_an_undecided_question_says_how_many_seeds_would_show_that_it_passes() -> None:
    values = (0.05, -0.12, 0.08)
    one = asked(values)
    distance, spread = np.mean(values) + 0.1, np.std(values, ddof=1)

    def power(seeds: int) -> float:
        critical = stats.t.ppf(0.975, seeds - 1)
        return float(stats.nct.sf(critical, seeds - 1, distance / spread * math.sqrt(seeds)))

    needed = next(seeds for seeds in range(2, 99) if power(seeds) >= 0.8)
    found = judged(one, [one])
    assert found.missing.startswith(f"{needed - 3} more seeds ({needed} in all) would decide it")


def test_an_undecided_question_says_how_many_seeds_would_show_that_it_fails() -> None:
    values = (-0.5, -0.12, -0.31)
    one = asked(values)
    nights = [[asked(noise(night))] for night in range(5)]
    level = share(7, 0.05, 200)

    def power(seeds: int) -> float:
        shift = -np.mean(values) / np.std(values, ddof=1) * math.sqrt(seeds)
        return float(stats.nct.sf(stats.t.isf(level, seeds - 1), seeds - 1, shift))

    needed = next(seeds for seeds in range(2, 99) if power(seeds) >= 0.8)
    found = judged(one, *nights, [one])
    assert found.missing.startswith(f"{needed - 3} more seeds ({needed} in all) would decide it")


def test_where_no_number_of_seeds_is_known_it_is_said_why() -> None:
    at_limit = asked((-2e-5, 2e-5, 0.0), pass_above=0.0)
    found = judged(at_limit, [at_limit])
    assert found.missing == "more seeds, how many is not known: the value is at the limit itself"
    hopeless = asked((-50.0, 50.0, 1e-3), pass_above=0.0)
    assert "more seeds, how many is not known: 1000 seeds" in judged(hopeless, [hopeless]).missing


def test_numbers_that_were_never_recorded_are_our_mistake() -> None:
    with pytest.raises(ValueError, match="in no look"):
        judge([asked(WORSE)], ledger([asked(EQUAL)]), GATE)


def test_a_night_fails_if_one_question_does_and_passes_only_if_all_do() -> None:
    fails, passes, open_ = asked(WORSE, "a"), asked(EQUAL, "b"), asked(WIDE, "c")
    strict = Gate(baseline="layer_norm", undecided="fails")
    for measured, verdict, strictly in (
        ([passes], "pass", "pass"),
        ([passes, open_], "undecided", "fail"),
        ([passes, open_, fails], "fail", "fail"),
        ([], "undecided", "undecided"),
    ):
        found = judge(measured, ledger(measured), GATE)
        assert (overall(found, GATE), overall(found, strict)) == (verdict, strictly)


def test_a_ledger_is_a_plain_value() -> None:
    (look,) = ledger([asked(EQUAL)])
    assert look == Look(1, "2026-01-01", dict(look.answers))
