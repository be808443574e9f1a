"""`export_trial` on the weights of a real network, and back through `load_exported`."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.export import export_trial
from orchestrator.plan import Plan
from orchestrator.store import open_store
from tests.sweeps import plan_of
from tests.written_store import write_attempt, write_ended
from trainers.build import build_model, load_exported
from trainers.spec import RunSpec

SWEEP = """# Export
axes:
  backbone: [swinir-tiny]
  norm: [i_ln, layer_norm]
  task: [sr_x2]
  width: [12]
  seed: [0, 1]
data: {evaluate: [embedded-test]}
training: {steps: 20, batch_size: 4, patch_size_px: 16}
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, SWEEP)


@pytest.fixture
def runs(tmp_path: Path) -> str:
    return str(tmp_path / "runs")


def network(spec: RunSpec) -> torch.nn.Module:
    torch.manual_seed(7)
    return build_model(spec).eval()


def ended(runs: str, plan: Plan, index: int = 0) -> torch.nn.Module:
    """Complete the trial with this index; returns the network that has its final EMA weights."""
    model = network(plan.trials[index].spec)
    ema = io.BytesIO()
    torch.save(model.state_dict(), ema)
    write_ended(open_store(runs), plan.trials[index], ema=ema.getvalue())
    return model


def test_an_exported_network_gives_the_same_output(plan: Plan, runs: str, tmp_path: Path) -> None:
    model = ended(runs, plan)
    file = tmp_path / "deep" / "net.safetensors"
    export_trial(runs, plan.trials[0].id, file)
    lq = torch.rand(1, 3, 20, 24)
    with torch.no_grad():
        assert torch.equal(load_exported(file)(lq), model(lq))
    assert [path.name for path in file.parent.iterdir()] == ["net.safetensors"]


def test_the_file_names_its_trial_spec_and_step(plan: Plan, runs: str, tmp_path: Path) -> None:
    ended(runs, plan)
    export_trial(runs, plan.trials[0].id, tmp_path / "net.safetensors")
    with safe_open(tmp_path / "net.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert RunSpec.from_json(metadata["spec"]) == plan.trials[0].spec
    assert (metadata["trial"], metadata["step"]) == (plan.trials[0].id, "20")


def test_a_prefix_that_only_one_trial_has_is_enough(plan: Plan, runs: str, tmp_path: Path) -> None:
    ended(runs, plan)
    export_trial(runs, plan.trials[0].id[:6], tmp_path / "net.safetensors")
    assert (tmp_path / "net.safetensors").is_file()


@pytest.mark.parametrize("given", ["", "zzzz", "../.."])
def test_an_unknown_id_is_the_users_error(
    given: str, plan: Plan, runs: str, tmp_path: Path
) -> None:
    ended(runs, plan)
    with pytest.raises(UserError, match="no trial"):
        export_trial(runs, given, tmp_path / "net.safetensors")


def test_an_ambiguous_prefix_names_the_trials(runs: str, tmp_path: Path) -> None:
    store = open_store(runs)
    for name in ("abc1", "abc2"):
        store.put(f"trials/{name}/spec.json", b"{}")
    with pytest.raises(UserError, match="2 trials: abc1, abc2"):
        export_trial(runs, "abc", tmp_path / "net.safetensors")


def test_a_trial_under_way_has_nothing_to_export(plan: Plan, runs: str, tmp_path: Path) -> None:
    write_attempt(open_store(runs), plan.trials[0], 10)
    with pytest.raises(UserError, match="has not ended"):
        export_trial(runs, plan.trials[0].id, tmp_path / "net.safetensors")


def test_a_diverged_trial_has_nothing_to_export(plan: Plan, runs: str, tmp_path: Path) -> None:
    write_ended(open_store(runs), plan.trials[0], outcome="diverged", until=10)
    with pytest.raises(UserError, match="diverged at step 10"):
        export_trial(runs, plan.trials[0].id, tmp_path / "net.safetensors")


def test_damaged_weights_are_not_exported(plan: Plan, runs: str, tmp_path: Path) -> None:
    ended(runs, plan)
    (ema,) = Path(runs).rglob("ema.pt")
    content = bytearray(ema.read_bytes())
    content[-1] ^= 1
    ema.write_bytes(content)
    with pytest.raises(EnvironmentProblem, match="checksum"):
        export_trial(runs, plan.trials[0].id, tmp_path / "net.safetensors")
    assert not (tmp_path / "net.safetensors").exists()


def test_a_folder_as_target_is_the_users_error(plan: Plan, runs: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        export_trial(runs, plan.trials[0].id, tmp_path)
