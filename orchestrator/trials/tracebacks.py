"""Tracebacks in failures, reduced to what a user can change: the frames of the user's own files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

BEGIN = "Traceback (most recent call last):"
FRAME = re.compile(r'\s*File "(?P<path>.+)", line \d+')
OF_LIBRARY = re.compile(r"/(?:site|dist)-packages/|/lib/python3|^<")
ROOT = Path(__file__).parents[2]
OURS = re.compile(r"(?:^|/)((?:orchestrator|trainers)/.+\.py)$")


def reduced(text: str) -> str:
    """A message with each of its tracebacks reduced to the user's frames.

    If a traceback has none, the innermost frame of normsweep is kept, or else the innermost one. It
    says how many were left out.
    """
    lines: list[str] = []
    found = iter(text.splitlines())
    for line in found:
        lines.append(line)
        if line.strip() == BEGIN:
            lines += _reduced(found)
    return "\n".join(lines)


def _reduced(found: Iterator[str]) -> list[str]:
    """The frames that are kept, a line on the others, and the line that follows the frames."""
    frames: list[list[str]] = []
    last: list[str] = []
    for line in found:
        if FRAME.match(line):
            frames.append([line])
        elif frames and line.startswith((" ", "\t")):
            frames[-1].append(line)
        else:
            last = [line]
            break
    kept = [frame for frame in frames if _whose(frame) == "user"]
    if not kept:
        kept = ([frame for frame in frames if _whose(frame) == "ours"] or frames)[-1:]
    out = len(frames) - len(kept)
    noted = [f"  ({out} frame{'s' * (out != 1)} of libraries left out: --full)"] if out else []
    return [*(line for frame in kept for line in frame), *noted, *last]


def _whose(frame: list[str]) -> str:
    """`user`, `ours` or `library`. The path may be another machine's, such as a pod's."""
    match = FRAME.match(frame[0])
    path = match["path"] if match else ""
    if (ours := OURS.search(path)) and (ROOT / ours[1]).is_file():
        return "ours"
    return "library" if OF_LIBRARY.search(path) else "user"
