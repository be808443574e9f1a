"""A probe from a user's own file: found while planning, refused where it is not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from orchestrator.errors import UserError
from orchestrator.plan import load_plan
from orchestrator.plan.identity import why_missing
from tests.sweeps import write_sweep
from tests.tiny import tiny_spec
from trainers import own
from trainers.build import build_model, build_probes
from trainers.catalog import NORMS, PROBES
from trainers.probes.base import ProbeBatch
from trainers.spec import BadSpec, ObserveSpec, RunSpec

SOURCE = """
from elsewhere import Imported as Renamed
import package.inner


class MyProbe: ...


if True:
    Bound, (Other, Third) = MyProbe, (1, 2)


def unseen():
    Inner = 1
"""


def sweep(folder: Path, *probes: str) -> Path:
    path = write_sweep(folder)
    listed = ", ".join(f"'{probe}'" for probe in probes)
    path.write_text(path.read_text().replace("probe_every: 20", f"probes: [{listed}]"))
    return path


def test_a_probe_of_ones_own_is_planned_and_is_no_part_of_a_trials_identity(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text(SOURCE)
    (trial,) = load_plan(sweep(tmp_path, "features", "my_module:MyProbe")).trials
    assert trial.spec.observe.probes == ("features", "my_module:MyProbe")
    assert RunSpec.from_json(trial.spec.to_json()) == trial.spec
    (tmp_path / "my_module.py").write_text(SOURCE + "\nCHANGED = 1\n")
    ids = {
        load_plan(sweep(tmp_path, *probes)).trials[0].id
        for probes in (("features",), ("my_module:MyProbe",), ("features", "my_module:MyProbe"))
    }
    assert ids == {trial.id}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere:MyProbe", "no module 'nowhere' on the Python path"),
        ("my_module:MyProb", "has no 'MyProb'. Did you mean 'MyProbe'?"),
        ("my_module:Inner", "has no 'Inner'."),
        ("broken:MyProbe", "broken.py:1: cannot be parsed: "),
        ("json:JSONDecoder", "is a module of Python itself"),
    ],
)
def test_one_that_is_not_there_is_refused_with_a_caret(tmp_path: Path, name: str, why: str) -> None:
    (tmp_path / "my_module.py").write_text(SOURCE)
    (tmp_path / "broken.py").write_text("class MyProbe(:\n")
    path = sweep(tmp_path, "features", name)
    line = next(line for line in path.read_text().splitlines() if line.startswith("observe"))
    with pytest.raises(UserError) as refused:
        load_plan(path)
    said = str(refused.value)
    column = line.index(f"'{name}'") + 1
    assert f":{column}: observe.probes[1]: " in said
    assert why in said
    assert said.splitlines()[-1].endswith("^")
    assert said.splitlines()[-1].index("^") == said.splitlines()[-2].index(f"'{name}'")


@pytest.mark.parametrize("name", ["MyProbe", "Renamed", "Bound", "Other", "Third", "package"])
def test_whatever_a_module_binds_may_be_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "my_module.py").write_text(SOURCE)
    assert load_plan(sweep(tmp_path, f"my_module:{name}")).trials


def test_a_module_that_imports_everything_may_have_any_name(tmp_path: Path) -> None:
    (tmp_path / "my_module.py").write_text("from sibling import *\n")
    assert load_plan(sweep(tmp_path, "my_module:MyProbe")).trials


def test_nothing_of_the_catalogue_is_looked_for() -> None:
    assert {why_missing(entry) for entry in (*PROBES, *NORMS)} == {""}


@pytest.mark.parametrize("name", ["a/b", "my module:X", "Features", "a:b:c", "a:", ":b", "a:b.C"])
def test_what_is_no_name_and_no_class_is_refused(name: str) -> None:
    spec = tiny_spec().model_dump(mode="json")
    spec["observe"]["probes"] = [name]
    with pytest.raises(BadSpec, match=r"observe\.probes"):
        RunSpec.from_json(json.dumps(spec))


PROBE = """
from trainers.probes.base import Observation, Probe


class Copied(Probe):
    def __init__(self, network):
        pass

    def looks(self):
        return ()

    def observation(self):
        return Observation({"feature/entropy": 1.0})


class NoProbe: ...
"""


@pytest.fixture
def own_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module `own_probes` of the user's own."""
    monkeypatch.setenv(own.FOLDERS, str(tmp_path))
    (tmp_path / "own_probes.py").write_text(PROBE)


@pytest.mark.usefixtures("own_probes")
@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("own_probes:NoProbe", "is not a subclass of trainers.probes.base.Probe"),
        ("own_probes:Nope", "cannot be imported here: module .* has no attribute 'Nope'"),
        ("own_missing:Nope", "cannot be imported here: No module named 'own_missing'"),
    ],
)
def test_what_is_no_probe_is_a_mistake_in_the_spec(name: str, why: str) -> None:
    with pytest.raises(BadSpec, match=f"^probe {name} {why}"):
        build_probes(tiny_spec(observe={"probes": (name,)}))


@pytest.mark.usefixtures("own_probes")
def test_two_probes_that_measure_under_one_name_are_a_mistake_in_the_spec() -> None:
    spec = tiny_spec(observe={"probes": ("features", "own_probes:Copied")})
    batch = ProbeBatch(build_model(spec), torch.rand(1, 3, 8, 8))
    with pytest.raises(BadSpec, match=r"features and own_probes:Copied both .*'feature/entropy'"):
        batch.measure(build_probes(spec))


def test_a_spec_takes_a_class_by_its_name() -> None:
    assert ObserveSpec(probes=("my_package.inner:MyProbe",)).probes == ("my_package.inner:MyProbe",)
