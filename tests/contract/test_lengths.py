"""Modules and functions stay short; `make check` runs this beside ruff's complexity."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGES = ("orchestrator", "trainers", "benchmarks", "k8s")
LONGEST_FILE = 350
LONGEST_FUNCTION = 59


def modules() -> list[tuple[str, str]]:
    """Path below the root, and content."""
    files = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return [(path.relative_to(ROOT).as_posix(), path.read_text()) for path in files]


def too_long(path: str, content: str) -> Iterator[str]:
    if content.count("\n") > LONGEST_FILE:
        yield path
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            if (node.end_lineno or first) - first + 1 > LONGEST_FUNCTION:
                yield f"{path}: {node.name}"


def test_no_module_has_more_than_350_lines_and_no_function_60() -> None:
    found = {problem for path, content in modules() for problem in too_long(path, content)}
    assert not found, sorted(found)


def test_what_is_too_long_is_seen() -> None:
    body = "    pass\n" * LONGEST_FUNCTION
    assert list(too_long("m.py", "def f():\n" + body)) == ["m.py: f"]
    assert list(too_long("m.py", "@g\ndef f():\n" + body[: -len("    pass\n")])) == ["m.py: f"]
    assert not list(too_long("m.py", "def f():\n" + body[: -len("    pass\n")]))
    assert list(too_long("m.py", "pass\n" * (LONGEST_FILE + 1))) == ["m.py"]
