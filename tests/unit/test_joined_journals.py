"""Journals are joined when a trial ends; a kill loses no point, doubles none, and is not damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from orchestrator.plan import Trial, load_plan
from orchestrator.plan.states import State
from orchestrator.store import journals, open_store
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import checkpoint_prefix, write_manifest
from orchestrator.store.journals import JournalReader, Point
from orchestrator.store.listing import listed
from orchestrator.store.records import sealed
from orchestrator.store.results import write_result
from orchestrator.store.trials import look_at, read_trial
from tests.counted_store import CountedStore
from tests.sweeps import write_sweep
from tests.written_store import records, write_attempt

WRITES = ("put", "delete")
STEPS = 40


class Killed(BaseException):
    pass


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return load_plan(write_sweep(tmp_path, norms="layer_norm", steps=STEPS)).trials[0]


def about_to_end(store: Store, trial: Trial) -> int:
    """Write two attempts of two segments each and the final checkpoint; returns the newest."""
    write_attempt(store, trial, 20)
    attempt = write_attempt(store, trial, STEPS)
    store.put(f"{checkpoint_prefix(trial.id, STEPS, attempt)}/ema.pt", b"weights")
    files = {"ema.pt": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}}
    write_manifest(store, trial.id, attempt, step=STEPS, world_size=1, zero_stage=0, files=files)
    return attempt


def end(store: Store, trial: Trial, attempt: int) -> None:
    write_result(store, trial.id, attempt, sweep="s", step=STEPS, outcome="completed", metrics={})


def segments_of(store: Store, trial: Trial) -> list[tuple[int, str]]:
    return [
        (segment.attempt, Path(segment.key).name) for segment in journals.segments(store, trial.id)
    ]


def identities(points: Iterable[Point]) -> list[tuple[int, int, str, int]]:
    """The identities of lines, which MLflow's cursor and the report go by."""
    return [(p.attempt, p.seq, p.metric, p.step) for p in points]


def test_a_trial_that_has_ended_has_one_segment_for_each_attempt_and_its_result_names_them(
    store: Store, trial: Trial
) -> None:
    attempt = about_to_end(store, trial)
    assert len(segments_of(store, trial)) == 4
    _, before = read_trial(store, trial.id)
    end(store, trial, attempt)
    look, after = read_trial(store, trial.id)
    assert [number for number, _ in segments_of(store, trial)] == [1, 2]
    assert look.result is not None
    assert list(look.result["journal"]) == [
        segment.key for segment in journals.segments(store, trial.id)
    ]
    assert (look.state, look.damaged) == (State.DONE, ())
    assert before
    assert list(after) == list(before), "attempt and number of every line are kept"


def writes_of_an_end(tmp_path: Path, trial: Trial) -> int:
    store = CountedStore(open_store(str(tmp_path / "counted")))
    attempt = about_to_end(store, trial)
    store.requests()
    end(store, trial, attempt)
    counted = store.requests()
    return sum(counted[request] for request in WRITES)


def test_a_kill_at_any_write_of_an_end_loses_doubles_and_damages_nothing(
    tmp_path: Path, trial: Trial
) -> None:
    writes = writes_of_an_end(tmp_path, trial)
    assert writes == 2 * 2 + 1 + 4, "two segments with a copy, the result, four deletions"
    states = []
    for kill_at in range(writes):
        inner = open_store(str(tmp_path / f"killed-{kill_at}"))
        attempt = about_to_end(inner, trial)
        _, whole = read_trial(inner, trial.id)
        done = 0

        def dies(request: str, key: str, kill_at: int = kill_at) -> None:
            nonlocal done
            if request in WRITES:
                if done >= kill_at:
                    raise Killed
                done += 1

        with pytest.raises(Killed):
            end(CountedStore(inner, dies), trial, attempt)
        look, points = read_trial(inner, trial.id)
        assert look.damaged == ()
        assert identities(points) == identities(whole)
        states.append(look.state)
        end(inner, trial, attempt)  # as whatever continues it does
        look, points = read_trial(inner, trial.id)
        assert (look.state, look.damaged) == (State.DONE, ())
        assert identities(points) == identities(whole)
        assert len(segments_of(inner, trial)) == 2
    assert states == [State.RUNNING] * 5 + [State.DONE] * 4


