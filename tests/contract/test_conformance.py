"""Norms keep the promises of trainers.conformance in every backbone, or declare them broken."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainers.catalog import NORMS
from trainers.choice import Choice
from trainers.conformance import NETWORKS, PROMISES, SHAPES, Broken, Case, inhomogeneity, shape
from trainers.norms.base import Norm, Normed

# As in sweeps/zoo.yaml.
SETTINGS = {
    **{entry.name: Choice(name=entry.name) for entry in NORMS},
    "batch_norm[eval_stats=batch]": Choice(name="batch_norm", knobs={"eval_stats": "batch"}),
    "i_ln[rescale=False]": Choice(name="i_ln", knobs={"rescale": False}),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_holds_or_is_declared_broken(promise: str, setting: str, network: str) -> None:
    case = Case(SETTINGS[setting], network)
    if promise in NORMS[case.norm.name].facts.get("breaks", ()):
        with pytest.raises(Broken):
            PROMISES[promise](case)
    else:
        PROMISES[promise](case)


class AtLeastFloat32(Norm):
    """Returns half-precision tokens in float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Normed:
        return Normed(x.to(torch.promote_types(x.dtype, torch.float32)))


class ScaleInFloat64(Norm):
    """Leaves the tokens alone, and makes the branch and everything after it float64."""

    def __init__(self, dim: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Normed:
        return Normed(x, torch.ones(1, 1, 1, dtype=torch.float64))


@pytest.mark.parametrize(
    ("norm", "dtype"), [(AtLeastFloat32, "bfloat16"), (ScaleInFloat64, "float32")]
)
def test_a_norm_that_changes_the_dtype_breaks_the_promise_of_shape(
    norm: type[Norm], dtype: str
) -> None:
    with pytest.raises(Broken, match=rf"\) torch\.{dtype}: .*dtype"):
        shape(Case(Choice(name=f"{__name__}:{norm.__name__}"), "swinir, pixelshuffle"))


@pytest.mark.parametrize("network", [f"{backbone}, same size" for backbone in SHAPES])
def test_i_ln_blocks_are_positively_homogeneous_and_layer_norm_blocks_are_not(network: str) -> None:
    # What is left is eps against a variance of 1e4.
    assert inhomogeneity(Case(Choice(name="i_ln"), network)) < 1e-6
    assert inhomogeneity(Case(Choice(name="layer_norm"), network)) > 1e-3


def test_promises_named_as_broken_exist() -> None:
    for entry in NORMS:
        assert set(entry.facts.get("breaks", ())) <= PROMISES.keys()
