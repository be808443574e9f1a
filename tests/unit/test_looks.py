from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem
from orchestrator.regression.looks import Look, read_looks, recorded
from orchestrator.statistics.interval import Unknown
from orchestrator.store.folder import FolderStore
from orchestrator.store.records import canonical_sha256
from tests.asked import asked, ledger

A, B, C = (0.1, 0.2, 0.3), (0.1, 0.25, 0.3), (-0.1, 0.0, 1.0)
DATE = "2026-03-01"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "runs")


def files(store: FolderStore) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.list("regressions")}


def test_a_look_is_read_as_it_was_recorded(store: FolderStore) -> None:
    measured = [asked(A), asked(C, "none", setup="b", fail_below=-0.5, seeds=(3, 1, 7))]
    looks = recorded(store, "nightly", DATE, measured)
    assert looks == read_looks(store, "nightly") == (replace(ledger(measured)[0], date=DATE),)
    assert store.list("regressions") == ["regressions/nightly/looks/0001.json"]
    assert read_looks(store, "other") == ()


def test_only_what_is_new_is_added_and_nothing_if_nothing_is(store: FolderStore) -> None:
    recorded(store, "nightly", DATE, [asked(A), asked(A, "none")])
    before = files(store)
    recorded(store, "nightly", "2026-03-02", [asked(A), asked(A, "none")])
    assert files(store) == before
    looks = recorded(store, "nightly", "2026-03-03", [asked(B), asked(A, "none"), asked(A, "new")])
    assert [(one.number, one.date) for one in looks] == [(1, DATE), (2, "2026-03-03")]
    assert list(looks[1].answers) == [asked(B).key.text, asked(A, "new").key.text]
    assert recorded(store, "nightly", "2026-03-04", [asked(A)]) == looks  # reverted


def test_another_setup_is_a_new_look_at_the_same_numbers(store: FolderStore) -> None:
    recorded(store, "nightly", DATE, [asked(A)])
    assert len(recorded(store, "nightly", DATE, [asked(A, setup="b")])) == 2
    assert len(recorded(store, "nightly", DATE, [asked(A, fail_below=0.1)])) == 3


def test_trials_trained_anew_with_other_numbers_are_a_new_look(store: FolderStore) -> None:
    recorded(store, "nightly", DATE, [asked(A)])
    elsewhere = replace(asked(B), trials=asked(A).trials)
    assert len(recorded(store, "nightly", DATE, [elsewhere])) == 2


def test_what_cannot_be_tested_adds_no_look(store: FolderStore) -> None:
    measured = [
        asked(Unknown("no trial"), "a"),
        asked((0.1,), "b"),
        asked((0.1, 0.1), "c"),
        asked(A, "d", exact="pass"),
        replace(asked(A, "e"), values=(0.1, float("inf"), 0.2)),
    ]
    assert recorded(store, "nightly", DATE, measured) == ()
    assert not files(store)


def test_one_question_has_one_answer(store: FolderStore) -> None:
    with pytest.raises(ValueError, match="two answers"):
        recorded(store, "nightly", DATE, [asked(A), asked(B)])


def test_nights_at_once_leave_one_look_for_the_same_numbers(store: FolderStore) -> None:
    start = threading.Barrier(8)

    def night(_: int) -> tuple[Look, ...]:
        start.wait()
        return recorded(FolderStore(Path(store.uri)), "nightly", DATE, [asked(A), asked(B, "none")])

    with ThreadPoolExecutor(8) as nights:
        found = list(nights.map(night, range(8)))
    assert set(map(len, found)) == {1}
    assert len(files(store)) == 1


def test_nights_at_once_with_other_numbers_lose_none(store: FolderStore) -> None:
    start = threading.Barrier(8)

    def night(number: int) -> tuple[Look, ...]:
        start.wait()
        one = asked((0.1, 0.2, float(number)))
        return recorded(FolderStore(Path(store.uri)), "nightly", DATE, [one])

    with ThreadPoolExecutor(8) as nights:
        list(nights.map(night, range(8)))
    looks = read_looks(store, "nightly")
    assert [one.number for one in looks] == list(range(1, 9))
    assert {next(iter(one.answers.values())).values[2] for one in looks} == set(range(8))


