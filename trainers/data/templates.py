"""Matching paths against the templates of layouts, and how names are compared and sorted."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePosixPath

WHOLE = 0  # in place of a scale: images that serve every scale
LISTED = 20  # of the problems of one kind: a large set may have thousands


@dataclass(frozen=True)
class Match:
    """A path that fits a template: the image's key in its set, and its scale if there is one."""

    path: str
    key: str
    scale: int = WHOLE

    @property
    def name(self) -> str:
        return self.key + PurePosixPath(self.path).suffix


@cache
def _compiled(template: str) -> re.Pattern[str]:
    """Compile a layout's template to a pattern for paths without their suffix.

    `[...]` is optional, and the `x` of `x{scale}` may also be `X`.
    """
    pattern = re.sub(r"x(?=\{scale\})", "[xX]", template.replace("[", "(?:").replace("]", ")?"))
    pattern = (
        pattern.replace("{prefix}", "[^/]*")
        .replace("{folders}", "(?:.*/)?")
        .replace("{key}", "(?P<key>.+?)")
    )
    # A scale that is there twice is the same in both places.
    return re.compile(
        pattern.replace("{scale}", r"(?P<scale>\d+)", 1).replace("{scale}", "(?P=scale)")
    )


def match(template: str, path: str) -> Match | None:
    found = _compiled(template).fullmatch(path[: path.rindex(".")])
    return (
        Match(path, found["key"], int(found.groupdict().get("scale") or WHOLE)) if found else None
    )


def matches(template: str, paths: Sequence[str]) -> list[Match]:
    return [found for path in paths if (found := match(template, path))]


def order_of(path: str) -> list[str]:
    """The key to sort images by, folder by folder: their order is part of a set's identity."""
    return path.split("/")


def normal(key: str) -> str:
    """A key as it is compared: macOS decomposes accents, and other systems do not."""
    return unicodedata.normalize("NFC", key)


def shortened(problems: Sequence[str]) -> list[str]:
    """The problems, or the first of them and the number of the others if there are very many."""
    more = len(problems) - LISTED
    return [*problems[:LISTED], *([f"and {more} more of this kind"] if more > 0 else [])]
