"""What a gate asks of one candidate at one place, and the numbers that there are to answer it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from orchestrator.statistics.interval import Interval, Unknown

Verdict = Literal["pass", "fail", "undecided"]


@dataclass(frozen=True)
class Key:
    """One question: a gate (`psnr`, `growth`, `at_most loss`), a norm, and where it is asked.

    `place` tells apart what a gate asks of one norm and task: `embedded-test, w16 d2 swinir-tiny`.
    """

    gate: str
    norm: str
    task: str
    place: str

    @property
    def text(self) -> str:
        return f"{self.gate} | {self.norm} | {self.task} | {self.place}"


@dataclass(frozen=True)
class Measured:
    """The numbers for one question.

    `trials` are the ids of all trials that the numbers come from, sorted; the baseline's are those
    of its file. `setup` is a digest of what looks must agree in to be looked at together: the
    specs of the trials but for their seeds, the baseline, and the gate's own question; not the
    norms' sources and not the libraries. `values` has one number per seed, in the order of `seeds`,
    oriented so that more is better: a difference in the score's unit, or minus a logarithm. The
    candidate passes if their mean is surely above `pass_above`, and fails if it is surely below
    `fail_below`, which is the same or higher (for scores: minus the margin, and zero).

    `interval` is that of the claims (orchestrator.report.contrasts) on the scale of `values`.
    `shown` gives value, low, high and limit in `unit`, as people read them: dB, a factor, a ratio.

    `exact` is the verdict of a question that no noise touches, such as equal weights; `values` is
    then Unknown. `left_out` has a sentence for each seed without a number. A question without
    numbers has `values = Unknown(why)`: it is undecided, and its reason is `missing`. A candidate
    that diverged has `exact = "fail"`, with the step in `said`.
    """

    key: Key
    trials: tuple[str, ...]
    setup: str
    seeds: tuple[int, ...]
    values: tuple[float, ...] | Unknown
    pass_above: float
    fail_below: float
    interval: Interval | Unknown
    shown: Shown
    exact: Verdict | None = None
    said: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """Numbers as people read them, None where there is none; `sense` is the gate's direction."""

    value: float | None
    low: float | None
    high: float | None
    limit: float | None
    unit: str
    sense: Literal["at_least", "at_most", "equal"]


@dataclass(frozen=True)
class Judged:
    """The verdict on one question.

    `level` is the error rate that this look may spend on the alarm, `p_value` that of the alarm
    (None where there is none), `window` the number of looks that the alarm rests on. `look` is the
    number of the look (from 1). A question that cannot be tested spends nothing: look, level and
    window are 0. `missing` says what an undecided question lacks.
    """

    measured: Measured
    verdict: Verdict
    look: int
    level: float
    p_value: float | None
    window: int
    missing: str = ""
