"""The gates. Adding one is a file and a line here, and a field of orchestrator.plan.gate.Gate.

A gate is a function from a case (orchestrator.regression.cases) to its answers, none if the sweep
file does not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from orchestrator.regression.cases import Case
from orchestrator.regression.gates import (
    bounds,
    entropy,
    fp16,
    growth,
    pace,
    parameters,
    scores,
    weights,
)
from orchestrator.regression.measured import Measured

GATES: Mapping[str, Callable[[Case], Iterable[Measured]]] = {
    "psnr": scores.psnr,
    "ssim": scores.ssim,
    "growth": growth.growth,
    "entropy": entropy.entropy,
    "fp16": fp16.fp16,
    "step_time": pace.step_time,
    "memory": pace.memory,
    "parameters": parameters.parameters,
    "weights": weights.weights,
    "at_most": bounds.at_most,
    "at_least": bounds.at_least,
}
