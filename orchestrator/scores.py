"""The table that `normsweep evaluate` prints."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from trainers.catalog import METRICS

AGAINST = "psnr"  # the metric whose difference from fp32 is printed
NAMES = 2  # the first columns of the table name a result; the others are numbers
WIDE = 10_000  # characters: a terminal so wide that it cuts nothing


def print_scores(
    name: str, step: int | None, task: str, results: Sequence[Mapping[str, Any]]
) -> None:
    """Print the results of one network, and how they were scored."""
    console = Console(file=sys.stdout, markup=False, emoji=False, highlight=False)
    first = results[0]
    tiled = ""
    if first["tile_px"]:
        tiled = f"; tiles of {first['tile_px']} + {first['overlap_px']} px"
        tiled += ": not comparable with whole images"
    how = {
        key: value
        for key, value in first.items()
        if key in ("compared", "border_px", "lr_mode", "noise_order", "chroma")
    }
    choices = "; ".join(f"{key} {value}" for key, value in how.items())
    console.print(f"{name} at step {step}: {task}; {choices}{tiled}")
    console.print(_scores_table(results, console))


def _scores_table(results: Sequence[Mapping[str, Any]], console: Console) -> RenderableType:
    """A row for each result, or a paragraph where the terminal would cut a row's digits off."""
    heads = ["set", "precision", "images"]
    for metric in METRICS:
        heads += (
            [metric.facts["title"], "against fp32"]
            if metric.name == AGAINST
            else [metric.facts["title"]]
        )
    heads.append("not finite")
    full = {r["benchmark"]: float(r[AGAINST]) for r in results if r["precision"] == "fp32"}
    rows = [_cells(result, full.get(result["benchmark"])) for result in results]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(heads):
        table.add_column(head, justify="left" if i < NAMES else "right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    # Measured at a width that cuts nothing: at the console's own, rich would cut it to fit.
    if Measurement.get(console, console.options.update(width=WIDE), table).maximum <= console.width:
        return table
    paragraphs = []
    for row in rows:
        numbers = "; ".join(
            f"{head} {cell}" for head, cell in zip(heads[NAMES:], row[NAMES:], strict=True) if cell
        )
        paragraphs.append(f"{' '.join(row[:NAMES])}: {numbers}")
    return Text("\n".join(paragraphs))


def _cells(result: Mapping[str, Any], full: float | None) -> tuple[str, ...]:
    cells = [
        result["benchmark"],
        result["precision"] + (" per channel" if result["per_channel"] else ""),
        str(len(result["images"])),
    ]
    for metric in METRICS:
        value, decimals = float(result[metric.name]), metric.facts["fine"]
        cells.append(f"{value:.{decimals}f}")
        if metric.name == AGAINST:
            is_apart = full is not None and result["precision"] != "fp32"
            cells.append(f"{value - full:+.{decimals}f}" if is_apart and full is not None else "")
    return (*cells, f"{float(result['non_finite']):.2%}")
