"""A trial in the store: who may write, what counts, and when it has ended."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from orchestrator.cli.sweeps import status
from orchestrator.plan import Plan, Trial, load_plan
from orchestrator.store import attempts, checkpoints, journals, results, trials
from orchestrator.store.base import Store
from orchestrator.store.trials import read_trial
from tests.sweeps import write_sweep
from trainers.durable import sha256_of


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return load_plan(write_sweep(tmp_path))


MANIFEST = {"step": 10, "world_size": 1, "zero_stage": 0}


def line(seq: int, step: int, **values: float | str) -> bytes:
    return (
        json.dumps(
            {"seq": seq, "time": 100.0 + seq, "step": step, "kind": "metrics", "values": values}
        ).encode()
        + b"\n"
    )


def save(
    store: Store, trial: Trial, attempt: int, step: int, folder: Path, *, seal: bool = True
) -> str:
    """Write a checkpoint of one file; returns its prefix."""
    path = folder / "weights.pt"
    path.write_bytes(f"{attempt}/{step}".encode())
    prefix = checkpoints.checkpoint_prefix(trial.id, step, attempt)
    store.put_file(f"{prefix}/weights.pt", path)
    if seal:
        files = {"weights.pt": {"sha256": sha256_of(path), "bytes": path.stat().st_size}}
        checkpoints.write_manifest(
            store, trial.id, attempt, step=step, world_size=1, zero_stage=0, files=files
        )
    return prefix


def end(store: Store, trial: Trial, folder: Path, outcome: str = "completed") -> int:
    attempt = attempts.new_attempt(store, trial, {})
    journals.put_segment(store, trial.id, attempt, 0, line(0, 1, loss=0.5))
    save(store, trial, attempt, 10, folder)
    results.write_result(
        store, trial.id, attempt, sweep="s", step=10, outcome=outcome, metrics={"train/loss": 0.5}
    )
    return attempt


def test_attempts_are_numbered_and_the_spec_is_written_once(store: Store, trial: Trial) -> None:
    assert [attempts.new_attempt(store, trial, {"host": "a"}) for _ in range(3)] == [1, 2, 3]
    assert [a["host"] for a in attempts.read_attempts(store, trial.id)] == ["a"] * 3
    assert store.get(f"trials/{trial.id}/spec.json").decode() == trial.spec.to_json()
    assert trials.trial_ids(store) == [trial.id]


def test_of_a_point_journalled_twice_the_first_attempt_counts(store: Store, trial: Trial) -> None:
    for loss in (0.9, 0.1):
        attempt = attempts.new_attempt(store, trial, {})
        journals.put_segment(store, trial.id, attempt, 0, line(0, 1, loss=loss))
        journals.put_segment(store, trial.id, attempt, 1, line(1, 1 + attempt, loss=loss))
    points = [(p.step, p.value, p.attempt) for p in read_trial(store, trial.id)[1]]
    assert points == [(1, 0.9, 1), (2, 0.9, 1), (3, 0.1, 2)]


def test_a_reader_of_journals_goes_on_where_it_was(store: Store, trial: Trial) -> None:
    attempt = attempts.new_attempt(store, trial, {})
    reader = journals.JournalReader(store)

    def new_points() -> list[journals.Point]:
        return list(reader.new_points(journals.segments(store, trial.id)))

    journals.put_segment(store, trial.id, attempt, 0, line(0, 1, loss=1.0))
    assert [p.step for p in new_points()] == [1]
    journals.put_segment(store, trial.id, attempt, 1, line(1, 1, loss=2.0) + line(2, 2, loss="nan"))
    (fresh,) = new_points()
    assert fresh.step == 2
    assert fresh.value != fresh.value
    assert new_points() == []


def test_a_torn_checkpoint_is_passed_over_for_an_older_intact_one(
    store: Store, trial: Trial, tmp_path: Path
) -> None:
    attempt = attempts.new_attempt(store, trial, {})
    assert checkpoints.fetch_checkpoint(store, trial.id, tmp_path / "none") is None
    save(store, trial, attempt, 10, tmp_path)
    save(store, trial, attempt, 20, tmp_path)
    found = checkpoints.fetch_checkpoint(store, trial.id, tmp_path / "a")
    assert found is not None
    assert (found[0], (found[1] / "weights.pt").read_bytes()) == (20, b"1/20")
    store.put(checkpoints.checkpoint_prefix(trial.id, 20, attempt) + "/weights.pt", b"1/2x")
    save(store, trial, attempt, 30, tmp_path, seal=False)
    found = checkpoints.fetch_checkpoint(store, trial.id, tmp_path / "b")
    assert found is not None
    assert found[0] == 10


def test_nothing_of_a_torn_checkpoint_is_left_in_what_is_fetched(
    store: Store, trial: Trial, tmp_path: Path
) -> None:
    first, second = (attempts.new_attempt(store, trial, {}) for _ in range(2))
    save_as = checkpoints.checkpoint_prefix(trial.id, 10, first)
    store.put(f"{save_as}/whole.pt", b"1")
    whole = {"whole.pt": {"sha256": hashlib.sha256(b"1").hexdigest(), "bytes": 1}}
    store.put(
        f"{save_as}/manifest.json",
        json.dumps({**MANIFEST, "attempt": first, "files": whole}).encode(),
    )
    prefix = save(store, trial, second, 10, tmp_path)
    store.put(f"{prefix}/weights.pt", b"torn")
    found = checkpoints.fetch_checkpoint(store, trial.id, tmp_path / "into")
    assert found is not None
    assert [path.name for path in found[1].iterdir()] == ["whole.pt"]


@pytest.mark.parametrize("damaged", [b"", b"[]", b"null", b'{"files": []}', b"\xff\x00"])
def test_a_manifest_or_result_of_another_shape_does_not_count(
    damaged: bytes, store: Store, trial: Trial, tmp_path: Path
) -> None:
    attempt = end(store, trial, tmp_path)
    store.put(f"trials/{trial.id}/result.json", damaged)
    assert results.read_result(store, trial.id) is None
    store.put(checkpoints.checkpoint_prefix(trial.id, 10, attempt) + "/manifest.json", damaged)
    assert checkpoints.fetch_checkpoint(store, trial.id, tmp_path / "into") is None


def test_old_checkpoints_go_and_what_is_being_written_stays(
    store: Store, trial: Trial, tmp_path: Path
) -> None:
    first = attempts.new_attempt(store, trial, {})
    save(store, trial, first, 10, tmp_path)
    save(store, trial, first, 15, tmp_path, seal=False)
    second = attempts.new_attempt(store, trial, {})
    for step in (20, 30):
        save(store, trial, second, step, tmp_path)
    save(store, trial, second, 40, tmp_path, seal=False)
    checkpoints.discard_checkpoints(store, trial.id, keep=1)
    left = {key.split("/")[3] for key in store.list(f"trials/{trial.id}/checkpoints")}
    assert left == {"step-00000030-2", "step-00000040-2"}


def test_a_superseded_attempt_writes_neither_manifest_nor_result(
    store: Store, trial: Trial, tmp_path: Path
) -> None:
    first = attempts.new_attempt(store, trial, {})
    save(store, trial, first, 10, tmp_path)
    attempts.new_attempt(store, trial, {})
    with pytest.raises(attempts.Superseded):
        save(store, trial, first, 20, tmp_path)
    with pytest.raises(attempts.Superseded):
        results.write_result(
            store, trial.id, first, sweep="s", step=10, outcome="completed", metrics={}
        )
    assert results.read_result(store, trial.id) is None


def test_states_follow_what_was_written(
    store: Store, trial: Trial, tmp_path: Path, monkeypatch
) -> None:
    def state() -> str:
        return trials.glance_at(store, trial.id).state

    assert state() == "pending"
    attempt = attempts.new_attempt(store, trial, {})
    assert state() == "running", "it has only just begun, and has had no time for a sign of life"
    attempts.say_alive(store, trial.id, attempt)
    assert state() == "running"
    with monkeypatch.context() as later:
        now = attempts.time.time()
        later.setattr(attempts.time, "time", lambda: now + attempts.SILENT_AFTER_S + 1)
        assert state() == "interrupted"
    attempts.write_failure(store, trial.id, attempt, "killed", "by signal 9", final=False)
    assert state() == "interrupted"
    attempts.give_up(store, trial.id, "retries used up", run="another")
    assert state() == "interrupted", "another run may try again"
    attempts.give_up(store, trial.id, "retries used up", run="")
    assert state() == "failed"
    end(store, trial, tmp_path)
    assert state() == "done"
    end(store, trial, tmp_path, outcome="diverged")
    assert state() == "diverged"


def ended(store: Store, plan: Plan) -> set[str]:
    """The ids of trials that need no more training."""
    looks = trials.looks_at(store, [trial.id for trial in plan.trials], verify=True)
    return {trial_id for trial_id, look in looks.items() if look.has_ended}


def test_a_trial_has_ended_only_while_its_checksums_hold(
    store: Store, plan: Plan, trial: Trial, tmp_path: Path
) -> None:
    attempt = end(store, trial, tmp_path)
    assert ended(store, plan) == {trial.id}
    result, weights = (
        f"trials/{trial.id}/result.json",
        checkpoints.checkpoint_prefix(trial.id, 10, attempt) + "/weights.pt",
    )
    (segment,) = (found.key for found in journals.segments(store, trial.id))
    damages = {
        result: store.get(result).replace(b'"step": 10', b'"step": 11'),
        weights: b"9/10",
        segment: line(0, 1, loss=0.4),
    }
    for key, damaged in damages.items():
        whole = store.get(key)
        store.put(key, damaged)
        assert ended(store, plan) == set(), key
        store.delete(key)
        assert ended(store, plan) == set(), key
        store.put(key, whole)
        assert ended(store, plan) == {trial.id}


def test_status_says_which_trials_did_not_simply_continue(
    store: Store, plan: Plan, trial: Trial, capsys: pytest.CaptureFixture[str]
) -> None:
    note = "attempt 1 begins again at step 0: of ZeRO 2 on 2 ranks"
    attempts.write_start(
        store, trial.id, attempts.new_attempt(store, trial, {}), step=0, how="put aside", note=note
    )
    assert status(plan.path, store=store.uri) == 0
    _, who, heading, *what = capsys.readouterr().out.splitlines()
    assert who == f"running on an unnamed host: {trial.name}"
    assert heading == "Overcome: 1"
    (said,) = (line for line in what if note in line)
    assert trial.name in said
    status(plan.path, store=store.uri, as_json=True)
    assert json.loads(capsys.readouterr().out)["notes"] == [f"{trial.name}: {note}"]
    attempts.write_start(
        store, trial.id, attempts.new_attempt(store, trial, {}), step=7, how="continued"
    )
    status(plan.path, store=store.uri, as_json=True)
    assert json.loads(capsys.readouterr().out)["notes"] == [], (
        "the newest attempt continued as it was"
    )
    fewer = "attempt 3 goes on from step 7 on 1 worker instead of 2"
    attempts.write_start(
        store, trial.id, attempts.new_attempt(store, trial, {}), step=7, how="converted", note=fewer
    )
    status(plan.path, store=store.uri)
    assert f"\n{trial.name}: {fewer}\n" in capsys.readouterr().out


def test_damaged_checkpoints_are_known_to_have_been_there(
    store: Store, trial: Trial, tmp_path: Path
) -> None:
    assert not checkpoints.has_checkpoints(store, trial.id)
    prefix = save(store, trial, attempts.new_attempt(store, trial, {}), 10, tmp_path)
    store.put(f"{prefix}/weights.pt", b"torn")
    assert checkpoints.fetch_checkpoint(store, trial.id, tmp_path / "into") is None
    assert checkpoints.has_checkpoints(store, trial.id)
