"""What a gate judges: each candidate at each task and size, beside what it is compared with.

A case has the trials of one candidate, which differ in their seed alone, and those of its reference
by seed: the baseline's, or the same norm's of a baseline file or of another sweep, which then
stands in the frame under a name of its own (orchestrator.regression.beside).

Trials of different commits are compared here, because the sources that matter are in a trial's
identity; those of different versions of torch, or kinds of machine, are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from orchestrator.plan.axes import COMPARED, NAME_ORDER, Axis
from orchestrator.plan.expand import Plan
from orchestrator.plan.gate import Gate, GatePlan
from orchestrator.plan.states import State
from orchestrator.regression.beside import as_recorded, without_seed
from orchestrator.regression.measured import Key
from orchestrator.report.claims.material import Cell, Material
from orchestrator.report.frame import Frame, in_words
from orchestrator.report.pairs import index_of
from orchestrator.store.base import Store

AGREE = ("torch", "machine")
UNTRAINED = (State.FAILED, State.INFEASIBLE)
Row = Mapping[str, Any]
# Of final weights: of each file, and of the tensors in it (orchestrator.regression.final_weights).
Digests = tuple[Mapping[str, str], Mapping[str, str]]


@dataclass(frozen=True)
class Against:
    """What candidates are compared with.

    `named` is what the reference's norm is called in the frame; `{norm}` stands for the
    candidate's. `digest` is the checksum of a baseline file, and `weights` are its digests by
    trial; without a file "" and None.
    """

    named: str
    digest: str = ""
    weights: Mapping[str, Digests] | None = None

    def of(self, norm: str) -> str:
        return self.named.replace("{norm}", norm)


@dataclass(frozen=True)
class Ground:
    """A sweep with a gate, its numbers, and what candidates are compared with.

    `own` has the sweep's trials alone, `both` the reference's as well.
    """

    plan: Plan
    gate: GatePlan
    store: Store
    own: Material
    both: Material
    against: Against

    @cached_property
    def folded(self) -> dict[str, str]:
        """The norm whose trials stand for those of another label: `i_ln` for `i_ln[eps=0.0001]`."""
        trained = {trial.axes[COMPARED] for trial in self.plan.trials}
        by_id = {trial.id: str(trial.axes[COMPARED]) for trial in self.plan.trials}
        return {
            str(point.axes[COMPARED]): by_id[point.into]
            for point in self.plan.folded
            if point.axes[COMPARED] not in trained
        }

    @property
    def cases(self) -> tuple[Case, ...]:
        """Every candidate at every task and size, in the order of the gate and of the file."""
        found = [
            Case(self, candidate, cell, self._trained(self.against.of(cell.norm)))
            for candidate in self.gate.candidates
            for cell in self.own.cells
            if cell.norm == self._trained(candidate)
        ]
        return (*found, *(case for one in self.gate.unavailable for case in self._lost(*one)))

    def _trained(self, label: str) -> str:
        return self.folded.get(label, label)

    def _lost(self, candidate: str, why: str) -> Iterator[Case]:
        """The cases of a candidate that has no trials: wherever another norm has some."""
        seen = []
        for cell in self.own.cells:
            labels = {**cell.labels, COMPARED: candidate}
            if labels not in seen:
                seen.append(labels)
                yield Case(self, candidate, Cell(labels, cell.trials), "", why)


@dataclass(frozen=True)
class Case:
    """One candidate at one task and size.

    `candidate` is its name in the gate, `norm` the one that its trials have, `reference` the name
    of what it is compared with. `unavailable` says why there are no trials, if so; the cell's are
    then another norm's.
    """

    ground: Ground
    candidate: str
    cell: Cell
    reference: str
    unavailable: str = ""

    @property
    def asked(self) -> Gate:
        return self.ground.gate.asked

    @property
    def norm(self) -> str:
        return self.cell.norm

    @property
    def task(self) -> str:
        return str(self.cell.labels["task"])

    @cached_property
    def rows(self) -> dict[int, Row]:
        """The rows of the candidate's trials by seed."""
        return self._rows_of(self.norm)

    @cached_property
    def reference_rows(self) -> dict[int, Row]:
        return self._rows_of(self.reference)

    def _rows_of(self, norm: str) -> dict[int, Row]:
        index = index_of(self.ground.both.frame)
        rows = index.cells.get(index.key(self.cell.labels), {}).get(norm, ())
        return {int(row[index.seeds]): row for row in rows}

    def ids(self, trials: Iterable[str] = ()) -> tuple[str, ...]:
        """The ids of trials of this case's frame, and of those that diverged; sorted."""
        gone = (row["trial"] for row in self.gone.values())
        return tuple(sorted({as_recorded(trial) for trial in (*trials, *gone)}))

    @property
    def gone(self) -> dict[int, Row]:
        """The rows of the candidate's trials that diverged, by seed."""
        return {
            seed: row for seed, row in sorted(self.rows.items()) if row["state"] == State.DIVERGED
        }

    @property
    def diverged(self) -> str:
        """`diverged at step 37 (seed 1)`, or "" if no trial of the candidate has."""
        return ", ".join(f"{in_words(row)} (seed {seed})" for seed, row in self.gone.items())

    @property
    def untrained(self) -> str:
        """Why no trial of the candidate could be trained; "" if one could, or still may."""
        if self.unavailable:
            return f"could not be trained: {self.unavailable}"
        if not all(row["state"] in UNTRAINED for row in self.rows.values()):
            return ""
        why: dict[str, list[int]] = {}
        for seed, row in sorted(self.rows.items()):
            why.setdefault(str(row["reason"] or in_words(row)), []).append(seed)
        return "could not be trained: " + "; ".join(
            f"{seeds_in_words(seeds)}: {reason}" for reason, seeds in why.items()
        )

    @property
    def without_reference(self) -> str:
        """Why there is nothing to compare the candidate with here; "" if there is."""
        return "" if self.reference_rows else f"cannot be compared: no {self.reference} here"

    def key(self, gate: str, *first: str) -> Key:
        """The question that a gate asks here; `first` are parts of the place before the size."""
        place = place_of(self.ground.plan.axes, self.cell.labels)
        return Key(gate, self.candidate, self.task, ", ".join((*first, place)))

    def setup(self, key: Key, limit: float | None, *, compared: bool) -> str:
        """A digest of all that looks at this question agree in (see `Measured`)."""
        agreed: dict[str, Any] = {
            "question": [key.text, limit],
            "candidate": without_seed(self.cell.trials[0].spec),
        }
        if compared:
            agreed["baseline"] = self.ground.against.digest or self._reference_spec
        text = json.dumps(agreed, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def _reference_spec(self) -> dict[str, Any] | None:
        """The spec of the reference's trials, as planned where the sweep has them."""
        planned = {trial.id: trial.spec for trial in self.ground.plan.trials}
        for _, row in sorted(self.reference_rows.items()):
            recorded = self.ground.both.frame.recorded.get(row["trial"], ())
            for spec in (*filter(None, [planned.get(row["trial"])]), *recorded):
                return without_seed(spec)
        return None


def place_of(axes: Sequence[Axis], labels: Mapping[str, Any]) -> str:
    """Size, recipe and backbone in brief, as a trial's name has them: `w16 d2 swinir-tiny`."""
    ordered = sorted(axes, key=lambda axis: NAME_ORDER.index(axis.role))
    return " ".join(
        axis.brief(labels[axis.name])
        for axis in ordered
        if axis.role not in ("task", "repeat")
        and axis.name != COMPARED
        and labels[axis.name] is not None
    )


def seeds_in_words(seeds: Sequence[int]) -> str:
    """`seed 1`, `seeds 0, 2`."""
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def as_asked(frame: Frame) -> Frame:
    """The frame of a gate, whose trials may come from different commits."""
    return replace(frame, agree=AGREE)
