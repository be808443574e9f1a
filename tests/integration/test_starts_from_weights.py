"""Trials that start from weights are trained for real: by hand, by sweep, killed and continued,
from a folder and from S3.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from orchestrator.store import open_store
from orchestrator.store.base import Store
from orchestrator.store.results import read_result
from tests.s3 import Bucket
from tests.sweeps import environment, normsweep, run, start, wait_for
from tests.tiny import tiny_spec
from trainers.build import build_model
from trainers.checkpoint import newest_intact
from trainers.choice import Choice
from trainers.durable import sha256_of
from trainers.spec import ModelSpec, RunSpec

HAT = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4}
FRESH = {"upsample.2.weight", "upsample.2.bias"}  # the second doubling, which x2 lacks


def hat_spec(norm: str, task: str, **training: object) -> RunSpec:
    spec = tiny_spec(norm=norm, task=task, training=training)
    model = ModelSpec.with_defaults(Choice(name="hat-tiny", knobs=HAT), Choice(name=norm))
    return spec.model_copy(update={"model": model})


def drawn(spec: RunSpec) -> dict[str, Tensor]:
    torch.manual_seed(spec.training.seed)
    return build_model(spec).state_dict()


def published_x2(path: Path, norm: str = "layer_norm") -> dict[str, Tensor]:
    """Write a file as published, from a network of another seed; returns its tensors."""
    state = drawn(hat_spec(norm, "sr_x2", seed=7))
    torch.save({"params": drawn(hat_spec(norm, "sr_x2", seed=8)), "params_ema": state}, path)
    return state


# --- by hand


def by_hand(spec: RunSpec, out: Path, *flags: object) -> subprocess.Popen[str]:
    out.mkdir(parents=True, exist_ok=True)
    (out / "spec.json").write_text(spec.to_json())
    trial = map(str, (out / "spec.json", "--out", out, *flags))
    arguments = [sys.executable, "-m", "trainers", *trial]
    return subprocess.Popen(
        arguments, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def ended_by_hand(spec: RunSpec, out: Path, *flags: object, expect: int = 0) -> str:
    process = by_hand(spec, out, *flags)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == expect, output
    return output


def tensors(out: Path) -> dict[str, dict[str, Tensor]]:
    found = newest_intact(out / "checkpoints")
    assert found is not None
    return {
        name: torch.load(found.folder / name, weights_only=True)
        for name in ("weights.pt", "ema.pt")
    }


def events(out: Path, name: str) -> list[dict]:
    lines = [json.loads(line) for line in (out / "journal.jsonl").read_text().splitlines()]
    return [line for line in lines if line.get("event") == name]


def from_file(path: Path, **training: object) -> RunSpec:
    return hat_spec(
        "layer_norm", "sr_x4", initial=sha256_of(path), initial_strict=False, **training
    )


def test_weights_and_ema_begin_as_the_file_says_and_elsewhere_as_drawn(tmp_path: Path) -> None:
    given = published_x2(tmp_path / "x2.pth")
    spec = from_file(tmp_path / "x2.pth", steps=1, lr=1e-30)  # a step too small to move a float32
    ended_by_hand(spec, tmp_path / "out", "--initial", tmp_path / "x2.pth")
    fresh = drawn(spec)
    for name, state in tensors(tmp_path / "out").items():
        assert state.keys() == fresh.keys()
        for key, value in state.items():
            expected = fresh[key] if key in FRESH else given[key]
            torch.testing.assert_close(value, expected, rtol=0, atol=1e-20, msg=f"{name}: {key}")
    (event,) = events(tmp_path / "out", "initial")
    assert event["sha256"] == sha256_of(tmp_path / "x2.pth")
    assert (event["step"], set(event["missing"]), event["reshaped"], event["unused"]) == (
        0,
        FRESH,
        {},
        [],
    )


def test_a_killed_trial_continues_without_the_file_to_the_same_bits(tmp_path: Path) -> None:
    path = tmp_path / "x2.pth"
    published_x2(path)
    spec = from_file(path, steps=40)
    ended_by_hand(spec, tmp_path / "undisturbed", "--initial", path)
    killed = by_hand(spec, tmp_path / "killed", "--initial", path)
    wait_for(lambda: newest_intact(tmp_path / "killed" / "checkpoints"), killed)
    killed.kill()
    killed.communicate()
    assert not (tmp_path / "killed" / "result.json").exists()
    path.unlink()
    ended_by_hand(spec, tmp_path / "killed", "--initial", path)
    one, other = tensors(tmp_path / "undisturbed"), tensors(tmp_path / "killed")
    for name in one:
        assert all(torch.equal(value, other[name][key]) for key, value in one[name].items()), name
    assert len(events(tmp_path / "killed", "initial")) == 1, "read once, by the first attempt"


def test_weights_that_are_not_the_specs_are_exit_2_and_nothing_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "x2.pth"
    published_x2(path)
    spec = from_file(path)
    other_norm = hat_spec("i_ln", "sr_x2", initial=sha256_of(path))
    for i, (tried, flags, said) in enumerate(
        (
            (spec, (), "Give their file with --initial"),
            (
                other_norm,
                ("--initial", path),
                "holds weights of norm layer_norm, and the network has i_ln",
            ),
        )
    ):
        output = ended_by_hand(tried, tmp_path / str(i), *flags, expect=2)
        assert said in output
        assert "Traceback" not in output
        assert not (tmp_path / str(i) / "checkpoints").exists()
        assert (
            json.loads((tmp_path / str(i) / "failure-rank-0.json").read_text())["kind"] == "initial"
        )


# --- by sweep

SWEEP = """\
# From weights?
axes:
  backbone: [{{name: hat-tiny, embed_dim: 8, depths: [2], num_heads: [2], window_size: 4}}]
  norm: [{norms}]
  task: [{task}]
