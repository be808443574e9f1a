"""`python -m trainers`: one trial without Ray, alone, in a gang, killed and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_spec
from trainers import journal
from trainers.spec import RunSpec

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def start(spec: RunSpec, out: Path) -> subprocess.Popen[bytes]:
    """The trial as a user starts it: alone, or under torchrun where it has several workers."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "spec.json").write_text(spec.to_json())
    command = [sys.executable, "-m"]
    if spec.placement.workers > 1:
        ranks = f"--nproc-per-node={spec.placement.workers}"
        command += ["torch.distributed.run", "--standalone", ranks, "-m"]
    command += ["trainers", str(out / "spec.json"), "--out", str(out)]
    return subprocess.Popen(
        command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(spec: RunSpec, out: Path) -> Path:
    process = start(spec, out)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output.decode()
    return out


def refused(folder: Path, spec: str) -> str:
    """What `python -m trainers` says of a spec before it exits with 2."""
    file, out = folder / "spec.json", folder / "out"
    file.write_text(spec)
    done = subprocess.run(
        [sys.executable, "-m", "trainers", str(file), "--out", str(out)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 2, done.stderr
    return done.stderr


def result_of(out: Path) -> dict:
    return json.loads((out / "result.json").read_text())


def tensors(out: Path, name: str) -> dict[str, torch.Tensor]:
    return torch.load(out / "checkpoints" / result_of(out)["checkpoint"] / name, weights_only=True)


def assert_same_bits(one: Path, other: Path) -> None:
    for name in ("weights.pt", "ema.pt"):
        a, b = tensors(one, name), tensors(other, name)
        assert a.keys() == b.keys()
        for key in a:
            assert torch.equal(a[key], b[key]), f"{name}: {key}"


def wait_for(condition, process: subprocess.Popen[bytes], deadline_s: float = 120.0) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
        assert time.monotonic() < until, "the condition did not come"
        time.sleep(0.01)


def has_checkpoint(out: Path, step: int) -> bool:
    return (out / "checkpoints" / f"step-{step:08d}" / "manifest.rank-0.json").exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finish(tiny_spec(), tmp_path_factory.mktemp("undisturbed"))


def test_a_trial_leaves_journal_checkpoint_and_result(undisturbed: Path) -> None:
    result = result_of(undisturbed)
    assert (result["outcome"], result["step"]) == ("completed", 6)
    lines = list(journal.read(undisturbed / "journal.jsonl"))
    values = {
        (name, line["step"])
        for line in lines
        if line["kind"] == "metrics"
        for name in line["values"]
    }
    for step in (1, 2, 3, 4, 5, 6):
        assert ("train/loss", step) in values
    for step in (0, 3, 6):
        assert {
            ("feature/mean_square/group_0", step),
            ("feature/mean_square/group_1", step),
        } <= values
        assert ("feature/entropy", step) in values


def test_started_again_an_ended_trial_is_left_alone(undisturbed: Path) -> None:
    before = (undisturbed / "journal.jsonl").read_bytes()
    finish(tiny_spec(), undisturbed)
    assert (undisturbed / "journal.jsonl").read_bytes() == before


@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_a_gang_killed_at_any_stage_ends_with_the_same_bits(
    tmp_path: Path, zero_stage: int
) -> None:
    spec = tiny_spec(placement={"workers": 2, "zero_stage": zero_stage})
    whole = finish(spec, tmp_path / "whole")
    cut = tmp_path / "cut"
    process = start(spec, cut)
    wait_for(lambda: has_checkpoint(cut, 2), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    finish(spec, cut)
    assert_same_bits(whole, cut)


def test_two_workers_equal_one_but_for_rounding(tmp_path: Path, undisturbed: Path) -> None:
    gang = finish(tiny_spec(placement={"workers": 2}), tmp_path / "gang")
    accumulating = finish(tiny_spec(placement={"micro_batch": 1}), tmp_path / "accumulating")
    alone = tensors(undisturbed, "weights.pt")
    for other in (gang, accumulating):
        for key, value in tensors(other, "weights.pt").items():
            torch.testing.assert_close(value, alone[key], rtol=1e-3, atol=1e-5)


def test_sigterm_ends_with_a_checkpoint_and_running_again_continues(
    tmp_path: Path, undisturbed: Path
) -> None:
    spec = tiny_spec(observe={"checkpoint_every": 1000})
    process = start(spec, tmp_path)
    lines = tmp_path / "journal.jsonl"
    wait_for(lambda: lines.exists() and "train/loss" in lines.read_text(), process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    if process.returncode == 75:
        assert not (tmp_path / "result.json").exists()
        assert list((tmp_path / "checkpoints").glob("step-*/manifest.rank-0.json"))
        finish(spec, tmp_path)
    else:  # the signal came after the last step
        assert process.returncode == 0
    assert_same_bits(tmp_path, undisturbed)


def test_the_deepspeed_launcher_starts_the_same_gang(tmp_path: Path) -> None:
    spec = tiny_spec(placement={"workers": 2})
    (tmp_path / "spec.json").write_text(spec.to_json())
    launcher = Path(sys.executable).with_name("deepspeed")
    arguments = ["trainers", tmp_path / "spec.json", "--out", tmp_path / "out"]
    command = [launcher, "--num_gpus", "2", "--module", *arguments]
    path = f"{launcher.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**ENVIRONMENT, "DS_ACCELERATOR": "cpu", "PATH": path}
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_bits(tmp_path / "out", finish(spec, tmp_path / "torchrun"))


def test_features_beyond_the_limit_end_the_trial_as_diverged(tmp_path: Path) -> None:
    out = finish(tiny_spec(training={"feature_limit": 1e-9}), tmp_path)
    assert result_of(out)["outcome"] == "diverged"


def test_a_bad_spec_is_exit_2_without_a_traceback(tmp_path: Path) -> None:
    said = refused(tmp_path, tiny_spec().to_json().replace('"i_ln"', '"iln"'))
    assert "Did you mean 'i_ln'" in said
    assert "Traceback" not in said
    assert json.loads((tmp_path / "out" / "failure-rank-0.json").read_text())["kind"] == "spec"


def test_training_data_other_than_the_spec_names_is_exit_2(tmp_path: Path) -> None:
    spec = json.loads(tiny_spec().to_json())
    spec["data"]["train_sha256"] = "0" * 64
    assert "embedded-train" in refused(tmp_path, json.dumps(spec))


def test_probes_that_are_asked_for_change_neither_bits_nor_what_others_observe(
    tmp_path: Path, undisturbed: Path
) -> None:
    out = finish(tiny_spec(observe={"probes": ("channels", "features")}), tmp_path)
    assert_same_bits(out, undisturbed)
    arrays = sorted(path.relative_to(out).as_posix() for path in (out / "probes").rglob("*.*"))
    assert arrays == [f"probes/channels/step-{step:08d}.safetensors" for step in (0, 3, 6)]

    def traces(folder: Path) -> list[dict]:
        values = [
            line["values"] for line in journal.read(folder / "journal.jsonl") if "values" in line
        ]
        return [found for found in values if "feature/entropy" in found]

    assert traces(out) == traces(undisturbed) != []
    assert not (undisturbed / "probes").exists()


def test_arrays_have_a_cadence_that_changes_neither_bits_nor_traces(
    tmp_path: Path, undisturbed: Path
) -> None:
    observe = {"probes": ("features", "channels"), "probe_every": 1, "arrays_every": 4}
    out = finish(tiny_spec(observe=observe), tmp_path)
    assert_same_bits(out, undisturbed)
    kept = sorted(path.stem for path in (out / "probes" / "channels").iterdir())
    assert kept == [f"step-{step:08d}" for step in (0, 4, 6)]
    probed = {
        line["step"]
        for line in journal.read(out / "journal.jsonl")
        if "feature/entropy" in line.get("values", {})
    }
    assert probed == set(range(7))


def test_the_arrays_of_the_step_at_which_a_trial_diverges_are_kept(tmp_path: Path) -> None:
    observe = {"probes": ("channels",), "probe_every": 1, "arrays_every": 100}
    training = {"lr": 1e3, "feature_limit": 1e4}
    out = finish(tiny_spec(training=training, observe=observe), tmp_path)
    result = result_of(out)
    assert (result["outcome"], 0 < result["step"] < 6) == ("diverged", True)
    kept = sorted(path.stem for path in (out / "probes" / "channels").iterdir())
    assert kept == ["step-00000000", f"step-{result['step']:08d}"]


def test_features_beyond_the_limit_are_seen_by_the_guard_where_they_are_not_observed(
    tmp_path: Path,
) -> None:
    out = finish(tiny_spec(training={"feature_limit": 1e-9}, observe={"probes": ()}), tmp_path)
    assert result_of(out)["outcome"] == "diverged"
    assert "feature/" not in (out / "journal.jsonl").read_text()
