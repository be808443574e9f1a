"""Published checkpoints: wrappers, buffers and the names in i-LN are understood. What does not fit
is refused, and harmless.
"""

from __future__ import annotations

import contextlib
import pickle
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from orchestrator.errors import UserError
from orchestrator.evaluate import EvaluateOptions, evaluate_checkpoint
from tests.tiny import tiny_spec
from trainers.backbones.keys import norm_of
from trainers.backbones.published import (
    NotThisNetwork,
    fit,
    load_published,
    read_published,
)
from trainers.build import build_model, load_exported
from trainers.catalog import NORMS
from trainers.choice import Choice


def network(seed: int, norm: str = "layer_norm", task: str = "sr_x2") -> nn.Module:
    torch.manual_seed(seed)
    return build_model(tiny_spec(norm=norm, task=task))


def hat(seed: int, norm: str, task: str) -> nn.Module:
    spec = tiny_spec(norm=norm, task=task)
    knobs = {"embed_dim": 8, "depths": (2,), "num_heads": (2,), "window_size": 4}
    backbone = type(spec.model).with_defaults(
        Choice(name="hat-tiny", knobs=knobs), Choice(name=norm)
    )
    torch.manual_seed(seed)
    return build_model(spec.model_copy(update={"model": backbone}))


def as_published_i_ln(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names and shapes under which i-LN is published."""
    names = {"weight": "gamma", "bias": "beta"}
    return {
        f"{path}.{names[last]}" if "norm" in path else key: value.view(1, 1, -1)
        if "norm" in path
        else value
        for key, value in state.items()
        for path, _, last in [key.rpartition(".")]
    }


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    for (name, a), (_, b) in zip(one.state_dict().items(), other.state_dict().items(), strict=True):
        assert torch.equal(a, b), name


BUFFERS = {
    "layers.0.residual_group.blocks.1.attn_mask": torch.zeros(4, 16, 16),
    "layers.0.residual_group.blocks.1.attn.relative_position_index": torch.zeros(
        16, 16, dtype=torch.int64
    ),
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
        "compiled": {
            "params": {f"_orig_mod.module.{key}": value for key, value in published.items()}
        },
        "lightning": {
            "state_dict": {f"model.{key}": value for key, value in published.items()},
            "epoch": 3,
        },
        "gan": {
            "state_dict": {f"net_g.{k}": v for k, v in published.items()}
            | {"net_d.conv.weight": torch.ones(1)}
        },
        "nested": {"net_g": {"params_ema": published, "params": other}, "net_d": {}},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
    save_file(published, tmp_path / "safe.safetensors")
    for path in sorted(tmp_path.iterdir()):
        ours = network(3)
        load_published(ours, path)
        assert_equal(ours, network(1))


def test_gamma_and_beta_of_the_published_i_ln_are_weight_and_bias(tmp_path: Path) -> None:
    state = as_published_i_ln(network(1, "i_ln").state_dict())
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


@pytest.mark.parametrize("norm", [entry.name for entry in NORMS])
def test_a_network_says_its_norm(norm: str) -> None:
    assert norm_of(network(0, norm)) == norm


@pytest.mark.parametrize("norm", [entry.name for entry in NORMS if entry.name != "layer_norm"])
def test_published_layer_norm_loads_into_no_other_norm(tmp_path: Path, norm: str) -> None:
    state = network(1).state_dict()
    files = {"bare": state, "with buffers": {**state, **BUFFERS}, "wrapped": {"params_ema": state}}
    for name, content in files.items():
        torch.save(content, tmp_path / f"{name}.pth")
        ours = network(2, norm)
        with pytest.raises(NotThisNetwork, match="layer_norm"):
            load_published(ours, tmp_path / f"{name}.pth")
        assert_equal(ours, network(2, norm))


@pytest.mark.parametrize("norm", [entry.name for entry in NORMS if entry.name != "i_ln"])
def test_published_i_ln_loads_into_no_other_norm(tmp_path: Path, norm: str) -> None:
    torch.save(as_published_i_ln(network(1, "i_ln").state_dict()), tmp_path / "i_ln.pth")
    ours = network(2, norm)
    with pytest.raises(
        NotThisNetwork, match=f"holds weights of norm i_ln, and the network has {norm}"
    ):
        load_published(ours, tmp_path / "i_ln.pth")
    assert_equal(ours, network(2, norm))


@pytest.mark.parametrize("norm", [entry.name for entry in NORMS])
def test_a_bare_state_of_ours_loads_where_its_norm_is_said(tmp_path: Path, norm: str) -> None:
    torch.save(network(1, norm).state_dict(), tmp_path / "ema.pt")
    ours = network(2, norm)
    load_published(ours, tmp_path / "ema.pt", norm=norm)
    assert_equal(ours, network(1, norm))


def test_an_exported_file_and_a_trials_checkpoint_say_their_norm(tmp_path: Path) -> None:
    spec, state = tiny_spec(norm="instance_norm"), network(1, "instance_norm").state_dict()
    save_file(state, tmp_path / "net.safetensors", metadata={"spec": spec.to_json()})
    inside = tmp_path / "trials" / "abc" / "checkpoints" / "step-00000006-1" / "ema.pt"
    inside.parent.mkdir(parents=True)
    torch.save(state, inside)
    (tmp_path / "trials" / "abc" / "spec.json").write_text(spec.to_json())
    for path in (tmp_path / "net.safetensors", inside):
        ours = network(2, "instance_norm")
        load_published(ours, path)
        assert_equal(ours, network(1, "instance_norm"))
        with pytest.raises(
            NotThisNetwork, match="holds weights of norm instance_norm, and the network has i_ln"
        ):
            load_published(network(2, "i_ln"), path)


def test_not_strict_what_fits_is_taken_and_the_rest_is_listed(tmp_path: Path) -> None:
    x2 = network(1).state_dict()
    x2["more.weight"] = torch.zeros(1)
    del x2["conv_first.bias"]
    torch.save({"params": x2}, tmp_path / "x2.pth")
    ours, drawn = network(2, "i_ln", "sr_x4"), network(2, "i_ln", "sr_x4").state_dict()
    found = load_published(ours, tmp_path / "x2.pth", strict=False)
    assert found.missing == ("conv_first.bias",)
    assert found.reshaped == {
        "upsample.0.weight": "[12, 8, 3, 3], not [48, 8, 3, 3]",
        "upsample.0.bias": "[12], not [48]",
    }
    assert found.unused == ("more.weight",)
    assert found.other_norm is not None
    fresh = {"conv_first.bias", "upsample.0.weight", "upsample.0.bias"}
    for key, value in ours.state_dict().items():
        assert torch.equal(value, drawn[key] if key in fresh else x2[key]), key


def test_a_published_hat_x2_starts_an_x4_but_for_its_second_doubling(
    spandrel_archs, tmp_path: Path
) -> None:
    theirs = spandrel_archs["hat"](
        img_size=8,
        embed_dim=8,
        depths=(2,),
        num_heads=(2,),
        window_size=4,
        compress_ratio=3,
        squeeze_factor=6,
        overlap_ratio=0.5,
        mlp_ratio=2,
        upscale=2,
        upsampler="pixelshuffle",
        resi_connection="1conv",
    )
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "HAT_x2.pth")
    weights = read_published(tmp_path / "HAT_x2.pth")
    assert weights.norm == "layer_norm"
    found = fit(weights, hat(0, "layer_norm", "sr_x2"))
    assert (found.missing, found.reshaped, found.unused, found.other_norm) == ((), {}, (), None)
    found = fit(weights, hat(0, "layer_norm", "sr_x4"), strict=False)
    assert found.missing == ("upsample.2.weight", "upsample.2.bias")
    assert not found.reshaped
    assert not found.unused
    for norm in ("i_ln", "instance_norm"):
        with pytest.raises(
            NotThisNetwork, match=f"holds weights of norm layer_norm, and the network has {norm}"
        ):
            fit(weights, hat(0, norm, "sr_x2"))


def test_another_backbone_is_refused_also_where_parts_would_fit(tmp_path: Path) -> None:
    torch.save(hat(1, "layer_norm", "sr_x2").state_dict(), tmp_path / "hat.pth")
    for strict in (True, False):
        with pytest.raises(NotThisNetwork, match="of backbone hat, and the network is swinir"):
            load_published(network(1), tmp_path / "hat.pth", strict=strict)
    torch.save({"some.weight": torch.zeros(3)}, tmp_path / "else.pth")
    with pytest.raises(NotThisNetwork, match="nothing in it fits"):
        load_published(network(1), tmp_path / "else.pth", strict=False)


class Harmful:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a checkpoint was run')",))


def test_code_in_a_file_is_not_run_and_what_is_not_a_checkpoint_is_refused(tmp_path: Path) -> None:
    torch.save({"params": Harmful()}, tmp_path / "harmful.pth")
    torch.save({"params": {"step": 3}}, tmp_path / "numbers.pth")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    (tmp_path / "empty.safetensors").write_bytes(b"")
    with (tmp_path / "list.pth").open("wb") as file:
        pickle.dump([1, 2], file)
    torch.save([torch.zeros(3)], tmp_path / "tensors.pth")
    (tmp_path / "folder.pth").mkdir()
    for name in (
        "harmful.pth",
        "numbers.pth",
        "text.pth",
        "empty.safetensors",
        "missing.pth",
        "list.pth",
        "tensors.pth",
    ):
        with pytest.raises(NotThisNetwork, match=name):
            load_published(network(1), tmp_path / name)
    with pytest.raises(NotThisNetwork, match="Is a directory"):
        read_published(tmp_path / "folder.pth")
    with pytest.raises(NotThisNetwork, match=r"holds more than tensors \(exec\)") as caught:
        read_published(tmp_path / "harmful.pth")
    assert "weights_only" not in str(caught.value)


@pytest.mark.parametrize("name", ["zip.pth", "old.pth", "safe.safetensors"])
def test_a_cut_or_damaged_file_is_a_sentence_wherever_it_is_cut(tmp_path: Path, name: str) -> None:
    state, path = {"conv_first.weight": torch.ones(8, 3)}, tmp_path / name
    if name.endswith(".safetensors"):
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=name == "zip.pth")
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, max(1, len(whole) // 40)):
        path.write_bytes(whole[:cut])
        with pytest.raises(NotThisNetwork) as caught:
            read_published(path)
        assert "\n" not in str(caught.value)
    changed = bytearray(whole)
    for i in range(0, len(whole), max(1, len(whole) // 40)):
        changed[i] ^= 0xFF
        path.write_bytes(changed)
        with contextlib.suppress(NotThisNetwork):  # changed values of tensors are still tensors
            read_published(path)


FIRST = "conv_first.weight"
STRANGE = {
    "lacks": ({FIRST: None}, f"lacks {FIRST}"),
    "more": ({"foo.bar": torch.ones(1)}, "has foo.bar"),
    "twice": ({"module.conv_first.bias": torch.ones(1)}, "has module.conv_first.bias"),
    "wide": ({FIRST: torch.ones(12, 3, 3, 3)}, f"{FIRST} is [12, 3, 3, 3], not [8, 3, 3, 3]"),
    "whole": (
        {FIRST: torch.ones(8, 3, 3, 3, dtype=torch.int32)},
        f"{FIRST}: int32 values where weights are expected",
    ),
    "complex": (
        {FIRST: torch.ones(8, 3, 3, 3, dtype=torch.complex64)},
        f"{FIRST}: sparse, quantised, complex",
    ),
    "sparse": ({FIRST: torch.ones(8, 3, 3, 3).to_sparse()}, f"{FIRST}: sparse, quantised, complex"),
    "empty": (
        {FIRST: torch.ones(8, 3, 3, 3, device="meta")},
        f"{FIRST}: sparse, quantised, complex or without data",
    ),
    "nan": ({FIRST: torch.full((8, 3, 3, 3), torch.nan)}, f"{FIRST}: not finite numbers"),
    "huge": (
        {FIRST: torch.full((8, 3, 3, 3), 1e300, dtype=torch.float64)},
        f"{FIRST}: not finite numbers",
    ),
    "number": ({"epoch": 3}, "not named tensors: epoch"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_weights_that_do_not_fit_are_named_with_their_file(tmp_path: Path, name: str) -> None:
    changes, told = STRANGE[name]
    content = {
        key: value
        for key, value in {**network(1).state_dict(), **changes}.items()
        if value is not None
    }
    torch.save(content, tmp_path / f"{name}.pth")
    ours = network(3)
    with pytest.raises(NotThisNetwork, match=re.escape(f"{name}.pth")) as refused:
        load_published(ours, tmp_path / f"{name}.pth")
    assert told in str(refused.value)
    assert_equal(ours, network(3))


def exported(path: Path, tensors: dict[str, torch.Tensor], norm: str = "layer_norm") -> Path:
    spec = tiny_spec(norm=norm)
    save_file(tensors, path, metadata={"spec": spec.to_json(), "trial": "0" * 16, "step": "6"})
    return path


@pytest.mark.parametrize("name", ["lacks", "more", "wide", "whole", "nan"])
def test_an_exported_file_that_does_not_fit_its_spec_is_refused_by_name(
    tmp_path: Path, name: str
) -> None:
    changes, told = STRANGE[name]
    content = {
        key: value
        for key, value in {**network(1).state_dict(), **changes}.items()
        if value is not None
    }
    path = exported(tmp_path / f"{name}.safetensors", content)
    with pytest.raises(NotThisNetwork, match=re.escape(told)):
        load_exported(path)
    options = EvaluateOptions(("embedded-test",), ("fp32",), str(tmp_path / "runs"))
    with pytest.raises(UserError, match=re.escape(str(path))):
        evaluate_checkpoint(str(path), options)


def test_an_exported_file_may_come_out_of_a_wrapper_and_in_another_precision(
    tmp_path: Path,
) -> None:
    state = {f"module.{key}": value.double() for key, value in network(1).state_dict().items()}
    assert_equal(load_exported(exported(tmp_path / "wrapped.safetensors", state)), network(1))


def test_an_exported_file_of_a_norm_that_is_not_here_says_so(tmp_path: Path) -> None:
    path = exported(
        tmp_path / "own.safetensors", network(1).state_dict(), norm="norms_of_a_colleague:Gain"
    )
    with pytest.raises(
        NotThisNetwork, match="is of norm norms_of_a_colleague:Gain, which cannot be imported here"
    ):
        load_exported(path)
