"""Ranks do the same: they skip a step, end a training and wait for one another together."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest
import torch

from tests.ranks import run_gang
from tests.tiny import tiny_spec
from trainers import journal
from trainers.spec import RunSpec


def train(folder: Path, spec: RunSpec, patch: str) -> list[str]:
    """Train in `folder`, which the ranks share; returns what each one printed."""
    folder.mkdir(exist_ok=True)
    (folder / "run.json").write_text(spec.to_json())
    arguments = (folder / "run.json", folder / "out", patch)
    workers = spec.placement.workers
    return run_gang("tests.patched_rank", *arguments, workers=workers, logs=folder)


def scales(folder: Path) -> list[float]:
    """The loss scale after every step, as last recorded for it."""
    records = journal.read(folder / "out" / "journal.jsonl")
    by_step = {
        r["step"]: r["values"]["train/loss_scale"]
        for r in records
        if "train/loss_scale" in r.get("values", {})
    }
    return [by_step[step] for step in sorted(by_step)]


def weights(folder: Path, step: int) -> dict[str, torch.Tensor]:
    return torch.load(
        folder / "out" / "checkpoints" / f"step-{step:08d}" / "weights.pt", weights_only=True
    )


def fp16(workers: int, stage: int) -> RunSpec:
    return tiny_spec(
        training={"steps": 24, "precision": "fp16", "clip_grad_norm": 0.5},
        observe={"probe_every": 24, "checkpoint_every": 10},
        placement={"workers": workers, "zero_stage": stage},
    )


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(folder, fp16(1, 0), "restless-scale")
    return folder


@pytest.mark.parametrize(("workers", "stage"), [(1, 0), (2, 2), (2, 3)])
def test_fp16_skips_the_same_steps_at_every_stage_and_after_a_resumption(
    tmp_path: Path, alone: Path, workers: int, stage: int
) -> None:
    train(tmp_path / "whole", fp16(workers, stage), "restless-scale")
    found = scales(tmp_path / "whole")
    assert found == scales(alone)
    changes = [b / a for a, b in itertools.pairwise(found)]
    assert {0.5, 1.0, 2.0} <= set(changes), f"steps are skipped and the scale grows again: {found}"
    # The run folder as a kill after step 20 would leave it.
    part = tmp_path / "part"
    shutil.copytree(
        tmp_path / "whole", part, ignore=shutil.ignore_patterns("step-00000024", "result.json")
    )
    train(part, fp16(workers, stage), "restless-scale")
    resumed = [
        r["step"]
        for r in journal.read(part / "out" / "journal.jsonl")
        if r.get("event") == "resumed"
    ]
    assert resumed == [20]
    assert scales(part) == found
    expected = weights(tmp_path / "whole", 24)
    for name, value in weights(part, 24).items():
        assert torch.equal(value, expected[name]), name


def test_a_rank_that_alone_sees_a_divergence_ends_all_of_them_at_that_step(tmp_path: Path) -> None:
    spec = tiny_spec(
        training={"feature_limit": 1e20}, observe={"probe_every": 2}, placement={"workers": 2}
    )
    said = train(tmp_path, spec, "one-sees")
    assert [text.split()[-1] for text in said] == ["diverged", "diverged"]
    events = [
        r for r in journal.read(tmp_path / "out" / "journal.jsonl") if r.get("event") == "diverged"
    ]
    assert [event["step"] for event in events] == [2]
    # If it is killed between its last checkpoint and its result, it has diverged all the same.
    (tmp_path / "out" / "result.json").unlink()
    said = train(tmp_path, spec, "patience")
    assert [text.split()[-1] for text in said] == ["diverged", "diverged"]
    assert json.loads((tmp_path / "out" / "result.json").read_text())["step"] == 2


def test_every_process_group_waits_for_days(tmp_path: Path) -> None:
    """This includes the groups that DeepSpeed makes, at the stage that makes most of them."""
    for text in train(tmp_path, tiny_spec(placement={"workers": 2, "zero_stage": 3}), "patience"):
        waits = [float(line.split()[1]) for line in text.splitlines() if line.startswith("waits")]
        assert len(waits) > 1
        assert set(waits) == {2 * 24 * 3600.0}
