"""Draws the floors and rooms as they are, from the imports: the lower part of docs/architecture.md.

`python -m tests.drawing` remakes it, and so does `make generate`. It is kept with the tests because
it needs grimp, which only development installs (import-linter reads the same graph with it).
"""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Iterable, Iterator

import grimp

from tests.floors import ROOT, Floor, contracts, floors, room_of

PAGE = ROOT / "docs" / "architecture.md"
MARK = (
    "<!-- `make generate` remakes all that follows from the imports; "
    "a test says when it is stale. -->\n"
)
PACKAGES = ("orchestrator", "trainers")
WIDTH = 96  # of the drawing, in characters

ABOUT_DRAWING = """\
## The floors and rooms

A room is a package, or a module that stands alone. Beside each are the rooms it imports from. All
of them are on lower floors, since rooms that share a floor do not import each other. A class that a
catalogue names (`"trainers.norms.layer_norm:LayerNorm"`) is not an import.
"""


def page() -> str:
    """The whole page: its handwritten part unchanged, and the drawing made anew."""
    by_hand, mark, _ = PAGE.read_text().partition(MARK)
    if not mark:
        raise SystemExit(f"{PAGE}: the line that the drawing goes under is missing: {MARK}")
    return by_hand + MARK + "\n" + drawing()


def drawing() -> str:
    graph = grimp.build_graph(*PACKAGES, cache_dir=None)
    modules = sorted(graph.modules)
    imported = {module: graph.find_modules_directly_imported_by(module) for module in modules}
    parts = [ABOUT_DRAWING, "```text", *_plan(imported), "```", "", "## What each is for", ""]
    for package in PACKAGES:
        parts += [f"### {package}", ""]
        for floor in (floor for floor in floors() if floor.package == package):
            for room in floor.rooms:
                parts += _room(room, modules)
        parts.append("")
    parts += ["## What else CI holds about imports", ""]
    parts += [f"- {contract['name']}." for contract in contracts() if contract["type"] != "layers"]
    return "\n".join(parts) + "\n"


def _plan(imported: dict[str, set[str]]) -> Iterator[str]:
    """A row for each room: its floor, its name, and the rooms it imports from."""
    used = {room: _rooms(imported, room) for floor in floors() for room in floor.rooms}
    names = max(len(_short(room)) for room in used)
    line = f"+----+-{'-' * names}-+-{'-' * (WIDTH - names - 12)}-+"
    for package in PACKAGES:
        yield from ("", package) if package != PACKAGES[0] else (package,)
        for floor in (floor for floor in floors() if floor.package == package):
            yield line
            yield from _rows(floor, used, names)
        yield line


def _rows(floor: Floor, used: dict[str, list[str]], names: int) -> Iterator[str]:
    number = str(floor.number)
    for room in floor.rooms:
        name, width = _short(room), WIDTH - names - 12
        for text in textwrap.wrap(_in_words(floor.package, used[room]) or "-", width):
            yield f"| {number:>2} | {name:{names}} | {text:{width}} |"
            number = name = ""


def _rooms(imported: dict[str, set[str]], room: str) -> list[str]:
    """The rooms that a room imports from, in the order of the floors."""
    found = {
        room_of(target)
        for module, targets in imported.items()
        if room_of(module) == room
        for target in targets
    }
    return [
        other for floor in floors() for other in floor.rooms if other in found and other != room
    ]


def _in_words(package: str, rooms: Iterable[str]) -> str:
    """`plan, errors; trainers: spec, catalog`."""
    own = [_short(room) for room in rooms if room.startswith(package + ".")]
    others = [_short(room) for room in rooms if not room.startswith(package + ".")]
    return "; ".join(filter(None, [", ".join(own), others and f"trainers: {', '.join(others)}"]))


def _short(room: str) -> str:
    return room.partition(".")[2]


def _room(room: str, modules: Iterable[str]) -> Iterator[str]:
    yield f"- **{_short(room)}**: {purpose(room)}"
    yield from (
        f"  - `{module.removeprefix(room + '.')}`: {purpose(module)}"
        for module in modules
        if module.startswith(room + ".") and _source(module).strip()
    )


def purpose(module: str) -> str:
    """The first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(_source(module)))
    if not text:
        raise SystemExit(f"{module}: has no docstring to say what it is for")
    first = " ".join(text.split("\n\n")[0].split())
    sentence = re.split(r"(?<=\.)\s+(?=[A-Z`])", first)[0]
    return sentence.rstrip(".") + "."


def _source(module: str) -> str:
    path = ROOT.joinpath(*module.split("."))
    return (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()


if __name__ == "__main__":
    PAGE.write_text(page())
