"""A trial leaves a journal, and a result if training has ended."""

from __future__ import annotations

import json
import math
from pathlib import Path

from trainers import journal
from trainers.recorder import Recorder


def recorded(out: Path, rank: int = 0, *, final: bool = True) -> Recorder:
    recorder = Recorder(out, rank)
    recorder.metrics(0, {"val/a/psnr": 20.0, "train/loss": 1.0})
    recorder.event(1, "checkpoint", name="step-00000001")
    recorder.metrics(2, {"train/loss": math.nan})
    recorder.end(2, "diverged" if final else "preempted", final=final)
    return recorder


def test_the_result_has_the_last_value_of_every_metric(tmp_path: Path) -> None:
    recorded(tmp_path)
    assert json.loads((tmp_path / "result.json").read_text()) == {
        "outcome": "diverged",
        "step": 2,
        "checkpoint": "step-00000002",
        "metrics": {"val/a/psnr": 20.0, "train/loss": "nan"},
    }


def test_the_journal_has_everything_in_order_and_how_it_ended(tmp_path: Path) -> None:
    recorded(tmp_path)
    lines = list(journal.read(tmp_path / "journal.jsonl"))
    assert [(line["step"], line["kind"], line.get("event")) for line in lines] == [
        (0, "metrics", None),
        (1, "event", "checkpoint"),
        (2, "metrics", None),
        (2, "event", "diverged"),
    ]


def test_a_trial_that_will_be_continued_has_no_result(tmp_path: Path) -> None:
    recorded(tmp_path, final=False)
    assert not (tmp_path / "result.json").exists()
    assert list(journal.read(tmp_path / "journal.jsonl"))[-1]["event"] == "preempted"


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    recorded(tmp_path, rank=1)
    assert not list(tmp_path.iterdir())
