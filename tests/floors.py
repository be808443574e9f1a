"""The floors of both packages, from the contracts in pyproject.toml that CI enforces."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Floor:
    """Rooms that stand side by side: packages and single modules, by full name.

    Rooms on one floor do not import each other. `number` counts from the top, over both packages.
    """

    number: int
    package: str
    rooms: tuple[str, ...]


def contracts() -> list[Mapping[str, Any]]:
    """The contracts on imports that CI enforces."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    found: list[Mapping[str, Any]] = settings["tool"]["importlinter"]["contracts"]
    return found


@cache
def floors() -> tuple[Floor, ...]:
    """From top to bottom: orchestrator's floors, then those of trainers, which never import it."""
    found: list[Floor] = []
    for contract in contracts():
        if contract["type"] == "layers":
            (package,) = contract["containers"]
            for layer in contract["layers"]:
                rooms = tuple(f"{package}.{name.strip()}" for name in layer.split("|"))
                found.append(Floor(len(found) + 1, package, rooms))
    return tuple(found)


def room_of(module: str) -> str | None:
    """The room that a module belongs to, or None outside both packages."""
    room = ".".join(module.split(".")[:2])
    return room if room in _numbers() else None


def floor_of(module: str) -> int | None:
    """The number of the floor that a module is on, or None outside both packages."""
    return _numbers().get(".".join(module.split(".")[:2]))


@cache
def _numbers() -> dict[str, int]:
    return {room: floor.number for floor in floors() for room in floor.rooms}
