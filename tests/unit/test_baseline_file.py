"""A baseline file: what is in it, when it is written, and how one that is damaged is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Plan
from orchestrator.regression.baseline import read_baseline, write_baseline
from orchestrator.report.frame import read_frame
from orchestrator.store import attempts, open_store
from orchestrator.store.base import Store
from orchestrator.store.records import canonical_sha256
from tests.gated_store import SET, gated_plan, noisy, write, write_all

DATE = "2026-11-29"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "runs"))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return gated_plan(tmp_path, seeds=2)


def put(path: Path, plan: Plan, store: Store, date: str = DATE) -> Path:
    write_baseline(path, plan, read_frame(plan, store), store, date=date)
    return path


@pytest.fixture
def file(tmp_path: Path, plan: Plan, store: Store) -> Path:
    write_all(store, plan, {"i_ln": 0.2}, commit="a" * 40)
    return put(tmp_path / "deep" / "baseline.json", plan, store)


def said_of(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_baseline(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ") and "--update-baseline" in said
    return said.removeprefix(f"{path}: ")


def changed(file: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool) -> str:
    """What is said of the file after a change of its content; `sealed` makes the checksum hold."""
    content = json.loads(file.read_text())
    change(content)
    if sealed:
        content["content_sha256"] = canonical_sha256(content)
    file.write_text(json.dumps(content))
    return said_of(file)


# --- what is in it


def test_it_has_every_score_by_image_and_what_was_trained(file, plan):
    found = read_baseline(file)
    assert (found.sweep, found.date) == ("gated", DATE)
    assert [kept.trial for kept in found.trials] == sorted(trial.id for trial in plan.trials)
    by_id = {trial.id: trial for trial in plan.trials}
    for kept in found.trials:
        trial = by_id[kept.trial]
        assert (kept.norm, kept.task, kept.place, kept.seed) == (
            trial.axes["norm"],
            "sr_x2",
            "w12 d1 swinir-tiny",
            trial.axes["seed"],
        )
        assert (kept.parameters, kept.step, kept.machines) == (trial.parameters, 100, ["a CPU"])
        assert [(one.commit, one.torch) for one in kept.attempts] == [("a" * 40, "2.13.0")]
        assert found.specs[kept.trial].training == trial.spec.training
        psnr, ssim = kept.scores
        assert (psnr.set, psnr.metric, psnr.how) == (SET, "psnr", "border_px 2")
        assert psnr.images == noisy(trial, {"i_ln": 0.2}) and ssim.metric == "ssim"
        assert list(kept.weights) == ["ema.pt"]


def test_equal_trials_and_an_equal_date_give_equal_bytes(tmp_path, plan, store, file):
    again = put(tmp_path / "again.json", plan, store)
    assert again.read_bytes() == file.read_bytes()
    other = put(tmp_path / "other.json", plan, store, "2026-11-30")
    assert other.read_bytes() != file.read_bytes()
    assert list((tmp_path / "deep").iterdir()) == [file]  # nothing aside is left


def test_an_infinite_score_is_kept(tmp_path, plan, store):
    for trial in plan.trials:
        write(store, trial, psnr={"a.png": float("inf"), "b.png": 30.0})
    found = read_baseline(put(tmp_path / "b.json", plan, store))
    assert found.trials[0].scores[0].images == {"a.png": "inf", "b.png": 30.0}


# --- when it is written


def test_it_is_not_written_while_trials_are_missing_or_diverged(tmp_path, plan, store):
    ends = {("i_ln", 1): "diverged", ("layer_norm", 1): "failed"}
    for trial in plan.trials:
        how = ends.get((trial.axes["norm"], trial.axes["seed"]), "completed")
        if how == "failed":
            number = attempts.new_attempt(store, trial, {"versions": {}, "commit": "c"})
            attempts.write_failure(store, trial.id, number, "oom", "no memory", final=True)
        elif (trial.axes["norm"], trial.axes["seed"]) != ("i_ln", 0):
            write(store, trial, outcome=how, step=37 if how == "diverged" else None)
    path = tmp_path / "baseline.json"
    path.write_text("as it was")
    with pytest.raises(UserError) as caught:
        put(path, plan, store)
    said = str(caught.value)
    assert "3 of 4 trials cannot be in it" in said
    for one in (
        "i_ln sr_x2 w12 d1 swinir-tiny s0 (pending)",
        "i_ln sr_x2 w12 d1 swinir-tiny s1 (diverged at step 37)",
        "layer_norm sr_x2 w12 d1 swinir-tiny s1 (failed)",
    ):
        assert one in said
    assert "layer_norm sr_x2 w12 d1 swinir-tiny s0" not in said
    assert path.read_text() == "as it was"


def test_a_folder_in_its_place_is_said(tmp_path, plan, store, file):
    (tmp_path / "taken.json").mkdir()
    with pytest.raises(EnvironmentProblem, match=r"taken\.json: cannot be written"):
        put(tmp_path / "taken.json", plan, store)


# --- how it is refused


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    assert said_of(tmp_path / "none.json").startswith("cannot be read: No such file")
    (tmp_path / "folder.json").mkdir()
    assert said_of(tmp_path / "folder.json").startswith("cannot be read: Is a directory")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (bytes(100), "holds 100 zero bytes"),
        (
            b"{\n 1: 2}",
            "is cut off, or not JSON: Expecting property name enclosed in double quotes: line 2",
        ),
        (b"\xff\xfe{}", "is not text in UTF-8"),
        (b"[" * 100_000, "is nested too deeply"),
        (b'{"version": NaN}', "holds NaN"),
        (b'{"version": ' + b"9" * 5_000 + b"}", "holds an endless number"),
        (b"[]", "is not a baseline: it has no fields"),
        (b'"text"', "is not a baseline: it has no fields"),
        (b"{}", "is not a baseline: it has no version"),
        (b'{"version": true}', "is not a baseline: it has no version"),
        (b'{"version": 1}', "lacks its content_sha256"),
        (b'{"version": 2, "new": 1}', "has version 2, and this normsweep reads version 1"),
    ],
)
def test_what_is_no_baseline_is_said(tmp_path, content, said):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    assert said_of(path).startswith(said)


def test_an_edited_score_is_noticed(file):
    def better(content):
        images = content["trials"][0]["scores"][0]["images"]
        images[next(iter(images))] += 0.01

    assert changed(file, better, sealed=False).startswith("was edited after it was written")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("date"), "has another shape: date: field required"),
        (lambda c: c["trials"][1].pop("spec"), "has another shape: trials.1.spec: field required"),
        (lambda c: c["trials"][0].update(seed="0"), "has another shape: trials.0.seed: input"),
        (lambda c: c.update(new=1), "has another shape: new: extra inputs are not permitted"),
        (lambda c: c["trials"].clear(), "has another shape: trials: list should have at least 1"),
        (lambda c: c["trials"].append(c["trials"][0]), "has one trial twice"),
        (
            lambda c: c["trials"][0]["spec"]["model"]["norm"].update(name="gone"),
            "has a trial, ",
        ),
        (
            lambda c: c["trials"][0]["scores"][0]["images"].update({"a.png": "high"}),
            "has another shape: trials.0.scores.0.images.a.png",
        ),
    ],
)
def test_a_field_that_is_missing_or_of_another_kind_is_named(file, change, said):
    assert changed(file, change, sealed=True).startswith(said)


@pytest.mark.parametrize("seed", range(4))
def test_a_file_that_was_cut_or_flipped_is_refused_or_means_the_same(file, seed):
    dice = random.Random(seed)
    whole, before = file.read_bytes(), read_baseline(file)
    said = []

    def flipped() -> bytes:
        at = dice.randrange(len(whole))
        return whole[:at] + bytes([whole[at] ^ (1 << dice.randrange(8))]) + whole[at + 1 :]

    def removed() -> bytes:
        at = dice.randrange(len(whole))
        return whole[:at] + whole[at + dice.randrange(1, 200) :]

    for make in (flipped, removed, lambda: whole[: dice.randrange(len(whole))]):
        for _ in range(100):
            file.write_bytes(make())
            try:
                found = read_baseline(file)
            except UserError as error:
                said.append((error.exit_code, str(error).partition(": ")[0]))
            else:
                assert found == before
    assert set(said) == {(2, str(file))}
