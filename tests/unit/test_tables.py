"""Tables that compare norms: what a cell shows, and what it says where a value is missing."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from orchestrator.plan.axes import axes_named
from orchestrator.report.frame import Frame
from orchestrator.report.tables import Cell, Comparison, as_frame, comparisons

SET = "embedded-test"


def trial(
    norm: str, psnr: float | None = None, *, task: str = "sr_x2", seed: int = 0, **fields: Any
) -> dict[str, Any]:
    """A row of `trials`, with the final PSNR that it shall have."""
    axes = {
        "backbone": "swinir-tiny",
        "norm": norm,
        "task": task,
        "width": 12,
        "depth": 2,
        "seed": seed,
        "size": "w12 d2",
    }
    row = {
        "trial": f"{norm}-{task}-{seed}",
        **axes,
        "parameters": 1000,
        "state": "done",
        "step": 100,
        "steps": 100,
    }
    return {**row, "evaluate": (SET,), **fields, "psnr": psnr}


def compared(*rows: dict[str, Any], recipe: tuple[str, ...] = ()) -> Comparison:
    points = [
        {
            "trial": row["trial"],
            "metric": f"val/{SET}/psnr",
            "step": row["step"],
            "value": row["psnr"],
        }
        for row in rows
        if row["psnr"] is not None
    ]
    columns = ["trial", "metric", "step", "value"]
    frame = Frame(
        pd.DataFrame(rows), pd.DataFrame(points, columns=columns), axes=axes_named(recipe)
    )
    (table,) = comparisons(frame)
    return table


def cells(table: Comparison, task: str = "sr_x2") -> dict[str, Cell]:
    """The cells of a task's PSNR, by row, whatever other metrics there are."""
    columns = [(found.task, found.metric) for found in table.columns]
    return {row.name: row.cells[columns.index((task, "psnr"))] for row in table.rows}


def test_a_cell_is_mean_and_sample_deviation_over_seeds() -> None:
    cell = cells(
        compared(trial("i_ln", 30.0), trial("i_ln", 31.0, seed=1), trial("i_ln", 32.0, seed=2))
    )["i_ln"]
    assert (cell.mean, cell.sd, cell.n) == (31.0, 1.0, 3)


def test_one_seed_has_no_spread() -> None:
    assert cells(compared(trial("i_ln", 30.0)))["i_ln"].sd is None


def seeds_of(norm: str, *psnr: float) -> list[dict[str, Any]]:
    return [trial(norm, value, seed=seed) for seed, value in enumerate(psnr)]


def test_the_highest_mean_is_not_marked_where_seeds_do_not_tell_it_apart() -> None:
    table = compared(
        *seeds_of("layer_norm", 30.0, 30.4), *seeds_of("i_ln", 30.5, 30.2), *seeds_of("none", 30.1)
    )
    found = cells(table)
    assert not any(cell.is_marked for cell in found.values())
    assert [cell.in_best_set for cell in found.values()] == [True, True, None]


def test_those_that_cannot_be_told_from_the_best_are_marked_together() -> None:
    table = compared(
        *seeds_of("layer_norm", 30.000, 30.010, 30.003),
        *seeds_of("i_ln", 30.004, 30.002, 30.009),
        *seeds_of("rms_norm", 29.001, 29.000, 29.012),
    )
    found = cells(table)
    assert [norm for norm, cell in found.items() if cell.is_marked] == ["layer_norm", "i_ln"]
    assert [cell.in_best_set for cell in found.values()] == [True, True, False]


def test_nothing_is_marked_with_one_seed() -> None:
    found = cells(compared(trial("layer_norm", 30.0), trial("i_ln", 35.0)))
    assert [(cell.in_best_set, cell.is_marked) for cell in found.values()] == [(None, False)] * 2


def test_a_lone_value_is_not_marked_as_best() -> None:
    found = cells(compared(trial("layer_norm", 30.0), trial("i_ln", state="pending", step=None)))
    assert not found["layer_norm"].is_marked


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"state": "pending", "step": None}, "pending"),
        ({"state": "failed", "step": 7}, "failed"),
        ({"state": "diverged", "step": 37}, "diverged at step 37"),
        ({"state": "stopped", "step": 40}, "stopped at step 40"),
        ({"state": "running", "step": 40}, "running, step 40 of 100"),
        ({"state": "interrupted", "step": 40}, "interrupted, step 40 of 100"),
        ({"state": "done", "step": 100}, "done, not evaluated"),
    ],
)
def test_a_missing_cell_is_named(fields: dict[str, Any], words: str) -> None:
    cell = cells(compared(trial("layer_norm", 30.0), trial("i_ln", **fields)))["i_ln"]
    assert (cell.mean, cell.n, cell.missing) == (None, 0, (words,))


