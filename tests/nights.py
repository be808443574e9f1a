"""Nights of a gate written by hand, with known verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.regression.measured import Judged, Key, Measured, Shown, Verdict
from orchestrator.regression.verdict import Night, file_of, night_of, worst
from orchestrator.statistics.interval import Unknown
from orchestrator.store.base import Store
from orchestrator.store.verdicts import put_verdict

SWEEP = "nightly"


def judged(
    norm: str = "i_ln",
    verdict: Verdict = "pass",
    *,
    gate: str = "psnr",
    value: float | None = 0.021,
    trials: Sequence[str] = ("a", "b"),
    **fields: Any,
) -> Judged:
    """A verdict on PSNR at one place; without a value it is undecided for want of numbers."""
    low, high = (None, None) if value is None else (value - 0.05, value + 0.05)
    shown = Shown(value, low, high, -0.1, "dB", "at_least")
    return Judged(
        Measured(
            Key(gate, norm, "sr_x2", "embedded-test, w8 d2"),
            tuple(trials),
            "setup",
            () if value is None else (0, 1, 2),
            Unknown("no numbers"),
            -0.1,
            0.0,
            Unknown("no interval"),
            shown,
            **{"said": "", **{k: v for k, v in fields.items() if k in ("said", "left_out")}},
        ),
        verdict,
        fields.get("look", 1),
        fields.get("level", 0.0125),
        None,
        fields.get("window", 1),
        fields.get("missing", "2 more seeds" if verdict == "undecided" else ""),
    )


def night(day: str, *found: Judged) -> Night:
    return night_of(SWEEP, day, found, worst({one.verdict for one in found}))


def keep(store: Store, *nights: Night) -> None:
    """Put the nights' verdicts, as `normsweep regress` does."""
    for one in nights:
        assert put_verdict(store, one.sweep, one.date, file_of(one))
