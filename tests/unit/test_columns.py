"""The copy of a joined journal in columns: it saves time, and never decides what is read."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store import columns, journals, open_store, read_store
from orchestrator.store.base import Store
from orchestrator.store.columns import Columns, from_bytes
from orchestrator.store.journals import Event, put_segment
from orchestrator.store.lines import checked_lines
from orchestrator.store.trials import read_trial
from tests.damage import DAMAGES, written

SEED = 5
SHA256 = "ab" * 32
LINES = [
    {"seq": 3, "time": 5, "step": 2**53, "kind": "metrics", "values": {"b": 1, "a": -1e-310}},
    {"seq": 4, "time": 6.5, "step": 0, "kind": "event", "event": "scores", "note": "\ud800 é"},
    {"seq": 5, "time": 7.25, "step": 0, "kind": "metrics", "values": {"a": "nan", "b": "-inf"}},
    {"seq": 6, "time": 8.0, "step": 0, "kind": "metrics", "values": {}},
    {"seq": 7, "time": 8.5, "step": 1, "kind": "metrics", "values": {"b": 0.1, "a": 1e308}},
]


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Plan, Path]:
    plan, path = written(tmp_path)
    assert copies(path), "trials that ended after several segments have copies"
    return plan, path


def copies(path: Path) -> list[Path]:
    return sorted(path.glob("trials/*/attempts/*/journal/*.columns"))


def everything(plan: Plan, path: Path) -> list[str]:
    """What is read of every trial, to the last bit."""
    found = []
    for trial in plan.trials:
        events: list[Event] = []
        look, points = read_trial(read_store(str(path)), trial.id, events=events)
        found += [repr(point) for point in points]
        found += [repr((look.state, look.damaged, look.undefined, events))]
    return found


def test_columns_come_back_from_their_bytes_to_the_last_bit() -> None:
    content = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    made = Columns.of(checked_lines(content))
    back = from_bytes(made.to_bytes(SHA256), SHA256)
    assert back is not None
    assert (back.first_seq, len(back), back.sets) == (3, 5, (("b", "a"), ("a", "b")))
    assert back.events == (LINES[1],)
    for name in ("step", "time", "seq", "set", "value"):
        ours, theirs = getattr(made, name), getattr(back, name)
        assert (ours.dtype, ours.tobytes()) == (theirs.dtype, theirs.tobytes())
    assert back.step.tolist() == [2**53, 0, 1]
    assert [str(value) for value in back.value.tolist()] == [
        *("1.0", "-1e-310", "nan", "-inf", "0.1", "1e+308")
    ]


def test_a_trial_reads_alike_with_its_copies_and_without(sweep: tuple[Plan, Path]) -> None:
    plan, path = sweep
    with_copies = everything(plan, path)
    for copy in copies(path):
        copy.unlink()
    assert everything(plan, path) == with_copies
    assert len(with_copies) > 100


def test_what_is_in_a_copy_is_not_decoded_again(
    sweep: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, path = sweep
    trial = next(
        trial for trial in plan.trials if copies(path)[0].is_relative_to(path / "trials" / trial.id)
    )
    before = [repr(point) for point in read_trial(read_store(str(path)), trial.id)[1]]
    decoded: list[bytes] = []
    monkeypatch.setattr(
        journals, "checked_lines", lambda content: decoded.append(content) or checked_lines(content)
    )
    assert [repr(point) for point in read_trial(read_store(str(path)), trial.id)[1]] == before
    assert decoded == []


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_copy_is_passed_over(sweep: tuple[Plan, Path], damage: str) -> None:
    plan, path = sweep
    right = everything(plan, path)
    dice = random.Random(SEED)
    for copy in copies(path):
        copy.write_bytes(DAMAGES[damage](copy.read_bytes(), dice))
    assert everything(plan, path) == right


def test_a_copy_of_other_lines_is_passed_over(sweep: tuple[Plan, Path]) -> None:
    plan, path = sweep
    right = everything(plan, path)
    contents = [copy.read_bytes() for copy in copies(path)]
    assert len(set(contents)) > 1
    for copy, content in zip(copies(path), contents[1:] + contents[:1], strict=True):
        copy.write_bytes(content)
    assert everything(plan, path) == right


def test_a_copy_of_another_format_is_passed_over(
    sweep: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, path = sweep
    right = everything(plan, path)
    monkeypatch.setattr(columns, "FORMAT", columns.FORMAT + 1)
    assert everything(plan, path) == right


def test_a_copy_does_not_excuse_a_damaged_segment(sweep: tuple[Plan, Path]) -> None:
    plan, path = sweep
    for copy in copies(path):
        segment = copy.with_suffix(".jsonl")
        content = segment.read_bytes()
        segment.write_bytes(content.replace(b'"time": 1', b'"time": 2', 1))
        assert segment.read_bytes() != content
        (trial,) = (t for t in plan.trials if copy.is_relative_to(path / "trials" / t.id))
        look, _ = read_trial(read_store(str(path)), trial.id)
        assert "checksum" in str(look.damaged)


def test_a_segment_with_another_name_is_not_read_from_a_copy(store: Store) -> None:
    """The name says which lines are in it, and a copy of these lines does not make it right."""
    content = "".join(json.dumps(line) + "\n" for line in LINES).encode()
    put_segment(store, "t", 1, 3, content)
    (shipped,) = journals.segments(store, "t")
    assert shipped.digest is not None
    wrong = f"trials/t/attempts/1/journal/{0:010d}-{7:010d}-{shipped.digest}"
    store.delete(shipped.key)
    store.put(f"{wrong}.jsonl", content)
    sha256 = hashlib.sha256(content).hexdigest()
    store.put(f"{wrong}.columns", Columns.of(checked_lines(content)).to_bytes(sha256))
    look, points = read_trial(store, "t")
    assert "does not number its lines from 0 on" in str(look.damaged)
    assert len(points) == 0


def test_copies_of_superseded_segments_go_with_them(tmp_path: Path) -> None:
    plan, path = written(tmp_path)
    store = open_store(str(path))
    trial = next(t for t in plan.trials if copies(path)[0].is_relative_to(path / "trials" / t.id))
    listed = journals.segments(store, trial.id)
    older = next(segment for segment in listed if segment.last_seq is not None)
    last = older.last_seq or 0
    part = checked_lines(store.get(older.key))[: last // 2]
    content = b"".join(store.get(older.key).splitlines(keepends=True)[: len(part)])
    sha256 = hashlib.sha256(content).hexdigest()
    name = f"{0:010d}-{len(part) - 1:010d}-{sha256[:16]}"
    prefix = older.key.rpartition("/")[0]
    store.put(f"{prefix}/{name}.jsonl", content)
    store.put(f"{prefix}/{name}.columns", Columns.of(part).to_bytes(sha256))
    joined = journals.join_segments(store, trial.id, journals.segments(store, trial.id))
    assert {f"{prefix}/{name}.jsonl", f"{prefix}/{name}.columns"} <= set(joined.superseded)
    assert not {older.key, older.copy} & set(joined.superseded)
