"""An extension takes the new files that CONTRIBUTING names, one line in a table, and nothing else
by hand.

Each test adds a tiny one from `extensions/<kind>` to a copy of this project, and uses it there
through the commands that people use.
"""

from __future__ import annotations

import csv
import difflib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.sweeps import environment
from trainers import journal

ROOT = Path(__file__).parents[2]
EXTENSIONS = Path(__file__).with_name("extensions")
COPIED = ("orchestrator", "trainers", "sweeps", "docs", "tests", "pyproject.toml")
GENERATORS = ("orchestrator.plan.docs", "tests.drawing")  # what `make generate` runs
SET = "embedded-test"

SWEEP = """\
# Does the extension work?
axes:
  backbone: [{backbone}]
  norm: [{norm}]
  task: [{task}]
{axes}data: {{evaluate: [embedded-test]}}
training: {{steps: {steps}, batch_size: 2, patch_size_px: 8}}
observe: {{probes: [{probes}], log_every: 1, probe_every: 1, probe_patches: 2, checkpoint_every: 2}}
resources: {{device: cpu}}
"""
KNOWN = {
    "backbone": "{name: swinir-tiny, embed_dim: 8, depths: [1], num_heads: [2], window_size: 4}",
    "norm": "i_ln",
    "task": "jpeg_10",
    "axes": "",
    "steps": "2",
    "probes": "features",
}
STORED = """
import sys
from pathlib import Path
from orchestrator.plan import load_plan
from orchestrator.store import open_store
from tests.written_store import write_run, write_sweep
plan, store = load_plan(Path("s.yaml")), open_store("runs")
folders = [Path(folder) for folder in sys.argv[1:]]
for trial, folder in zip(plan.trials, folders):
    write_run(store, trial, folder)
if not folders:
    write_sweep(store, plan)
"""


class Line(NamedTuple):
    """The line that an extension has in a table: its file, the text above it, and the line."""

    file: str
    below: str
    text: str


LINES = {
    "norm": Line(
        "trainers/catalog.py",
        'NORMS = Catalog(\n    "norm",\n',
        '    entry("centred", "trainers.norms.centred:Centred", facts=PER_TOKEN),\n',
    ),
    "backbone": Line(
        "trainers/catalog.py",
        'BACKBONES = Catalog(\n    "backbone",\n',
        '    entry("thin", "trainers.backbones.thin:thin", '
        'shape="trainers.backbones.thin_shape:SHAPE", embed_dim=8, depth=2),\n',
    ),
    "task": Line(
        "trainers/catalog.py",
        'TASKS = Catalog(\n    "task",\n',
        '    entry("dimming", "trainers.tasks.dimming:Dimming", '
        'facts={"patch_size_px": 64, "scored": "dim: RGB"}, light=0.5),\n',
    ),
    "probe": Line(
        "trainers/observed.py",
        'PROBES = Catalog(\n    "probe",\n',
        '    entry("absolute", "trainers.probes.absolute:Absolute", '
        'facts={"gives": "mean of \\\\|x\\\\|"}),\n',
    ),
    "metric": Line(
        "trainers/observed.py",
        'METRICS = Catalog(\n    "metric",\n',
        '    entry("near", "trainers.metrics.near:near", '
        'facts={"title": "Near", "decimals": 3, "fine": 5, "gives": "near"}),\n',
    ),
    "axis": Line(
        "orchestrator/plan/axes.py",
        "LINES = (\n",
        '    Axis("window", "model", Annotated[int, Field(ge=2, le=64)], '
        '"backbone.window_size", letter="win"),\n',
    ),
    "section": Line(
        "orchestrator/report/sections/__init__.py",
        "LINES = (\n",
        '    Line("largest", "The largest network", "Largest"),\n',
    ),
    "tracker": Line(
        "orchestrator/tracking/__init__.py",
        "TRACKERS = {\n",
        '    "lines": "orchestrator.tracking.lines:LinesTracker",\n',
    ),
}


