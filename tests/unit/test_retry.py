"""`normsweep retry`: a trial is pending again, begins where it can, and has lost nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.store import attempts
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import checkpoint_prefix, fetch_checkpoint, write_manifest
from orchestrator.store.trials import glance_at, look_at, read_trial
from orchestrator.trials.retry import chosen, retry
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_ended
from trainers.durable import sha256_of


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    training = "steps: 40, batch_size: 4, patch_size_px: 16"
    return plan_of(tmp_path, comparing(seed="0, 1, 2", training=training), "mine")


def files(store: Store, trial: str) -> set[bytes]:
    return {store.get(key) for key in store.list(f"trials/{trial}")}


def failed(store: Store, plan: Plan, kind: str = "other", tmp_path: Path | None = None) -> str:
    trial = plan.trials[0]
    number = write_attempt(store, trial, 20)
    if tmp_path is not None:  # with a checkpoint
        (tmp_path / "w").write_bytes(b"weights")
        store.put_file(f"{checkpoint_prefix(trial.id, 20, number)}/w", tmp_path / "w")
        about = {"w": {"sha256": sha256_of(tmp_path / "w"), "bytes": 7}}
        write_manifest(store, trial.id, number, step=20, world_size=1, zero_stage=0, files=about)
    attempts.write_failure(store, trial.id, number, kind, "boom\nmore", final=True, step=20)
    return trial.id


def test_a_failed_trial_is_pending_and_continues_from_its_checkpoint(
    store: Store, plan: Plan, tmp_path: Path
) -> None:
    trial = failed(store, plan, tmp_path=tmp_path)
    before = files(store, trial)
    (said,) = retry(store, chosen(store, [plan.trials[0].name]))
    assert f"{plan.trials[0].name} ({trial}): failed (other: boom); pending now." in said
    assert "continues from step 20" in said
    for look in (glance_at(store, trial), look_at(store, trial)):
        assert look.state == "interrupted"
        assert not look.damaged
    assert before < files(store, trial), "what it had is as it was"
    found = fetch_checkpoint(store, trial, tmp_path / "fetched")
    assert found is not None and found[0] == 20
    number = write_attempt(store, plan.trials[0], 20)
    attempts.write_failure(store, trial, number, "other", "again", final=True)
    assert glance_at(store, trial).state == "failed", "the retry was of the attempt before"


def test_an_infeasible_trial_keeps_what_it_has_learnt(store: Store, plan: Plan) -> None:
    trial = failed(store, plan, "cuda_oom")
    (said,) = retry(store, chosen(store, [trial]))
    assert "takes the micro-batch with which it failed" in said
    ((_, failure),) = attempts.read_failed_attempts(store, trial, "cuda_oom")
    assert failure["final"], "so that its micro-batch is tried again"
    assert glance_at(store, trial).state == "interrupted"


def test_a_mistake_of_the_input_fails_again_unless_it_has_changed(store: Store, plan: Plan) -> None:
    (said,) = retry(store, chosen(store, [failed(store, plan, "data")]))
    assert "fails the same way unless what was wrong has changed" in said


def test_a_diverged_trial_begins_anew_and_all_it_had_is_set_aside(
    store: Store, plan: Plan, tmp_path: Path
) -> None:
    trial = plan.trials[0]
    write_ended(store, trial, outcome="diverged", until=20)
    before = files(store, trial.id)
    (said,) = retry(store, chosen(store, [trial.id[:10]]))
    assert "diverged at step 20; pending now." in said
    assert "begins at step 0" in said
    assert f"{store.uri}/trials/{trial.id}/set_aside/1" in said
    assert before < files(store, trial.id)
    look, points = read_trial(store, trial.id)
    assert (look.state, look.step, look.damaged, len(points)) == ("interrupted", 0, (), 0)
    assert fetch_checkpoint(store, trial.id, tmp_path) is None
    assert attempts.new_attempt(store, trial, {}) == 2, "a number is never given twice"


def test_points_of_the_diverged_attempt_do_not_stand_for_those_of_the_next(
    store: Store, plan: Plan
) -> None:
    trial = plan.trials[0]
    write_ended(store, trial, outcome="diverged", until=20)
    retry(store, chosen(store, [trial.id]))
    write_ended(store, trial)
    look, points = read_trial(store, trial.id)
    assert look.state == "done"
    assert {point.attempt for point in points} == {2}
    assert all(point.value == point.value for point in points), "no NaN of the first attempt"


def test_a_kill_while_it_is_set_aside_leaves_a_trial_that_can_be_retried(
    store: Store, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = plan.trials[0]
    write_ended(store, trial, outcome="diverged", until=20)
    before = files(store, trial.id)
    put = type(store).put_file
    for fatal in (1, 2, 3):
        count = [0]

        def cut(self: Store, key: str, path: Path, fatal: int = fatal, count: list = count) -> None:
            count[0] += 1
            if count[0] == fatal:
                raise KeyboardInterrupt
            put(self, key, path)

        monkeypatch.setattr(type(store), "put_file", cut)
        with pytest.raises(KeyboardInterrupt):
            retry(store, chosen(store, [trial.id]))
        monkeypatch.undo()
        assert glance_at(store, trial.id).state == "diverged"
    retry(store, chosen(store, [trial.id]))
    assert glance_at(store, trial.id).state == "interrupted"
    assert before < files(store, trial.id)


def test_done_running_and_unknown_trials_are_refused_together_and_nothing_is_changed(
    store: Store, plan: Plan, command: Command
) -> None:
    diverged, done, running, damaged, pending, _ = plan.trials
    write_ended(store, diverged, outcome="diverged", until=20)
    write_ended(store, done)
    attempts.say_alive(store, running.id, write_attempt(store, running, 10))
    write_ended(store, damaged)
    store.put(f"trials/{damaged.id}/result.json", b"")
    number = write_attempt(store, pending, 10)
    attempts.write_failure(store, pending.id, number, "killed", "9", final=False)
    before = store.list("trials")
    ids = [trial.id for trial in (diverged, done, running, damaged)]
    code, _, said = command("retry", *ids, "nix", "--store", store.uri)
    assert code == 2
    for part in (
        f"{done.name} ({done.id}) is done.",
        f"({running.id}) is running.",
        f"({damaged.id}) is damaged: trials/{damaged.id}/result.json is empty.",
        "There is no trial 'nix'",
    ):
        assert part in said
    assert store.list("trials") == before
    code, said, _ = command("retry", pending.id, "--store", store.uri)
    assert (code, store.list("trials")) == (0, before)
    assert (
        f"is interrupted already. The next `normsweep run FILE --store {store.uri}` of its sweep "
        "begins at step 0." in said
    )
