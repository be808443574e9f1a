"""`normsweep run`: what is done is skipped, what is new is trained, what cannot be is named."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.sweeps import (
    assert_same_bits,
    command,
    environment,
    normsweep,
    results,
    run,
    tracked_points,
    write_sweep,
)


def journals(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (folder / "runs/trials").rglob("*.jsonl")}


def attempts(folder: Path) -> int:
    return len(list((folder / "runs/trials").glob("*/attempts/*/attempt.json")))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where a sweep of two trials has been run."""
    folder = tmp_path_factory.mktemp("finished")
    output = run(write_sweep(folder, name="first", norms="layer_norm, i_ln"), "--json")
    lines = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert lines[-1]["event"] == "summary"
    assert (lines[-1]["done"], lines[-1]["trained"]) == (2, 2)
    return folder


def test_a_sweep_ends_with_results_runs_and_a_report(finished: Path) -> None:
    assert {result["outcome"] for result in results(finished).values()} == {"completed"}
    assert tracked_points(finished, "first").keys() == results(finished).keys()
    page = finished / "runs/sweeps/first/report/index.html"
    assert "layer_norm" in page.read_text()
    assert not list((finished / "runs/work").iterdir()), "working files are removed"


def test_run_again_trains_nothing_and_starts_no_ray(finished: Path) -> None:
    before = journals(finished)
    output = run(finished / "first.yaml")
    assert "2 of 2 trials are done already" in output
    assert journals(finished) == before
    assert attempts(finished) == 2


def test_json_that_nobody_reads_ends_no_run(finished: Path) -> None:
    line = " ".join(command("run", "first.yaml", "--json"))
    for into in ("| head -c 1 >/dev/null", "| true", ">/dev/full", ">&-", ">&- 2>&-"):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line} {into}"],
            cwd=finished,
            env=environment(),
            capture_output=True,
            text=True,
        )
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), f"{into}: {done.stderr}"


def test_a_norm_added_trains_only_the_new_trials_and_a_second_sweep_shares(finished: Path) -> None:
    """Its `keep` removes the weights of the trial that is its own, which stays done."""
    before = journals(finished)
    file = write_sweep(finished, name="second", norms="layer_norm, i_ln, rms_norm")
    file.write_text(f"{file.read_text()}keep: {{checkpoints: none}}\n")
    output = run(file)
    assert re.search(
        r"keep: none: kept 2 checkpoints \(.*\), freed 1 \(.*\); 2 left, since sweep first", output
    )
    (freed,) = (finished / "runs/trials").glob("*/freed.json")
    assert not list(freed.parent.glob("checkpoints/*"))
    failed = normsweep(finished, "export", freed.parent.name, "--to", "w.safetensors", expect=2)
    assert 'were removed by "keep: none" of sweep second, at 2' in failed.stderr
    assert "3 of 3 trials are done already" in run(file)
    assert {
        path: content for path, content in journals(finished).items() if path in before
    } == before
    assert attempts(finished) == 3
    assert len(tracked_points(finished, "second")) == 3


def test_status_counts_from_the_store(finished: Path) -> None:
    counts = json.loads(normsweep(finished, "status", "first.yaml", "--json").stdout)
    assert (counts["sweep"], counts["total"], counts["done"], counts["pending"]) == (
        "first",
        2,
        2,
        0,
    )


def test_a_damaged_result_is_made_again_from_the_last_checkpoint(
    finished: Path, tmp_path: Path
) -> None:
    copy = Path(shutil.copytree(finished, tmp_path / "copy"))
    found = (copy / "runs/trials").glob("*/result.json")
    damaged = next(path for path in found if json.loads(path.read_text())["sweep"] == "first")
    damaged.write_bytes(bytes(200))
    output = run(copy / "first.yaml")
    assert f"{damaged.relative_to(copy / 'runs')} holds 200 zero bytes" in output
    assert_same_bits(finished, copy)
    steps = [
        json.loads(line)["step"]
        for path in journals(copy)
        if "/attempts/2/" in str(path)
        for line in path.open()
    ]
    assert set(steps) == {0, 10}, "begun at 0, as every attempt is, and nothing is trained again"


def test_a_gang_larger_than_the_machine_is_named_before_launch(tmp_path: Path) -> None:
    file = write_sweep(tmp_path, workers=4)
    file.write_text(file.read_text().replace("workers: 4", "workers: 4, cpus_per_worker: 64"))
    output = run(file, expect=3)
    assert "4 workers of 64 CPU each do not fit" in output
    assert "Traceback" not in output
    assert not (tmp_path / "runs/trials").exists()


def test_training_data_that_is_broken_fails_once_and_says_which_file(tmp_path: Path) -> None:
    from PIL import Image

    photos = tmp_path / "data" / "photos"
    photos.mkdir(parents=True)
    Image.effect_mandelbrot((64, 64), (-2, -1, 1, 1), 20).convert("RGB").save(photos / "whole.png")
    (photos / "cut.png").write_bytes((photos / "whole.png").read_bytes()[:200])
    file = write_sweep(tmp_path)
    file.write_text(file.read_text().replace("data: {", "data: {train: photos, "))
    output = run(file, "--data", tmp_path / "data", expect=4)
    assert "cut.png" in output
    assert "Traceback" not in output
    assert attempts(tmp_path) == 1