class ByHand(NamedTuple):
    """What was written in the copy by hand: new files, and lines added to existing files."""

    new: int
    lines: int


@dataclass(frozen=True)
class Copy:
    """A copy of this project with extensions, and what it took to add them."""

    root: Path
    by_hand: ByHand
    generated: frozenset[str]

    def ran(self, *arguments: object) -> str:
        return ran(self.root, *arguments)

    def normsweep(self, *arguments: object) -> str:
        return self.ran("-m", "orchestrator", *arguments)

    def planned(self, **names: str) -> list[dict[str, Any]]:
        """The trials of a sweep over what is known, with `names` in place of some of it."""
        (self.root / "s.yaml").write_text(SWEEP.format(**{**KNOWN, **names}))
        plan = json.loads(self.normsweep("plan", "s.yaml", "--json"))
        trials: list[dict[str, Any]] = plan["trials"]
        return trials

    def trained(self, trial: Mapping[str, Any]) -> Path:
        """Train a trial; returns its run folder."""
        out = self.root / "out" / trial["id"]
        out.mkdir(parents=True)
        (out / "spec.json").write_text(json.dumps(trial["spec"]))
        self.ran("-m", "trainers", out / "spec.json", "--out", out)
        result = json.loads((out / "result.json").read_text())
        assert (result["outcome"], result["step"]) == ("completed", 2)
        return out

    def reported(self, *folders: Path) -> dict[str, str]:
        """Report on the sweep of `planned`; returns the files of the report.

        Without run folders, its trials get curves that look like training.
        """
        self.ran("-c", STORED, *folders)
        self.normsweep("report", "s.yaml", "--out", "report")
        return {
            path.name: path.read_text()
            for path in (self.root / "report").iterdir()
            if path.is_file()
        }


def ran(root: Path, *arguments: object) -> str:
    """The output of `python ...` in the project at `root`."""
    done = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=root,
        env={**environment(), "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def extended(folder: Path, *kinds: str) -> Copy:
    """Copy this project, add an extension of each kind, and remake what is generated."""
    root = folder / "copy"
    root.mkdir()
    ignored = shutil.ignore_patterns("__pycache__")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=ignored)
        else:
            shutil.copy(source, root / name)
    for kind in kinds:
        if (EXTENSIONS / kind).is_dir():  # an axis has no file
            shutil.copytree(EXTENSIONS / kind, root, ignore=ignored, dirs_exist_ok=True)
        file, below, text = LINES[kind]
        table = (root / file).read_text()
        assert table.count(below) == 1, f"{file} has no place for a {kind}"
        (root / file).write_text(table.replace(below, below + text))
    by_hand, before = differences(ROOT, root), contents(root)
    for module in GENERATORS:
        ran(root, "-m", module)
    generated = frozenset(
        path for path, content in contents(root).items() if before.get(path) != content
    )
    new, lines = zip(*by_hand.values(), strict=True)
    return Copy(root, ByHand(sum(new), sum(lines)), generated)


def contents(root: Path) -> dict[str, bytes]:
    """The content of every file of the project at `root`, by path."""
    paths = (path for name in COPIED for path in [root / name, *(root / name).rglob("*")])
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in paths
        if path.is_file() and "__pycache__" not in path.parts
    }


def differences(one: Path, other: Path) -> dict[str, ByHand]:
    """What it took, in each file, to make the project at `other` from the one at `one`."""
    before, after = contents(one), contents(other)
    assert before.keys() <= after.keys(), "a file is gone"
    found = {path: ByHand(1, 0) for path in after.keys() - before.keys()}
    for path, content in before.items():
        if after[path] != content:
            lines = difflib.ndiff(content.decode().splitlines(), after[path].decode().splitlines())
            found[path] = ByHand(0, sum(line.startswith(("+ ", "- ")) for line in lines))
    return found


