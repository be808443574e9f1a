"""After CUDA ran out of memory: what is tried next, what is remembered, when a run gives up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.plan import Trial, load_plan
from orchestrator.plan.fit import with_placement
from orchestrator.plan.identity import identity
from orchestrator.run.out_of_memory import (
    infeasible_because,
    place_of,
    remembered,
    smaller_micro_batch,
)
from orchestrator.run.outcome import failure_of, is_last
from orchestrator.run.reports import Report
from orchestrator.store import attempts, open_store, trials
from tests.sweeps import write_sweep
from tests.tiny import tiny_spec
from trainers.failures import is_out_of_memory
from trainers.spec import RunSpec


def out_of_memory(**more: Any) -> Report:
    return Report(
        1, failure={"kind": "cuda_oom", "message": "CUDA out of memory.", "traceback": "", **more}
    )


def attempt(spec: RunSpec, *, final: bool = False, **placement: Any) -> tuple[Any, Any]:
    recorded = {
        **spec.placement.model_dump(mode="json"),
        "micro_batch": spec.micro_batch,
        **placement,
    }
    return {"placement": recorded}, {"kind": "cuda_oom", "final": final}


def trial(folder: Path, norm: str = "i_ln", **placement: Any) -> Trial:
    (found,) = load_plan(write_sweep(folder, norms=norm)).trials
    return Trial(found.id, found.axes, with_placement(found.spec, **placement), found.cost)


@pytest.mark.parametrize(
    ("share", "micro_batch", "smaller"),
    [(16, 16, 8), (12, 12, 6), (12, 6, 3), (12, 3, 1), (15, 15, 5), (7, 7, 1)],
)
def test_the_next_micro_batch_divides_the_share_and_is_at_most_half(
    share: int, micro_batch: int, smaller: int
) -> None:
    spec = tiny_spec(training={"batch_size": 2 * share}, placement={"workers": 2})
    assert smaller_micro_batch(spec, micro_batch) == smaller
    assert smaller_micro_batch(spec, 1) is None


def test_what_ran_out_of_memory_is_not_tried_again() -> None:
    spec = tiny_spec(training={"batch_size": 16})
    assert remembered(spec, []) is spec
    after = remembered(spec, [attempt(spec), attempt(spec, micro_batch=8)])
    assert (after.micro_batch, after.accumulation, after.training) == (4, 4, spec.training)
    assert remembered(spec, [attempt(spec, micro_batch=None)]).micro_batch == 8, (
        "as older attempts were recorded"
    )
    assert (
        remembered(
            spec, [attempt(spec, micro_batch=2), attempt(spec, micro_batch=1, final=True)]
        ).micro_batch
        == 1
    )
    assert remembered(with_placement(spec, micro_batch=2), [attempt(spec)]).micro_batch == 2


@pytest.mark.parametrize(
    "other",
    [
        {"workers": 2},
        {"zero_stage": 1},
        {"activation_checkpointing": True},
        {"gpus_per_worker": 0.5},
    ],
)
def test_another_placement_begins_anew(other: dict[str, Any]) -> None:
    spec = tiny_spec(training={"batch_size": 16})
    assert remembered(spec, [attempt(spec, **other)]) is spec


def test_a_norm_of_the_micro_batch_is_infeasible_at_once(tmp_path: Path) -> None:
    of_batches = trial(tmp_path, "batch_norm")
    why = infeasible_because(of_batches, "training")
    assert why is not None and "batch_norm takes its statistics from the micro-batch" in why
    assert remembered(of_batches.spec, [attempt(of_batches.spec)]) is of_batches.spec


def test_a_trial_is_given_up_on_where_a_smaller_micro_batch_cannot_help(tmp_path: Path) -> None:
    assert infeasible_because(trial(tmp_path), "training") is None
    why = infeasible_because(trial(tmp_path, micro_batch=1), "training")
    assert (
        why is not None
        and "nothing is left to halve" in why
        and why.endswith("a GPU with more memory.")
    )
    gang = infeasible_because(
        trial(tmp_path, workers=4, gpus_per_worker=1.0, activation_checkpointing=True), "training"
    )
    assert (
        gang is not None
        and "What would help: a zero_stage above 0, up to 3, a GPU with more memory" in gang
    )
    shared = infeasible_because(trial(tmp_path, micro_batch=1, gpus_per_worker=0.5), "training")
    assert shared is not None and "gpus_per_worker: 1" in shared
    for place in ("set-up", "evaluation"):
        why = infeasible_because(trial(tmp_path), place)
        assert why is not None and f"during {place}" in why


def test_the_rank_that_ran_out_of_memory_is_believed_before_its_peers() -> None:
    peer = Report(1, failure={"kind": "bug", "message": "Broken pipe", "traceback": ""})
    reports = [peer, out_of_memory(during="evaluation")]
    assert failure_of(reports)[0] == "cuda_oom"
    assert place_of(reports) == "evaluation"
    still_ending = Report(None, failure=out_of_memory().failure)
    assert failure_of([peer, still_ending])[0] == "cuda_oom", "its peer may end first"
    assert place_of([peer, still_ending]) == "training"


def test_halving_uses_up_no_retries() -> None:
    halved = [{"kind": "cuda_oom", "step": 0}] * 6
    assert not is_last("cuda_oom", 0, halved)
    assert not is_last("killed", 0, halved)


@pytest.mark.parametrize(
    "message",
    [
        "CUDA error: out of memory",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
    ],
)
def test_libraries_beside_torchs_allocator_are_understood(message: str) -> None:
    assert is_out_of_memory(RuntimeError(message))
    assert not is_out_of_memory(
        RuntimeError("CUDA error: an illegal memory access was encountered")
    )


def test_infeasible_is_a_state_that_runs_again(tmp_path: Path) -> None:
    plan = load_plan(write_sweep(tmp_path))
    (only,) = plan.trials
    store = open_store(str(tmp_path / "runs"))
    number = attempts.new_attempt(store, only, {})
    attempts.write_failure(store, only.id, number, "cuda_oom", "m", final=False)
    assert trials.glance_at(store, only.id).state == "interrupted"
    attempts.write_failure(store, only.id, number, "cuda_oom", "m", final=True)
    assert trials.glance_at(store, only.id).state == "infeasible"
    assert not trials.look_at(store, only.id).has_ended
    assert [
        failure["message"]
        for _, failure in attempts.read_failed_attempts(store, only.id, "cuda_oom")
    ] == ["m"]
    assert attempts.read_failed_attempts(store, only.id, "killed") == []


OWN = """\
from trainers.norms.base import Norm


class Own(Norm):
    {}


class Other(Norm):
    pass
"""


@pytest.mark.parametrize(
    ("body", "is_fixed"),
    [
        ("statistics_of_micro_batch = True", True),
        ("statistics_of_micro_batch: ClassVar[bool] = True", True),
        ("statistics_of_micro_batch = False", False),
        ("pass", False),
    ],
)
def test_a_users_norm_may_say_that_its_micro_batch_is_not_to_be_halved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, is_fixed: bool
) -> None:
    (tmp_path / "norms_of_mine.py").write_text(OWN.format(body))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = trial(tmp_path, "'norms_of_mine:Own'")
    assert (infeasible_because(found, "training") is not None) == is_fixed
    assert ("micro_batch" in identity(found.spec)) == is_fixed
    assert remembered(found.spec, [attempt(found.spec)]).micro_batch == (4 if is_fixed else 2)
    assert infeasible_because(trial(tmp_path, "'norms_of_mine:Other'"), "training") is None
