"""In a narrow terminal names are shortened and columns left out, but no number is cut off."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.plan import load_plan
from orchestrator.plan.states import State
from orchestrator.run.progress import Progress
from orchestrator.scores import _scores_table
from tests.sweeps import write_sweep
from trainers.catalog import METRICS

WIDTHS = [20, 40, 60, 80, 132]


def printed(renderable: object, width: int) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("width", WIDTHS)
def test_no_digit_of_a_score_is_cut(width: int) -> None:
    result = {
        "benchmark": "Urban100",
        "per_channel": False,
        "images": [{}] * 4744,
        **dict.fromkeys(METRICS.names, 0.81234),
        "non_finite": 0.01234,
    }
    results = [
        {**result, "precision": "fp32", "psnr": 30.12345},
        {**result, "precision": "int8", "psnr": 28.98765, "per_channel": True},
    ]
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    text = printed(_scores_table(results, console), width)
    assert max(map(len, text.splitlines())) <= width
    words = text.replace(";", " ").split()
    for number in ("4744", "30.123", "28.988", "-1.136", "0.8123", "1.23%"):
        assert number in words, text


@pytest.mark.parametrize("width", WIDTHS)
def test_no_digit_of_a_running_trial_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    plan = load_plan(write_sweep(tmp_path, norms="layer_norm, i_ln", steps=300_000))
    progress = Progress(plan, {}, quiet=True, json_lines=False)
    progress._console = Console(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None
    )
    progress.changed(
        plan.trials[0].id, State.RUNNING, {"step": 123_456, "loss": 0.01234, "psnr": 31.2345}
    )
    text = printed(progress._table(), width)
    assert max(map(len, text.splitlines())) <= width
    words = text.split()
    assert "31.23" in words, text
    assert ("123456/300000" in words) or "step" not in words
    assert ("0.0123" in words) or "loss" not in words
    assert "running" in words
    assert width < 40 or any("layer" in word for word in words), text
