"""Reading points in columns and lines quickly: every number is that of the slow way."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.plan import Plan
from orchestrator.report.frame import read_frame
from orchestrator.store import children, lines, open_store, read_store
from orchestrator.store.journals import JournalReader, put_segment, segments
from orchestrator.store.lines import Line, Odd, Plain
from orchestrator.store.points import Points
from orchestrator.store.reading import MANY, read_one, read_trials
from orchestrator.store.records import JOURNAL_LINES, parsed
from orchestrator.store.trials import read_trial
from tests.damage import DAMAGES, damaged, files_of, written
from tests.sweeps import environment, plan_of
from tests.written_store import write_attempt, write_ended

SEED = 22
NUMBERS = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**19), 10**19)
VALUES = NUMBERS | st.sampled_from(["nan", "inf", "-inf", "NaN", None, True, [], "0", -0.0, 1e308])
TEXTS = st.text(max_size=6) | st.sampled_from(['"|between lines|"', "\\", "\ud800", "train/loss"])
PLAIN_LINE = b'{"seq": 0, "time": 1.5, "step": 3, "kind": "metrics", "values": {"a": 0.25}}'
LINES = st.lists(
    st.fixed_dictionaries(
        {
            "time": NUMBERS,
            "step": st.integers(-1, 2**53 + 1),
            "kind": TEXTS | st.sampled_from(["metrics", "event"]),
        },
        optional={"values": st.dictionaries(TEXTS, VALUES, max_size=3), "note": TEXTS | VALUES},
    ),
    min_size=1,
    max_size=4,
)


def slowly(content: bytes) -> list[str]:
    """What the standard library and the shape say of a segment, without a quick look first."""
    found = [parsed(line) for line in content.splitlines()]
    JOURNAL_LINES.validate_python(found)
    return [
        repr(
            (
                line["seq"],
                float(line["time"]),
                line["step"],
                line["kind"],
                {
                    name: value if value in ("nan", "inf", "-inf") else float(value)
                    for name, value in line.get("values", {}).items()
                },
                line if line["kind"] == "event" else None,
            )
        )
        for line in found
    ]


def in_full(lines: Sequence[Line]) -> list[str]:
    """The lines with every bit of their numbers, and the whole record of those that are events."""
    return [
        repr(
            (
                *(line.seq, line.time, line.step, line.kind, line.values),
                line.record if isinstance(line, Odd) and line.kind == "event" else None,
            )
        )
        for line in lines
    ]


def outcome(read: Callable[[bytes], list[str]], content: bytes) -> list[str] | str:
    """What a way of reading has found; "refused" if nothing."""
    try:
        return read(content)
    except ValueError:  # pydantic's is one
        return "refused"


def is_read_alike(content: bytes) -> bool:
    """Whether lines are read as they are slowly, as a whole and quickly, if that dares to."""
    right = outcome(slowly, content)
    quick = outcome(lambda content: in_full(lines._quickly(content)), content)
    checked = outcome(lambda content: in_full(lines.checked_lines(content)), content)
    return checked == right and quick in (right, "refused")


@settings(max_examples=300, deadline=None)
@given(LINES, st.randoms(use_true_random=False), st.booleans())
def test_lines_read_quickly_are_those_read_slowly_or_none(
    drawn: list[dict[str, Any]], dice: random.Random, spoil: bool
) -> None:
    content = b"".join(
        json.dumps({"seq": i, **line}).encode() + b"\n" for i, line in enumerate(drawn)
    )
    if spoil:
        name = dice.choice(sorted(DAMAGES))
        content = DAMAGES[name](content, dice).rstrip(b"\n") + b"\n"
    assert is_read_alike(content)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"-?[0-9]{1,400}(\.[0-9]{1,40})?([eE][-+]?[0-9]{1,4})?", fullmatch=True))
def test_a_number_has_the_value_that_it_has_when_read_slowly(text: str) -> None:
    """Of any length, also halfway between two neighbours, and where an integer is wanted."""
    line = '{"seq": %s, "time": %s, "step": %s, "kind": "metrics", "values": {"a": %s}}\n'
    usual = ("0", "1.5", "3", "0.25")
    for place in range(4):
        numbers = (*usual[:place], text, *usual[place + 1 :])
        assert is_read_alike((line % numbers).encode()), numbers


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(PLAIN_LINE)), st.integers(0, 2), st.binary(max_size=3), st.booleans())
def test_a_line_with_some_bytes_replaced_is_read_as_it_would_be_slowly(
    at: int, lost: int, put: bytes, again: bool
) -> None:
    content = PLAIN_LINE[:at] + put + PLAIN_LINE[at + lost :] + b"\n"
    assert is_read_alike(content)
    assert is_read_alike(PLAIN_LINE + b"\n" + content * (1 + again))


@pytest.mark.parametrize(
    "odd",
    [
        b'{"a": 1',  # with the next one, a line
        b'{"a": [{"b": 1}',
        b'{}, "|between lines|", {}',
        b'{}, "\\u007cbetween lines|", {}',
        b'{"seq": 1e0}',
        b'{"seq": 01}',
        b'{"x": 1e400}',
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": ' + b"9" * 5000 + b"}",
        b'{"x": ' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"x": "\xff"}',
        b'{"x": "\\ud800"}',
        b'{"x": 1}\r{"x": 2}',
        b"",
        b" ",
        b"\0",
        b"7",
        b'{"values": []}',
        b'{"values": {"": 1.0}}',
        b'{"values": {"a": 1e999}}',
        b'{"values": {"a": true}}',
        b'{"values": {"a": "1"}}',
        b'{"values": {"a": -0}}',
        b'{"values": {"a": 1, "a": 2}}',
        b'{"kind": ""}',
        b'{"kind": ["metrics"]}',
        b'{"time": -1}',
        b'{"time": 1e11}',
        b'{"time": true}',
        b'{"step": 2.0}',
        b'{"step": 9007199254740993}',
        b'{"step": -0}',
        b'{"values": {"a": -0e5}}',
        b'{"values": {"a": 0E-0}}',
        b'{"values": {"a": -1e-400}}',
        b'{"values": {"a": 2.2250738585072011e-308}}',
        b'{"values": {"a": 1.7976931348623159e308}}',
        b'{"time": 99999999999.999999999999}',
        b'{"step": 3e0}',
        b'{"seq": 5, "seq": 6}',
        b'{"seq": -1, "seq": 6}',
        b'{"kind": "event", "kind": "metrics"}',
        b'{"kind": "metrics", "kind": "event"}',
        b'{"k\\u0069nd": "event"}',
        b'{"kind": "metr\\u0069cs"}',
        b'{"values": {"a": 1, "b": 2, "a": 3}}',
        b'{"values": {"a": 1}, "values": {"b": 2}}',
        b'{"values": {"a": null}}',
        b'{"values": {"a": "nan", "b": "Infinity"}}',
        b'{"values": {"a": "n\\u0061n"}}',
        b'{"values": {"a": 9007199254740993}}',
        b'{"values": {"a": ' + b"9" * 309 + b"}}",
        b'{"values": {"a": ' + b"1" * 309 + b"}}",
        b'{"values": {"a": 0.' + b"0" * 330 + b"1}}",
        b'{"values": {"a": .5}}',
        b'{"values": {"a": 1.}}',
        b'{"values": {"a": +1}}',
        b'{"values": {"a": 0x1}}',
        b'{"values": {"a": 1_0}}',
        b'{"values": {"a": 1,}}',
        b'{"values": {"a\x7f": 1}}',
        b'{"values": {"a\xed\xa0\x80": 1}}',
        b'{"values": {"a\xc0\x80": 1}}',
        b'{"values": {"a\tb": 1}}',
        b'{"values": {"' + b"a" * 201 + b'": 1}}',
        b'{"x": {"values": {}}}',
        PLAIN_LINE + PLAIN_LINE,
        PLAIN_LINE + b" " + PLAIN_LINE,
        PLAIN_LINE.replace(b", ", b"\n"),
        PLAIN_LINE + b"\n",
        PLAIN_LINE + b"\r",
        PLAIN_LINE + b"\0",
        b"\xef\xbb\xbf" + PLAIN_LINE,
    ],
)
def test_an_odd_line_is_read_or_refused_as_it_would_be_slowly(odd: bytes) -> None:
    whole = {"seq": 0, "time": 1.5, "step": 3, "kind": "metrics", "values": {"train/loss": 0.25}}
    try:
        fields = json.loads(odd)
        line = json.dumps({**whole, "seq": 1, **fields}).encode() if fields else odd
    except (ValueError, TypeError):
        line = odd.replace(b"{", json.dumps({**whole, "seq": 1}).encode()[:-1] + b", ", 1)
    plain = json.dumps(whole).encode()
    for found in ([plain, line], [plain, odd, plain, odd], [line], [odd, b"1}", plain]):
        assert is_read_alike(b"\n".join(found) + b"\n")


def test_a_plain_line_is_read_quickly() -> None:
    assert isinstance(lines._quickly(PLAIN_LINE + b"\n")[0], Plain)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"}\n{", b"}{"),
        (b"}\n{", b"} {"),
        (b"}\n{", b"}\n\n{"),
        (b"}\n{", b"}\r{"),
        (b"}\n{", b"}\n {"),
        (b', "step"', b',\n"step"'),
        (b', "step"', b',\r"step"'),
        (b'"values": {', b'"values":\n{'),
        (b"}\n{", b"}\n[]\n{"),
        (b'"kind": "metrics"', b'"kind": "event", "kind": "metrics"'),
        (b'"kind": "metrics"', b'"kind": "metrics", "kind": "event"'),
        (b'"kind": "metrics"', b'"kind": "metrics", "kind": "metrics"'),
        (b'"a": 0.25', b'"a": 0.25, "a": 1.0'),
        (b'"seq": 1', b'"seq": 7, "seq": 1'),
        (b'"a": 0.25}}\n{', b'"a": 0.25}}{'),
    ],
)
def test_lines_that_hold_no_object_or_several_are_read_as_they_are_slowly(
    old: bytes, new: bytes
) -> None:
    other = PLAIN_LINE.replace(b'"seq": 0', b'"seq": 1')
    event = other.replace(b'"seq": 1', b'"seq": 2').replace(b"metrics", b"event")
    content = b"".join(line + b"\n" for line in (PLAIN_LINE, other, event))
    changed = content.replace(old, new, 1)
    assert changed != content
    assert is_read_alike(changed)
    # One more object in one line, and one fewer in another: as many objects as lines.
    assert is_read_alike(changed.replace(b', "time"', b',\n"time"', 1))


def test_damage_is_named_by_its_place_among_all_lines() -> None:
    event = b'{"seq": 1, "time": 1.5, "step": 3, "kind": "event", "event": "x"}'
    content = b"\n".join([PLAIN_LINE, event, event.replace(b"3", b"-3")]) + b"\n"
    with pytest.raises(ValueError, match=r"^has another shape: 2\.step: "):
        lines.checked_lines(content)
    read = lines.checked_lines(content.replace(b"-3", b"4"))
    assert [type(line) for line in read] == [Plain, Odd, Odd]
    assert [line.step for line in read] == [3, 3, 4]


def _as_rows(points: Points) -> list[str]:
    return [repr(point) for point in points]


def _one_by_one(store: Path, trial_id: str) -> list[str]:
    """The points as tracking gets them."""
    opened = read_store(str(store))
    reader = JournalReader(opened)
    listed = segments(opened, trial_id)
    return [repr(point) for point in reader.new_points(listed, may_wait=False)]


@pytest.fixture
def sweep(tmp_path: Path) -> tuple[Plan, Path]:
    """Trials that ended after one and two attempts, diverged, run, and are pending."""
    plan, store = written(tmp_path)
    return plan, store


def test_points_in_columns_are_those_that_tracking_gets_one_by_one(
    sweep: tuple[Plan, Path], tmp_path: Path
) -> None:
    plan, path = sweep
    other = plan_of(tmp_path, "axes: {backbone: [swinir-tiny], norm: [rms_norm], task: [sr_x2]}")
    store = open_store(str(path))
    write_attempt(store, other.trials[0], 30)
    write_ended(store, other.trials[0], outcome="diverged", until=20)
    odd = [
        {"seq": i, "time": 5, "step": step, "kind": "metrics", "values": values}
        for i, (step, values) in enumerate(
            [(2**53, {"b": 1, "a": -1e-310}), (0, {"a": "nan", "b": "-inf"}), (0, {"a": 3.0})]
        )
    ]
    all_lines = [
        *odd,
        {"seq": 3, "time": 6.5, "step": 1, "kind": "event", "event": "x", "values": {}},
    ]
    put_segment(store, "odd", 1, 0, "".join(json.dumps(line) + "\n" for line in all_lines).encode())
    for trial in (*plan.trials, *other.trials):
        found = read_trial(store, trial.id)[1]
        assert _as_rows(found) == _one_by_one(path, trial.id)
    _, found = read_trial(store, "odd")
    assert [(p.metric, p.step, p.time) for p in found] == [
        ("b", 2**53, 5.0),
        ("a", 2**53, 5.0),
        ("a", 0, 5.0),
        ("b", 0, 5.0),
    ]
    assert [str(p.value) for p in found] == ["1.0", "-1e-310", "nan", "-inf"]
    for kind in ("cut", "twice", "a digit changed", "a value missing", "zeroed"):
        for file in files_of(path, "journal")[:4]:
            trial_id = file.relative_to(path).parts[1]
            with damaged(file, DAMAGES[kind](file.read_bytes(), random.Random(SEED))):
                assert _as_rows(read_trial(store, trial_id)[1]) == _one_by_one(path, trial_id)


def test_the_frame_has_every_point_of_the_journals_in_order(sweep: tuple[Plan, Path]) -> None:
    plan, path = sweep
    frame = read_frame(plan, read_store(str(path)))
    rows = [
        (row.trial, row.norm, row.width, row.metric, row.step, str(row.value), row.attempt)
        for row in frame.labelled(frame.points).itertuples()
    ]
    expected = []
    for trial in plan.trials:
        reader = JournalReader(read_store(str(path)))
        axes = trial.axes["norm"], trial.axes["width"]
        for p in reader.new_points(segments(read_store(str(path)), trial.id), may_wait=False):
            expected.append((trial.id, *axes, p.metric, p.step, str(p.value), p.attempt))
    assert rows == expected
    assert len(rows) > 100


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """As many trials as several processes read; the first half has ended."""
    folder = tmp_path_factory.mktemp("many")
    seeds = list(range(MANY + 3))
    axes = f"backbone: [swinir-tiny], norm: [i_ln], task: [sr_x2], seed: {seeds}"
    plan = plan_of(folder, f"axes: {{{axes}}}\ntraining: {{steps: 40}}")
    for trial in plan.trials[: MANY // 2]:
        write_ended(open_store(str(folder / "runs")), trial)
    return plan, folder / "runs"


@pytest.mark.parametrize("started", ["fork", "spawn"])
def test_many_trials_are_read_by_processes_as_they_are_read_here(
    many: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch, started: str
) -> None:
    plan, path = many
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    monkeypatch.setattr(children, "context", lambda: multiprocessing.get_context(started))
    store = read_store(str(path))
    ids = [trial.id for trial in plan.trials]
    readings = list(read_trials(store, ids))
    assert [reading.look.trial for reading in readings] == ids
    for reading, trial_id in zip(readings, ids, strict=True):
        here = read_one(store, trial_id)
        assert reading.look == here.look
        assert _as_rows(reading.points) == _as_rows(here.points)
        assert (reading.trained, reading.evaluated) == (here.trained, here.evaluated)


def test_reading_begins_before_a_trial_is_taken(
    many: tuple[Plan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, path = many
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    before = set(psutil.Process().children())
    readings = read_trials(read_store(str(path)), [trial.id for trial in plan.trials])
    assert len(set(psutil.Process().children()) - before) >= 2
    assert [reading.look.trial for reading in readings] == [trial.id for trial in plan.trials]


READS = """
import os, sys, time
os.sched_getaffinity = lambda process: {0, 1}
from orchestrator.store import read_store
from orchestrator.store.reading import read_trials
readings = read_trials(read_store(sys.argv[1]), sys.argv[2:])
print(next(readings).look.state, flush=True)
time.sleep(600)
"""


def test_reading_processes_end_with_the_one_that_reads_from_them(many: tuple[Plan, Path]) -> None:
    plan, store = many
    command = [sys.executable, "-c", READS, str(store), *(trial.id for trial in plan.trials)]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "done\n"
        readers = psutil.Process(process.pid).children(recursive=True)
        assert len(readers) >= 2
        process.kill()
    _, alive = psutil.wait_procs(readers, timeout=60)
    assert alive == []
