"""What a sweep's `keep` removes from a store, and what it never touches, on every store."""

from __future__ import annotations

import math
import time
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.export import final_weights
from orchestrator.initial import Finder
from orchestrator.plan import Plan, Trial
from orchestrator.plan.initial import CannotStart
from orchestrator.plan.states import State
from orchestrator.regression.final_weights import contents_of
from orchestrator.run.progress import Progress
from orchestrator.run.retaining import free_all, free_beside
from orchestrator.store import attempts, open_store
from orchestrator.store.base import Store
from orchestrator.store.census import census
from orchestrator.store.freed import freed_key
from orchestrator.store.names import claim_name
from orchestrator.store.retention import Retained, apply, retained
from orchestrator.store.stops import has_ended_for
from orchestrator.store.survey import survey
from orchestrator.store.trials import glance_at, looks_at
from orchestrator.trials import gc, rubbish, table
from orchestrator.trials.retry import chosen, retry
from tests.contract.test_store import STORES
from tests.counted_store import CountedStore
from tests.sweeps import comparing, plan_of
from tests.written_store import write_attempt, write_end

PSNR = (30.0, 31.0, 29.0)
STEPS = 40


@pytest.fixture(params=STORES, ids=list(STORES))
def store(request: pytest.FixtureRequest) -> Store:
    return open_store(STORES[request.param](request))


def planned(folder: Path, keep: str, name: str = "written", seeds: str = "0, 1, 2") -> Plan:
    """Trials of two norms with these seeds. `written` is the sweep of what write_end writes."""
    text = comparing(seed=seeds, training=f"steps: {STEPS}, batch_size: 4, patch_size_px: 16")
    return plan_of(folder, f"{text}keep: {{checkpoints: {keep}}}\n", name)


def end(store: Store, trial: Trial, psnr: float, outcome: str = "completed") -> None:
    attempt = write_attempt(store, trial, STEPS)
    metrics = {"val/embedded-test/psnr": psnr}
    write_end(store, trial, attempt, STEPS, outcome, ema=b"w" * 1_000, metrics=metrics)


def end_all(store: Store, plan: Plan) -> None:
    """Both norms' trials with PSNR: the second seed is best."""
    for trial in plan.trials:
        end(store, trial, PSNR[trial.axes["seed"]])
    claim_name(plan, store)


def with_weights(store: Store, plan: Plan) -> list[int]:
    """The indices of the trials that still have files of a checkpoint."""
    return [i for i, one in enumerate(plan.trials) if store.list(f"trials/{one.id}/checkpoints")]


def shown(store: Store, plan: Plan) -> Retained:
    found = retained(store, plan, looks_at(store, [trial.id for trial in plan.trials]))
    assert found is not None
    return found


def in_trials(found: list[rubbish.Rubbish]) -> list[rubbish.Rubbish]:
    """Without this machine's cache, which is not the test's."""
    return [one for one in found if one.trial]


def test_the_best_of_each_norm_keep_their_weights_and_nothing_else_is_lost(
    store: Store, tmp_path: Path
) -> None:
    plan = planned(tmp_path, "best")
    end_all(store, plan)
    before = set(store.list("trials"))
    assert apply(store, plan) == 4
    assert with_weights(store, plan) == [1, 4]
    gone = before - set(store.list("trials"))
    assert {key.split("/")[2] for key in gone} == {"checkpoints"}
    assert apply(store, plan) == 0, "there is nothing more to do"
    ids = [trial.id for trial in plan.trials]
    for looks in (looks_at(store, ids, verify=True), census(store, ids)):
        assert {look.state for look in looks.values()} == {State.DONE}
        assert all(has_ended_for(plan, look) for look in looks.values()), "none is trained again"
        assert not any(look.damaged for look in looks.values())
    assert survey(store) == []
    assert str(shown(store, plan)) == ("keep: best: kept 2 checkpoints (2 kB), freed 4 (4 kB)")
    assert "Removed by the `keep` of their sweeps: 4 checkpoints (4 kB)." in table.as_text(
        "it", table.rows(store, plan)
    )


