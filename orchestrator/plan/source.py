"""A sweep file as plain values, with the place of each; YAML's traps are errors.

The file is one document of plain mappings, sequences and scalars. A key given twice, an anchor, a
tag, `1e-5` (text to YAML 1.1) and a bare `yes`, `no`, `on` or `off` (booleans to YAML 1.1) are
refused, and the message says what to write instead.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import UserError
from orchestrator.plan.limits import (
    CONTROL,
    LOADER,
    LONGEST_KEY,
    OverLimit,
    check_text,
    read_text,
    shown,
)

Location = tuple[str | int, ...]
MOST_SHOWN = 50  # problems in one message
WIDEST = 160  # characters that a message shows of a line of the file, around the caret
SHIPPED = Path(__file__).parents[2] / "sweeps"
NUMBER_TAGS = {"tag:yaml.org,2002:int": int, "tag:yaml.org,2002:float": float}
UNTYPED_NUMBER = re.compile(r"[-+]?(\d[\d_]*)?\.?\d+[eE][-+]?\d+$")
LOOSE_BOOLEANS = {
    "yes": "true",
    "on": "true",
    "y": "true",
    "no": "false",
    "off": "false",
    "n": "false",
}


@dataclass(frozen=True)
class Position:
    """Line and column, both from 1."""

    line: int
    column: int


@dataclass(frozen=True, order=True)
class Problem:
    """One thing wrong with a file: its place, as a path of keys, and what would be right."""

    location: Location = field(compare=False)
    message: str
    position: Position | None = field(default=None, compare=False)


@dataclass
class Source:
    """A parsed file: its plain `value`, and the positions of keys and of their values."""

    path: Path
    lines: Sequence[str]
    value: Any
    positions: Mapping[Location, Position]
    keys: Mapping[Location, Position]

    @property
    def question(self) -> str:
        """The question that the sweep asks: the first line, if it is a comment, else ""."""
        first = self.lines[0] if self.lines else ""
        return first.lstrip("# ").strip() if first.startswith("#") else ""

    def position(self, location: Location, *, of_key: bool = False) -> Position:
        """The position of `location`, or of its nearest parent that is in the file."""
        if of_key and location in self.keys:
            return self.keys[location]
        while location and location not in self.positions:
            location = location[:-1]
        return self.positions.get(location, Position(1, 1))

    def error(self, problems: Sequence[Problem]) -> UserError:
        """An error with all problems, in the file's order, each with its line and a caret."""
        placed = [(p.position or self.position(p.location), p) for p in problems]
        placed.sort(key=lambda pair: (pair[0].line, pair[0].column))
        shown = [self._in_context(position, problem) for position, problem in placed[:MOST_SHOWN]]
        if len(placed) > MOST_SHOWN:
            shown.append(f"... and {len(placed) - MOST_SHOWN} more problems")
        return UserError("\n".join(shown))

    def placed(self, problem: Problem) -> str:
        """A problem with its place, on one line."""
        return self._in_context(
            problem.position or self.position(problem.location), problem
        ).splitlines()[0]

    def noted(self, location: Location, message: str) -> str:
        """A remark on the key at a place, on one line."""
        return self.placed(Problem(location, message, self.position(location, of_key=True)))

    def _in_context(self, position: Position, problem: Problem) -> str:
        where = f"{written(problem.location)}: " if problem.location else ""
        head = f"{self.path}:{position.line}:{position.column}: {where}{problem.message}"
        if not 0 < position.line <= len(self.lines):
            return head
        # A terminal would act on control characters. Each is replaced by one character, so that
        # the caret stays where it belongs.
        line = CONTROL.sub("\N{REPLACEMENT CHARACTER}", self.lines[position.line - 1])
        caret = position.column - 1
        if len(line) > WIDEST:
            cut = max(0, caret - WIDEST // 2)
            line, caret = line[cut : cut + WIDEST], caret - cut
        return f"{head}\n{position.line:5d} | {line}\n      | {' ' * caret}^"


def written(location: Location) -> str:
    """A location as messages write it: `axes.norm[1]`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def read_source(path: Path) -> tuple[Source, list[Problem]]:
    """Read and parse a sweep file: its source, and the problems of its YAML, as in `examined`.

    Raises UserError if it cannot be read, or holds nothing.
    """
    try:
        if not path.exists() and (SHIPPED / path.name).is_file():
            # So that `sweeps/quickstart.yaml` works where a wheel is installed, without a checkout.
            path = SHIPPED / path.name
        text = read_text(path)
    except FileNotFoundError as error:
        shipped = ", ".join(sorted(file.name for file in SHIPPED.glob("*.yaml")))
        raise UserError(
            f"{path}: no such file. Sweeps that come with normsweep: {shipped}."
        ) from error
    except IsADirectoryError as error:
        found = ", ".join(sorted(p.name for p in path.glob("*.yaml"))) or "none"
        raise UserError(
            f"{path}: is a folder, not a sweep file. YAML files in it: {found}."
        ) from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    source, problems = examined(path, text)
    if not source.positions:
        raise UserError(
            f"{path}: is empty. A sweep needs at least `axes:` (see docs/sweep-file.md)."
        )
    return source, problems


def parsed(path: Path, text: str) -> Source:
    """Parse YAML from anywhere; messages call its source `path`.

    The positions are empty if the text is. Raises UserError with every problem.
    """
    source, problems = examined(path, text)
    if problems:
        raise source.error(problems)
    return source


def examined(path: Path, text: str) -> tuple[Source, list[Problem]]:
    """Parse YAML from anywhere: the source, and the problems with values and keys in it.

    A value with a problem is None, unless it is clear what was meant. Raises UserError for a text
    that is not YAML or exceeds a limit: nothing in it can be relied on.
    """
    source = Source(path, text.splitlines(), None, {}, {})
    try:
        check_text(text)
        documents = list(yaml.compose_all(text, Loader=LOADER))
    except OverLimit as error:
        raise source.error([Problem((), str(error), Position(error.line, error.column))]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Position(mark.line + 1, mark.column + 1) if mark else Position(1, 1)
        said = " ".join(filter(None, (error.context, error.problem)))
        raise source.error([Problem((), f"not YAML: {said}", place)]) from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not documents or documents[0] is None:
        return source, []
    reader = _Reader()
    if len(documents) > 1:
        mark = documents[1].start_mark
        reader.problems.append(
            Problem(
                (),
                "a second document begins here: a file has only one",
                Position(mark.line + 1, mark.column + 1),
            )
        )
    source.value = reader.read((), documents[0])
    source.positions, source.keys = reader.positions, reader.keys
    return source, reader.problems


class _Reader:
    """Walks the nodes of a document and records the position of each key and value."""

    def __init__(self) -> None:
        self.positions: dict[Location, Position] = {}
        self.keys: dict[Location, Position] = {}
        self.problems: list[Problem] = []
        self._seen: set[int] = set()

    def read(self, location: Location, node: yaml.Node) -> Any:
        place = Position(node.start_mark.line + 1, node.start_mark.column + 1)
        self.positions[location] = place
        if id(node) in self._seen:  # PyYAML composes an alias into the node of its anchor
            self.problems.append(Problem(location, "an alias (*name): write the value out", place))
            return None
        self._seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(location, node)
        if isinstance(node, yaml.SequenceNode):
            return [self.read((*location, i), item) for i, item in enumerate(node.value)]
        return self._scalar(location, node, place)

    def _mapping(self, location: Location, node: yaml.MappingNode) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = Position(key_node.start_mark.line + 1, key_node.start_mark.column + 1)
            key = key_node.value
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != "tag:yaml.org,2002:str":
                self.problems.append(Problem(location, "a key must be a plain name", place))
                continue
            if len(key) > LONGEST_KEY:
                self.problems.append(
                    Problem(
                        location,
                        f"the key {shown(key)} has more than {LONGEST_KEY} characters",
                        place,
                    )
                )
                continue
            inner = (*location, key)
            if key in values:
                first = self.keys[inner].line
                self.problems.append(
                    Problem(inner, f"the key {key!r} is given twice; first on line {first}", place)
                )
                values[key] = self._both(values[key], inner, value_node)
                continue
            self.keys[inner] = place
            values[key] = self.read(inner, value_node)
        return values

    def _both(self, first: Any, location: Location, node: yaml.Node) -> Any:
        """The value of a key that is given twice: the first, with what only the second has."""
        again = _Reader()
        second = again.read(location, node)
        self.problems += again.problems
        self.positions = again.positions | self.positions
        self.keys = again.keys | self.keys
        is_both = isinstance(first, dict) and isinstance(second, dict)
        return {**second, **first} if is_both else first

    def _scalar(self, location: Location, node: yaml.Node, place: Position) -> Any:
        tag, text, plain = node.tag, str(node.value), not getattr(node, "style", None)
        if tag == "tag:yaml.org,2002:str":
            if plain and UNTYPED_NUMBER.match(text):
                message = f"{text} is text to YAML, not a number: write {_with_dot(text)}"
                self.problems.append(Problem(location, message, place))
                return float(text.replace("_", ""))
            return text
        if tag == "tag:yaml.org,2002:bool":
            if text.lower() in LOOSE_BOOLEANS:
                meant = LOOSE_BOOLEANS[text.lower()]
                self.problems.append(
                    Problem(
                        location,
                        f"a bare {text} is a boolean to YAML: write {meant}, or quote it for text",
                        place,
                    )
                )
            return text.lower() in ("true", "yes", "on")
        if tag == "tag:yaml.org,2002:null":
            return None
        if tag in NUMBER_TAGS:
            return self._number(location, tag, text, place)
        self.problems.append(
            Problem(
                location, f"{text!r} has the YAML type {tag.rsplit(':', 1)[-1]}: quote it", place
            )
        )
        return text  # as it would be in quotes

    def _number(
        self, location: Location, tag: str, text: str, place: Position
    ) -> int | float | None:
        try:
            value: int | float = yaml.SafeLoader("").construct_object(yaml.ScalarNode(tag, text))
        except (ValueError, OverflowError):
            self.problems.append(Problem(location, f"{text} is not a number", place))
            return None
        if not math.isfinite(value):
            self.problems.append(
                Problem(
                    location, f"{text} is not a number that can be used: give a finite one", place
                )
            )
            return None
        # YAML 1.1 reads 1:30 in base 60, 1_000 as 1000 and 010 in base 8.
        if re.search(r"[:_]", text) or (tag.endswith("int") and re.match(r"[-+]?0\d", text)):
            self.problems.append(
                Problem(
                    location, f"{text} would be read as {value}: write the number plainly", place
                )
            )
        return value


def _with_dot(text: str) -> str:
    """`1e-5` as `1.0e-5`, which YAML 1.1 reads as a number."""
    mantissa, exponent = re.split("[eE]", text)
    sign = exponent if exponent[0] in "+-" else f"+{exponent}"
    return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{sign}"
