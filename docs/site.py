"""Puts the pages that lie outside docs/ into the site, and turns their links (mkdocs hooks).

A link works in the repository as it stands; in the site it leads to the page that was made of the
same file. A link to any other file (code, YAML) becomes plain text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
OUTSIDE = {
    "README.md": "index.md",
    "k8s/README.md": "kubernetes.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
LISTED = {"docs/decisions": "Decisions", "docs/results": "Measurements"}
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]*)(#[^)\s]*)?\)")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    for source, page in OUTSIDE.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    for folder, title in LISTED.items():
        pages = sorted((ROOT / folder).glob("*.md"))
        lines = [f"- [{_title(page)}]({page.name})" for page in pages]
        page = f"{posixpath.basename(folder)}/index.md"
        files.append(
            File.generated(config, page, content="\n".join([f"# {title}", "", *lines, ""]))
        )
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """The text with links that lead from the page's place in the site."""
    uri = page.file.src_uri
    source = next((path for path, made in OUTSIDE.items() if made == uri), f"docs/{uri}")

    def turned(match: re.Match[str]) -> str:
        image, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if not target or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        place = _place(path)
        if place is None:
            return text
        return f"{image}[{text}]({posixpath.relpath(place, posixpath.dirname(uri) or '.')}{anchor})"

    return LINK.sub(turned, markdown)


def _place(path: str) -> str | None:
    """Where a file of the repository is in the site; None if it is not."""
    if path in OUTSIDE:
        return OUTSIDE[path]
    if path in LISTED:
        return f"{posixpath.basename(path)}/index.md"
    inside = path.removeprefix("docs/")
    return inside if inside != path else None


def _title(page: Path) -> str:
    heading = page.read_text(encoding="utf-8").partition("\n")[0]
    return heading.removeprefix("# ")
