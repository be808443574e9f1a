"""What the paper prints: the rows of tables.csv, which names its source at its top."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

SOURCE = "Lee et al., arXiv:2504.06629 v1"
RECIPE = (
    "300,000 steps of batch 16 on DF2K, for deraining on Rain13K; HAT-wide is wider than HAT and "
    "trained for longer"
)
TABLES = {
    1: "super-resolution",
    2: "colour denoising",
    3: "JPEG artefacts",
    4: "deraining",
    5: "norms, super-resolution",
    6: "rescaling and low precision, super-resolution",
}
# Notes of Table 6; any other note is about the network or the norm.
PRECISIONS = {
    "weights int8 inference": "int8",
    "weights int4 inference": "int4",
    "weights+features fp16 inference": "fp16",
}
FILE = Path(__file__).with_name("tables.csv")


@dataclass(frozen=True)
class Printed:
    """One number of the paper: `value` as a number, `text` with the digits that it prints.

    `level` is the scale of `sr`, sigma (of 255) of `dn`, the quality of `car`; None for `dr`.
    `precision` is that of inference.
    """

    table: int
    row: int
    backbone: str
    norm: str
    task: str
    level: int | None
    set: str
    metric: str
    value: float
    text: str
    precision: str

    @property
    def decimals(self) -> int:
        return len(self.text.partition(".")[2])


@cache
def printed() -> tuple[Printed, ...]:
    """Every number of Tables 1 to 6, in the order of the paper."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return tuple(_rows(file))


def _rows(lines: Iterable[str]) -> Iterable[Printed]:
    for row in csv.DictReader(line for line in lines if not line.startswith("#")):
        yield Printed(
            int(row["table"]),
            int(row["row"]),
            row["backbone"],
            row["norm"],
            row["task"],
            int(row["level"]) if row["level"] else None,
            row["dataset"],
            row["metric"],
            float(row["value"]),
            f"0{row['value']}" if row["value"].startswith(".") else row["value"],
            PRECISIONS.get(row["note"], "fp32"),
        )
