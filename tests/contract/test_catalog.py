"""Every line of every table: the class it names takes exactly its knobs, with its defaults."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from trainers.catalog import BACKBONES, NORMS, TASKS, Catalog, Entry

# What the builder passes besides the knobs.
BUILT = {
    "backbone": {"make_norm", "make_embed_norm", "make_end_norm", "stdnorm", "scale", "recompute"},
    "norm": {"dim"},
    "task": set(),
}
LINES = [(catalog, entry) for catalog in (BACKBONES, NORMS, TASKS) for entry in catalog]


@pytest.mark.parametrize(("catalog", "entry"), LINES, ids=[entry.name for _, entry in LINES])
def test_a_line_equals_the_signature_of_its_class(catalog: Catalog, entry: Entry) -> None:
    parameters = inspect.signature(entry.load()).parameters
    knobs = {name: p.default for name, p in parameters.items() if name not in BUILT[catalog.kind]}
    assert knobs == {name: knob.default for name, knob in entry.knobs.items()}


@pytest.mark.parametrize("catalog", [BACKBONES, NORMS, TASKS], ids=lambda catalog: catalog.kind)
def test_presets_and_defaults_resolve(catalog: Catalog) -> None:
    for name in catalog.names:
        of, knobs = catalog.resolve(name, {})
        assert knobs.keys() == catalog.entries[of].knobs.keys()


def test_names_and_specs_are_read_without_torch() -> None:
    heavy = {"torch", "numpy", "PIL", "skimage", "deepspeed", "ray", "mlflow"}
    code = f"import sys, trainers.catalog, trainers.spec; print(*({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not found.stdout.split()


def test_a_norms_class_and_its_line_agree_on_statistics_of_the_micro_batch() -> None:
    for entry in NORMS:
        assert entry.load().statistics_of_micro_batch == entry.facts.get("statistics_of_micro_batch", False), entry.name


def test_every_norm_says_what_stands_at_the_ends_and_what_it_weighs() -> None:
    for entry in NORMS:
        assert {"ends", "stdnorm", "parameters_per_channel"} <= entry.facts.keys()
        weights = entry.load()(7).parameters()
        facts = entry.facts
        assert sum(p.numel() for p in weights) == 7 * facts["parameters_per_channel"] + facts.get("parameters", 0)