data: {{evaluate: []}}
observe: {{log_every: 1, probe_every: 20, probe_patches: 2, checkpoint_every: 10}}
resources: {{device: cpu}}
training:
  {{steps: {steps}, batch_size: 4, patch_size_px: 8, lr: 1.0e-3, ema_decay: 0.9{more}}}
"""


def write(path: Path, **values: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SWEEP.format(**{"more": "", **values}))
    return path


def x4(folder: Path, trial: str) -> Path:
    """Write a sweep of x4: i-LN starts from the trial, and LayerNorm from the file x2.pth."""
    rules = (
        f'{{match: {{norm: i_ln}}, from: "{trial[:8]}"}}, '
        "{match: {norm: layer_norm}, from: x2.pth}"
    )
    more = f", initial_strict: false, initial: [{rules}]"
    return write(folder / "x4.yaml", norms="i_ln, layer_norm", task="sr_x4", steps=60, more=more)


def final_state(store: Store, trial: str) -> dict[str, str]:
    """Checksums of a trial's final weights."""
    result = read_result(store, trial, verify=True)
    assert result is not None
    assert result["outcome"] == "completed"
    return {
        name: result["checkpoint"]["files"][name]["sha256"] for name in ("weights.pt", "ema.pt")
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained x2, and an x4 trained from it and from a file."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run(write(folder / "x2.yaml", norms="i_ln", task="sr_x2", steps=6))
    (trial,) = (path.name for path in (folder / "runs" / "trials").iterdir())
    published_x2(folder / "x2.pth")
    output = run(x4(folder, trial))
    assert (
        f"trial {trial} lacks 2 tensors, drawn from the seed instead: "
        "upsample.2.weight, upsample.2.bias" in output
    )
    return folder


def x2_trial(folder: Path) -> str:
    specs = {
        path.parent.name: json.loads(path.read_text())
        for path in (folder / "runs/trials").glob("*/spec.json")
    }
    (trial,) = (trial for trial, spec in specs.items() if spec["training"]["initial"] is None)
    return trial


def test_hat_x4_starts_from_its_own_x2_trial_and_from_a_file(undisturbed: Path) -> None:
    store, x2 = open_store(str(undisturbed / "runs")), x2_trial(undisturbed)
    contents = {final_state(store, x2)["ema.pt"], sha256_of(undisturbed / "x2.pth")}
    trials = {path.parent.name for path in (undisturbed / "runs/trials").glob("*/result.json")} - {
        x2
    }
    assert len(trials) == 2
    assert {key.split("/")[1].partition(".")[0] for key in store.list("initial")} - {
        "of"
    } == contents
    for trial in trials:
        assert json.loads(store.get(f"trials/{trial}/spec.json"))["training"]["initial"] in contents
        (journal,) = (
            key
            for key in store.list(f"trials/{trial}/attempts/1/journal")
            if "/journal/0000000000-" in key and key.endswith(".jsonl")
        )
        (event,) = (
            line
            for line in map(json.loads, store.get(journal).splitlines())
            if line.get("event") == "initial"
        )
        assert set(event["missing"]) == FRESH


def test_on_s3_a_driver_killed_outright_continues_without_the_file_to_the_same_bits(
    tmp_path: Path, undisturbed: Path, bucket: Bucket
) -> None:
    here, there, x2 = (
        open_store(str(undisturbed / "runs")),
        open_store(f"{bucket.uri}/runs"),
        x2_trial(undisturbed),
    )
    for key in here.list(f"trials/{x2}"):
        there.put(key, here.get(key))
    file = x4(tmp_path, x2)
    (tmp_path / "x2.pth").write_bytes((undisturbed / "x2.pth").read_bytes())
    driver = start(file, "--store", there.uri)
    wait_for(
        lambda: [k for k in bucket.listed() if k.endswith("/manifest.json") and x2 not in k], driver
    )
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    (tmp_path / "x2.pth").unlink()
    output = run(file, "--store", there.uri)
    assert "x2.pth is not here: its copy in the store is used" in output
    trials = {key.split("/")[1] for key in here.list("trials")} - {x2}
    assert trials == {key.split("/")[1] for key in there.list("trials")} - {x2}
    for trial in trials:
        assert final_state(there, trial) == final_state(here, trial)
    assert any("/attempts/2/" in key for key in there.list("trials")), (
        "continued by a second attempt"
    )


def test_every_verb_refuses_what_cannot_start_with_exit_2(tmp_path: Path) -> None:
    write(tmp_path / "bad.yaml", norms="i_ln", task="sr_x4", steps=6, more=", initial: none.pth")
    for verb in ("validate", "plan", "run", "status", "report"):
        told = normsweep(tmp_path, verb, "bad.yaml", expect=2).stderr
        assert "bad.yaml:10:84: training.initial: none.pth: no such file" in told, verb
        assert "Traceback" not in told
