"""`normsweep gc`: frees what no sweep needs, and nothing that a sweep, a run or a person needs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan, Trial
from orchestrator.store import attempts
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import checkpoint_prefix, write_manifest
from orchestrator.store.journals import put_segment
from orchestrator.store.names import claim_name
from orchestrator.store.trials import glance_at
from orchestrator.trials import gc, rubbish
from tests.in_process import Command
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_ended
from trainers.data.cache import Cache

TRAINING = "steps: 40, batch_size: 4, patch_size_px: 16"


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(seed="0, 1", training=TRAINING), "mine")


@pytest.fixture
def old(tmp_path: Path) -> Plan:
    """A sweep that nobody names any more."""
    training = TRAINING.replace("40", "60")
    return plan_of(tmp_path, comparing(seed="0, 1", training=training), "old")


@pytest.fixture(autouse=True)
def an_hour_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tests have just written counts as old, except signs of life."""
    monkeypatch.setattr(rubbish, "HOUR_S", -1.0)
    monkeypatch.delenv("NORMSWEEP_CACHE", raising=False)


def checkpoint(store: Store, trial: Trial, number: int, step: int, *, seal: bool = True) -> str:
    prefix = checkpoint_prefix(trial.id, step, number)
    store.put(f"{prefix}/w.pt", b"w" * 1_000)
    if seal:
        files = {"w.pt": {"sha256": "0" * 64, "bytes": 1_000}}
        write_manifest(store, trial.id, number, step=step, world_size=1, zero_stage=0, files=files)
    return prefix


def interrupted(store: Store, trial: Trial, *, seal: bool = True) -> str:
    number = write_attempt(store, trial, 20)
    prefix = checkpoint(store, trial, number, 20, seal=seal)
    attempts.write_failure(store, trial.id, number, "killed", "by 9", final=False, step=20)
    return prefix


def freed(store: Store, *named: Trial, **flags: bool) -> set[str]:
    """The keys that are gone after all that is found for sweeps of these trials is deleted."""
    before = set(store.list("trials"))
    found = gc.find(store, {trial.id for trial in named} if named else None, **flags)
    sizes = store.sizes("trials")
    total = sum(gc.delete(store, one) for one in found)
    gone = before - set(store.list("trials"))
    assert total == sum(sizes[key] for key in gone)
    return gone


def test_checkpoints_of_trials_that_no_sweep_names_go(store: Store, plan: Plan, old: Plan) -> None:
    kept = interrupted(store, plan.trials[0])
    write_ended(store, plan.trials[1])
    prefix = interrupted(store, old.trials[0])
    write_ended(store, old.trials[1])
    claim_name(plan, store)
    assert freed(store) == {f"{prefix}/w.pt", f"{prefix}/manifest.json"}
    assert store.list(kept), "its sweep continues from there"
    assert glance_at(store, old.trials[1].id).state == "done", "results and weights stay"
    assert glance_at(store, old.trials[0].id).state == "interrupted"


def test_files_given_alone_say_which_trials_are_wanted(store: Store, plan: Plan, old: Plan) -> None:
    for one in (plan, old):
        claim_name(one, store)
    prefixes = [interrupted(store, one.trials[0]) for one in (plan, old)]
    assert freed(store) == set(), "both sweeps have a record"
    assert freed(store, *plan.trials) == {f"{prefixes[1]}/{f}" for f in ("w.pt", "manifest.json")}


def test_only_when_asked_results_and_final_weights_go_as_well(
    store: Store, plan: Plan, old: Plan
) -> None:
    write_ended(store, plan.trials[0])
    write_ended(store, old.trials[0])
    claim_name(plan, store)
    assert freed(store) == set()
    assert freed(store, with_results=True)
    assert store.list(f"trials/{old.trials[0].id}") == []
    assert glance_at(store, plan.trials[0].id).state == "done"


def test_leftovers_of_killed_runs_go(store: Store, plan: Plan) -> None:
    claim_name(plan, store)
    unfinished = interrupted(store, plan.trials[0], seal=False)
    write_ended(store, plan.trials[1])
    journal = store.list(f"trials/{plan.trials[1].id}/attempts/1/journal")
    (segment,) = [key for key in journal if key.endswith(".jsonl")]
    first = store.get(segment).split(b"\n")[0] + b"\n"
    put_segment(store, plan.trials[1].id, 1, 0, first)  # joined already, and not deleted
    earlier = checkpoint(store, plan.trials[1], 1, 20)
    gone = freed(store)
    assert {f"{unfinished}/w.pt", f"{earlier}/w.pt", f"{earlier}/manifest.json"} < gone
    assert len(gone) == 4
    assert glance_at(store, plan.trials[1].id).state == "done"


def test_nothing_that_a_running_trial_or_its_sweep_holds_goes(
    store: Store, plan: Plan, old: Plan
) -> None:
    claim_name(plan, store)
    claim_name(old, store)
    running = old.trials[0]
    number = write_attempt(store, running, 20)
    checkpoint(store, running, number, 20)
    checkpoint(store, running, number, 30, seal=False)  # being written
    attempts.say_alive(store, running.id, number)
    interrupted(store, old.trials[1])  # waits for its turn
    assert freed(store, *plan.trials, with_results=True) == set()


