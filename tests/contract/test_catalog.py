"""Every line of every table: the class it names takes exactly its knobs, with its defaults."""

from __future__ import annotations

import inspect
import subprocess
import sys

import grimp
import numpy as np
import pytest
from torch import nn

from trainers.catalog import BACKBONES, METRICS, NORMS, TASKS, Catalog, Entry
from trainers.choice import Choice
from trainers.conformance import NETWORKS, Case
from trainers.data.given import scale_of
from trainers.tasks.base import Task

# Arguments that the builder passes besides the knobs.
BUILT = {
    "backbone": {"make_norm", "around", "recompute"},
    "norm": {"dim"},
    "task": set(),
}
HEAVY = {"torch", "ray", "mlflow", "deepspeed", "kubernetes", "boto3", "numpy", "PIL", "skimage"}
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
    code = f"import sys, trainers.catalog, trainers.spec; print(*({HEAVY!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not found.stdout.split()


@pytest.mark.parametrize("entry", BACKBONES, ids=lambda entry: entry.name)
def test_the_shape_of_a_backbone_is_read_without_torch_or_its_module(entry: Entry) -> None:
    module = entry.target.partition(":")[0]
    code = (
        "import sys; from trainers.catalog import BACKBONES; "
        f"assert BACKBONES[{entry.name!r}].shape; "
        f"print(*({{'torch', 'numpy', {module!r}}} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not found.stdout.split()


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph("trainers", include_external_packages=True)


@pytest.mark.parametrize("entry", BACKBONES, ids=lambda entry: entry.name)
def test_no_function_of_a_shape_imports_a_heavy_library_either(
    entry: Entry, imports: grimp.ImportGraph
) -> None:
    module, _, _ = entry.pure_side.partition(":")
    assert not HEAVY & imports.find_upstream_modules(module)


@pytest.mark.parametrize("name", BACKBONES.names)
def test_the_size_put_into_knobs_is_read_back(name: str) -> None:
    of, knobs = BACKBONES.resolve(name, {})
    shape = BACKBONES[of].shape
    width, depth = shape.size(knobs)
    assert shape.sized(knobs, None, None) == knobs
    assert shape.sized(knobs, width, depth) == knobs
    larger = shape.sized(knobs, 2 * width, 2 * depth)
    assert larger.keys() == knobs.keys()
    assert shape.size(larger) == (2 * width, 2 * depth)
    assert shape.misfit(knobs) is None
    assert shape.misfit(larger) is None


@pytest.mark.parametrize("entry", BACKBONES, ids=lambda entry: entry.name)
def test_a_shape_knows_the_keys_of_its_own_backbone_and_of_no_other(entry: Entry) -> None:
    network = next(name for name, (backbone, *_) in NETWORKS.items() if backbone == entry.name)
    model = Case(Choice(name="layer_norm"), network).build()
    assert [other.name for other in BACKBONES if other.shape.has_keys(model.state_dict())] == [
        entry.name
    ]
    assert isinstance(
        model.get_submodule(entry.shape.first_block).get_submodule("norm1"), nn.Module
    )
    assert "same size" in entry.shape.networks


def test_a_norms_class_and_its_line_agree_on_statistics_of_the_micro_batch() -> None:
    for entry in NORMS:
        assert entry.load().statistics_of_micro_batch == entry.facts.get(
            "statistics_of_micro_batch", False
        ), entry.name


def test_every_norm_says_what_is_at_the_ends_and_what_it_weighs() -> None:
    for entry in NORMS:
        assert {"ends", "stdnorm", "parameters_per_channel"} <= entry.facts.keys()
        weights = entry.load()(7).parameters()
        facts = entry.facts
        assert sum(p.numel() for p in weights) == 7 * facts["parameters_per_channel"] + facts.get(
            "parameters", 0
        )


@pytest.mark.parametrize("name", TASKS.names)
def test_a_tasks_line_and_its_class_say_the_same(name: str) -> None:
    """Scale, pairs and how results are scored: the line says the same as the class."""
    of, knobs = TASKS.resolve(name, {})
    facts, task = TASKS[of].facts, TASKS[of].load()(**knobs)
    assert isinstance(task, Task)
    assert scale_of(Choice(name=of, knobs=knobs)) == task.scale
    assert facts.get("pairs", False) == task.lq_from_set
    assert facts["patch_size_px"] >= 8
    assert {"Y": "Y channel", "RGB": "RGB"}[str(task.how_scored()["compared"])] in facts["scored"]


@pytest.mark.parametrize("entry", METRICS, ids=lambda entry: entry.name)
def test_a_metric_is_a_number_of_two_images_the_higher_the_nearer_they_are(entry: Entry) -> None:
    """It takes any number of channels and any size that a task may compare."""
    random = np.random.RandomState(0)
    for channels in (1, 3):
        image = random.randint(0, 256, (24, 32, channels)).astype(np.float64)
        near, far = (
            image + distance * random.standard_normal(image.shape) for distance in (2.0, 40.0)
        )
        same, close, apart = (entry.load()(image, other) for other in (image, near, far))
        assert same > close > apart
        assert type(apart) is float
    assert isinstance(entry.facts["title"], str)
    assert isinstance(entry.facts["gives"], str)
    assert {type(entry.facts[places]) for places in ("decimals", "fine")} == {int}
