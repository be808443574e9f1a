"""The gates. Adding one is a file and a line here, and a field of orchestrator.plan.gate.Gate.

A gate is a function from a case (orchestrator.regression.cases) to its answers, none if the sweep
file does not ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from orchestrator.regression.cases import Case
from orchestrator.regression.gates import growth, parameters, scores
from orchestrator.regression.measured import Measured

GATES: Mapping[str, Callable[[Case], Iterable[Measured]]] = {
    "psnr": scores.psnr,
    "ssim": scores.ssim,
    "growth": growth.growth,
    "parameters": parameters.parameters,
}
