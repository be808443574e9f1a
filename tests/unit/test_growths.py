"""Growth of the features and its relation to size, from stores of a known truth."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.plan import Plan, Trial
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.growths import NormGrowth, NormTrend, growths, largest_groups, trends
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.store import open_store
from orchestrator.store.attempts import write_failure
from tests.sweeps import plan_of
from tests.written_growth import Curve, blown_up, power, write_curve, write_curves
from tests.written_store import write_attempt

SWEEP = """# Do features grow?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln]
  task: [sr_x2]
  width: [{widths}]
  depth: [1]
  seed: [{seeds}]
{more}data: {{evaluate: []}}
training: {{steps: 200, batch_size: 4, patch_size_px: 16}}
"""
SLOPES = {"layer_norm": 1.0, "i_ln": 0.0}


def planned(folder: Path, widths: str = "12", seeds: str = "0, 1, 2", more: str = "") -> Plan:
    return plan_of(folder, SWEEP.format(widths=widths, seeds=seeds, more=more))


def read(plan: Plan, folder: Path) -> Frame:
    return read_frame(plan, open_store(str(folder / "runs")))


def wobble(trial: Trial) -> float:
    """What the slope of a seed differs by."""
    return (-0.02, 0.01, 0.03, -0.01, 0.02)[trial.axes["seed"] % 5]


def as_usual(trial: Trial):
    return power(SLOPES[trial.axes["norm"]] + wobble(trial))


def write_diverged(folder: Path, plan: Plan, gone: list[Trial], curve: Curve, *, at: int) -> None:
    """Write trials without growth, but those that are `gone`: they diverged `at` a step."""
    store = open_store(str(folder / "runs"))
    for trial in plan.trials:
        if trial in gone:
            write_curve(store, trial, curve, outcome="diverged", until=at)
        else:
            write_curve(store, trial, power(0.0 + wobble(trial)))


def of(found: tuple[NormGrowth, ...], norm: str, size: str = "w12 d1") -> NormGrowth:
    (line,) = (line for line in found if (line.labels["norm"], line.size) == (norm, size))
    return line


def interval(found: Interval | Unknown) -> Interval:
    assert isinstance(found, Interval)
    return found


def test_a_norm_that_grows_and_one_that_does_not_are_told_apart(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    write_curves(open_store(str(tmp_path / "runs")), plan, as_usual)
    found = growths(read(plan, tmp_path))
    assert [(line.labels["norm"], line.growth.verdict) for line in found] == [
        ("layer_norm", "growing"),
        ("i_ln", "bounded"),
    ]
    grown = of(found, "layer_norm")
    slopes = [0.98, 1.01, 1.03]
    assert interval(grown.growth.slope).estimate == pytest.approx(sum(slopes) / 3)
    assert interval(grown.growth.log10_growth).estimate == pytest.approx(
        sum(slopes) / 3 * math.log10(200)
    )
    assert grown.trials == tuple(t.id for t in plan.trials if t.axes["norm"] == "layer_norm")
    assert grown.labels == {
        "backbone": "swinir-tiny",
        "norm": "layer_norm",
        "task": "sr_x2",
        "width": 12,
        "depth": 1,
    }


def test_the_largest_group_counts_and_not_the_first(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds="0")
    write_curve(open_store(str(tmp_path / "runs")), plan.trials[0], power(1.0), smaller=0.1)
    curve = largest_groups(read(plan, tmp_path))
    assert list(curve["value"][:3]) == [3.0, 30.0, 60.0]


def test_a_group_that_is_not_a_number_is_not_hidden_by_the_others(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds="0")
    write_curve(
        open_store(str(tmp_path / "runs")),
        plan.trials[0],
        power(1.0),
        extra={"feature/mean_square/group_2": math.nan},
    )
    assert set(largest_groups(read(plan, tmp_path))["value"]) == {math.inf}


def test_traces_are_the_same_whatever_the_order_of_the_points(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    write_curves(open_store(str(tmp_path / "runs")), plan, as_usual)
    frame = read(plan, tmp_path)
    at_some = frame.points.drop(frame.points.index[5::7])  # steps at which a group has no value
    traces = at_some[at_some["metric"].str.startswith("feature/mean_square/group_")]
    each = traces.groupby(["trial", "step"], observed=True)["value"].agg(["max", "size"])
    whole = each[each["size"] == each.groupby("trial", observed=True)["size"].transform("max")]
    for points in (at_some, at_some.sample(frac=1, random_state=0), at_some[:0]):
        curves = largest_groups(replace(frame, points=points))
        found = dict(
            zip(zip(curves["trial"], curves["step"], strict=True), curves["value"], strict=True)
        )
        assert found == (whole["max"].to_dict() if len(points) else {})
        places = [(list(frame.trials["trial"]).index(trial), step) for trial, step in found]
        assert places == sorted(places)
    assert 0 < len(whole) < len(each)


def test_one_seed_is_undecided_with_its_own_numbers(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds="4")
    write_curves(open_store(str(tmp_path / "runs")), plan, as_usual)
    line = of(growths(read(plan, tmp_path)), "layer_norm").growth
    assert line.verdict == "undecided"
    assert "one seed" in line.sentence
    assert line.seeds[0].log10_growth == pytest.approx(1.02 * math.log10(200))


def test_seeds_that_disagree_are_undecided(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds="0, 1")
    write_curves(
        open_store(str(tmp_path / "runs")), plan, lambda trial: power(1.0 * trial.axes["seed"])
    )
    assert of(growths(read(plan, tmp_path)), "i_ln").growth.verdict == "undecided"


def test_equal_values_everywhere_are_undecided_and_no_number_is_invented(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths="12, 24, 36")
    write_curves(open_store(str(tmp_path / "runs")), plan, lambda trial: power(0.0))
    frame = read(plan, tmp_path)
    for line in growths(frame):
        assert line.growth.verdict == "undecided"
        assert "equal values" in line.growth.sentence
    for line in trends(frame):
        assert line.trend.verdict == "undecided"
        assert "1 distinct value" in line.trend.sentence


def test_diverged_trials_are_infinite_and_never_dropped(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    gone = [t for t in plan.trials if t.axes["norm"] == "layer_norm" and t.axes["seed"] < 2]
    write_diverged(tmp_path, plan, gone, blown_up(40), at=40)
    line = of(growths(read(plan, tmp_path)), "layer_norm").growth
    assert line.verdict == "growing"
    assert "2 of 3 seeds diverged" in line.sentence
    assert interval(line.log10_growth).estimate == math.inf


def test_one_diverged_trial_makes_bounded_impossible(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    gone = [trial for trial in plan.trials if trial.axes["seed"] == 1]
    write_diverged(tmp_path, plan, gone, power(0.0), at=60)
    line = of(growths(read(plan, tmp_path)), "i_ln").growth
    assert line.verdict == "undecided"
    assert "1 of 3 seeds diverged" in line.sentence


def test_features_that_are_not_finite_count_as_infinite_in_a_completed_trial(
    tmp_path: Path,
) -> None:
    plan = planned(tmp_path)
    write_curves(open_store(str(tmp_path / "runs")), plan, lambda trial: blown_up(100))
    line = of(growths(read(plan, tmp_path)), "i_ln").growth
    assert [seed.log10_growth for seed in line.seeds] == [math.inf] * 3
    assert line.verdict == "growing"


def test_trials_that_have_not_ended_are_named(tmp_path: Path) -> None:
    plan = planned(tmp_path, seeds="0, 1, 2, 3, 4, 5")
    store = open_store(str(tmp_path / "runs"))
    mine = [trial for trial in plan.trials if trial.axes["norm"] == "i_ln"]
    for trial in mine[:2]:
        write_curve(store, trial, power(0.0 + wobble(trial)))
    write_attempt(store, mine[2], 40)
    attempt = write_attempt(store, mine[3], 40)
    write_failure(store, mine[3].id, attempt, "data", "cut", final=True, step=40)
    write_curve(store, mine[4], power(5.0), outcome="stopped", until=100)
    line = of(growths(read(plan, tmp_path)), "i_ln").growth
    assert line.verdict == "bounded"
    for said in (
        "seed 2 (running, step 40 of 200)",
        "seed 3 (failed)",
        "seed 4 (stopped at step 100)",
        "seed 5 (pending)",
    ):
        assert said in line.sentence


def test_a_damaged_trial_is_named(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    write_curves(open_store(str(tmp_path / "runs")), plan, as_usual)
    trial = plan.trials[0]
    journal = next((tmp_path / "runs/trials" / trial.id).rglob("*.jsonl"))
    journal.write_bytes(journal.read_bytes()[:-20])
    line = of(growths(read(plan, tmp_path)), "layer_norm").growth
    assert line.verdict == "growing"
    assert "left out: seed 0 (damaged)" in line.sentence


def test_a_store_without_traces_says_so(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    store = open_store(str(tmp_path / "runs"))
    write_curves(store, plan, as_usual)
    frame = read(plan, tmp_path)
    blind = replace(frame, points=frame.points.iloc[:0])
    assert {line.growth.verdict for line in growths(blind)} == {"undecided"}
    assert "it recorded no feature traces" in growths(blind)[0].growth.sentence


def test_an_empty_store_is_undecided_everywhere(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths="12, 24, 36")
    frame = read(plan, tmp_path)
    assert "seed 0: pending" in growths(frame)[0].growth.sentence
    for line in trends(frame):
        assert (line.trend.verdict, line.trials) == ("undecided", ())
        assert "w24 d1, seed 1: pending" in line.left_out


def test_values_of_a_recipe_axis_are_never_joined(tmp_path: Path) -> None:
    plan = planned(tmp_path, more="  lr: [1.0e-4, 2.0e-4]\n")
    write_curves(
        open_store(str(tmp_path / "runs")),
        plan,
        lambda trial: power(wobble(trial) + (1.0 if trial.axes["lr"] > 1e-4 else 0.0)),
    )
    found = {
        (line.labels["norm"], line.labels["lr"]): line.growth.verdict
        for line in growths(read(plan, tmp_path))
    }
    assert found == {
        (norm, lr): verdict
        for norm in SLOPES
        for lr, verdict in ((1e-4, "bounded"), (2e-4, "growing"))
    }


def test_a_trial_of_another_commit_is_left_out_and_both_commits_are_named(
    tmp_path: Path,
) -> None:
    plan = planned(tmp_path)
    write_curves(open_store(str(tmp_path / "runs")), plan, as_usual)
    frame = read(plan, tmp_path)
    odd = plan.trials[2].id
    look = frame.looks[odd]
    other = replace(look, tried=({**look.tried[0], "commit": "beef" * 10},))
    line = of(growths(replace(frame, looks={**frame.looks, odd: other})), "layer_norm").growth
    assert "seed 2 (commit beefbeefbeef, c0ffeec0ffee for the others)" in line.sentence
    assert interval(line.slope).n_seeds == 2


WIDTHS = "12, 24, 36, 48"


def with_size(exponent: float):
    """Growth over 200 steps that is (width / 12)^exponent, and differs a little between seeds."""

    def curve(trial: Trial):
        wanted = exponent * math.log10(trial.axes["width"] / 12) + 0.1 * wobble(trial)
        return power(wanted / math.log10(200) + 1e-3 * (trial.axes["width"] % 5))

    return curve


def trend_of(found: tuple[NormTrend, ...], norm: str, measure: str = "width") -> NormTrend:
    (line,) = (x for x in found if (x.labels["norm"], x.measure) == (norm, measure))
    return line


def test_growth_that_rises_with_width_is_seen_with_its_exponent(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    write_curves(open_store(str(tmp_path / "runs")), plan, with_size(1.5))
    found = trends(read(plan, tmp_path))
    assert [(x.labels["norm"], x.measure) for x in found] == [
        (norm, measure) for norm in SLOPES for measure in ("parameters", "width")
    ]
    line = trend_of(found, "layer_norm")
    assert line.trend.verdict == "rises"
    slope = interval(line.trend.slope)
    assert slope.low < 1.5 < slope.high
    assert slope.high - slope.low < 0.2
    assert len(line.trials) == 12
    assert line.labels == {"backbone": "swinir-tiny", "norm": "layer_norm", "task": "sr_x2"}


def test_two_sizes_have_no_trend_and_one_size_no_line(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths="12, 24")
    write_curves(open_store(str(tmp_path / "runs")), plan, as_usual)
    line = trend_of(trends(read(plan, tmp_path)), "i_ln")
    assert line.trend.sentence == "undecided: n = 2: no correlation"
    alone = planned(tmp_path, widths="12")
    assert trends(read(alone, tmp_path)) == ()


def test_a_size_that_diverged_ranks_highest_and_is_among_the_trials(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials:
        if trial.axes["width"] == 48:
            write_curve(store, trial, blown_up(0), outcome="diverged", until=0)
        else:
            write_curve(store, trial, with_size(1.0)(trial))
    line = trend_of(trends(read(plan, tmp_path)), "layer_norm")
    assert line.trend.rank.rho == pytest.approx(1.0)
    assert isinstance(line.trend.slope, Unknown)
    assert len(line.trials) == 12


def test_half_of_the_trials_give_a_trend_of_those_and_name_the_rest(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    store = open_store(str(tmp_path / "runs"))
    for trial in plan.trials[::2]:
        write_curve(store, trial, with_size(1.5)(trial))
    line = trend_of(trends(read(plan, tmp_path)), "layer_norm")
    assert len(line.trials) + len(line.left_out) == 12
    assert all(said.endswith("pending") for said in line.left_out)


def test_a_trend_leaves_out_sizes_of_another_commit(tmp_path: Path) -> None:
    plan = planned(tmp_path, widths=WIDTHS)
    write_curves(open_store(str(tmp_path / "runs")), plan, with_size(1.5))
    frame = read(plan, tmp_path)
    looks = dict(frame.looks)
    for trial in plan.trials:
        if trial.axes["width"] == 48:
            look = looks[trial.id]
            looks[trial.id] = replace(look, tried=({**look.tried[0], "commit": "beef" * 10},))
    line = trend_of(trends(replace(frame, looks=looks)), "layer_norm")
    assert line.trend.rank.n == 3
    assert "w48 d1, seed 0: commit beefbeefbeef, c0ffeec0ffee for the others" in line.left_out
