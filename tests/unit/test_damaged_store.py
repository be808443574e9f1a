"""A store that is damaged: what is wrong is named and passed over, and no number comes from it."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store import open_store, read_store
from orchestrator.store.attempts import new_attempt, newest_attempt, read_attempts, write_start
from orchestrator.store.checkpoints import (
    checkpoint_prefix,
    discard_checkpoints,
    fetch_checkpoint,
    folders,
)
from orchestrator.store.journals import put_segment
from orchestrator.store.lines import Odd, checked_lines
from orchestrator.store.records import (
    CHECKSUM,
    FAILURE,
    canonical_sha256,
    checked_record,
)
from orchestrator.store.results import trained_spec
from orchestrator.store.survey import survey
from orchestrator.store.trials import glance_at, look_at
from tests.damage import (
    DAMAGES,
    KINDS,
    Seen,
    damaged,
    files_of,
    look,
    numbers_that_changed_unsaid,
    written,
)
from tests.written_store import write_ended

OF_A_TRIAL = [kind for kind in KINDS if kind not in ("ranks", "evaluation", "job")]
SEED = 16


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path, Seen]:
    """A sweep, its undamaged store, and what is seen of it."""
    plan, store = written(tmp_path_factory.mktemp("held"))
    seen = look(plan, store)
    assert [found.state for found in seen.looks.values()] == [
        "done",
        "interrupted",
        "failed",
        "done",
    ]
    assert not any(found.damaged for found in seen.looks.values())
    assert survey(read_store(str(store))) == []
    return plan, store, seen


@pytest.mark.parametrize("kind", OF_A_TRIAL)
def test_a_damaged_file_is_named_and_no_number_comes_from_it(
    kind: str, held: tuple[Plan, Path, Seen]
) -> None:
    plan, store, before = held
    dice = random.Random(f"{SEED} {kind}")
    for name, damage in DAMAGES.items():
        path = dice.choice(files_of(store, kind))
        content = damage(path.read_bytes(), dice)
        if content == path.read_bytes():
            continue
        with damaged(path, content):
            after = look(plan, store)
        assert numbers_that_changed_unsaid(before, after) == [], (name, path)
    for path in files_of(store, kind):
        with damaged(path, None):  # a folder in its place
            after = look(plan, store)
        assert numbers_that_changed_unsaid(before, after) == [], path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["cut", "zeroed", "empty", "a list", "nested", "folder"])
def test_doctors_survey_names_every_kind_of_damaged_file(
    kind: str, name: str, held: tuple[Plan, Path, Seen]
) -> None:
    _, store, _ = held
    path = files_of(store, kind)[0]
    content = None if name == "folder" else DAMAGES[name](path.read_bytes(), random.Random(SEED))
    with damaged(path, content):
        named = [problem.key for problem in survey(read_store(str(store)))]
    assert any(path.relative_to(store).as_posix() in key or "lines" in key for key in named), named


@pytest.mark.parametrize(
    "name", ["a digit changed", "cut at a line", "twice", "zeros within", "a value missing"]
)
def test_a_journal_that_was_changed_damages_its_trial_and_gives_no_points(
    name: str, held: tuple[Plan, Path, Seen]
) -> None:
    plan, store, before = held
    for path in files_of(store, "journal"):
        trial = path.relative_to(store).parts[1]
        with damaged(path, DAMAGES[name](path.read_bytes(), random.Random(SEED))):
            after = look(plan, store)
        assert after.looks[trial].state == "damaged"
        assert path.name in after.text
        assert after.frame.points[after.frame.points["trial"] == trial].empty
        others = {other: numbers for other, numbers in before.numbers.items() if other != trial}
        assert others == {other: after.numbers[other] for other in others}


def test_a_segment_that_is_gone_is_missed(held: tuple[Plan, Path, Seen], tmp_path: Path) -> None:
    plan, store, _ = held
    first = next(path for path in files_of(store, "journal") if plan.trials[1].id in str(path))
    aside = first.rename(tmp_path / "aside")
    try:
        found = look_at(read_store(str(store)), plan.trials[1].id)
    finally:
        aside.rename(first)
    assert found.state == "damaged"
    assert "lacks the lines before it, 0 to" in found.damaged[0].why


def test_a_store_of_an_older_version_is_read_as_before(tmp_path: Path) -> None:
    plan, store = written(tmp_path)
    before = look(plan, store)
    renamed = {}
    for path in files_of(store, "journal"):
        plain = path.with_name(path.name[:10] + ".jsonl")
        renamed[path.relative_to(store).as_posix()] = (
            path.rename(plain).relative_to(store).as_posix()
        )
    for kind in ("attempt", "alive", "failure", "manifest"):
        for path in files_of(store, kind):
            record = json.loads(path.read_bytes())
            path.write_text(
                json.dumps({k: v for k, v in record.items() if k not in (CHECKSUM, "spec")})
            )
    for path in files_of(store, "result"):
        result = json.loads(path.read_bytes())
        result["journal"] = {renamed[key]: sha256 for key, sha256 in result["journal"].items()}
        path.write_text(json.dumps({**result, CHECKSUM: canonical_sha256(result)}))
    after = look(plan, store)
    assert not any(found.damaged for found in after.looks.values())
    assert after.numbers == before.numbers
    assert after.frame.recorded == before.frame.recorded


@pytest.mark.parametrize("name", ["cut", "zeroed", "folder", "a text"])
def test_an_attempt_whose_record_is_damaged_keeps_its_number(name: str, tmp_path: Path) -> None:
    plan, path = written(tmp_path)
    store, trial = open_store(str(path)), plan.trials[1]
    record = path / "trials" / trial.id / "attempts/1/attempt.json"
    with damaged(
        record,
        None if name == "folder" else DAMAGES[name](record.read_bytes(), random.Random(SEED)),
    ):
        assert read_attempts(store, trial.id) == []
        assert glance_at(store, trial.id).state == "interrupted"
        assert new_attempt(store, trial, {}) == 2
    record.unlink()
    assert newest_attempt(store, trial.id) == 2
    assert any(problem.why == "is missing" for problem in look_at(store, trial.id).damaged)


def test_a_damaged_spec_is_written_again_by_the_next_attempt_and_never_exported(
    tmp_path: Path,
) -> None:
    plan, path = written(tmp_path)
    store, trial = open_store(str(path)), plan.trials[3]
    spec = path / "trials" / trial.id / "spec.json"
    whole = spec.read_text()
    spec.write_text(whole.replace('"lr": 0.0002', '"lr": 0.0003'))
    assert "is not the spec that the attempts trained" in look_at(store, trial.id).damaged[0].why
    assert trained_spec(store, trial.id, 1) == trial.spec
    spec.write_text("{")
    new_attempt(store, trial, {})
    assert spec.read_text() == whole


def test_checkpoints_older_than_a_damaged_one_are_used_and_the_damage_is_reported(
    tmp_path: Path,
) -> None:
    plan, path = written(tmp_path)
    store, trial = open_store(str(path)), plan.trials[3]
    write_ended(store, trial, until=60)
    newest = path / checkpoint_prefix(trial.id, 60, 2)
    for broken in ("manifest.json", "ema.pt"):
        passed_over = []
        with damaged(newest / broken, b"\0"):
            found = fetch_checkpoint(store, trial.id, tmp_path / "into", passed_over)
        assert found is not None
        assert found[0] == 40
        assert broken in str(passed_over[0])


def test_a_checkpoint_just_written_is_never_pushed_out_by_older_ones_that_may_be_damaged(
    tmp_path: Path,
) -> None:
    plan, path = written(tmp_path)
    store, trial = open_store(str(path)), plan.trials[1]
    for until in (60, 80):
        write_ended(store, trial, until=until)
    for name in (f"step-00000060-{2}", f"step-00000080-{3}"):
        (path / "trials" / trial.id / "checkpoints" / name / "ema.pt").write_bytes(b"weighty")
    write_ended(store, trial, until=20)
    discard_checkpoints(store, trial.id, keep=2)
    found = fetch_checkpoint(store, trial.id, tmp_path / "into")
    assert found is not None
    assert found[0] == 20
    write_ended(store, trial, until=90)
    discard_checkpoints(store, trial.id, keep=1)
    assert [folder.name for folder in folders(store, trial.id)] == ["step-00000090-5"]


def test_files_of_others_in_a_store_are_left_alone(tmp_path: Path) -> None:
    plan, path = written(tmp_path)
    before = look(plan, path)
    trial = path / "trials" / plan.trials[0].id
    for stray in (
        path / "trials/.DS_Store",
        path / "trials/.ipynb_checkpoints/notes.txt",
        trial / "attempts/notes/readme.md",
        trial / "attempts/1/journal/.nfs0001",
        trial / "checkpoints/old/step.txt",
        path / "jobs/.hidden.json",
    ):
        stray.parent.mkdir(parents=True, exist_ok=True)
        stray.write_bytes(b"\xff")
    assert look(plan, path).numbers == before.numbers
    assert survey(read_store(str(path))) == []
    discard_checkpoints(open_store(str(path)), plan.trials[0].id, keep=1)


def test_how_an_attempt_began_is_kept_and_its_note_is_shown(tmp_path: Path) -> None:
    plan, path = written(tmp_path)
    store, trial = open_store(str(path)), plan.trials[0]
    assert look_at(store, trial.id).note == ""
    note = "started anew: its checkpoint is of ZeRO 2 on two workers"
    write_start(store, trial.id, 2, step=0, how="anew", note=note)
    assert look_at(store, trial.id).note == note


def test_a_sign_of_life_from_the_far_future_is_none(tmp_path: Path) -> None:
    plan, path = written(tmp_path)
    store, trial = open_store(str(path)), plan.trials[1]
    (path / "trials" / trial.id / "attempts/1/failure.json").unlink()
    assert glance_at(store, trial.id).state == "running"
    (path / "trials" / trial.id / "attempts/1/alive.json").write_text('{"time": 99999999999}')
    assert glance_at(store, trial.id).state == "interrupted"


def test_a_segment_has_its_checksum_in_its_name(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    put_segment(store, "t", 1, 7, b"{}\n")
    (key,) = store.list("trials")
    assert re.fullmatch(r"trials/t/attempts/1/journal/0000000007-[0-9a-f]{16}\.jsonl", key)


def test_half_a_character_is_damage_where_it_is_printed_but_not_in_an_images_name() -> None:
    """A lone surrogate is legal JSON but not text. File names that are not UTF-8 contain some."""
    line = {
        "seq": 0,
        "time": 1.0,
        "step": 1,
        "kind": "event",
        "images": [{"name": "caf\udce9.png"}],
    }
    (read,) = checked_lines(json.dumps(line).encode() + b"\n")
    assert isinstance(read, Odd)
    assert read.record == line
    for printed in ({"kind": "\udce9"}, {"values": {"\udce9": 1.0}}):
        with pytest.raises(ValueError, match="has another shape"):
            checked_lines(json.dumps(line | printed).encode() + b"\n")
    failure = {"kind": "bug", "message": "\udce9", "final": False, "time": 1.0}
    with pytest.raises(ValueError, match="has another shape"):
        checked_record(json.dumps(failure).encode(), FAILURE)
