"""Every norm inside every backbone keeps the promises of trainers.conformance, and breaks those it declares."""

from __future__ import annotations

import pytest

from trainers.catalog import NORMS
from trainers.conformance import NETWORKS, PROMISES, Broken, Case, inhomogeneity
from trainers.spec import Choice

# The ten settings of sweeps/zoo.yaml.
SETTINGS = {
    **{entry.name: Choice(name=entry.name) for entry in NORMS},
    "batch_norm[eval_stats=batch]": Choice(name="batch_norm", knobs={"eval_stats": "batch"}),
    "i_ln[rescale=False]": Choice(name="i_ln", knobs={"rescale": False}),
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("promise", PROMISES)
def test_a_promise_holds_or_is_declared_broken_and_is(promise: str, setting: str, network: str) -> None:
    case = Case(SETTINGS[setting], network)
    if promise in NORMS[case.norm.name].facts.get("breaks", ()):
        with pytest.raises(Broken):
            PROMISES[promise](case)
    else:
        PROMISES[promise](case)


@pytest.mark.parametrize("network", ["swinir, same size", "hat, same size", "drct, same size"])
def test_i_ln_blocks_are_positively_homogeneous_and_layer_norm_blocks_are_not(network: str) -> None:
    assert inhomogeneity(Case(Choice(name="i_ln"), network)) < 1e-6  # eps against a variance of 1e4
    assert inhomogeneity(Case(Choice(name="layer_norm"), network)) > 1e-3


def test_promises_named_as_broken_exist() -> None:
    for entry in NORMS:
        assert set(entry.facts.get("breaks", ())) <= PROMISES.keys()
