"""`normsweep evaluate` on trials that trained, as a command, and in parts where that is slow."""

from __future__ import annotations

import errno
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file as load_crops
from safetensors.torch import load_file, save_file
from torch import nn

from orchestrator.errors import UserError
from orchestrator.evaluate import EvaluateOptions, Job, _scores, evaluate_checkpoint
from orchestrator.export import export_trial
from orchestrator.plan import load_plan
from orchestrator.restored import _files_of
from orchestrator.store.records import CHECKSUM, EVALUATION, checked_record
from tests.sweeps import normsweep, run, write_sweep
from trainers.build import build_benchmark, build_model
from trainers.data.images import read_images
from trainers.data.lookup import find_set
from trainers.evaluate import Tiling, restore
from trainers.tasks.denoising import Denoising
from trainers.tasks.super_resolution import SuperResolution

SET = "embedded-test"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of one trial, trained long enough to restore. Its store is `runs`."""
    folder = tmp_path_factory.mktemp("trained")
    file = write_sweep(folder, name="evaluated", steps=60)
    file.write_text(file.read_text().replace("evaluate: []", f"evaluate: [{SET}]"))
    run(file)
    return folder


@pytest.fixture(scope="module")
def trial(trained: Path) -> str:
    (found,) = (trained / "runs" / "trials").iterdir()
    return found.name


def evaluate(folder: Path, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = normsweep(folder, "evaluate", *arguments, expect=expect)
    assert "Traceback" not in done.stderr
    return done


def results(folder: Path, *arguments: object) -> dict[str, dict]:
    lines = evaluate(folder, *arguments, "--json").stdout.splitlines()
    return {result["precision"]: result for result in map(json.loads, lines)}


def test_a_trial_is_evaluated_at_all_precisions(trained: Path, trial: str) -> None:
    found = results(trained, trial, "--precision", "all")
    assert list(found) == ["fp32", "bf16", "fp16", "fp16_literal", "int8", "int4"]
    assert found["int4"]["psnr"] < found["fp32"]["psnr"]
    assert abs(found["fp16"]["psnr"] - found["fp32"]["psnr"]) < 0.05
    assert found["fp16"]["non_finite"] == 0
    assert found["fp16_literal"]["psnr"] != found["fp16"]["psnr"]
    assert [found[name]["half_revision"] for name in ("fp32", "fp16", "fp16_literal")] == [
        None,
        2,
        2,
    ]
    kept = trained / "runs" / "trials" / trial / "evaluations"
    written = json.loads((kept / f"{SET}-int4.json").read_text())
    assert checked_record((kept / f"{SET}-int4.json").read_bytes(), EVALUATION) == written
    assert {key: value for key, value in written.items() if key != CHECKSUM} == found["int4"]
    table = evaluate(trained, trial, "--precision", "fp32", "--precision", "int4").stdout
    assert f"{found['int4']['psnr']:.3f}" in table
    assert f"{found['int4']['psnr'] - found['fp32']['psnr']:+.3f}" in table


def test_scores_are_those_of_the_end_of_training(trained: Path, trial: str) -> None:
    segments = (trained / "runs" / "trials" / trial / "attempts").glob("*/journal/*.jsonl")
    lines = [json.loads(line) for segment in segments for line in segment.read_text().splitlines()]
    (in_training,) = [
        line for line in lines if line.get("event") == "scores" and line["step"] == 60
    ]
    afterwards = results(trained, trial)["fp32"]
    assert afterwards["images"] == in_training["images"]
    assert [image["name"] for image in afterwards["images"]] == ["chelsea.png", "coffee.png"]
    (inputs,) = [line for line in lines if line.get("event") == "input_scores"]
    assert (inputs["step"], inputs["border_px"]) == (0, in_training["border_px"])
    assert afterwards["input_images"] == inputs["images"]
    for metric in ("psnr", "ssim"):
        mean = np.mean([image[metric] for image in afterwards["images"]])
        assert afterwards[metric] == pytest.approx(mean, rel=1e-12)
        (last,) = [
            r["values"][f"val/{SET}/{metric}"]
            for r in lines
            if f"val/{SET}/{metric}" in r.get("values", {}) and r["step"] == 60
        ]
        assert last == afterwards[metric]
    assert (afterwards["compared"], afterwards["border_px"], afterwards["lr_mode"]) == (
        "Y",
        2,
        "u8",
    )


def test_two_workers_give_what_one_gives_and_restored_images_are_saved(
    trained: Path, trial: str
) -> None:
    one = results(trained, trial, "--save", "one")
    two = results(trained, trial, "--save", "two", "--workers", 2)
    assert one == two
    names = sorted(path.name for path in (trained / "one" / f"{SET}-fp32").iterdir())
    assert names == ["chelsea.png", "coffee.png"]
    for name in names:
        restored = [
            np.asarray(Image.open(trained / side / f"{SET}-fp32" / name)) for side in ("one", "two")
        ]
        assert np.array_equal(*restored)
    hr = {image.name: image.pixels for image in read_images(find_set(SET, ()))}[names[-1]]
    assert restored[0].shape == hr.shape  # both have even sides: nothing was cropped
    assert np.abs(restored[0].astype(int) - hr).mean() < 20
    (kept,) = (trained / "runs" / "trials" / trial / "probes" / "crops").iterdir()
    crops = load_crops(kept)
    assert kept.name == "step-00000060-1.safetensors"
    assert kept.stat().st_size < 200_000
    top, left = ((side - 96) // 2 for side in hr.shape[:2])
    middle = (slice(top, top + 96), slice(left, left + 96))
    at = f"{top},{left}/{SET}/{names[-1]}"
    assert np.array_equal(crops[f"restored/{at}"], restored[0][middle])
    assert np.array_equal(crops[f"truth/{at}"], hr[middle])
    assert crops[f"input/{at}"].shape == (96, 96, 3)


def test_a_folder_that_cannot_be_saved_in_is_named_by_its_flag(trained: Path, trial: str) -> None:
    (trained / "file").touch()
    for workers in (1, 2):
        done = evaluate(trained, trial, "--save", "file", "--workers", workers, expect=3)
        assert "--save file: Not a directory" in done.stderr


def test_an_error_of_the_system_outside_saving_is_not_blamed_on_it(
    trained: Path, trial: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*about: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr("orchestrator.evaluate._scores", fails)
    with pytest.raises(OSError, match="Resource temporarily unavailable"):
        evaluate_checkpoint(trial, EvaluateOptions((SET,), ("fp32",), str(trained / "runs")))


def test_a_tiled_result_says_so_and_is_kept_apart(trained: Path, trial: str) -> None:
    whole = results(trained, trial)["fp32"]
    tiled = results(trained, trial, "--tile", 64, "--overlap", 8)["fp32"]
    assert (tiled["tile_px"], tiled["overlap_px"]) == (64, 8)
    assert (whole["tile_px"], whole["overlap_px"]) == (None, None)
    assert whole["psnr"] != tiled["psnr"]  # i-LN's statistics are over the tile
    kept = {path.name for path in (trained / "runs" / "trials" / trial / "evaluations").iterdir()}
    assert {f"{SET}-fp32.json", f"{SET}-fp32-tile-64-8.json"} <= kept
    assert "not comparable" in evaluate(trained, trial, "--tile", 64, "--overlap", 8).stdout


def test_weights_beyond_the_range_of_fp16_show_a_share_of_non_finite_values(
    trained: Path, trial: str
) -> None:
    file = trained / "net.safetensors"
    export_trial(str(trained / "runs"), trial, file)
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        metadata = opened.metadata()
    weights = load_file(file)
    first = next(name for name, value in weights.items() if value.ndim == 4)
    weights[first] = weights[first] * 1e6
    save_file(weights, trained / "beyond.safetensors", metadata=metadata)
    found = results(
        trained,
        "beyond.safetensors",
        "--benchmark",
        SET,
        "--precision",
        "fp32",
        "--precision",
        "fp16",
    )
    assert found["fp32"]["non_finite"] == 0
    assert found["fp16"]["non_finite"] > 0
    assert found["fp16"]["of"] == trial


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--precision", "fp8"], "give one of fp32"),
        (["--benchmark", "Set15"], "no data set 'Set15'. Did you mean 'Set5'?"),
        (["--benchmark", "Set5"], "Looked in"),
        (["--per-channel"], "--per-channel"),
        (["--tile", "4"], "16 LQ pixels"),
    ],
)
def test_what_does_not_fit_is_the_users_error(
    trained: Path, trial: str, arguments: list[str], told: str
) -> None:
    assert told in evaluate(trained, trial, *arguments, expect=2).stderr


def test_a_file_that_is_not_an_export_is_the_users_error(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no such thing")
    assert (
        "not a safetensors file"
        in evaluate(tmp_path, "a.safetensors", "--benchmark", SET, expect=2).stderr
    )
    save_file({"w": torch.zeros(1)}, tmp_path / "b.safetensors")
    assert "no `spec`" in evaluate(tmp_path, "b.safetensors", "--benchmark", SET, expect=2).stderr
    assert (
        "No such file" in evaluate(tmp_path, "c.safetensors", "--benchmark", SET, expect=2).stderr
    )


def test_tiles_with_enough_around_them_are_the_whole_where_nothing_reaches_further() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 5, padding=2),
        nn.ReLU(),
        nn.Conv2d(4, 3 * 4, 3, padding=1),
        nn.PixelShuffle(2),
    )
    lq = np.random.default_rng(0).integers(0, 256, (37, 50, 3), dtype=np.uint8)
    task = SuperResolution(2)
    whole, _ = restore(model, task, lq, CPU)
    tiled, _ = restore(model, task, lq, CPU, Tiling(16, 3))
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    assert (whole == tiled).mean() > 0.999
    cut, _ = restore(model, task, lq, CPU, Tiling(16, 0))
    assert (whole == cut).mean() < 0.999
    same_size = nn.Conv2d(3, 3, 3, padding=1)
    assert restore(same_size, Denoising(25.0), lq, CPU, Tiling(20, 1))[0].shape == lq.shape


def test_urban100_is_scored_in_squares_for_denoising_only(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    folder = tmp_path / "Urban100"
    folder.mkdir()
    for number in range(2):
        pixels = random.integers(0, 256, (520, 800, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    squares = build_benchmark("Urban100", "denoise", (tmp_path,))
    assert {square.pixels.shape for square in squares} == {(256, 256, 3)}
    assert len(squares) == 2 * (520 // 256) * (800 // 256)
    assert np.array_equal(squares[0].pixels, np.asarray(Image.open(folder / "0.png"))[:256, :256])
    assert [image.pixels.shape for image in build_benchmark("Urban100", "sr", (tmp_path,))] == [
        (520, 800, 3)
    ] * 2


def test_no_restored_image_is_saved_over_another() -> None:
    names = ["s0/0.png", "s1/0.png", "target/s0/0.png", "a.png[0,256]", "a.b.png"]
    assert len({*_files_of(names).values()}) == len(names)
    with pytest.raises(
        UserError, match=r"a\.png\[0,256\] and a-0-256\.jpg would both be saved as a-0-256\.png"
    ):
        _files_of(["a.png[0,256]", "a-0-256.jpg"])


def test_every_square_is_saved_in_a_file_of_its_own(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (256, 512, 3), dtype=np.uint8)
    for name in ("data/Urban100/img_000.png", "data/Urban100/more/img.001.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / name)
    spec = load_plan(write_sweep(tmp_path, tasks="denoise_25")).trials[0].spec
    options = EvaluateOptions(
        ("Urban100",), ("fp32",), str(tmp_path / "runs"), save=tmp_path / "saved"
    )
    job = Job(
        spec, build_model(spec).state_dict(), "Urban100", [tmp_path / "data"], "fp32", options
    )
    assert len(_scores(job, 0)) == 4
    folder = tmp_path / "saved" / "Urban100-fp32"
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.png")}
    assert names == {
        f"{stem}-0-{left}.png" for stem in ("img_000", "more/img.001") for left in (0, 256)
    }
