"""A sweep file with a gate: its names, its mistakes, and the ids of its trials."""

from __future__ import annotations

import importlib.metadata
import shutil
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.plan import Gpus, Plan, load_plan, norm_sources
from orchestrator.plan.docs import page, schema
from orchestrator.plan.gate_words import gate_as_text, questions_of
from orchestrator.plan.norm_sources import AFFINE, FOLDER, path_of, torch_version
from orchestrator.plan.show import as_json, as_text
from tests.sweeps import plan_of, said_of
from tests.unit.test_planning import publish
from trainers.catalog import NORMS
from trainers.norms.affine import Affine

BASE = """\
# Is any norm worse than LayerNorm?
axes:
  backbone: [swinir-tiny]
  norm: [layer_norm, i_ln, rms_norm, {name: i_ln, rescale: false}]
  task: [sr_x2]
  seed: [0, 1]
"""
GATE = BASE + "gate: {baseline: layer_norm}\n"
OWN = "class Mine:\n    eps = 1\n"


def ids(plan: Plan) -> dict[str, set[str]]:
    """Ids of trials by norm."""
    found: dict[str, set[str]] = {}
    for trial in plan.trials:
        found.setdefault(trial.axes["norm"], set()).add(trial.id)
    return found


def changed(before: Plan, after: Plan) -> set[str]:
    """The norms of which no trial has kept its id; a norm's trials keep or change all."""
    one, other = ids(before), ids(after)
    assert one.keys() == other.keys()
    assert all(one[norm] == other[norm] or not one[norm] & other[norm] for norm in one)
    return {norm for norm in one if one[norm] != other[norm]}


def gate_of(folder: Path, text: str) -> Any:
    gate = plan_of(folder, text).gate
    assert gate is not None
    return gate


# --- names


def test_the_shortest_gate_judges_every_other_norm(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, BASE + "gate: {baseline: layer_norm, margin: 0.1}\n")
    assert (gate.norm, gate.file, gate.sweep) == ("layer_norm", None, None)
    assert gate.candidates == ("i_ln", "rms_norm", "i_ln[rescale=False]")
    assert (gate.asked.margin, gate.unavailable) == (0.1, ())
    assert plan_of(tmp_path, BASE).gate is None
    for every in ("all", "[all]", "[]"):
        text = BASE + f"gate: {{baseline: layer_norm, candidates: {every}}}\n"
        assert gate_of(tmp_path, text).candidates == gate.candidates


@pytest.mark.parametrize(
    "written",
    [
        "{name: i_ln, rescale: false}",
        "'i_ln[rescale=False]'",
        "{name: i_ln, rescale: false, eps: 1.0e-4}",
    ],
)
def test_a_norm_with_knobs_is_found_however_it_is_spelled(tmp_path: Path, written: str) -> None:
    gate = gate_of(tmp_path, BASE + f"gate: {{baseline: {written}, candidates: [i_ln]}}\n")
    assert (gate.norm, gate.candidates) == ("i_ln[rescale=False]", ("i_ln",))
    gate = gate_of(tmp_path, BASE + f"gate: {{baseline: i_ln, candidates: [{written}]}}\n")
    assert (gate.norm, gate.candidates) == ("i_ln", ("i_ln[rescale=False]",))


def test_of_two_spellings_of_a_norm_the_gate_names_the_one_that_has_trials(tmp_path: Path) -> None:
    text = BASE.replace("[layer_norm,", "[{name: layer_norm, eps: 1.0e-5}, layer_norm,")
    gate = gate_of(tmp_path, text + "gate: {baseline: layer_norm}\n")
    assert gate.norm == "layer_norm[eps=1e-05]"
    assert gate.candidates == ("i_ln", "rms_norm", "i_ln[rescale=False]")


def test_norms_that_an_exclude_takes_out_are_no_candidates(tmp_path: Path) -> None:
    text = GATE + "exclude: [{norm: [i_ln, 'i_ln[rescale=False]']}]\n"
    assert gate_of(tmp_path, text).candidates == ("rms_norm",)