def test_a_trial_that_begins_between_the_look_and_the_deletion_keeps_all(
    store: Store, plan: Plan, old: Plan
) -> None:
    claim_name(plan, store)
    prefix = interrupted(store, old.trials[0])
    (one,) = gc.find(store, None)
    attempts.say_alive(store, old.trials[0].id, write_attempt(store, old.trials[0], 20))
    assert gc.delete(store, one) == 0
    assert len(store.list(prefix)) == 2
    assert "Left, since it is in use" in gc.delete_all(store, [one])


def test_a_trial_of_the_last_hour_is_left_alone(
    store: Store, plan: Plan, old: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rubbish, "HOUR_S", 3_600.0)
    claim_name(plan, store)
    interrupted(store, old.trials[0])
    assert gc.find(store, None) == []


def test_a_store_that_does_not_say_which_trials_are_wanted_is_refused(
    store: Store, plan: Plan
) -> None:
    interrupted(store, plan.trials[0])
    with pytest.raises(UserError, match="has no record of any sweep"):
        gc.find(store, None)
    claim_name(plan, store)
    store.put("sweeps/mine/file.json", b"{}")
    with pytest.raises(EnvironmentProblem, match=r"sweeps/mine/file\.json has another shape"):
        gc.find(store, None)
    assert gc.find(store, {plan.trials[0].id}) == []


def test_trials_and_sweeps_that_are_to_be_kept_are(store: Store, plan: Plan, old: Plan) -> None:
    claim_name(plan, store)
    claim_name(old, store)
    interrupted(store, old.trials[0])
    named = {trial.id for trial in plan.trials}
    assert len(gc.find(store, named)) == 1
    assert gc.find(store, named, [old.trials[0].id[:12]]) == []
    assert gc.find(store, named, ["old"]) == []
    with pytest.raises(UserError, match="There is no trial 'odl'"):
        gc.find(store, named, ["odl"])


def test_folders_of_dead_runs_go_and_those_of_live_ones_stay(store: Store, plan: Plan) -> None:
    claim_name(plan, store)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    ago = time.time() - 2 * rubbish.WRITTEN_LATELY_S
    paths = {}
    for pid in (dead.pid, os.getpid()):
        paths[pid] = Path(store.uri) / "work" / str(pid) / "rank.log"
        paths[pid].parent.mkdir(parents=True)
        paths[pid].write_text("x" * 50)
        for path in (paths[pid], paths[pid].parent):
            os.utime(path, (ago, ago))
    (one,) = gc.find(store, None)
    assert (one.path, one.bytes) == (paths[dead.pid].parent, 50)
    os.utime(paths[dead.pid])
    assert gc.find(store, None) == [], "another host's run may write to it"
    number = attempts.new_attempt(store, plan.trials[0], {"run": f"far-host-{dead.pid}-1"})
    attempts.say_alive(store, plan.trials[0].id, number)
    os.utime(paths[dead.pid], (ago, ago))
    assert gc.find(store, None) == [], "a trial that runs was begun by it"
    attempts.write_failure(store, plan.trials[0].id, number, "killed", "", final=False)
    assert gc.delete(store, one) == 50
    assert not paths[dead.pid].parent.exists()


def test_cached_data_goes_when_old_or_asked_for_and_never_when_in_use(
    store: Store, plan: Plan
) -> None:
    claim_name(plan, store)
    root = Path(store.uri) / "cache"
    cache = Cache(root, limit_bytes=10_000)
    path = cache.entry("set", lambda: 9, lambda folder: None)
    (path / "images").write_bytes(b"123456789")
    assert gc.find(store, None) == []
    (one,) = gc.find(store, None, all_caches=True)
    assert gc.delete(store, one) == 0, "somebody uses it"
    month = time.time() - rubbish.UNUSED_S - 60
    os.utime(path, (month, month))
    (one,) = gc.find(store, None)
    del cache
    assert gc.delete(store, one) == 9
    assert not path.exists()


def test_the_command_asks_unless_told_and_a_dry_run_changes_nothing(
    store: Store,
    plan: Plan,
    old: Plan,
    command: Command,
) -> None:
    claim_name(plan, store)
    prefix = interrupted(store, old.trials[0])
    size = sum(store.sizes(prefix).values())
    line = f"{old.trials[0].name} ({old.trials[0].id}): 1 checkpoint of a trial that no sweep names"
    before = store.list("trials")
    code, said, _ = command("gc", "--dry-run", "--store", store.uri)
    assert (code, store.list("trials")) == (0, before)
    assert line in said
    assert f"in all, {size:,} bytes" in said
    code, _, said = command("gc", "--store", store.uri)
    assert (code, store.list("trials")) == (2, before)
    assert "Give --yes, or --dry-run." in said
    code, said, _ = command("gc", "--yes", "--store", store.uri)
    assert code == 0
    assert f"Freed {size:,} bytes" in said
    code, said, _ = command("gc", "--store", store.uri)
    assert (code, said) == (0, "There is nothing to delete.\n")
