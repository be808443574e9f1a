"""Numbers and lists in a form that is easy to read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

LONGEST_REASON = 160
GOOD_DIGITS, MOST_DIGITS = 5, 7  # of the largest number in a column with equal decimals


def number(value: float | None) -> str:
    """Three significant digits, without an exponent if the result is still easy to read."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "-\N{INFINITY}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def alike(values: Iterable[float | None]) -> Callable[[float | None], str]:
    """How the numbers of one column are written: all with the same decimals.

    All have at least three significant digits, or the smallest two where three would make the
    largest longer than five digits. Where two would make it longer than seven, each number has
    decimals of its own (`number`).
    """
    sizes = [abs(v) for v in values if v is not None and math.isfinite(v) and v]
    if not sizes:
        return number
    tens = [math.floor(math.log10(size)) for size in (min(sizes), max(sizes))]
    whole = max(tens[1], 0) + 1
    decimals = max(0, (2 if whole + 2 - tens[0] <= GOOD_DIGITS else 1) - tens[0], 2 - tens[1])
    if whole + decimals > MOST_DIGITS:
        return number
    return lambda value: (
        number(value) if value is None or not math.isfinite(value) else f"{value:,.{decimals}f}"
    )


def brief(reason: str) -> str:
    """A reason in one line: of a traceback its last line, which has the error."""
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    if not lines:
        return ""
    said = lines[-1] if "Traceback" in reason else lines[0]
    return said if len(said) <= LONGEST_REASON else f"{said[: LONGEST_REASON - 1]}…"


def count(value: float) -> str:
    """A whole number, with a narrow space between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def listed(parts: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = parts
    return f"{', '.join(others)} and {last}" if others else last


def in_store(trial: str) -> str:
    """A trial's id in its store, which has no mark (orchestrator.report.several)."""
    return trial.partition(" of ")[0]