def test_seeds_without_a_value_are_counted_beside_the_mean() -> None:
    rows = [
        trial("i_ln", 30.0),
        *(trial("i_ln", seed=seed, state="pending", step=None) for seed in (1, 2)),
    ]
    cell = cells(compared(*rows))["i_ln"]
    assert (cell.mean, cell.n, cell.missing) == (30.0, 1, ("2 pending",))


def test_a_diverged_trial_has_no_final_value_even_if_it_was_evaluated() -> None:
    cell = cells(
        compared(trial("layer_norm", 30.0), trial("i_ln", 29.0, state="diverged", step=60))
    )["i_ln"]
    assert cell.mean is None


def test_a_combination_that_was_excluded_says_so() -> None:
    table = compared(
        trial("layer_norm", 30.0), trial("layer_norm", 31.0, task="denoise_25"), trial("i_ln", 30.0)
    )
    assert cells(table, "denoise_25")["i_ln"].missing == ("not in the sweep",)


def test_a_norm_that_a_size_lacks_still_has_its_row() -> None:
    rows = [trial("layer_norm", 30.0), {**trial("i_ln", 30.0), "size": "w24 d2", "width": 24}]
    tables = comparisons(
        Frame(pd.DataFrame(rows), pd.DataFrame(columns=["trial", "metric", "step", "value"]))
    )
    assert cells(tables[0])["i_ln"].missing == ("not in the sweep",)


def test_norms_and_tasks_are_in_file_order() -> None:
    table = compared(
        *(
            trial(norm, 30.0, task=task)
            for norm in ("rms_norm", "i_ln")
            for task in ("sr_x2", "denoise_25")
        )
    )
    assert [row.name for row in table.rows] == ["rms_norm", "i_ln"]
    assert [
        (column.task, column.dataset) for column in table.columns if column.metric == "psnr"
    ] == [
        ("sr_x2", SET),
        ("denoise_25", SET),
    ]


def test_each_size_has_a_table_of_its_own() -> None:
    rows = [trial("i_ln", 30.0), {**trial("i_ln", 30.0, seed=1), "size": "w24 d2", "width": 24}]
    tables = comparisons(
        Frame(pd.DataFrame(rows), pd.DataFrame(columns=["trial", "metric", "step", "value"]))
    )
    assert [table.size for table in tables] == ["w12 d2", "w24 d2"]


def test_the_long_form_has_a_line_per_cell() -> None:
    table = compared(trial("layer_norm", 30.0), trial("i_ln", 30.5))
    long = as_frame((table,))
    assert len(long) == 2 * len(table.columns)
    psnr = long[long["metric"] == "psnr"].set_index("norm")
    assert psnr.loc["i_ln", "mean"] == 30.5
    assert psnr.loc["i_ln", "in_best_set"] is None


def rate(norm: str, lr: float, seed: int, psnr: float) -> dict[str, Any]:
    row = trial(norm, psnr, seed=seed, lr=lr)
    return {**row, "trial": f"{norm}-{lr}-{seed}"}


def test_learning_rates_are_apart_and_only_seeds_are_averaged() -> None:
    rows = [
        rate("layer_norm", 1e-4, 0, 30.0),
        rate("layer_norm", 1e-4, 1, 31.0),
        rate("layer_norm", 2e-4, 0, 20.0),
        rate("layer_norm", 2e-4, 1, 22.0),
        rate("i_ln", 1e-4, 0, 40.0),
        rate("i_ln", 2e-4, 0, 50.0),
    ]
    table = compared(*rows, recipe=("lr",))
    assert {name: (cell.mean, cell.n) for name, cell in cells(table).items()} == {
        "layer_norm, lr 0.0001": (30.5, 2),
        "layer_norm, lr 0.0002": (21.0, 2),
        "i_ln, lr 0.0001": (40.0, 1),
        "i_ln, lr 0.0002": (50.0, 1),
    }
    long = as_frame((table,))
    assert list(long.columns)[:5] == ["backbone", "size", "norm", "lr", "task"]
    assert sorted(set(long["lr"])) == [1e-4, 2e-4]


def test_an_axis_with_one_value_makes_no_column() -> None:
    table = compared(rate("layer_norm", 1e-4, 0, 30.0), rate("i_ln", 1e-4, 0, 31.0), recipe=("lr",))
    assert list(cells(table)) == ["layer_norm", "i_ln"]
