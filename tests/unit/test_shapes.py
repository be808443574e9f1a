"""Annotated shapes are checked where tests run, and cost nothing where trials train."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from jaxtyping import TypeCheckError

from tests.shapes import NAMES, SHAPED
from trainers.backbones.network import to_image, to_tokens
from trainers.norms.base import Normed
from trainers.probes.features import channel_entropy

ROOT = Path(__file__).parents[2]


def test_a_tensor_of_another_shape_than_its_annotation_is_an_error() -> None:
    to_tokens(torch.rand(2, 3, 4, 5))
    with pytest.raises(TypeCheckError):
        to_tokens(torch.rand(3, 4, 5))
    with pytest.raises(TypeCheckError):
        channel_entropy(torch.rand(2, 3, 4, 5))


def test_a_tensor_of_another_dtype_than_its_annotation_is_an_error() -> None:
    with pytest.raises(TypeCheckError):
        to_tokens(torch.ones(2, 3, 4, 5, dtype=torch.int64))


def test_axes_of_one_name_have_one_size(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = torch.rand(2, 12, 3)
    assert to_image(tokens, (3, 4)).shape == (2, 3, 3, 4)
    monkeypatch.setattr(torch.Tensor, "unflatten", lambda self, *_: torch.rand(2, 7, 3, 4))
    with pytest.raises(TypeCheckError):
        to_image(tokens, (3, 4))


def test_methods_are_checked_too() -> None:
    with pytest.raises(TypeCheckError):
        Normed(torch.rand(2, 12, 3)).restore(torch.rand(2, 12))


def test_every_module_with_shapes_is_checked_and_every_kind_of_shape_is_known() -> None:
    for path in sorted((ROOT / "trainers").rglob("*.py")):
        if found := re.search(r"from jaxtyping import (.+)", path.read_text()):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            assert module.startswith(SHAPED), module
            assert set(found[1].split(", ")) <= set(NAMES), module


def test_a_trial_needs_neither_jaxtyping_nor_beartype() -> None:
    without = (
        "import sys; sys.modules.update(jaxtyping=None, beartype=None); "
        "import trainers.__main__, trainers.loop"
    )
    modules = [
        f"trainers.{place}.{name}" for place, name in (("backbones", "hat"), ("backbones", "drct"))
    ]
    done = subprocess.run(
        [sys.executable, "-c", f"{without}; import {', '.join(modules)}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
