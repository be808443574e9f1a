"""The journal of a run folder."""

from __future__ import annotations

import json
import math
from pathlib import Path

from trainers import journal
from trainers.journal import Journal


def test_lines_are_numbered_and_read_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as written:
        written.event(0, "started", device="cpu")
        written.metrics(10, {"train/loss": 0.25})
    first, second = journal.read(tmp_path / "journal.jsonl")
    assert (first["seq"], first["event"], first["device"]) == (0, "started", "cpu")
    assert (second["seq"], second["step"], second["values"]) == (1, 10, {"train/loss": 0.25})
    assert first["time"] <= second["time"]


def test_values_that_are_not_finite_survive_as_json(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as written:
        written.metrics(1, {"a": math.nan, "b": math.inf, "c": -math.inf})
    line = (tmp_path / "journal.jsonl").read_text()
    values = json.loads(
        line, parse_constant=lambda name: (_ for _ in ()).throw(AssertionError(name))
    )["values"]
    assert math.isnan(float(values["a"]))
    assert (float(values["b"]), float(values["c"])) == (math.inf, -math.inf)


def test_a_line_cut_by_a_kill_is_dropped_and_numbering_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as written:
        written.metrics(1, {"train/loss": 1.0})
        written.metrics(2, {"train/loss": 0.5})
    path.write_bytes(path.read_bytes()[:-5])
    assert [line["step"] for line in journal.read(path)] == [1]
    with Journal(path) as written:
        written.metrics(2, {"train/loss": 0.5})
    assert [(line["seq"], line["step"]) for line in journal.read(path)] == [(0, 1), (1, 2)]
