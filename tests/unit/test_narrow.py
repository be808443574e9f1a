"""In a narrow terminal names are shortened and columns left out, but no number is cut off."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest
from rich.console import Console

from orchestrator.plan import load_plan
from orchestrator.plan.states import State
from orchestrator.run.live_table import Row, table_of
from orchestrator.run.progress import Progress
from orchestrator.scores import _scores_table, print_scores
from tests.sweeps import plan_of, write_sweep
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


VARIANTS = """\
axes:
  backbone: [swinir-tiny]
  norm: [i_ln, {name: i_ln, rescale: false}, {name: i_ln, eps: 0.001}]
  task: [sr_x2]
  width: [24, 180]
"""


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_table_shows_names_whole_and_without_what_is_constant(tmp_path: Path, width: int) -> None:
    plan = plan_of(tmp_path, VARIANTS)
    progress = Progress(plan, {}, quiet=True, json_lines=False)
    result = {"step": 123_456, "loss": 0.01234, "psnr": 31.2345}
    for trial in plan.trials:
        progress.changed(trial.id, State.RUNNING, result)
    # A console as anyone may make it, which would read brackets as markup.
    console = Console(file=io.StringIO(), width=width, color_system=None)
    progress._console = console
    console.print(progress._table())
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in text, text
    assert text.count("31.23") == len(plan.trials)
    assert max(map(len, text.splitlines())) <= width
    names = "".join(text.split())
    for name in ("i_ln[rescale=False]", "i_ln[eps=0.001]"):
        assert name in text or width < 80, text
    assert "rescale=False" in names.replace("running", "")
    assert "swinir-tiny" not in names
    assert "sr_x2" not in names
    if width == 200:
        assert "i_ln[rescale=False] w180" in text


def test_a_sweep_of_one_trial_is_named_by_its_norm() -> None:
    row = Row("i_ln sr_x2", "i_ln", 10, 1.0, State.DONE)
    assert "i_ln" in printed(table_of("one", [row], 40), 40)


def test_a_table_higher_than_the_terminal_says_how_much_is_hidden() -> None:
    rows = [Row(f"n{i}", f"n{i}", 10, 1.0) for i in range(20)]
    text = printed(table_of("many", rows, 40, height=8), 40)
    assert "... and 12 more" in text
    assert len(text.splitlines()) == 11


def test_the_name_of_a_file_is_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    result = {
        "benchmark": "Set5",
        "precision": "fp32",
        "per_channel": False,
        "tile_px": None,
        "images": [{}],
        **dict.fromkeys(METRICS.names, 0.5),
        "non_finite": 0.0,
    }
    print_scores("i_ln[bold]:fire:.safetensors", 10, "sr", [result])
    assert "i_ln[bold]:fire:.safetensors at step 10" in capsys.readouterr().out


def test_no_console_reads_markup_or_emoji() -> None:
    root = Path(__file__).parents[2] / "orchestrator"
    for path in root.rglob("*.py"):
        text = path.read_text()
        if "Console" not in text:
            continue
        assert "rich.markup" not in text, path
        for call in ast.walk(ast.parse(text)):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "Console":
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                said = (given.get("markup"), given.get("emoji"))
                assert said == ("False", "False"), f"{path}:{call.lineno}"
