"""The kinds of test that a claim may name. Adding one is a file and a line here.

A module has a class `Shape`, the fields of its claims, and a function `parts(claim, material)`,
which tests the claim wherever the sweep can: see orchestrator.report.claims.parts. Two statistics
may share a module. Modules are imported by name, when a claim needs them.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING

from orchestrator.report.claims.lines import Claim

if TYPE_CHECKING:
    from orchestrator.report.claims.material import Material
    from orchestrator.report.claims.parts import Part


@dataclass(frozen=True)
class Statistic:
    """A line of the catalogue.

    `module` is its module below this package; `tests` says what it tests, for the documentation.
    """

    module: str
    tests: str

    @property
    def _module(self) -> ModuleType:
        return importlib.import_module(f"{__name__}.{self.module}")

    @property
    def shape(self) -> type[Claim]:
        """The fields of its claims."""
        shape: type[Claim] = self._module.Shape
        return shape

    def parts(self, claim: Claim, material: Material) -> tuple[Part, ...]:
        """The claim tested at every place."""
        made: tuple[Part, ...] = self._module.parts(claim, material)
        return made


STATISTICS: Mapping[str, Statistic] = {
    "growing": Statistic("growth", "features still grow at the end of training"),
    "bounded": Statistic("growth", "features no longer grow at the end of training"),
    "growth_difference": Statistic(
        "growth_difference", "candidate's growth since step 0, in decades, minus reference's"
    ),
    "trend": Statistic("trend", "growth rises with width, depth or parameters"),
    "difference": Statistic("difference", "candidate's score minus reference's"),
    "scalar": Statistic("scalar", "a probe's scalar at the end of training"),
    "scalar_change": Statistic("scalar", "a probe's scalar at the end minus that at step 0"),
    "scalar_difference": Statistic("scalar_difference", "candidate's scalar minus reference's"),
    "precision_loss": Statistic(
        "precision_loss", "what a precision costs reference but not candidate"
    ),
}
