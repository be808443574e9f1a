"""`data` by task: which sets a task takes, ids, remarks, problems, and what follows from it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import jsonschema
import pytest
import yaml

from orchestrator.errors import UserError
from orchestrator.plan import Gpus, Plan, load_plan
from orchestrator.plan.data import BY_TASK
from orchestrator.plan.docs import schema
from orchestrator.plan.show import as_json, as_text
from orchestrator.report import protocol
from orchestrator.report.frame import read_frame
from orchestrator.report.tables import comparisons
from orchestrator.store import open_store
from tests.sets_by_task import GRID, plan, write_roots
from tests.sweeps import said_of
from tests.written_store import write_sweep
from trainers.data.lookup import find_set


@pytest.fixture
def roots(tmp_path: Path) -> Path:
    return write_roots(tmp_path / "data")


def refused(roots: Path, tasks: str, data: str, rest: str = "") -> str:
    with pytest.raises(UserError) as caught:
        plan(roots, tasks, data, rest)
    return str(caught.value)


def sets(found: Plan) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {
        trial.axes["task"]: (trial.spec.data.train, trial.spec.observe.evaluate)
        for trial in found.trials
    }


def ids(found: Plan) -> dict[str, set[str]]:
    by_task: dict[str, set[str]] = {}
    for trial in found.trials:
        by_task.setdefault(trial.axes["task"], set()).add(trial.id)
    return by_task


def test_a_task_takes_each_field_from_its_exact_key_then_its_kind_then_the_plain_fields(
    roots: Path,
) -> None:
    data = (
        "{train: More, evaluate: [], sr: {train: Shots, evaluate: [Views]}, "
        "sr_x4: {evaluate: [More, Views]}, derain: {train: Rain, evaluate: [Wet]}}"
    )
    tasks = "sr_x2, sr_x4, {name: sr, scale: 3}, denoise_25, derain, {name: sr_x4, lr_mode: f64}"
    assert sets(plan(roots, tasks, data)) == {
        "sr_x2": ("Shots", ("Views",)),
        "sr_x4": ("Shots", ("More", "Views")),
        "sr[scale=3]": ("Shots", ("Views",)),
        "denoise_25": ("More", ()),
        "derain": ("Rain", ("Wet",)),
        "sr_x4[lr_mode=f64]": ("Shots", ("More", "Views")),
    }


def test_an_exact_key_is_that_of_the_task_and_not_of_its_name(roots: Path) -> None:
    data = "{train: Shots, sr_x4: {train: Views}, denoise_50: {train: More}}"
    found = sets(
        plan(roots, "sr_x2, {name: sr_x2, scale: 4}, {name: denoise, sigma_255: 50}", data)
    )
    assert [train for train, _ in found.values()] == ["Shots", "Views", "More"]


def test_trials_have_the_ids_of_single_task_files_with_the_same_data(roots: Path) -> None:
    both = ids(
        plan(
            roots,
            "sr_x2, derain",
            "{sr: {train: Shots, evaluate: [Views]}, derain: {train: Rain, evaluate: [Wet]}}",
        )
    )
    one = ids(plan(roots, "sr_x2", "{train: Shots, evaluate: [More]}"))
    other = ids(plan(roots, "derain", "{train: Rain, evaluate: []}"))
    assert both == one | other


def test_a_file_without_keys_for_tasks_is_planned_as_before_and_without_remarks(
    roots: Path,
) -> None:
    found = plan(roots, "sr_x2, denoise_25", "{evaluate: [Views]}")
    assert sets(found) == dict.fromkeys(("sr_x2", "denoise_25"), ("embedded-train", ("Views",)))
    assert not found.warnings
    assert "by task" not in as_text(found, {}, Gpus(0, "there is none"))


def test_a_task_that_falls_back_on_the_defaults_is_named(roots: Path) -> None:
    found = plan(roots, "sr_x2, denoise_25", "{sr: {train: Shots, evaluate: [Views]}}")
    assert sets(found)["denoise_25"] == ("embedded-train", ("embedded-test",))
    assert found.warnings == (
        f"{found.path}:5:1: data: no sets are given for denoise_25: "
        "it is trained on embedded-train and scored on embedded-test",
    )
    halves = plan(roots, "sr_x2, jpeg_40", "{sr: {train: Shots}, jpeg: {evaluate: [Views]}}")
    assert [warning.partition("data: ")[2] for warning in halves.warnings] == [
        "no evaluation sets are given for sr_x2: it is scored on embedded-test",
        "no training set is given for jpeg_40: it is trained on embedded-train",
    ]


def test_sets_that_no_trial_uses_are_named_and_not_looked_for(roots: Path) -> None:
    data = (
        "{train: Absent, sr: {train: Gone, evaluate: [Views]}, sr_x2: {train: Shots}, "
        "derain: {train: Lost}}"
    )
    found = plan(roots, "sr_x2, derain", data, "exclude: [{task: derain}]")
    said = "\n".join(found.warnings)
    assert len(found.warnings) == 3
    assert "5:84: data.derain: no trial of this sweep has this task: its sets are not used" in said
    assert "data.train: is not used: every task that it is for has its own training set" in said
    assert "data.sr.train: is not used: every task that it is for has its own training set" in said
    assert sets(found) == {"sr_x2": ("Shots", ("Views",))}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("{serr: {train: Shots}}", "bad.yaml:5:8: data.serr: unknown field 'serr'. Did you mean"),
        (
            "{sr_x22: {}}",
            "data.sr_x22: unknown field 'sr_x22'. Did you mean 'sr_x2'? Known: train, evaluate, sr",
        ),
        (
            "{sr: {trian: Shots}}",
            "bad.yaml:5:13: data.sr.trian: unknown field 'trian'. Did you mean 'train'? "
            "Known: train, evaluate.",
        ),
        ("{sr: Shots}", "bad.yaml:5:12: data.sr: must be a mapping, not 'Shots'"),
        ("{sr: }", "data.sr: must be a mapping, not None"),
        ("{sr: {evaluate: Set5}}", "data.sr.evaluate: must be a list, not 'Set5': write [Set5]"),
        ("{sr: {train: a/b}}", "data.sr.train: 'a/b' is not a name of the form"),
        ("{sr: {train: Lost}, train: Gone}", "data.sr.train: no data set 'Lost'"),
        (
            "{sr: {evaluate: [embedded-train]}}",
            "5:24: data.sr.evaluate[0]: 'embedded-train' is the training set",
        ),
    ],
)
def test_a_mistake_has_its_place_and_what_would_be_right(
    tmp_path: Path, data: str, said: str
) -> None:
    assert said in said_of(tmp_path, GRID.format(tasks="sr_x2", rest=f"data: {data}"))


def test_pairs_are_needed_by_the_tasks_of_pairs_alone(roots: Path) -> None:
    data = "{sr: {train: Shots, evaluate: [Views]}, derain: {train: Rain, evaluate: [Views]}}"
    said = refused(roots, "sr_x2, derain", data)
    assert "5:80: data.derain.evaluate[0]: task derain needs pairs" in said
    assert said.count("needs pairs") == 1
    plain = refused(roots, "sr_x2, derain", "{train: Shots, evaluate: []}")
    assert "`data: {derain: {train: ..., evaluate: [...]}}` gives it its own" in plain


def test_all_missing_sets_are_reported_at_once_each_where_it_is_named(roots: Path) -> None:
    said = refused(roots, "sr_x2, derain", "{sr: {train: A1, evaluate: [A2]}, derain: {train: A1}}")
    assert [line.split(": ")[1] for line in said.splitlines() if "no data set" in line] == [
        "data.sr.train",
        "data.sr.evaluate[0]",
        "data.derain.train",
    ]


def test_plan_shows_the_sets_of_each_task(roots: Path) -> None:
    found = plan(
        roots,
        "sr_x2, denoise_25",
        "{sr: {train: Shots, evaluate: [Views, More]}, denoise: {train: Views, evaluate: []}}",
    )
    text = as_text(found, {}, Gpus(0, "there is none"))
    assert "  sr_x2       trained on Shots, scored on Views, More" in text
    assert "  denoise_25  trained on Views, scored on no set" in text
    specs = [trial["spec"] for trial in as_json(found, {}, Gpus(0, "there is none"))["trials"]]
    assert {(spec["task"]["name"], spec["data"]["train"]) for spec in specs} == {
        ("sr", "Shots"),
        ("denoise", "Views"),
    }


def test_the_report_names_the_sets_of_each_task_and_has_no_column_for_others(
    roots: Path,
) -> None:
    found = plan(
        roots,
        "sr_x2, derain",
        "{sr: {train: Shots, evaluate: [Views]}, derain: {train: Rain, evaluate: [Wet]}}",
    )
    store = open_store(str(roots.parent / "runs"))
    write_sweep(store, found)
    frame = read_frame(found, store)
    settings = dict(protocol.settings(found, frame.recorded))
    assert settings["Evaluation sets"] == "sr_x2: Views; derain: Wet"
    assert settings["Training set"].startswith("sr_x2: Shots (manifest ")
    assert "; derain: Rain (manifest " in settings["Training set"]
    assert not protocol.edited(found, frame.recorded)
    (table,) = comparisons(frame)
    assert [(column.task, column.dataset) for column in table.columns[::2]] == [
        ("sr_x2", "Views"),
        ("derain", "Wet"),
    ]


def test_a_gate_says_which_task_has_no_sets_to_be_judged_on(roots: Path) -> None:
    gate = "gate: {baseline: layer_norm}\n"
    seeds = GRID.replace("task: [{tasks}]", "task: [{tasks}], seed: [0, 1]")
    path = roots.parent / "gated.yaml"

    def write(sets: str) -> None:
        data = f"data: {{train: Shots, evaluate: [], sr: {{evaluate: {sets}}}}}\n"
        path.write_text(seeds.format(tasks="sr_x2, jpeg_40", rest=data + gate))

    write("[Views]")
    (said,) = load_plan(path, partial(find_set, roots=(roots,))).warnings
    assert said.endswith("gate: jpeg_40 has no evaluation sets: its scores are not judged")
    write("[]")
    with pytest.raises(UserError, match=r"`data\.evaluate` is empty"):
        load_plan(path, partial(find_set, roots=(roots,)))


def test_the_schema_knows_the_tasks_and_the_example_of_the_page(tmp_path: Path) -> None:
    example = yaml.safe_load(BY_TASK.split("```yaml\n")[1].split("```")[0])
    jsonschema.validate(example, schema())
    for wrong in ({"serr": {"train": "Set5"}}, {"sr": {"trian": "Set5"}}, {"sr": "Set5"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**example, "data": wrong}, schema())
