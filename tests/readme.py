"""The commands of k8s/README.md, so that tests run them as they are printed.

Only what belongs to a user (keys, registry, folders) is filled in.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "k8s" / "README.md"
SECTIONS = {"needs": 1, "images": 2, "services": 3, "data": 4, "submit": 5, "look": 6}


def block(section: str, language: str, number: int = 0, fill: Mapping[str, str] = {}) -> str:
    """The `number`-th code block of a section in `language`, with texts replaced as `fill` says.

    Each command is one line. A text that is not in the block fails: the README has changed, and
    its test must too.
    """
    heading = rf"^## {SECTIONS[section]}\. .*?(?=^## )"
    (text,) = re.findall(heading, README.read_text(), re.MULTILINE | re.DOTALL)
    found: str = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[number]
    found = re.sub(r"\\\n *", "", found)
    for example, value in fill.items():
        assert example in found, f"{README.name}, section {section}: {example!r} is gone"
        found = found.replace(example, value)
    return found


def write_overlay(k8s: Path, fill: Mapping[str, str] = {}) -> Path:
    """Write the README's overlay into a copy of k8s/, where the README puts it; its folder."""
    folder = k8s / "overlays" / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(block("services", "yaml", fill=fill))
    return folder
