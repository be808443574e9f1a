"""`normsweep evaluate FILE`: what is asked for, what the store has, how work is shared, MLflow."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.evaluate import EvaluateOptions, evaluate_checkpoint, how_run, result_name
from orchestrator.plan import Plan, Trial
from orchestrator.run import evaluating
from orchestrator.run.evaluating import Outcome, Share, Task, evaluate_one, shared
from orchestrator.run.evaluations import Asked, Evaluation, asked, sets_of_tasks
from orchestrator.run.options import RunOptions
from orchestrator.run.telling import Telling
from orchestrator.store import open_store
from orchestrator.store.base import Store
from orchestrator.store.records import CHECKSUM
from orchestrator.store.results import write_evaluation
from orchestrator.tracking.memory import EXPERIMENTS
from orchestrator.tracking.mirror import Mirror
from orchestrator.tracking.sync import sync_sweep
from tests.sets_by_task import plan, write_roots
from tests.written_store import write_attempt, write_ended, write_sweep
from trainers.build import build_model
from trainers.data.lookup import find_set

DATA = "{sr: {train: Shots, evaluate: [Views]}, derain: {train: Rain, evaluate: [Wet]}}"
OPTIONS = EvaluateOptions(("Views",), ("fp32", "int8", "fp16"), "runs")


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    return write_roots(tmp_path / "data")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


def look(roots: Path, planned: Plan, store: Store, options: EvaluateOptions = OPTIONS) -> Asked:
    return asked(planned, store, partial(find_set, roots=(roots,)), options)


def result(one: Evaluation, options: EvaluateOptions = OPTIONS, **changed: Any) -> dict[str, Any]:
    """An evaluation as a worker keeps it."""
    return {
        "of": one.trial.id,
        "step": one.step,
        "set_sha256": one.set_sha256,
        "benchmark": one.benchmark,
        **how_run(one.precision, options),
        "psnr": 30.5,
        "ssim": "nan",
        "non_finite": 0.25,
        "images": [{"name": "a.png", "psnr": 30.5}],
        **changed,
    }


def keep(store: Store, one: Evaluation, options: EvaluateOptions = OPTIONS, **changed: Any) -> None:
    name = result_name(one.benchmark, one.precision, options)
    write_evaluation(store, one.trial.id, name, result(one, options, **changed))


def test_every_final_weight_is_asked_on_every_set_at_every_precision(
    roots: Path, store: Store
) -> None:
    planned = plan(roots, "sr_x2, sr_x4", DATA)
    write_sweep(store, planned)
    found = look(roots, planned, store)
    assert [(one.trial.id, one.precision) for one in found.todo] == [
        (trial.id, precision) for trial in planned.trials for precision in OPTIONS.precisions
    ]
    assert not found.kept
    assert not found.without_weights
    sha256 = find_set("Views", (roots,)).sha256
    assert {(one.benchmark, one.set_sha256, one.step) for one in found.todo} == {
        ("Views", sha256, 20)
    }


def test_without_benchmarks_a_task_is_evaluated_on_its_own_sets(roots: Path, store: Store) -> None:
    planned = plan(roots, "sr_x2, derain", DATA)
    write_sweep(store, planned)
    found = look(roots, planned, store, EvaluateOptions((), ("fp32",), "runs"))
    assert [(one.trial.axes["task"], one.benchmark) for one in found.todo] == [
        *[("sr_x2", "Views"), ("derain", "Wet")] * 2
    ]


def test_what_the_store_has_is_kept_and_what_differs_is_done_again(
    roots: Path, store: Store
) -> None:
    planned = plan(roots, "sr_x2", DATA)
    write_sweep(store, planned)
    every = look(roots, planned, store).todo
    for one in every:
        keep(store, one)
    again = look(roots, planned, store)
    assert not again.todo
    assert [one for one, _ in again.kept] == list(every)
    tiled = EvaluateOptions(("Views",), OPTIONS.precisions, "runs", tile_px=64)
    assert len(look(roots, planned, store, tiled).todo) == len(every)
    first, second, third, fourth, fifth, sixth = every
    keep(store, first, set_sha256="0" * 64)
    keep(store, second, step=10)
    keep(store, third, half_revision=1)
    keep(store, fourth, of="another")
    store.put(fifth.key, b"{}")
    found = look(roots, planned, store)
    assert found.todo == (first, second, third, fourth, fifth)
    assert [one for one, _ in found.kept] == [sixth]


def test_other_images_under_the_name_of_a_set_are_evaluated(roots: Path, store: Store) -> None:
    planned = plan(roots, "sr_x2", DATA)
    write_sweep(store, planned)
    for one in look(roots, planned, store).todo:
        keep(store, one)
    (roots / "Views" / "b.png").write_bytes((roots / "Shots" / "b.png").read_bytes())
    assert len(look(roots, planned, store).todo) == 6


def test_trials_without_final_weights_are_named_and_left_out(roots: Path, store: Store) -> None:
    planned = plan(roots, "sr_x2, sr_x4", DATA)
    done, diverged, begun, pending = planned.trials
    write_ended(store, done)
    write_ended(store, diverged, outcome="diverged", until=10)
    write_attempt(store, begun, 10)
    found = look(roots, planned, store)
    assert {one.trial.id for one in found.todo} == {done.id}
    assert list(found.left_out()) == [
        f"{trial.name} is left out, since it has no final weights: {state}."
        for trial, state in (
            (diverged, "diverged at step 10"),
            (begun, "running, step 0 of 20"),
            (pending, "pending"),
        )
    ]


def test_a_set_that_does_not_fit_a_task_is_skipped_for_it_with_a_sentence(roots: Path) -> None:
    planned = plan(roots, "sr_x2, derain", DATA)
    find = partial(find_set, roots=(roots,))
    checksums, notes = sets_of_tasks(planned, find, ("Views", "Rain"))
    assert {task: list(names) for task, names in checksums.items()} == {
        "sr_x2": ["Views"],
        "derain": ["Rain"],
    }
    assert notes == (
        "sr_x2 is not evaluated on Rain: it is a set of pairs, for another kind of task than sr",
        "derain is not evaluated on Views: task derain needs pairs, input/ and target/, "
        "which 'Views' lacks",
    )


def test_a_set_of_pairs_that_the_sweep_names_for_a_task_is_its_set(roots: Path) -> None:
    planned = plan(roots, "denoise_25", "{train: Shots, evaluate: [Wet]}")
    checksums, notes = sets_of_tasks(planned, partial(find_set, roots=(roots,)), ())
    assert (list(checksums["denoise_25"]), notes) == (["Wet"], ())


@pytest.mark.parametrize(
    ("data", "benchmarks", "said"),
    [
        (DATA, ("Rain",), "sr_x2 is not evaluated on Rain: .*\nNo set is left"),
        (DATA, ("Views", "Set15"), "no data set 'Set15'. Did you mean 'Set5'?"),
        ("{train: Shots, evaluate: []}", (), "Name a set, e.g. --benchmark Set5"),
    ],
)
def test_sets_that_leave_nothing_to_evaluate_are_the_users_error(
    roots: Path, store: Store, data: str, benchmarks: tuple[str, ...], said: str
) -> None:
    planned = plan(roots, "sr_x2", data)
    with pytest.raises(UserError, match=said):
        look(roots, planned, store, EvaluateOptions(benchmarks, ("fp32",), "runs"))


def weights_of(trial: Trial) -> bytes:
    """The file of a network that is as it was drawn."""
    file = io.BytesIO()
    torch.save(build_model(trial.spec).state_dict(), file)
    return file.getvalue()


@pytest.fixture
def ended(roots: Path, store: Store) -> Plan:
    """A sweep whose `derain` trials have ended, with weights, and whose `sr_x2` have not begun."""
    planned = plan(roots, "sr_x2, derain", DATA)
    for trial in planned.trials:
        if trial.axes["task"] == "derain":
            write_ended(store, trial, ema=weights_of(trial))
    return planned


def task_of(one: Evaluation, roots: Path, store: Store) -> Task:
    options = EvaluateOptions(("Wet",), ("int8",), store.uri, data_roots=(str(roots),))
    return Task(one.trial.id, one.benchmark, one.set_sha256, one.precision, options, has_gpu=False)


WET = EvaluateOptions(("Wet",), ("fp32", "int8"), "runs")


def test_a_worker_keeps_what_the_command_gives_for_a_single_trial(
    roots: Path, store: Store, ended: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    _, one, *_ = look(roots, ended, store, WET).todo
    task = task_of(one, roots, store)
    kept = evaluate_one(task).result
    assert kept is not None
    record = json.loads(store.get(one.key))
    assert {name: value for name, value in record.items() if name != CHECKSUM} == kept
    assert [image["name"] for image in kept["images"]] == ["target/a.png", "target/b.png"]
    evaluate_checkpoint(one.trial.id, replace(task.options, json_lines=True))
    assert json.loads(capsys.readouterr().out) == kept
    assert [one for one, _ in look(roots, ended, store, WET).kept] == [one]


def test_what_fails_for_one_trial_ends_no_other_and_a_store_that_cannot_be_written_ends_all(
    roots: Path, store: Store, ended: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, *_ = look(roots, ended, store, WET).todo
    task = task_of(one, roots, store)
    other = evaluate_one(replace(task, set_sha256="0" * 64))
    assert (other.result, other.is_fatal) == (None, False)
    assert "has other images than where the driver looked" in other.problem

    def full(*about: object) -> None:
        raise EnvironmentProblem("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(evaluating, "write_evaluation", full)
        assert evaluate_one(task) == Outcome(None, "no space left on device", is_fatal=True)
    (key,) = (key for key in store.list(f"trials/{one.trial.id}") if key.endswith("ema.pt"))
    store.put(key, store.get(key)[:-1] + b"?")
    evaluating._subject.cache_clear()
    damaged = evaluate_one(task)
    assert (damaged.result, damaged.is_fatal) == (None, False)
    assert "does not have the checksum" in damaged.problem


def test_a_sweep_is_evaluated_reported_and_mirrored_and_a_second_time_skipped(
    roots: Path, store: Store, ended: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    def here(
        todo: Sequence[Evaluation], options: EvaluateOptions, share: Share
    ) -> Iterator[tuple[Evaluation, Outcome]]:
        yield from ((one, evaluate_one(task_of(one, roots, store))) for one in todo)

    def reported(*about: object, **more: object) -> SimpleNamespace:
        return SimpleNamespace(page="index.html", files={"index.html": "a page"})

    monkeypatch.setattr(evaluating, "_outcomes", here)
    monkeypatch.setattr(evaluating, "_nodes", lambda run: [{"CPU": 2.0}])
    monkeypatch.setattr(evaluating, "ray_cluster", lambda *about: nullcontext())
    monkeypatch.setattr(evaluating, "set_environment", lambda: None)
    monkeypatch.setattr("orchestrator.report.page.write_report", reported)
    uri = f"memory:{uuid.uuid4().hex}"
    run = RunOptions(store.uri, uri, data_roots=(str(roots),), quiet=True)
    first = evaluating.evaluate_sweep(ended, WET, run)
    assert {k: first.counts[k] for k in ("evaluated", "kept", "failed", "without_weights")} == {
        "evaluated": 4,
        "kept": 0,
        "failed": 0,
        "without_weights": 2,
    }
    assert first.exit_code == 4
    assert "4 evaluated, 0 kept from before; 2 of 4 trials are left out" in first.summary
    assert sum("has no final weights: pending" in warning for warning in first.warnings) == 2
    tracked = EXPERIMENTS[uri, ended.sweep]
    assert tracked.report == {"index.html": "a page"}
    assert {metric for values in tracked.values.values() for metric, *_ in values} >= {
        "eval/Wet/fp32/psnr",
        "eval/Wet/int8/psnr",
    }
    for trial in ended.trials:
        if trial.axes["task"] == "sr_x2":
            write_ended(store, trial, ema=weights_of(trial))
    second = evaluating.evaluate_sweep(ended, WET, run)
    assert (second.exit_code, second.counts["evaluated"], second.counts["kept"]) == (0, 0, 4)


@pytest.mark.parametrize(
    ("nodes", "number", "most", "gpus", "expected"),
    [
        ([{"CPU": 8}], 100, None, 0, Share(8, 1, 0)),
        ([{"CPU": 8}], 3, None, 0, Share(3, 2, 0)),
        ([{"CPU": 8}], 100, 2, 0, Share(2, 4, 0)),
        ([{"CPU": 0.0}, {"CPU": 4}, {"CPU": 8}], 1, None, 0, Share(1, 4, 0)),
        ([{"CPU": 1}], 1, 5, 0, Share(1, 1, 0)),
        ([{"CPU": 16, "GPU": 2}, {"CPU": 16, "GPU": 2}], 9, None, 1, Share(4, 1, 1)),
        ([{"CPU": 16, "GPU": 2}], 9, 1, 1, Share(1, 1, 1)),
    ],
)
def test_cores_and_gpus_are_shared_and_no_task_asks_for_more_than_a_node_has(
    nodes: list[dict[str, float]], number: int, most: int | None, gpus: int, expected: Share
) -> None:
    assert shared(nodes, number, most, gpus) == expected


def test_mlflow_gets_each_evaluation_once_and_a_new_one_of_its_name_again(
    roots: Path, store: Store
) -> None:
    planned = plan(roots, "sr_x2", DATA)
    write_sweep(store, planned)
    one, other, *_ = look(roots, planned, store).todo
    keep(store, one)
    store.put(other.key, b"no such thing")
    uri = f"memory:{uuid.uuid4().hex}"
    for _ in range(2):
        mirror = Mirror(uri, planned)
        mirror.sync(store, planned.trials)
        mirror.send_evaluations(store, planned.trials)
        mirror.send_evaluations(store, planned.trials)

    def sent() -> list[tuple[str, int, float]]:
        values = EXPERIMENTS[uri, planned.sweep].values[one.trial.id].items()
        return [(metric, step, v) for (metric, step, _), v in values if metric.startswith("eval/")]

    assert [(metric, step) for metric, step, _ in sent()] == [
        (f"eval/Views/fp32/{metric}", 20) for metric in ("psnr", "ssim", "non_finite")
    ]
    assert [value for metric, _, value in sent() if "ssim" not in metric] == [30.5, 0.25]
    keep(store, one, psnr=31.0, ssim=0.9, non_finite=[1])
    sync_sweep(planned, store.uri, uri)
    assert [value for metric, _, value in sent() if metric.endswith("psnr")] == [30.5, 31.0]
    assert len(sent()) == 5


def test_progress_is_a_line_for_each_evaluation_and_failures_are_told_even_if_quiet(
    roots: Path, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = plan(roots, "sr_x2", DATA)
    write_sweep(store, planned)
    one, other, *_ = look(roots, planned, store).todo
    loud = Telling(2, quiet=False, json_lines=False)
    loud.ended(one, result(one), "")
    loud.ended(other, None, "the store is damaged there")
    said = capsys.readouterr()
    assert f"{one.trial.name}: Views fp32: PSNR 30.500, SSIM nan   [1/2, about" in said.err
    assert f"not evaluated: {other.trial.name}: Views int8: the store is damaged" in said.err
    assert not said.out
    quiet = Telling(2, quiet=True, json_lines=True)
    quiet.ended(one, result(one), "")
    quiet.ended(other, None, "gone")
    said = capsys.readouterr()
    first, second = map(json.loads, said.out.splitlines())
    assert (first["event"], first["state"], first["trial"]) == (
        "evaluation",
        "evaluated",
        one.trial.id,
    )
    assert first["images"] == [{"name": "a.png", "psnr": 30.5}]
    assert (second["state"], second["precision"], second["problem"]) == ("failed", "int8", "gone")
    assert said.err.count("\n") == 1
    assert quiet.warnings == [f"not evaluated: {other}: gone"]
