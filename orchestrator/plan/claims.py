"""The file of a user's own claims that a sweep file names.

Only its text is read here; orchestrator.report.claims.reader says what it means.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import UserError
from orchestrator.plan.limits import read_text
from orchestrator.plan.source import Location, Source


@dataclass(frozen=True)
class ClaimFile:
    """A file of claims: its place, for messages, and its text when the sweep was planned.

    `given` is its path below the sweep file's folder; "" for one that a flag names.
    """

    path: Path
    text: str
    given: str = ""


Check = Callable[[ClaimFile | None], object]  # raises UserError with all problems of claims


def read_claim_file(
    source: Source, given: str | None, report: Callable[[Location, str], None]
) -> ClaimFile | None:
    """The file that the sweep file's field `claims` names. What is wrong with it is reported."""
    if given is None:
        return None
    try:
        return ClaimFile(*_read(source.path.parent / given), given)
    except UserError as error:
        report(("claims",), str(error))
        return None


def claim_file(path: Path) -> ClaimFile:
    """The file that a flag names. Raises UserError."""
    return ClaimFile(*_read(path))


def _read(path: Path) -> tuple[Path, str]:
    try:
        return path, read_text(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder, not a file of claims") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
