"""`normsweep evaluate FILE` on a sweep of two tasks that was trained: by Ray, kept, continued."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from orchestrator.store.records import CHECKSUM
from tests.sets_by_task import write_roots
from tests.sweeps import command, environment, normsweep, run, write_sweep

SETS = ("--benchmark", "Views", "--benchmark", "Wet", "--data", "data")
BOTH = ("--precision", "fp32", "--precision", "int8")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sweep `both.yaml`: a trial on images and one on pairs, trained."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_roots(folder / "data")
    file = write_sweep(folder, name="both", tasks="sr_x2, derain", steps=4)
    data = "{sr: {train: Shots, evaluate: [More]}, derain: {train: Rain, evaluate: [Wet]}}"
    file.write_text(file.read_text().replace("data: {evaluate: []}", f"data: {data}"))
    run(file, "--data", "data")
    return folder


@pytest.fixture(scope="module")
def evaluated(trained: Path) -> list[dict[str, Any]]:
    """What the first evaluation printed as JSON."""
    done = normsweep(trained, "evaluate", "both.yaml", *SETS, *BOTH, "--json")
    assert "sr_x2 is not evaluated on Wet: it is a set of pairs" in done.stderr
    assert "derain is not evaluated on Views: task derain needs pairs" in done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def kept(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.glob("runs/trials/*/evaluations/*.json")}


def test_a_two_task_file_is_evaluated_and_numbers_are_those_of_single_trials(
    trained: Path, evaluated: list[dict[str, Any]]
) -> None:
    *lines, summary = evaluated
    assert [summary[name] for name in ("event", "evaluated", "kept", "failed")] == [
        "summary",
        4,
        0,
        0,
    ]
    assert {(line["name"].split()[1], line["benchmark"], line["precision"]) for line in lines} == {
        (task, name, precision)
        for task, name in (("sr_x2", "Views"), ("derain", "Wet"))
        for precision in ("fp32", "int8")
    }
    assert {path.stem for path in kept(trained)} == {
        f"{name}-{precision}" for name in ("Views", "Wet") for precision in ("fp32", "int8")
    }
    (line,) = (one for one in lines if (one["benchmark"], one["precision"]) == ("Wet", "int8"))
    path = trained / f"runs/trials/{line['trial']}/evaluations/Wet-int8.json"
    before = json.loads(path.read_text())
    alone = normsweep(
        trained,
        "evaluate",
        line["trial"],
        "--benchmark",
        "Wet",
        "--precision",
        "int8",
        "--data",
        "data",
        "--json",
    )
    single = json.loads(alone.stdout)
    assert {name: value for name, value in before.items() if name != CHECKSUM} == single
    assert line["images"] == single["images"]


def test_the_report_and_mlflow_have_the_results(
    trained: Path, evaluated: list[dict[str, Any]]
) -> None:
    client = MlflowClient(f"sqlite:///{trained}/runs/mlflow.db")
    experiment = client.get_experiment_by_name("both")
    assert experiment is not None
    tracked = {
        one.data.tags["normsweep.trial"]: one.data.metrics
        for one in client.search_runs([experiment.experiment_id])
        if "normsweep.trial" in one.data.tags
    }
    for line in evaluated[:-1]:
        metrics = tracked[line["trial"]]
        name = f"eval/{line['benchmark']}/{line['precision']}/psnr"
        assert metrics[name] == pytest.approx(line["psnr"], rel=1e-12)
    page = Path(evaluated[-1]["report"]).read_text()
    assert "int8" in page
    assert "Views" in page


def test_again_everything_is_kept_and_no_ray_is_started(
    trained: Path, evaluated: list[dict[str, Any]]
) -> None:
    before = kept(trained)
    done = normsweep(trained, "evaluate", "both.yaml", *SETS, *BOTH)
    assert "4 evaluations are in the store already." in done.stderr
    assert "0 evaluated, 4 kept from before" in done.stderr
    assert "at a time" not in done.stderr
    assert kept(trained) == before


def test_an_interrupted_evaluation_continues_and_a_trial_that_fails_is_named(
    trained: Path, evaluated: list[dict[str, Any]]
) -> None:
    flags = ("evaluate", "both.yaml", *SETS, "--precision", "all", "--tile", 16, "--workers", 1)
    process = subprocess.Popen(
        command(*flags),
        cwd=trained,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "[1/12" in line:
            process.send_signal(signal.SIGINT)
            break
    said = process.stderr.read()
    assert process.wait(timeout=120) == 130
    assert "what is evaluated is kept" in said
    assert "To continue:" in said
    before = {path: content for path, content in kept(trained).items() if "tile" in path.stem}
    assert 1 <= len(before) < 12
    trial = next(one["trial"] for one in evaluated[:-1] if one["benchmark"] == "Wet")
    (weights,) = trained.glob(f"runs/trials/{trial}/checkpoints/*/ema.pt")
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")  # no look at sizes notices
    done = normsweep(trained, *flags, expect=4)
    assert f"{len(before)} evaluation" in done.stderr
    assert done.stderr.count("not evaluated: ") == 6
    assert "ema.pt does not have the checksum" in done.stderr
    after = {path: content for path, content in kept(trained).items() if "tile" in path.stem}
    assert {path: after[path] for path in before} == before
    assert len(after) == 6