def test_as_trials_end_only_what_nobody_can_need_goes(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "best")
    claim_name(plan, store)
    first, second, third = plan.trials[:3]
    end(store, first, 30.0)
    assert apply(store, plan, beside=first.id) == 0, "it may be the best"
    end(store, second, 31.0)
    assert apply(store, plan, beside=second.id) == 1
    assert with_weights(store, plan) == [1]
    end(store, third, math.nan, "diverged")
    assert apply(store, plan, beside=third.id) == 1
    assert with_weights(store, plan) == [1]


def test_none_keeps_what_is_open_running_or_stopped(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    done, stopped, failed, running = plan.trials[:4]
    end(store, done, 30.0)
    end(store, stopped, 30.0, "stopped")
    for trial in (failed, running):
        number = write_attempt(store, trial, 20)
        store.put(f"trials/{trial.id}/checkpoints/step-00000020-{number}/ema.pt", b"w")
    attempts.write_failure(store, failed.id, 1, "other", "boom", final=True)
    attempts.say_alive(store, running.id, 1)
    claim_name(plan, store)
    assert apply(store, plan) == 1
    assert with_weights(store, plan) == [1, 2, 3]
    again = write_attempt(store, done, 10)  # somebody trains it once more
    store.put(f"trials/{done.id}/checkpoints/step-00000020-{again}/ema.pt", b"w")
    assert apply(store, plan) == 0
    assert with_weights(store, plan) == [0, 1, 2, 3]


def test_a_trial_that_another_sweep_has_keeps_its_weights(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    end_all(store, plan)
    claim_name(planned(tmp_path, "none", "other", seeds="0"), store)
    assert apply(store, plan) == 4
    assert with_weights(store, plan) == [0, 3]
    assert str(shown(store, plan)).endswith("; 2 left, since sweep other has it as well")


def test_a_trial_that_another_sweep_trained_keeps_its_weights(store: Store, tmp_path: Path) -> None:
    end_all(store, planned(tmp_path, "last"))
    plan = planned(tmp_path, "none", "borrower")
    store.delete("sweeps/written/file.json")
    assert apply(store, plan) == 0
    assert set(shown(store, plan).spared.values()) == {"sweep written trained it"}


def test_a_sweep_whose_trials_are_not_known_may_have_any(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    end_all(store, plan)
    store.put("sweeps/torn/file.json", b"{")
    assert apply(store, plan) == 0


def test_gc_applies_the_files_given_and_asks_no_other_sweep(store: Store, tmp_path: Path) -> None:
    plan, other = planned(tmp_path, "none"), planned(tmp_path, "best", "other", seeds="1, 2")
    end_all(store, plan)
    claim_name(other, store)
    named = {trial.id for one in (plan, other) for trial in one.trials}
    removed = in_trials(gc.find(store, named, plans=(plan, other)))
    assert {one.trial for one in removed} == {plan.trials[i].id for i in (0, 2, 3, 5)}
    assert 'its last checkpoint, by "keep: none" of sweep written' in removed[0].what
    assert sum(gc.delete(store, one) for one in removed) == sum(one.bytes for one in removed) > 4000
    assert with_weights(store, plan) == [1, 4], "the best of `other`, which are of both"
    assert in_trials(gc.find(store, named, plans=(plan, other))) == []


def test_gc_leaves_what_it_is_asked_to_keep_and_sweeps_that_run(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rubbish, "HOUR_S", -1.0)
    plan = planned(tmp_path, "none")
    end_all(store, plan)
    kept = plan.trials[0].id
    found = in_trials(gc.find(store, None, [kept], plans=(plan,)))
    assert {one.trial for one in found} == {one.id for one in plan.trials[1:]}
    store.delete(f"trials/{kept}/result.json")
    attempts.say_alive(store, kept, 1)
    assert in_trials(gc.find(store, None, plans=(plan,))) == []


class Ends(EnvironmentProblem):
    """The process ends here."""


def test_a_kill_between_record_and_deletion_is_finished_later(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    end_all(store, plan)
    text = plan.path.read_text().replace("[layer_norm, i_ln]", "[layer_norm]")
    for done in (0, 1):  # deletions before the end: none, and that of the manifest
        one = plan.trials[done]
        alone = plan_of(tmp_path, text.replace("[0, 1, 2]", f"[{one.axes['seed']}]"), "written")
        assert [trial.id for trial in alone.trials] == [one.id]
        left = [done]

        def end_at(request: str, key: str, left: list[int] = left) -> None:
            left[0] -= request == "delete"
            if left[0] < 0:
                raise Ends(key)

        with pytest.raises(Ends):
            apply(CountedStore(store, end_at), alone)
        assert store.size(freed_key(one.id)) > 0
        assert len(store.list(f"trials/{one.id}/checkpoints")) == 2 - done
        look = looks_at(store, [one.id], verify=True)[one.id]
        assert (look.state, look.damaged) == (State.DONE, ())
    assert apply(store, plan) == 6
    assert with_weights(store, plan) == []
    assert survey(store) == []


def test_a_store_that_fails_ends_no_run_and_what_is_left_is_said(
    store: Store, tmp_path: Path
) -> None:
    plan = planned(tmp_path, "none")
    end_all(store, plan)

    def away(request: str, key: str) -> None:
        if request == "delete":
            raise EnvironmentProblem(f"{key}: the service does not answer")

    failing = CountedStore(store, away)
    free_beside(plan, failing, plan.trials[0].id)
    progress = Progress(plan, {}, quiet=True, json_lines=False)
    free_all(plan, failing, progress)
    (warning,) = progress.warnings
    assert warning.startswith("keep: none: not all checkpoints that can go were removed (")
    assert f"`normsweep gc {plan.path}`, removes them." in warning
    free_all(plan, store, progress)
    assert (with_weights(store, plan), progress.warnings) == ([], [warning])


def test_what_needs_the_weights_says_who_removed_them(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    end_all(store, plan)
    apply(store, plan)
    trial = plan.trials[0].id
    said = f'removed by "keep: none" of sweep written, at {time.strftime("%Y-", time.gmtime())}'
    with pytest.raises(UserError, match=f"The final weights of trial {trial} were {said}"):
        final_weights(store, trial)
    with pytest.raises(EnvironmentProblem, match=f"trial {trial} were {said}"):
        contents_of(store, trial, glance_at(store, trial).result)
    with pytest.raises(CannotStart, match=f"the weights of trial {trial} were {said}"):
        Finder(store.uri).find(trial, "other", tmp_path)


def test_a_diverged_trial_that_is_retried_has_weights_again(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    trial = plan.trials[0]
    end(store, trial, math.nan, "diverged")
    claim_name(plan, store)
    assert apply(store, plan) == 1
    retry(store, chosen(store, [trial.id]))
    assert glance_at(store, trial.id).state == State.INTERRUPTED
    end(store, trial, 30.0)
    assert "freed" not in (glance_at(store, trial.id).result or {}), "the record is of the old one"
    store.delete(f"trials/{trial.id}/checkpoints/step-00000040-2/ema.pt")
    assert glance_at(store, trial.id).state == State.DAMAGED, "that loss nobody wanted"


def test_a_record_that_is_damaged_does_not_excuse_a_loss(store: Store, tmp_path: Path) -> None:
    plan = planned(tmp_path, "none")
    end_all(store, plan)
    apply(store, plan)
    key = freed_key(plan.trials[0].id)
    store.put(key, store.get(key).replace(b"written", b"another"))
    look = glance_at(store, plan.trials[0].id)
    assert look.state == State.DAMAGED
    assert [problem.key for problem in look.damaged] == [key]
