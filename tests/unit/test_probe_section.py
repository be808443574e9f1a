"""What other probes have measured: values over seeds, reasons in place of values, places."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pytest

from orchestrator.plan import Plan, Trial
from orchestrator.report.blocks import Figure, Group, Table, Text
from orchestrator.report.contents import Report
from orchestrator.report.depth_plot import drawn
from orchestrator.report.drawing import RC
from orchestrator.report.frame import read_frame
from orchestrator.report.observations import Observed, as_frame, in_order, observations
from orchestrator.report.sections import probes
from orchestrator.report.styles import norm_styles
from orchestrator.store import open_store
from orchestrator.store.journals import Event
from orchestrator.store.undefined import undefined_in
from tests.unit.test_growth_tables import reported
from tests.unit.test_growths import planned
from tests.written_growth import power, write_curve

NO_BIAS = "the final norm has no bias"
NO_SCALE = "no norm of a block gives its branch a scale"


def written(
    folder: Path,
    extra: Callable[[Trial], Mapping[str, float]],
    undefined: Callable[[Trial], Mapping[str, str]] = lambda trial: {},
    **axes: str,
) -> tuple[Plan, tuple[Observed, ...]]:
    plan = planned(folder, **axes)
    store = open_store(str(folder / "runs"))
    for trial in plan.trials:
        write_curve(store, trial, power(0.0), extra=extra(trial), undefined=undefined(trial))
    return plan, observations(read_frame(plan, store))


def of(found: tuple[Observed, ...], norm: str, metric: str) -> Observed:
    (line,) = (x for x in found if (x.labels["norm"], x.metric) == (norm, metric))
    return line


def with_observed(plan: Plan, folder: Path, figures: tuple[Figure, ...] = ()) -> Report:
    report = reported(plan, folder)
    return replace(report, observed=observations(report.frame), drawing=lambda: list(figures))


def seeded(trial: Trial) -> dict[str, float]:
    return {"mine/peak": 1.0 + trial.axes["seed"]}


def test_a_value_is_the_mean_of_the_last_step_over_seeds(tmp_path: Path) -> None:
    _, found = written(tmp_path, seeded)
    line = of(found, "i_ln", "mine/peak")
    assert (line.mean, line.sd, line.missing) == (2.0, 1.0, ())
    assert {x.metric for x in found} == {"mine/peak"}, "features have sections of their own"


def test_one_seed_has_no_spread(tmp_path: Path) -> None:
    _, found = written(tmp_path, seeded, seeds="0")
    assert of(found, "i_ln", "mine/peak").sd is None


def test_what_is_undefined_says_why(tmp_path: Path) -> None:
    plan, found = written(
        tmp_path,
        lambda trial: {"bias/pearson": 0.5} if trial.axes["norm"] == "layer_norm" else {},
        lambda trial: {"bias/pearson": NO_BIAS} if trial.axes["norm"] == "i_ln" else {},
    )
    assert of(found, "i_ln", "bias/pearson").missing == (f"undefined: {NO_BIAS}",)
    (table,) = (b for b in probes.blocks(with_observed(plan, tmp_path)) if isinstance(b, Table))
    assert [row[-1].text for row in table.rows] == ["0.500", ""]
    assert table.rows[1][-1].note == f"undefined: {NO_BIAS}"
    assert table.columns[-1].heads == ("bias", "pearson")


def test_seeds_that_lack_a_value_are_counted_beside_those_that_have_one(tmp_path: Path) -> None:
    _, found = written(
        tmp_path,
        lambda trial: {"mine/peak": 2.0} if trial.axes["seed"] == 0 else {},
        lambda trial: {} if trial.axes["seed"] == 0 else {"mine/peak": NO_BIAS},
    )
    line = of(found, "i_ln", "mine/peak")
    assert (line.mean, line.missing) == (2.0, (f"2 undefined: {NO_BIAS}",))
    assert probes.cell(line).note == f"n = 1, 2 undefined: {NO_BIAS}"


def test_a_reason_is_not_given_where_there_is_a_value_in_the_end(tmp_path: Path) -> None:
    _, found = written(tmp_path, seeded, lambda trial: {"mine/peak": "too early"})
    assert of(found, "i_ln", "mine/peak").missing == ()


@pytest.mark.parametrize(
    ("value", "mean"), [(math.inf, math.inf), (math.nan, None)], ids=["infinite", "not a number"]
)
def test_values_that_are_not_finite_are_not_averaged_away(
    value: float, mean: float | None, tmp_path: Path
) -> None:
    _, found = written(
        tmp_path, lambda trial: {"mine/peak": value if trial.axes["seed"] == 1 else 1.0}
    )
    line = of(found, "i_ln", "mine/peak")
    assert (line.mean, line.sd) == (mean, None)
    said = () if mean else ("not a number in 1 of 3 seeds",)
    assert line.missing == said


def test_trials_that_have_not_ended_are_named(tmp_path: Path) -> None:
    plan = planned(tmp_path)
    store = open_store(str(tmp_path / "runs"))
    write_curve(store, plan.trials[0], power(0.0), extra={"mine/peak": 1.0})
    write_curve(store, plan.trials[1], power(0.0), outcome="diverged", until=50)
    found = observations(read_frame(plan, store))
    line = of(found, "layer_norm", "mine/peak")
    assert (line.mean, line.missing) == (1.0, ("diverged at step 50", "pending"))


def places(trial: Trial) -> dict[str, float]:
    if trial.axes["norm"] != "i_ln":
        return {}
    return {f"scale/group_{i}/block_{j}": 1.0 + i + 0.1 * j for i in (0, 10, 2) for j in (0, 1)}


def none_elsewhere(trial: Trial) -> dict[str, str]:
    return {} if trial.axes["norm"] == "i_ln" else {"scale": NO_SCALE}


def test_places_are_in_the_order_of_the_network_and_absent_ones_say_why(tmp_path: Path) -> None:
    _, found = written(tmp_path, places, none_elsewhere)
    assert [x.place for x in found if x.labels["norm"] == "i_ln"] == [
        f"group_{i}/block_{j}" for i in (0, 2, 10) for j in (0, 1)
    ]
    (line,) = (x for x in found if x.labels["norm"] == "layer_norm")
    assert (line.metric, line.values, line.missing) == ("scale", {}, (f"undefined: {NO_SCALE}",))


def test_places_are_a_folded_figure_with_the_reasons_below(tmp_path: Path) -> None:
    plan, found = written(tmp_path, places, none_elsewhere)
    report = with_observed(plan, tmp_path)
    with matplotlib.rc_context(RC):
        figures = drawn(report.frame, norm_styles(["layer_norm", "i_ln"]), "swinir-tiny", found)
    assert [figure.slug for figure in figures] == ["depth-scale-swinir-tiny"]
    assert "0 is group_0/block_0, 5 is group_10/block_1" in figures[0].caption
    blocks = probes.blocks(replace(report, drawing=lambda: figures))
    (group,) = (block for block in blocks if isinstance(block, Group))
    assert (group.title, group.style, group.blocks[0]) == ("scale by depth", "folded", figures[0])
    note = group.blocks[1]
    assert isinstance(note, Text)
    assert note.lines == ((f"layer_norm: undefined: {NO_SCALE}",),)
    assert not any(isinstance(block, Table) for block in blocks)


def test_without_other_probes_there_is_no_section(tmp_path: Path) -> None:
    plan, found = written(tmp_path, lambda trial: {"train/loss": 1.0, "val/a/psnr": 30.0})
    assert found == ()
    assert probes.blocks(with_observed(plan, tmp_path)) == ()


def test_the_file_has_a_row_for_each_scalar_and_no_nan(tmp_path: Path) -> None:
    plan, found = written(tmp_path, places, none_elsewhere, seeds="0")
    table = as_frame(read_frame(plan, open_store(str(tmp_path / "runs"))), found)
    assert len(table) == 7
    assert list(table.columns)[-6:] == ["size", "metric", "mean", "sd", "seeds", "missing"]
    first = table.iloc[0]
    assert (first["metric"], first["mean"], first["sd"], first["seeds"]) == ("scale", None, None, 0)


def test_group_10_comes_after_group_9() -> None:
    assert sorted(["a/group_10", "a/group_9", "a"], key=in_order) == [
        "a",
        "a/group_9",
        "a/group_10",
    ]


def event(**fields: Any) -> Event:
    return Event(1, {"event": "undefined", **fields})


def test_what_a_probe_said_last_counts() -> None:
    said = [
        event(probe="one", reasons={"a": "why", "b": "why"}),
        event(probe="two", reasons={"c": "other"}),
        event(probe="one", reasons={"a": "new"}),
    ]
    assert undefined_in(said) == {"a": "new", "c": "other"}


@pytest.mark.parametrize("reasons", [None, [], {"a": 1}, {"": "why"}, "text"])
def test_an_event_of_another_shape_is_passed_over(reasons: Any) -> None:
    assert undefined_in([event(probe="one", reasons=reasons), event(probe=3)]) == {}
