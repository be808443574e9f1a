"""Generated files are up to date, the sweeps that ship fit the schema, and links lead somewhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.datasets.roots import DataRoots
from orchestrator.plan import load_plan
from orchestrator.plan.docs import PAGE, SCHEMA, page, schema
from tests import drawing
from trainers.data.lookup import find_set

ROOT = Path(__file__).parents[2]
SWEEPS = sorted((ROOT / "sweeps").glob("*.yaml"))


def test_the_page_and_the_schema_are_current() -> None:
    assert PAGE.read_text() == page(), "run: make generate"
    assert json.loads(SCHEMA.read_text()) == schema(), "run: make generate"


def test_the_drawing_of_the_floors_is_current() -> None:
    assert drawing.PAGE.read_text() == drawing.page(), "run: make generate"


def test_the_example_of_the_page_is_a_sweep(tmp_path: Path) -> None:
    example = page().split("```yaml\n")[1].split("```")[0]
    (tmp_path / "example.yaml").write_text(example)
    assert len(load_plan(tmp_path / "example.yaml").trials) > 10
    jsonschema.validate(yaml.safe_load(example), schema())


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_a_sweep_that_ships_fits_the_schema_and_can_be_planned(
    path: Path, request: pytest.FixtureRequest
) -> None:
    content = yaml.safe_load(path.read_text())
    jsonschema.validate(content, schema())
    find: Callable = find_set
    if "data" in content:
        photographs = request.getfixturevalue("photographs")
        find = DataRoots([str(photographs / "train"), str(photographs / "benchmarks")]).find
    assert "?" in load_plan(path, find).question


def test_the_schema_refuses_what_the_planner_refuses() -> None:
    good = yaml.safe_load(SWEEPS[0].read_text())
    for change in ({"axes": {}}, {"axes": {**good["axes"], "norm": ["iln"]}}, {"trainig": {}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**good, **change}, schema())


def test_every_link_to_a_file_leads_to_one() -> None:
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "k8s").rglob("*.md")]
    lost = [
        f"{page.relative_to(ROOT)}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if not re.match(r"[a-z]+:", link) and not (page.parent / link).exists()
    ]
    assert len(pages) > 30
    assert not lost
