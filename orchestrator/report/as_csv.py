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
    """A column as fields; what repeats is written once."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        # -1, a missing value, is the last one
        codes, texts = column.cat.codes.to_numpy(), [*map(_field, column.cat.categories), ""]
    elif column.dtype.kind == "i":
        codes, numbers = pd.factorize(column)
        texts = list(map(str, numbers.tolist()))
    else:
        return list(map(str if column.dtype.kind == "f" else _field, column.tolist()))
    fields: list[str] = np.array(texts, dtype=object)[codes].tolist()
    return fields


def _field(value: Any) -> str:
    text = "" if value is None else str(value)
    return f'"{text.replace(QUOTE, QUOTE * 2)}"' if SPECIAL.search(text) else text
