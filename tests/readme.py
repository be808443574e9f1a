"""The commands and files of k8s/README.md and docs/how-to/nightly.md, so that tests run them as
they are printed.

Only what belongs to a user (keys, registry, folders) is filled in.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = ROOT / "k8s" / "README.md"
NIGHTLY = ROOT / "docs" / "how-to" / "nightly.md"
SECTIONS = {"needs": 1, "images": 2, "services": 3, "data": 4, "submit": 5, "look": 6}


def block(section: str, language: str, number: int = 0, fill: Mapping[str, str] = {}) -> str:
    """The `number`-th code block of a section in `language`, with texts replaced as `fill` says.

    Each command is one line. A text that is not in the block fails: the README has changed, and
    its test must too.
    """
    return _block(README, rf"{SECTIONS[section]}\. .*?", language, number, fill)


def nightly_block(
    section: str, language: str, number: int = 0, fill: Mapping[str, str] = {}
) -> str:
    """As `block`, from a section of docs/how-to/nightly.md, named by its heading."""
    return _block(NIGHTLY, section, language, number, fill)


def _block(page: Path, heading: str, language: str, number: int, fill: Mapping[str, str]) -> str:
    pattern = rf"^##+ {heading}$.*?(?=^##+ |\Z)"
    (text,) = re.findall(pattern, page.read_text(), re.MULTILINE | re.DOTALL)
    found: str = re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[number]
    found = re.sub(r"\\\n *", "", found)
    for example, value in fill.items():
        assert example in found, f"{page.name}, {heading}: {example!r} is gone"
        found = found.replace(example, value)
    return found


def write_overlay(k8s: Path, fill: Mapping[str, str] = {}) -> Path:
    """Write the README's overlay into a copy of k8s/, where the README puts it; its folder."""
    folder = k8s / "overlays" / "mine"
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(block("services", "yaml", fill=fill))
    return folder


def write_nightly(k8s: Path, fill: Mapping[str, str] = {}) -> Path:
    """Write the overlay of a gate into a copy of k8s/, with the gate that ships; its folder."""
    folder = k8s / "overlays" / "nightly"
    folder.mkdir(exist_ok=True)
    (folder / "kustomization.yaml").write_text(nightly_block("On Kubernetes", "yaml", fill=fill))
    shutil.copy(k8s / "nightly" / "nightly.yaml", folder)
    return folder
