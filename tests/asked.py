"""Questions of a gate with numbers, as orchestrator.regression.measuring makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from orchestrator.regression.looks import Answer, Look, look_of, untested
from orchestrator.regression.measured import Key, Measured, Shown
from orchestrator.statistics.interval import Interval, Unknown
from orchestrator.statistics.paired import other_seeds

SHOWN = Shown(None, None, None, -0.1, "dB", "at_least")
MARGIN = 0.1


def asked(values: Sequence[float] | Unknown, norm: str = "i_ln", **changed: Any) -> Measured:
    """A question about a norm's PSNR: may it be worse than the baseline's by 0.1 dB?"""
    seeds = () if isinstance(values, Unknown) else tuple(range(len(values)))
    interval: Interval | Unknown
    if isinstance(values, Unknown):
        interval = values
    else:
        interval = other_seeds(np.array(values, dtype=float)[:, None])
    made = Measured(
        key=Key("psnr", norm, "sr_x2", "embedded-test, w16 d2 swinir-tiny"),
        trials=(f"baseline of {norm}", f"{norm} {values}"),
        setup="a",
        seeds=seeds,
        values=values if isinstance(values, Unknown) else tuple(values),
        pass_above=-MARGIN,
        fail_below=0.0,
        interval=interval,
        shown=SHOWN,
    )
    return replace(made, **changed)


def ledger(*nights: Sequence[Measured]) -> tuple[Look, ...]:
    """The looks of these nights, as `recorded` adds them, without a store."""
    looks: tuple[Look, ...] = ()
    for day, measured in enumerate(nights, start=1):
        answers = {
            one.key.text: Answer(one.trials, one.setup, one.seeds, one.values, one.fail_below)
            for one in measured
            if not untested(one) and not isinstance(one.values, Unknown)
            if look_of(one, looks) is None
        }
        if answers:
            looks += (Look(len(looks) + 1, f"2026-01-{day:02d}", answers),)
    return looks
