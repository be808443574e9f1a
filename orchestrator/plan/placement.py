"""The placement of each trial: `resources`, changed by the `overrides` that match it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pydantic import ValidationError

from orchestrator.plan.fit import misplaced
from orchestrator.plan.limits import shown
from orchestrator.plan.match import Accepted, matches
from orchestrator.plan.source import Location
from orchestrator.plan.sweep import Resources
from trainers.spec import PlacementSpec


class Placed(NamedTuple):
    """A placement, the memory of its GPUs if the file gives it, and where the file gives them."""

    spec: PlacementSpec
    gpu_memory_gb: float | None
    gpus_at: Location


class Placements:
    """The placements of one sweep's trials; problems are passed to `problem`."""

    def __init__(
        self,
        resources: Resources,
        *,
        problem: Callable[[Location, str], None],
        read_match: Callable[[Location, Mapping[str, Any]], Accepted],
    ) -> None:
        self._resources = resources
        self._problem = problem
        self._matches: dict[int, Accepted] = {}
        self._made: dict[tuple[int, ...], Placed | None] = {}  # by the overrides that match
        self._is_whole = True
        self._wrong: set[int] = set()  # overrides with fields that are reported
        for i, override in enumerate(resources.overrides):
            location: Location = ("resources", "overrides", i)
            match = override.get("match")
            if isinstance(match, dict) and match:
                self._matches[i] = read_match((*location, "match"), match)
            else:
                self._is_whole = False
                problem(location, "needs `match: {axis: value}`")
            self._check(i, override)

    def of(self, labels: Mapping[str, Any]) -> Placed | None:
        """The placement of a trial; None if the file is wrong about it, which has been reported."""
        hits = tuple([i for i, accepted in self._matches.items() if matches(labels, accepted)])
        if hits not in self._made:
            self._made[hits] = self._make(hits)
        return self._made[hits] if self._is_whole else None

    def finish(self) -> None:
        """Report overrides that matched no trial."""
        used = {i for hits in self._made for i in hits}
        for i in self._matches.keys() - used:
            self._problem(("resources", "overrides", i, "match"), "matches no trial")

    def _check(self, i: int, override: Mapping[str, Any]) -> None:
        """Report fields of an override that are wrong whichever trials it matches."""
        location: Location = ("resources", "overrides", i)
        try:
            Resources.model_validate({k: v for k, v in override.items() if k != "match"})
        except ValidationError as error:
            self._wrong.add(i)
            for detail in error.errors():
                is_unknown = detail["type"] == "extra_forbidden"
                reason = detail["msg"].removeprefix("Value error, ")
                message = (
                    "unknown field of resources"
                    if is_unknown
                    else f"{reason}, not {shown(detail['input'])}"
                )
                self._problem((*location, *detail["loc"]), message)

    def _make(self, hits: tuple[int, ...]) -> Placed | None:
        fields = self._resources.model_dump(exclude={"overrides"})
        set_at: dict[str, Location] = {}
        if not self._wrong.isdisjoint(hits):
            return None
        for i in hits:
            location: Location = ("resources", "overrides", i)
            override = self._resources.overrides[i]
            changed = fields | {key: value for key, value in override.items() if key != "match"}
            fields = Resources.model_validate(changed).model_dump(exclude={"overrides"})
            set_at |= dict.fromkeys(override, location)
        if contradiction := misplaced(fields):
            field, message = contradiction
            self._problem((*set_at.get(field, ("resources",)), field), message)
            return None
        gpus_at = (*set_at.get("gpus_per_worker", ("resources",)), "gpus_per_worker")
        gpu_memory_gb = fields.pop("gpu_memory_gb")
        return Placed(
            PlacementSpec(strategy=fields.pop("placement"), **fields), gpu_memory_gb, gpus_at
        )