def noted(out: Path) -> dict[tuple[str, int], float]:
    """The values in a run folder's journal, by metric and step."""
    lines = journal.read(out / "journal.jsonl")
    return {
        (name, line["step"]): value
        for line in lines
        for name, value in line.get("values", {}).items()
    }


def scored(out: Path) -> dict[str, Any]:
    """The last event `scores` of a run folder."""
    *_, last = (
        line for line in journal.read(out / "journal.jsonl") if line.get("event") == "scores"
    )
    return last


def parameters(out: Path) -> int:
    (file,) = (out / "checkpoints").glob("step-*/weights.pt")
    return sum(tensor.numel() for tensor in torch.load(file, weights_only=True).values())


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


PAGE = {"docs/sweep-file.md"}
NAMED = {*PAGE, "sweeps/schema.json"}
DRAWN = {"docs/architecture.md"}  # it lists every file


def test_a_norm_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "norm")
    assert (copy.by_hand, copy.generated) == (ByHand(new=1, lines=1), NAMED | DRAWN)
    (trial,) = copy.planned(norm="centred")
    assert trial["axes"]["norm"] == "centred"
    out = copy.trained(trial)
    assert parameters(out) == trial["parameters"]
    assert {image["name"] for image in scored(out)["images"]} == {"chelsea.png", "coffee.png"}


def test_a_backbone_is_two_files_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "backbone")
    assert (copy.by_hand, copy.generated) == (ByHand(new=2, lines=1), NAMED | DRAWN)
    small, large = copy.planned(backbone="thin", axes="  width: [8, 16]\n  depth: [1]\n")
    assert (large["axes"]["width"], large["spec"]["model"]["backbone"]["depth"]) == (16, 1)
    out = copy.trained(large)
    assert parameters(out) == large["parameters"] > small["parameters"]
    assert ("feature/mean_square/group_0", 2) in noted(out)
    assert scored(out)["set"] == SET


def test_a_task_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "task")
    assert (copy.by_hand, copy.generated) == (ByHand(new=1, lines=1), NAMED | DRAWN)
    (trial,) = copy.planned(task="{name: dimming, light: 0.25}")
    out = copy.trained(trial)
    assert {key: scored(out)[key] for key in ("compared", "border_px", "light")} == {
        "compared": "RGB",
        "border_px": 0,
        "light": 0.25,
    }


def test_a_probe_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "probe")
    assert (copy.by_hand, copy.generated) == (ByHand(new=1, lines=1), NAMED | DRAWN)
    (trial,) = copy.planned(probes="absolute")
    out = copy.trained(trial)
    seen = {step: value for (name, step), value in noted(out).items() if name == "absolute/group_0"}
    assert seen.keys() == {0, 1, 2}
    traces = rows(copy.reported(out)["traces.csv"])
    assert {
        int(row["step"]): float(row["value"])
        for row in traces
        if row["metric"] == "absolute/group_0"
    } == seen


def test_a_metric_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "metric")
    assert (copy.by_hand, copy.generated) == (ByHand(new=1, lines=1), PAGE | DRAWN)
    (trial,) = copy.planned()
    out = copy.trained(trial)
    value = noted(out)[f"val/{SET}/near", 2]
    assert 0 < value < 1
    files = copy.reported(out)
    (cell,) = (row for row in rows(files["table.csv"]) if row["metric"] == "near")
    assert float(cell["mean"]) == value
    assert f"jpeg_10, {SET}, Near" in files["report.md"]
    assert f"{value:.3f}" in files["report.md"]
    assert "rounded to 8 bits, then near, PSNR and SSIM" in files["index.html"]
    afterwards = json.loads(copy.normsweep("evaluate", trial["id"], "--benchmark", SET, "--json"))
    assert afterwards["near"] == value
    assert all("near" in image for image in afterwards["images"])