def test_a_file_and_another_sweep_may_be_the_baseline(tmp_path: Path) -> None:
    (tmp_path / "reviewed").mkdir()
    (tmp_path / "reviewed" / "best.json").write_text("{}")
    gate = gate_of(tmp_path, BASE + "gate: {baseline: reviewed/best.json}\n")
    assert (gate.norm, gate.file, gate.sweep) == ("", tmp_path / "reviewed" / "best.json", None)
    assert gate.candidates == ("layer_norm", "i_ln", "rms_norm", "i_ln[rescale=False]")
    (tmp_path / "last_year.yaml").write_text(BASE)
    gate = gate_of(tmp_path, BASE + "gate: {baseline: last_year.yaml}\n")
    assert (gate.norm, gate.file, gate.sweep) == ("", None, tmp_path / "last_year.yaml")


def test_two_sweeps_may_be_each_others_baseline(tmp_path: Path) -> None:
    (tmp_path / "one.yaml").write_text(BASE + "gate: {baseline: other.yaml}\n")
    (tmp_path / "other.yaml").write_text(BASE + "gate: {baseline: one.yaml}\n")
    gate = load_plan(tmp_path / "one.yaml").gate
    assert gate is not None
    assert gate.sweep == tmp_path / "other.yaml"


def test_a_baseline_file_that_is_about_to_be_written_may_be_missing(tmp_path: Path) -> None:
    path = tmp_path / "new.yaml"
    path.write_text(BASE + "gate: {baseline: new.json}\n")
    with pytest.raises(UserError, match="no such file"):
        load_plan(path)
    gate = load_plan(path, writes_baseline=True).gate
    assert gate is not None
    assert gate.file == tmp_path / "new.json"


# --- mistakes

MISTAKES = {
    "a misspelt baseline": (
        BASE + "gate: {baseline: layr_norm}\n",
        "7:18: gate.baseline: layr_norm is not a norm of this sweep. Did you mean 'layer_norm'? "
        "Its norms: layer_norm, i_ln, rms_norm, i_ln[rescale=False].",
    ),
    "a baseline that the sweep lacks": (
        BASE + "gate: {baseline: batch_norm}\n",
        "Add batch_norm to `axes.norm`, or name one of them.",
    ),
    "a baseline's unknown knob": (
        BASE + "gate: {baseline: {name: i_ln, rescal: true}}\n",
        "7:39: gate.baseline.rescal: i_ln has no knob 'rescal'. Did you mean 'rescale'?",
    ),
    "a baseline without a trial": (
        GATE + "exclude: [{norm: layer_norm}]\n",
        "7:18: gate.baseline: layer_norm has no trial: `exclude` takes out all its points",
    ),
    "every norm as the baseline": (
        BASE + "gate: {baseline: all}\n",
        "7:18: gate.baseline: `all` is every norm: name one",
    ),
    "a file with knobs": (
        BASE + "gate: {baseline: {name: best.json, eps: 1}}\n",
        "7:41: gate.baseline.eps: a file has no knobs: leave this out",
    ),
    "a candidate that the sweep lacks": (
        BASE + "gate: {baseline: layer_norm, candidates: [i_ln, rms_nrm]}\n",
        "7:49: gate.candidates[1]: rms_nrm is not a norm of this sweep. Did you mean 'rms_norm'?",
    ),
    "the baseline as a candidate": (
        BASE + "gate: {baseline: layer_norm, candidates: [{name: layer_norm, eps: 1.0e-5}]}\n",
        "7:43: gate.candidates[0]: layer_norm is the baseline itself: leave it out",
    ),
    "a candidate twice": (
        BASE + "gate: {baseline: layer_norm, candidates: [i_ln, i_ln]}\n",
        "7:49: gate.candidates[1]: i_ln is given twice",
    ),
    "all among candidates": (
        BASE + "gate: {baseline: layer_norm, candidates: [i_ln, all]}\n",
        "7:49: gate.candidates[1]: `all` is every norm: name one",
    ),
    "a baseline that is no name": (
        BASE + "gate: {baseline: 3}\n",
        "7:18: gate.baseline: must be a name or {name, knob: value}, not 3",
    ),
    "no candidate": (
        BASE.replace(", i_ln, rms_norm, {name: i_ln, rescale: false}", "")
        + "gate: {baseline: layer_norm}\n",
        "7:7: gate: no candidate is left: layer_norm is the sweep's only norm.",
    ),
    "no question": (
        BASE + "gate: {baseline: layer_norm, margin: null}\n",
        "7:7: gate: judges nothing: give at least one of margin, ssim_margin, growth, entropy, "
        "fp16, step_time, memory, parameters, weights, at_most, at_least",
    ),
    "no evaluation set": (
        GATE + "data: {evaluate: []}\n",
        "gate.margin: margin is judged on evaluation sets, and `data.evaluate` is empty",
    ),
    "bounds that nothing meets": (
        BASE + "gate: {baseline: layer_norm, at_least: {loss: 2}, at_most: {loss: 1}}\n",
        "7:47: gate.at_least.loss: 2 is above its `at_most`, 1: no value passes both",
    ),
    "an unknown field": (
        BASE + "gate: {baseline: layer_norm, margn: 0.1}\n",
        "7:30: gate.margn: unknown field 'margn'. Did you mean 'margin'?",
    ),
    "a margin that is no number": (
        BASE + "gate: {baseline: layer_norm, margin: small}\n",
        "7:38: gate.margin: should be a valid number, not 'small'",
    ),
    "no baseline": (BASE + "gate: {margin: 0.1}\n", "7:7: gate.baseline: is missing"),
    "knobs of every norm": (
        GATE.replace("[layer_norm, i_ln,", "[layer_norm, {name: all, eps: 1},"),
        "4:39: axes.norm[1].eps: `all` takes every norm as it is: give knobs to one norm",
    ),
}


