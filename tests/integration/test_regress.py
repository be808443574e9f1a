"""`normsweep regress` for real: a worse norm is caught, an equal one passes, new ones are seen."""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path
from typing import Any

import pytest
from junitparser import JUnitXml

from orchestrator.plan import load_plan
from orchestrator.tracking import open_tracker
from tests.sweeps import command, environment, results

OWN = """
import torch
from torch import nn
from trainers.norms.base import Norm, Normed


class Same(Norm):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x):
        return Normed(nn.functional.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps))


class Worse(Same):
    # Its noise is a function of its input, so that a trial has the same bits again.

    def forward(self, x):
        tokens = super().forward(x).tokens
        return Normed(tokens + NOISE * torch.sin(1e4 * tokens).detach())


class Diverging(Same):
    def forward(self, x):
        return Normed(super().forward(x).tokens * float("inf"))
"""
SHEET = """# Is every norm as good as LayerNorm?
axes:
  backbone: [{{name: swinir-tiny, embed_dim: 8, window_size: 4}}]
  norm: [layer_norm, {norms}]
  task: [sr_x2]
  seed: [0, 1, 2]
training: {{steps: 20, batch_size: 4, patch_size_px: 8, lr: 1.0e-3, ema_decay: 0.9}}
observe:
  {{log_every: 5, probe_every: 20, probe_patches: 2, checkpoint_every: 20, evaluate_every: 20}}
resources: {{device: cpu}}
gate: {{baseline: layer_norm, margin: 0.1, parameters: equal}}
"""
DAY, NEXT, LATER = "2026-11-28", "2026-11-29", "2026-11-30"
DEADLINE_S = 600  # for one night; a quiet machine takes less than a minute


def regress(folder: Path, *flags: str, expect: int) -> tuple[dict[str, Any], str]:
    """Run the gate in `folder`; returns the verdict that it printed, and what it said beside it."""
    done = subprocess.run(
        command("regress", "nightly.yaml", "--json", *flags),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == expect, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout), done.stderr


def cpu_s() -> float:
    """Seconds of CPU that commands of this process have taken so far."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def verdicts(night: dict[str, Any]) -> dict[tuple[str, str], str]:
    return {(one["gate"], one["norm"]): one["verdict"] for one in night["gates"]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a gate after its first night."""
    folder = tmp_path_factory.mktemp("nightly")
    (folder / "own_norms.py").write_text(OWN.replace("NOISE", "5.0"))
    sheet = SHEET.format(norms="'own_norms:Same', 'own_norms:Worse'")
    (folder / "nightly.yaml").write_text(sheet)
    return folder


@pytest.mark.timeout(2 * DEADLINE_S)
def test_a_worse_norm_is_caught_and_an_equal_one_under_another_name_passes(folder: Path) -> None:
    night, said = regress(folder, "--date", DAY, "--junit", "out.xml", expect=4)
    found = verdicts(night)
    assert found["psnr", "own_norms:Worse"] == "fail"
    assert found["psnr", "own_norms:Same"] == "pass"
    assert found["parameters", "own_norms:Same"] == "pass", "planning counts them wrongly"
    assert night["verdict"] == "fail"
    (worse,) = (one for one in night["gates"] if one["verdict"] == "fail")
    assert worse["n"] == 3
    assert worse["value"] < worse["limit"] == -0.1
    kept = json.loads((folder / f"runs/regressions/nightly/{DAY}.json").read_text())
    assert {name: kept[name] for name in night} == night
    page = folder / f"runs/regressions/nightly/{DAY}/index.html"
    assert f"Page: {page}" in said
    assert "psnr of own_norms:Worse" in page.read_text()
    file = JUnitXml.fromfile(str(folder / "out.xml"))
    assert (file.tests, file.failures) == (4, 1)
    plan = load_plan(folder / "nightly.yaml")
    runs = open_tracker(f"sqlite:///{folder}/runs/mlflow.db", plan, "night").open()
    assert runs[DAY].tags["normsweep.verdict"] == "fail"


@pytest.mark.timeout(2 * DEADLINE_S)
def test_a_second_night_trains_nothing_starts_no_ray_and_says_the_same(folder: Path) -> None:
    before, began = results(folder), cpu_s()
    night, said = regress(folder, "--date", NEXT, expect=4)
    assert cpu_s() - began < 15, "seconds of a core, whatever else the machine does"
    kept = json.loads((folder / f"runs/regressions/nightly/{DAY}.json").read_text())
    assert {**night, "date": DAY} == {name: kept[name] for name in night}
    assert results(folder) == before
    assert not list((folder / "runs/work").iterdir())
    assert (
        "Nothing was trained" in (folder / f"runs/regressions/nightly/{NEXT}/report.md").read_text()
    )
    assert "to train" not in said


@pytest.mark.timeout(2 * DEADLINE_S)
def test_a_changed_source_is_trained_again_alone_and_a_norm_that_diverges_hinders_nobody(
    folder: Path,
) -> None:
    before = results(folder)
    for name in ("own_norms.py", "more_norms.py"):
        (folder / name).write_text(OWN.replace("NOISE", "0.0"))
    sheet = SHEET.format(norms="'own_norms:Worse', 'more_norms:Diverging'")
    (folder / "nightly.yaml").write_text(sheet)
    night, _ = regress(folder, "--date", LATER, expect=4)
    found = verdicts(night)
    assert found["psnr", "own_norms:Worse"] == "pass", "it has been repaired"
    assert found["psnr", "more_norms:Diverging"] == "fail"
    new = results(folder).keys() - before.keys()
    assert len(new) == 6, "three seeds of each of the two; LayerNorm is not trained again"
    (diverged,) = (
        one
        for one in night["gates"]
        if one["norm"] == "more_norms:Diverging" and one["gate"] == "psnr"
    )
    assert "diverged at step" in diverged["said"]
    report = (folder / f"runs/regressions/nightly/{LATER}/report.md").read_text()
    assert "psnr of own_norms:Worse" in report
    assert "fail, now pass" in report
    assert "New: more_norms:Diverging." in report
    shown = subprocess.run(
        command("regress", "nightly.yaml", "--history", "--json"),
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=True,
    )
    history = json.loads(shown.stdout)
    assert [one["date"] for one in history["nights"]] == [LATER, NEXT, DAY]
    (row,) = (one for one in history["norms"] if one["norm"] == "own_norms:Worse")
    assert row["verdicts"] == {LATER: "pass", NEXT: "fail", DAY: "fail"}