def test_an_axis_is_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "axis")
    assert (copy.by_hand, copy.generated) == (ByHand(new=0, lines=1), NAMED)
    without = copy.planned(backbone="swinir-tiny", steps="20")
    assert list(without[0]["axes"]) == ["backbone", "norm", "task", "width", "depth", "seed"]
    both = "{name: swinir-tiny, window_size: 4}, {name: swinir-tiny, window_size: 8}"
    inline = copy.planned(backbone=both, steps="20")
    swept = copy.planned(
        backbone="swinir-tiny", steps="20", axes="  window: [4, 8]\n  seed: [0, 1]\n"
    )
    ids = {(trial["axes"]["window"], trial["axes"]["seed"]): trial["id"] for trial in swept}
    assert [ids[4, 0], ids[8, 0]] == [trial["id"] for trial in inline]
    assert (ids[8, 0], len(set(ids.values()))) == (without[0]["id"], 4)
    cells = [row for row in rows(copy.reported()["table.csv"]) if row["metric"] == "psnr"]
    assert [(row["window"], row["seeds"]) for row in cells] == [("4", "2"), ("8", "2")]


def test_a_section_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "section")
    assert (copy.by_hand, copy.generated) == (ByHand(new=1, lines=1), DRAWN)
    copy.planned()
    files = copy.reported()
    said = "has the most parameters: "
    for name, heading in (
        ("index.html", '<h2 id="largest">The largest network</h2>'),
        ("report.md", "## The largest"),
    ):
        assert heading in files[name]
        assert said in files[name].partition(heading)[2]


def test_a_tracker_is_one_file_and_one_line(tmp_path: Path) -> None:
    copy = extended(tmp_path, "tracker")
    assert (copy.by_hand, copy.generated) == (ByHand(new=1, lines=1), DRAWN)
    (trial,) = copy.planned(steps="20")
    copy.ran("-c", STORED)
    copy.normsweep("sync", "s.yaml", "--tracking", "lines:runs.jsonl")
    kept = [json.loads(line) for line in (copy.root / "runs.jsonl").read_text().splitlines()]
    assert {run for _, run, _ in kept} == {trial["id"]}
    assert ["train/loss", 20] in [content[:2] for kind, _, content in kept if kind == "value"]
    assert [content for kind, _, content in kept if kind == "status"][-1] == "FINISHED"


# The tests that look at the tables, chosen by an expression, since the whole files take minutes.
FILES = (
    "contract/test_catalog.py",
    "contract/test_docs.py",
    "contract/test_every_probe.py",
    "contract/test_norms.py",
    "contract/test_conformance.py",
    "unit/test_axes.py",
    "unit/test_blocks.py",
    "unit/test_frame.py",
)
LOOKING = (
    "test_catalog",
    "current or schema",
    "absolute or thin or two_probes",
    "test_norms and centred and not compiled",
    "test_conformance and thin and centred",
    "test_axes and (unknown or without or says_why)",
    "test_blocks",
    "no_axis_has",
)
FOUND = ("centred", "thin", "dimming", "absolute", "near")


def test_the_tests_find_every_extension_and_none_of_them_has_to_be_changed(tmp_path: Path) -> None:
    """All extensions at once. Their files are in style, and `make fmt` breaks their long lines."""
    copy = extended(tmp_path, *LINES)
    new = sum(len(list((EXTENSIONS / kind).rglob("*.py"))) for kind in LINES)
    assert copy.by_hand == ByHand(new, lines=len(LINES))
    tables = sorted({line.file for line in LINES.values()})
    copy.ran("-m", "ruff", "format", "--no-cache", *tables)
    copy.ran("-m", "ruff", "check", "--no-cache", "orchestrator", "trainers")
    copy.ran("-m", "ruff", "format", "--no-cache", "--check", "orchestrator", "trainers")
    files = [f"tests/{file}" for file in FILES]
    expression = " or ".join(f"({part})" for part in LOOKING)
    said = copy.ran("-m", "pytest", "-v", "-p", "no:cacheprovider", "-k", expression, *files)
    assert [name for name in FOUND if f"[{name}]" not in said] == []