FILES = {
    "best.json": "best.json: no such file. `normsweep regress bad.yaml --update-baseline` writes",
    "old.yaml": "old.yaml: no such file",
    "bad.yaml": "bad.yaml: is this file itself: name a norm of the sweep, a baseline file, or",
    "folder.json": "folder.json: is a folder, not a file",
    "../best.json": "'../best.json': a baseline's file is NAME.json or NAME.yaml, beside this file",
    "/etc/best.json": "'/etc/best.json': a baseline's file is",
    "best.txt": "'best.txt': a baseline's file is",
}


@pytest.mark.parametrize("baseline", FILES)
def test_a_baselines_file_is_there_and_below_the_sweeps_folder(
    tmp_path: Path, baseline: str
) -> None:
    (tmp_path / "folder.json").mkdir()
    said = said_of(tmp_path, BASE + f"gate: {{baseline: {baseline}}}\n")
    assert said.startswith("bad.yaml:7:18: gate.baseline: ")
    assert FILES[baseline] in said


@pytest.mark.parametrize(("text", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_reported_where_it_is_and_what_would_be_right(
    tmp_path: Path, text: str, said: str
) -> None:
    lines = said_of(tmp_path, text).splitlines()
    found = [i for i, line in enumerate(lines) if said in line]
    assert len(found) == 1, "\n".join(lines)
    assert lines[found[0] + 2].lstrip(" |") == "^"
    assert sum("bad.yaml:" in line for line in lines) == 1


def test_a_gates_problems_are_reported_with_those_of_the_file(tmp_path: Path) -> None:
    text = GATE.replace("layer_norm}", "layr_norm, candidates: [x]}") + "data: {train: nowhere}\n"
    said = said_of(tmp_path, text)
    assert all(place in said for place in ("data.train:", "gate.baseline:", "gate.candidates[0]:"))


def test_what_only_follows_from_another_problem_is_not_said(tmp_path: Path) -> None:
    said = said_of(tmp_path, GATE + "data: {train: nowhere}\n")
    assert "gate" not in said.replace("gate: {", "")


def test_a_near_miss_of_a_file_is_suggested(tmp_path: Path) -> None:
    (tmp_path / "reviewed.json").write_text("{}")
    said = said_of(tmp_path, BASE + "gate: {baseline: reviewd.json}\n")
    assert "reviewd.json: no such file. Did you mean 'reviewed.json'?" in said


def test_another_sweeps_problems_are_reported_with_its_lines(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(BASE.replace("rms_norm", "rms_nrm"))
    said = said_of(tmp_path, BASE + "gate: {baseline: other.yaml}\n")
    assert "7:18: gate.baseline: " in said
    assert f"{tmp_path / 'other.yaml'}:4:28: axes.norm[2]: unknown norm 'rms_nrm'." in said


def test_another_sweep_without_any_candidate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(
        BASE.replace("[layer_norm, i_ln, rms_norm, {name: i_ln, rescale: false}]", "[rezero]")
    )
    said = said_of(tmp_path, BASE + "gate: {baseline: other.yaml}\n")
    assert "other.yaml: trains rezero, and none of them is a candidate here" in said


def test_times_are_not_compared_with_a_file(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text("{}")
    said = said_of(tmp_path, BASE + "gate: {baseline: best.json, step_time: 1.2}\n")
    assert "7:40: gate.step_time: is compared within one run, which a file has no part in" in said


def test_one_seed_is_warned_of(tmp_path: Path) -> None:
    (warning,) = plan_of(tmp_path, GATE.replace("[0, 1]", "[3]")).warnings
    assert "6:9: axes.seed: scores cannot be judged with one seed (margin)" in warning
    (warning,) = plan_of(tmp_path, GATE.replace("  seed: [0, 1]\n", "")).warnings
    assert "gate: scores cannot be judged with one seed" in warning
    bits = GATE.replace("[0, 1]", "[3]").replace("m}", "m, margin: null, parameters: equal}")
    assert plan_of(tmp_path, bits).warnings == ()


SHORT = "axes: {backbone: [swinir], norm: all, task: [sr_x2], seed: [0, 1]}\n"
FITS = ("i_ln", "'i_ln[eps=0.1]'", "'a.b:C'", "{name: i_ln, eps: 0.1}", "x.json", "a/b.yaml")


@pytest.mark.parametrize("baseline", FITS)
def test_the_schema_for_editors_takes_every_form_of_a_baseline(baseline: str) -> None:
    text = SHORT + f"gate: {{baseline: {baseline}, candidates: all, at_most: {{loss: 1}}}}\n"
    jsonschema.validate(yaml.safe_load(text), schema())
    wrong = text.replace("loss: 1", "loss: x"), text.replace(baseline, "iln")
    for refused in wrong:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(yaml.safe_load(refused), schema())


def test_the_pages_example_of_a_gate_can_be_planned(tmp_path: Path) -> None:
    example = page().split("## A gate")[1].split("```yaml\n")[1].split("```")[0]
    assert gate_of(tmp_path, example).norm == "layer_norm"
    jsonschema.validate(yaml.safe_load(example), schema())


# --- every norm


def test_all_takes_every_norm_and_those_of_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, "a_published_norm", "published_for_a_gate:Mine")
    (tmp_path / "published_for_a_gate.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    every = [*(entry.name for entry in NORMS), "a_published_norm"]
    for written in ("all", "[all]"):
        text = GATE.replace("[layer_norm, i_ln, rms_norm, {name: i_ln, rescale: false}]", written)
        plan = plan_of(tmp_path, text)
        assert list(ids(plan)) == every
        assert plan.gate is not None
        assert plan.gate.candidates == tuple(every[1:])
    more = plan_of(tmp_path, text.replace("[all]", "[{name: i_ln, rescale: false}, i_ln, all]"))
    named = ["i_ln[rescale=False]", "i_ln"]
    assert list(ids(more)) == [*named, *(name for name in every if name not in named)]


def test_all_stands_for_every_norm_in_matches_and_additions_too(tmp_path: Path) -> None:
    text = BASE.replace("i_ln, rms_norm, ", "") + "include: [{norm: all, seed: 2}]\n"
    plan = plan_of(tmp_path, text + "exclude: [{norm: all, seed: 1}]\n")
    seeds = {(trial.axes["norm"], trial.axes["seed"]) for trial in plan.trials}
    assert seeds == {
        ("layer_norm", 0),
        ("i_ln[rescale=False]", 0),
        ("i_ln[rescale=False]", 1),
        *((entry.name, 2) for entry in NORMS),
    }


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no module 'gone_for_a_gate' on the Python path"), ("class Mine(:\n", ":1: cannot be")],
)
def test_a_norm_whose_source_cannot_be_read_hinders_no_other_of_a_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, said: str
) -> None:
    publish(tmp_path, "a_broken_norm", "gone_for_a_gate:Mine")
    if content is not None:
        (tmp_path / "gone_for_a_gate.py").write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    text = GATE.replace("[layer_norm, i_ln, rms_norm, {name: i_ln, rescale: false}]", "all")
    rules = "resources: {overrides: [{match: {norm: a_broken_norm}, workers: 2}]}\n"
    plan = plan_of(tmp_path, text + rules)
    assert list(ids(plan)) == [entry.name for entry in NORMS]
    assert plan.gate is not None
    assert "a_broken_norm" not in plan.gate.candidates
    ((label, why),) = plan.gate.unavailable
    assert (label, said in why) == ("a_broken_norm", True)
    (warning,) = plan.warnings
    assert f"4:9: axes.norm[0]: a_broken_norm is left out: {why}" in warning
    without = text.replace("gate: {baseline: layer_norm}\n", "")
    assert f"4:9: axes.norm[0]: a_broken_norm: {why}" in said_of(tmp_path, without)
    as_baseline = text.replace("baseline: layer_norm", "baseline: a_broken_norm")
    assert f"gate.baseline: a_broken_norm cannot be trained: {why}" in said_of(
        tmp_path, as_baseline
    )


def test_a_gate_of_norms_that_are_all_missing_says_why(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text("{}")
    text = BASE.replace(
        "[layer_norm, i_ln, rms_norm, {name: i_ln, rescale: false}]", "['gone:Mine']"
    )
    said = said_of(tmp_path, text + "gate: {baseline: best.json}\n")
    assert "axes.norm: gone:Mine cannot be trained: no module 'gone'" in said


# --- identity


def test_a_gate_makes_other_trials_and_no_other_field_of_it_matters(tmp_path: Path) -> None:
    plain, gate = plan_of(tmp_path, BASE), plan_of(tmp_path, GATE)
    assert changed(plain, gate) == set(ids(plain))
    other = GATE.replace("layer_norm}", "i_ln, margin: 1, growth: 3, undecided: fails}")
    assert not changed(gate, plan_of(tmp_path, other))


def test_another_torch_makes_other_trials_but_not_another_build_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan_with(version: str) -> Plan:
        monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
        return plan_of(tmp_path, GATE)

    first = plan_with("2.13.0+cpu")
    assert not changed(first, plan_with("2.13.0+cu128"))
    assert changed(first, plan_with("2.13.1+cpu")) == set(ids(first))


def test_a_gate_cannot_be_planned_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    with pytest.raises(EnvironmentProblem, match="torch is not installed here"):
        torch_version()


@pytest.mark.parametrize(
    ("module", "norms"),
    [
        ("rms_norm", {"rms_norm"}),
        ("i_ln", {"i_ln", "i_ln[rescale=False]"}),
        ("layer_norm", {"layer_norm", "layer_scale"}),  # LayerScale has a LayerNorm at the ends
        ("affine", {"i_ln", "i_ln[rescale=False]"}),
        ("base", {"layer_norm", "layer_scale", "rms_norm", "i_ln", "i_ln[rescale=False]"}),
        ("batch_norm", set()),
    ],
)
def test_a_built_in_norms_changed_source_makes_other_trials_of_what_uses_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, norms: set[str]
) -> None:
    copy = tmp_path / "norms"
    shutil.copytree(FOLDER, copy)
    text = GATE.replace("[layer_norm,", "[layer_norm, layer_scale,")
    before = plan_of(tmp_path, text)
    monkeypatch.setattr(norm_sources, "FOLDER", copy)
    assert not changed(before, plan_of(tmp_path, text))
    source = (copy / f"{module}.py").read_text()
    (copy / f"{module}.py").write_text(f"# A remark.\n\n{source}\n")
    assert not changed(before, plan_of(tmp_path, text))
    (copy / f"{module}.py").write_text(f"{source}\nCHANGED = True\n")
    assert changed(before, plan_of(tmp_path, text)) == norms


def test_every_built_in_norms_source_is_the_file_that_python_imports() -> None:
    for entry in NORMS:
        module = type(entry.load()).__module__ and entry.load().__module__
        assert path_of(module) == Path(str(sys.modules[module].__file__))
    assert Affine.__module__ == AFFINE


def test_ones_own_norms_files_count_and_comments_do_not(tmp_path: Path) -> None:
    """Its own file, those beside it that it imports, and theirs; not what lies there otherwise."""
    text = GATE.replace("rms_norm", "'mine_for_a_gate:Mine'")
    files = {
        "mine_for_a_gate": "from . import first_for_a_gate\nimport second_for_a_gate as s\n" + OWN,
        "first_for_a_gate": "from .third_for_a_gate import x\n",
        "second_for_a_gate": "def f():\n    from trainers.norms.base import Norm\n",
        "third_for_a_gate": "x = 1\n",
        "unused_for_a_gate": "x = 1\n",
    }
    for name, content in files.items():
        (tmp_path / f"{name}.py").write_text(content)
    before = plan_of(tmp_path, text)
    for name, content in files.items():
        path = tmp_path / f"{name}.py"
        path.write_text(f'"""Said."""\n\n{content}  # and more\n')
        assert not changed(before, plan_of(tmp_path, text))
        path.write_text(f"{content}y = 2\n")
        expected = set() if name == "unused_for_a_gate" else {"mine_for_a_gate:Mine"}
        assert changed(before, plan_of(tmp_path, text)) == expected, name
        path.write_text(content)


def test_a_file_of_a_norms_package_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = tmp_path / "installed"
    package = installed / "package_for_a_gate"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "norms.py").write_text("from package_for_a_gate.inner import y\n" + OWN)
    (package / "inner.py").write_text("y = 1\n")
    publish(installed, "packaged_norm", "package_for_a_gate.norms:Mine")
    monkeypatch.syspath_prepend(installed)
    text = GATE.replace("rms_norm", "packaged_norm")
    before = plan_of(tmp_path, text)
    (package / "inner.py").write_text("y = 2\n")
    assert changed(before, plan_of(tmp_path, text)) == {"packaged_norm"}


# --- shown


def test_the_plan_shows_what_is_compared_and_what_is_asked(tmp_path: Path) -> None:
    (tmp_path / "best.json").write_text("{}")
    every = (
        "{baseline: best.json, ssim_margin: 0.01, growth: 10, entropy: 1, fp16: finite, "
        "parameters: equal, weights: equal, at_most: {loss: 0.5}, at_least: {'psnr/x': 20}}"
    )
    plan = plan_of(tmp_path, BASE + f"gate: {every}\n")
    assert plan.gate is not None
    first, second = gate_as_text(plan.gate)
    norms = "layer_norm, i_ln, rms_norm, i_ln[rescale=False]"
    assert first == f"Gate: {norms} against the same norm in {tmp_path / 'best.json'}."
    assert second == (
        "  Asked: PSNR at most 0.1 dB lower; SSIM at most 0.01 lower; growth of features at most "
        "10 times; channel entropy at least 1 nats; no overflow in fp16; as many parameters; final "
        "weights equal to the bit; loss at most 0.5; psnr/x at least 20. Chance of any false alarm "
        "in 200 looks: 0.05."
    )
    text = as_text(plan, {}, Gpus(0, "there are none"))
    assert f"\n\n{first}\n{second}\n" in f"{text}\n"
    document = as_json(plan, {}, Gpus(0, "there are none"))
    assert document["gate"]["candidates"] == list(plan.gate.candidates)
    assert "gate" not in as_json(plan_of(tmp_path, BASE), {}, Gpus(0, "there are none"))
    times = plan_of(tmp_path, GATE.replace("m}", "m, margin: null, step_time: 1.5, memory: 2}"))
    assert times.gate is not None
    assert list(questions_of(times.gate.asked)) == [
        "time of a step at most 1.5 times the baseline's",
        "memory at most 2 times the baseline's",
    ]


def test_many_points_of_one_rule_are_counted_and_few_are_listed(tmp_path: Path) -> None:
    seeds = list(range(21))
    axes = f"axes: {{backbone: [swinir-tiny], norm: [i_ln, none], task: [sr_x2], seed: {seeds}}}\n"
    plan = plan_of(tmp_path, axes + "exclude: [{norm: none}, {seed: 20}]\n")
    text = as_text(plan, {}, Gpus(0, "there are none"))
    assert "\n  21 by line 2: norm=none" in text
    assert text.count("by line 2: seed=20") == 1