class Killed(BaseException):
    """As if the process had ended here."""


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_night_killed_while_it_records_is_continued(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    put_once = store.put_once

    def killed(key: str, content: bytes) -> bool:
        if moment == "after":
            put_once(key, content)
        raise Killed

    monkeypatch.setattr(store, "put_once", killed)
    with pytest.raises(Killed):
        recorded(store, "nightly", DATE, [asked(A)])
    monkeypatch.undo()
    looks = recorded(store, "nightly", DATE, [asked(A)])
    undisturbed = FolderStore(Path(store.uri).with_name("undisturbed"))
    assert looks == recorded(undisturbed, "nightly", DATE, [asked(A)])
    assert files(store) == files(undisturbed)


def test_a_night_killed_by_the_system_leaves_whole_looks_or_none(store: FolderStore) -> None:
    for night in range(5):
        child = os.fork()
        if child == 0:
            with suppress(BaseException):
                for number in range(1000):
                    one = asked((0.1, 0.2, float(night), float(number)))
                    recorded(store, "nightly", DATE, [one])
            os._exit(1)
        while len(store.list("regressions")) < 3 * (night + 1):
            assert os.waitpid(child, os.WNOHANG) == (0, 0)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        looks = read_looks(store, "nightly")
        assert [one.number for one in looks] == list(range(1, len(looks) + 1))


def test_an_answer_that_was_lost_on_the_way_back_adds_no_second_look(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_once = store.put_once
    monkeypatch.setattr(store, "put_once", lambda *given: put_once(*given) and False)
    assert len(recorded(store, "nightly", DATE, [asked(A)])) == 1


def edited(content: bytes) -> bytes:
    return content.replace(b"0.25", b"0.26")


def resealed(content: bytes) -> bytes:
    record = json.loads(content)
    record["answers"][asked(B).key.text]["seeds"] = [0, 1]
    return json.dumps({**record, "content_sha256": canonical_sha256(record)}).encode()


def unsealed(content: bytes) -> bytes:
    return json.dumps({**json.loads(content), "content_sha256": None}).encode()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda content: content[:80], "is cut off, or not JSON"),
        (lambda content: b"", "is empty"),
        (lambda content: bytes(498), "holds 498 zero bytes"),
        (lambda content: b"[]", "has another shape"),
        (lambda content: content.replace(b"0.25", b"NaN"), "holds NaN"),
        (edited, "does not have the checksum that it states"),
        (unsealed, "has another shape: content_sha256"),
        (resealed, "has no value per seed for 'psnr | i_ln"),
    ],
)
def test_a_damaged_look_is_named_and_nothing_is_judged_or_lost(
    store: FolderStore, damage: Callable[[bytes], bytes], said: str
) -> None:
    for values in (A, B, C):
        recorded(store, "nightly", DATE, [asked(values)])
    key = "regressions/nightly/looks/0002.json"
    store.put(key, damage(store.get(key)))
    before = files(store)
    with pytest.raises(EnvironmentProblem, match="so nothing was judged") as raised:
        recorded(store, "nightly", DATE, [asked((5.0, 6.0))])
    assert f"{key} {said}" in str(raised.value)
    assert raised.value.exit_code == 3
    assert files(store) == before


def test_a_look_that_is_missing_or_anothers_is_named(store: FolderStore) -> None:
    for values in (A, B, C):
        recorded(store, "nightly", DATE, [asked(values)])
        recorded(store, "other", DATE, [asked(values)])
    second = "regressions/nightly/looks/0002.json"
    content = store.get(second)
    for wrong in ("regressions/other/looks/0002.json", "regressions/nightly/looks/0003.json"):
        store.put(second, store.get(wrong))
        with pytest.raises(EnvironmentProblem, match=r"0002.json is look \d of '\w+'"):
            read_looks(store, "nightly")
    store.delete(second)
    with pytest.raises(EnvironmentProblem, match=r"0002.json is missing, and later looks are"):
        read_looks(store, "nightly")
    store.put(second, content)
    assert len(read_looks(store, "nightly")) == 3


def test_other_files_in_the_folder_are_no_looks(store: FolderStore) -> None:
    recorded(store, "nightly", DATE, [asked(A)])
    for name in ("0002.json.bak", "notes.txt", "old/0002.json"):
        store.put(f"regressions/nightly/looks/{name}", b"x")
    assert len(read_looks(store, "nightly")) == 1


def test_there_may_be_more_looks_than_four_digits(
    store: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [f"regressions/nightly/looks/{number:04d}.json" for number in range(1, 10_002)]
    monkeypatch.setattr(store, "list", lambda prefix: sorted(listed))
    recorded_one = recorded(FolderStore(Path(store.uri)), "once", DATE, [asked(A)])
    monkeypatch.setattr(
        "orchestrator.regression.looks._read",
        lambda store, sweep, number: replace(recorded_one[0], number=number),
    )
    numbers = [one.number for one in read_looks(store, "nightly")]
    assert numbers == list(range(1, 10_002))
