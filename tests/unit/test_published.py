"""Published checkpoints: wrappers, buffers and the names in i-LN are understood; what does not fit is refused, and harmless."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.tiny import tiny_spec
from trainers.backbones.published import NotThisNetwork, load_published
from trainers.build import build_model


def network(seed: int, norm: str = "layer_norm") -> nn.Module:
    torch.manual_seed(seed)
    return build_model(tiny_spec(norm=norm))


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


BUFFERS = {
    "layers.0.residual_group.blocks.1.attn_mask": torch.zeros(4, 16, 16),
    "layers.0.residual_group.blocks.1.attn.relative_position_index": torch.zeros(16, 16, dtype=torch.int64),
    "relative_position_index_SA": torch.zeros(16, 16, dtype=torch.int64),
    "relative_position_index_OCA": torch.zeros(16, 36, dtype=torch.int64),
    "mean": torch.zeros(1, 3, 1, 1),
}


def test_bare_and_wrapped_states_load_and_the_averaged_one_is_preferred(tmp_path: Path) -> None:
    published, other = network(1).state_dict(), network(2).state_dict()
    files = {
        "bare": {**published, **BUFFERS},
        "params": {"params": published},
        "both": {"params": other, "params_ema": published},
        "parallel": {f"module.{key}": value for key, value in published.items()},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
    save_file(published, tmp_path / "safe.safetensors")
    for path in sorted(tmp_path.iterdir()):
        ours = network(3)
        load_published(ours, path)
        assert_equal(ours, network(1))


def test_gamma_and_beta_of_the_published_i_ln_are_weight_and_bias(tmp_path: Path) -> None:
    names = {"weight": "gamma", "bias": "beta"}
    state = {
        f"{path}.{names[last]}" if "norm" in path else key: value.view(1, 1, -1) if "norm" in path else value
        for key, value in network(1, "i_ln").state_dict().items()
        for path, _, last in [key.rpartition(".")]
    }
    assert any(key.endswith("norm1.gamma") for key in state)
    torch.save({"params_ema": state}, tmp_path / "i_ln.pth")
    ours = network(2, "i_ln")
    load_published(ours, tmp_path / "i_ln.pth")
    assert_equal(ours, network(1, "i_ln"))


def test_a_checkpoint_of_another_network_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    state = network(1).state_dict()
    del state["norm.weight"]
    state["conv_first.bias"] = torch.zeros(99)
    state["more.weight"] = torch.zeros(1)
    torch.save(state, tmp_path / "other.pth")
    ours = network(2)
    with pytest.raises(NotThisNetwork) as caught:
        load_published(ours, tmp_path / "other.pth")
    for said in ("lacks norm.weight", "has more.weight", "conv_first.bias is [99], not [8]"):
        assert said in str(caught.value)
    assert_equal(ours, network(2))


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


def test_code_in_a_file_is_not_run_and_what_is_no_checkpoint_is_told(tmp_path: Path) -> None:
    torch.save({"params": Harmful()}, tmp_path / "harmful.pth")
    torch.save({"params": {"step": 3}}, tmp_path / "numbers.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    for name in ("harmful.pth", "numbers.pth", "text.pth", "empty.safetensors", "missing.pth"):
        with pytest.raises(NotThisNetwork, match=name):
            load_published(network(1), tmp_path / name)
