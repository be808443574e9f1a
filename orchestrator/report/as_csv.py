"""A frame as CSV, a column at a time: rows may be millions."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

QUOTE = '"'
SPECIAL = re.compile(r'[",\r\n]')  # what a field is quoted for


def as_csv(frame: pd.DataFrame) -> str:
    """RFC 4180, but with \\n. Non-finite numbers are nan, inf or -inf; missing ones are empty."""
    columns = [_fields(frame[name]) for name in frame]
    lines = [",".join(map(_field, frame.columns)), *map(",".join, zip(*columns, strict=True))]
    return "\n".join(lines) + "\n"


def _fields(column: pd.Series) -> list[str]:
    """A column as fields; texts that repeat are quoted once."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        texts = np.array([*map(_field, column.cat.categories), ""], dtype=object)
        fields: list[str] = texts[column.cat.codes].tolist()  # -1, a missing value, is the last one
        return fields
    return list(map(str if column.dtype.kind in "fi" else _field, column.tolist()))


def _field(value: Any) -> str:
    text = "" if value is None else str(value)
    return f'"{text.replace(QUOTE, QUOTE * 2)}"' if SPECIAL.search(text) else text
