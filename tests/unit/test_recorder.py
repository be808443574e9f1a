"""A trial leaves a journal, and a result if training has ended."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from trainers import journal
from trainers.probes.base import Observation
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


def test_what_is_undefined_is_said_once_and_again_when_it_changes(tmp_path: Path) -> None:
    recorder, why = Recorder(tmp_path, 0), {"bias/pearson": "the final norm has no bias"}
    recorder.observation(0, "bias", Observation(undefined=why))
    recorder.observation(5, "bias", Observation(undefined=why))
    recorder.observation(10, "bias", Observation({"bias/pearson": 0.5}))
    recorder.observation(15, "bias", Observation({"bias/pearson": 0.6}))
    recorder.observation(20, "bias", Observation(undefined=why))
    recorder.end(20, "completed", final=True)
    lines = list(journal.read(tmp_path / "journal.jsonl"))
    said = [(line["step"], line["probe"], line["reasons"]) for line in lines if "reasons" in line]
    assert said == [(0, "bias", why), (10, "bias", {}), (20, "bias", why)]
    values = [line["step"] for line in lines if line["kind"] == "metrics"]
    assert values == [10, 15], "no value stands for one that is undefined"
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["metrics"] == {}, "0.6 is not the value of the last step"


def test_a_probe_that_measures_everything_says_nothing_of_what_is_undefined(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, 0)
    recorder.observation(0, "features", Observation({"feature/entropy": 1.0}))
    recorder.end(0, "preempted", final=False)
    assert "undefined" not in (tmp_path / "journal.jsonl").read_text()


def test_arrays_are_kept_where_they_are_due_and_scalars_always(tmp_path: Path) -> None:
    recorder, seen = Recorder(tmp_path, 0), Observation({"a": 1.0}, {"map": np.zeros(2)})
    for step, due in ((0, True), (5, False), (10, True)):
        recorder.observation(step, "mine", seen, arrays=due)
    kept = sorted(path.stem for path in (tmp_path / "probes" / "mine").iterdir())
    assert kept == ["step-00000000", "step-00000010"]
    assert [line["step"] for line in journal.read(tmp_path / "journal.jsonl")] == [0, 5, 10]