def test_a_look_that_listed_before_the_journals_were_joined_sees_no_damage(
    store: Store, trial: Trial
) -> None:
    attempt = about_to_end(store, trial)
    _, whole = read_trial(store, trial.id)
    is_first = True

    def ends_meanwhile(request: str, key: str) -> None:
        nonlocal is_first
        if request == "get" and is_first:  # the listing has been made
            is_first = False
            end(store, trial, attempt)

    look, points = read_trial(CountedStore(store, ends_meanwhile), trial.id)
    assert (look.state, look.damaged) == (State.DONE, ())
    assert identities(points) == identities(whole)


@pytest.mark.parametrize("stale", [False, True])
def test_a_reader_that_follows_has_every_point_once_whenever_segments_are_joined(
    store: Store, trial: Trial, stale: bool
) -> None:
    attempt = about_to_end(store, trial)
    whole = read_trial(store, trial.id)[1]
    reader, before = JournalReader(store), listed(store, trial.id).segments
    got = list(reader.new_points(before[:3]))
    assert 0 < len(got) < len(whole)
    end(store, trial, attempt)
    if stale:  # its listing names segments that are gone
        got += reader.new_points(before)
        assert reader.is_behind
    got += reader.new_points(listed(store, trial.id).segments)
    assert identities(got) == identities(whole)
    assert (reader.damaged, reader.is_behind) == ([], False)


def test_a_segment_that_came_late_is_waited_for_once(store: Store, trial: Trial) -> None:
    about_to_end(store, trial)
    segments = listed(store, trial.id).segments
    without = [segments[0], *segments[2:]]
    reader = JournalReader(store)
    got = list(reader.new_points([segments[1]]))
    assert (got, reader.is_behind, reader.damaged) == ([], True, [])
    got = list(reader.new_points(segments))
    assert identities(got) == identities(read_trial(store, trial.id)[1])
    lost = JournalReader(store)
    assert list(lost.new_points([segments[1]])) == []
    assert list(lost.new_points([segments[1], *without[1:]]))
    assert "lacks the lines before it" in lost.damaged[0].why


def test_a_journal_of_many_segments_that_an_older_version_left_is_read_as_before(
    store: Store, trial: Trial
) -> None:
    attempt = about_to_end(store, trial)
    end(store, trial, attempt)
    look, whole = read_trial(store, trial.id)
    assert look.result is not None
    for segment in journals.segments(store, trial.id):
        store.delete(segment.key)
    named = {}
    for number, until in ((1, 20), (2, STEPS)):
        for line in records(trial, until, diverge=False):
            content = json.dumps(line).encode() + b"\n"
            journals.put_segment(store, trial.id, number, line["seq"], content)
            digest = hashlib.sha256(content).hexdigest()
            segment = f"{line['seq']:010d}-{digest[:16]}.jsonl"
            key = f"trials/{trial.id}/attempts/{number}/journal/{segment}"
            named[key] = digest
    store.put(f"trials/{trial.id}/result.json", sealed({**look.result, "journal": named}))
    assert len(segments_of(store, trial)) == len(named) > 10
    look, points = read_trial(store, trial.id)
    assert (look.state, look.damaged) == (State.DONE, ())
    assert identities(points) == identities(whole)


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-5],
    "a digit changed": lambda content: content.replace(b'"time": 1', b'"time": 2', 1),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, 1])
def test_a_damaged_journal_is_not_joined_and_nothing_of_it_is_deleted(
    store: Store, trial: Trial, damage: str, which: int
) -> None:
    attempt = about_to_end(store, trial)
    segment = listed(store, trial.id).segments[which]
    store.put(segment.key, DAMAGES[damage](store.get(segment.key)))
    before = segments_of(store, trial)
    end(store, trial, attempt)
    after = segments_of(store, trial)
    assert after[:2] == before[:2]
    assert len(after) == 3, "the other attempt's are joined"
    look = look_at(store, trial.id)
    assert look.state == State.DAMAGED
    assert segment.key in [problem.key for problem in look.damaged]


def test_a_joined_segment_that_is_damaged_takes_no_single_ones_with_it(
    store: Store, trial: Trial
) -> None:
    """A kill left them beside it, and it was spoilt afterwards."""
    attempt = about_to_end(store, trial)
    joined = journals.join_segments(store, trial.id, journals.segments(store, trial.id))
    spoilt = next(iter(joined.segments))
    store.put(spoilt, b"\0" * 100)
    end(store, trial, attempt)
    left = [segment.key for segment in journals.segments(store, trial.id)]
    assert set(joined.superseded[:2]) < set(left)
    assert look_at(store, trial.id).state == State.DAMAGED
