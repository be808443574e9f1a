"""`lr_mode: given` for real: sweeps train from folders and S3, and are evaluated then and later."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.datasets.check import check_set
from orchestrator.datasets.roots import DataRoots
from orchestrator.datasets.stage import stage_set
from orchestrator.errors import UserError
from orchestrator.plan import load_plan
from tests.lr_images import write_pairs
from tests.s3 import Bucket
from tests.sweeps import environment, final_tensors, normsweep, results, run, write_sweep
from trainers.data.cache import Cache
from trainers.data.given import find_for, with_given
from trainers.data.lookup import find_set
from trainers.data.manifests import MANIFEST, DatasetProblem

TASKS = "sr_x2, {name: sr_x2, lr_mode: given}"


def sets(root: Path) -> Path:
    write_pairs(root / "Shots", scales=(2, 4))
    write_pairs(root / "Bench", count=2, scales=(2,), seed=1)
    write_pairs(root / "Bare", count=1, scales=())
    return root


def sweep(folder: Path, *, steps: int = 5, evaluate: str = "Bench") -> Path:
    file = write_sweep(folder, name="given", tasks=TASKS, steps=steps)
    text = file.read_text().replace("{evaluate: []}", f"{{train: Shots, evaluate: [{evaluate}]}}")
    file.write_text(
        text.replace("ema_decay: 0.9", "ema_decay: 0.9, sampling: epoch, rotations: false")
    )
    return file


def trial_of(folder: Path, mode: str) -> str:
    specs = {
        path.parent.name: json.loads(path.read_text())
        for path in (folder / "runs/trials").glob("*/spec.json")
    }
    (found,) = [trial for trial, spec in specs.items() if spec["task"]["lr_mode"] == mode]
    return found


def scores(folder: Path, trial: str) -> list[dict]:
    """The scores of every image at every evaluation during training."""
    segments = sorted((folder / "runs/trials" / trial / "attempts").glob("*/journal/*.jsonl"))
    lines = [json.loads(line) for segment in segments for line in segment.read_text().splitlines()]
    return [image for line in lines if line.get("event") == "scores" for image in line["images"]]


def assert_given_equals_u8(folder: Path) -> None:
    """The public LR images are those that `u8` makes, so both give the same weights and scores."""
    given, made = trial_of(folder, "given"), trial_of(folder, "u8")
    assert given != made
    a, b = final_tensors(folder, given), final_tensors(folder, made)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert scores(folder, given) == scores(folder, made) != []


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two trials, `u8` and `given`. Its data sets are in `data`."""
    folder = tmp_path_factory.mktemp("given")
    run(sweep(folder), "--data", sets(folder / "data"))
    return folder


def test_trained_on_given_lr_images_a_trial_ends_as_with_u8_where_they_are_the_same(
    trained: Path,
) -> None:
    assert [result["outcome"] for result in results(trained).values()] == ["completed"] * 2
    assert_given_equals_u8(trained)
    page = (trained / "runs/sweeps/given/report/report.md").read_text()
    assert "| LR images (lr_mode) | u8: sr_x2; given: sr_x2[lr_mode=given] |" in page


def evaluate(folder: Path, *arguments: object, expect: int = 0) -> subprocess.CompletedProcess[str]:
    done = normsweep(folder, "evaluate", *arguments, expect=expect)
    assert "Traceback" not in done.stderr
    return done


def test_evaluated_afterwards_with_given_lr_images_as_while_training(trained: Path) -> None:
    trial = trial_of(trained, "given")
    flags = ("--data", trained / "data")
    result = json.loads(
        evaluate(trained, trial, *flags, "--save", "saved", "--workers", 2, "--json").stdout
    )
    assert result["lr_mode"] == "given"
    assert result["set_sha256"] == find_for("Bench", 2, [trained / "data"]).sha256
    assert result["images"] == scores(trained, trial)[-2:]
    assert sorted(path.name for path in (trained / "saved/Bench-fp32").iterdir()) == [
        "0.png",
        "1.png",
    ]
    said = evaluate(
        trained, trial, *flags, "--benchmark", "Bare", "--benchmark", "Bench", expect=2
    ).stderr
    assert (
        f"data set 'Bare': {trained}/data/Bare has no LR images of scale 2, "
        "which `lr_mode: given` reads" in said
    )


def test_scores_follow_the_given_lr_images(trained: Path, tmp_path: Path) -> None:
    """Black LR images in place of the set's change the scores with `given`, but not with `u8`."""
    from PIL import Image

    shutil.copytree(trained / "data/Bench", tmp_path / "Bench")
    for path in (tmp_path / "Bench/LR_bicubic/X2").iterdir():
        Image.fromarray(np.zeros_like(np.asarray(Image.open(path)))).save(path)
    for mode, same in (("given", False), ("u8", True)):
        trial = trial_of(trained, mode)
        result = json.loads(evaluate(trained, trial, "--data", tmp_path, "--json").stdout)
        assert (result["images"] == scores(trained, trial)[-2:]) == same


def test_a_trial_by_hand_whose_lr_images_are_gone_is_exit_2(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "data", tmp_path / "data")
    (tmp_path / "data/Shots/LR_bicubic/X2/1x2.png").unlink()
    spec = trained / "runs/trials" / trial_of(trained, "given") / "spec.json"
    arguments = [spec, "--out", tmp_path / "out", "--data", tmp_path / "data"]
    done = subprocess.run(
        [sys.executable, "-m", "trainers", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 2, done.stderr
    assert (
        f"{tmp_path}/data/Shots/HR/1.png: has no partner in {tmp_path}/data/Shots/LR_bicubic/X2/"
        in done.stderr
    )
    assert "Traceback" not in done.stderr


# --- S3


def planned(root: str, scale: int) -> str:
    """The checksum of Shots with its LR images, as planned."""
    roots = DataRoots([root])
    return with_given(roots.find("Shots"), scale).sha256


def staged(tmp_path: Path, bucket: Bucket) -> str:
    """The root on S3 with Shots, Bench and their LR images. No request is counted yet."""
    sets(tmp_path / "data")
    for name in ("Shots", "Bench"):
        stage_set(name, str(tmp_path / "data"), f"{bucket.uri}/sets", reduced=True)
    bucket.requests.clear()
    return f"{bucket.uri}/sets"


def gets(bucket: Bucket) -> dict[str, int]:
    return {key: count for key, count in bucket.gets().items() if key.endswith(".png")}


def test_a_sweep_from_s3_fetches_the_lr_images_of_its_scale_once(
    tmp_path: Path, bucket: Bucket
) -> None:
    root = staged(tmp_path, bucket)
    local = tmp_path / "data"
    file = sweep(tmp_path / "sweep", steps=2)
    trials = load_plan(file, DataRoots([root]).find).trials
    assert [t.id for t in trials] == [
        t.id for t in load_plan(file, lambda name: find_set(name, [local])).trials
    ]
    assert gets(bucket) == {}, "planning reads no image"
    run(file, "--data", root)
    assert_given_equals_u8(tmp_path / "sweep")
    wanted = [f"sets/Shots/HR/{i}.png" for i in range(3)] + [
        f"sets/Shots/LR_bicubic/X2/{i}x2.png" for i in range(3)
    ]
    wanted += [
        f"sets/Bench/{sub}.png"
        for sub in ("HR/0", "HR/1", "LR_bicubic/X2/0x2", "LR_bicubic/X2/1x2")
    ]
    assert gets(bucket) == dict.fromkeys(wanted, 1), (
        "HR images are fetched once for both trials, X4 never"
    )


def test_only_a_task_that_is_given_its_lr_images_fetches_them(
    tmp_path: Path, bucket: Bucket
) -> None:
    root = staged(tmp_path, bucket)
    DataRoots([root]).fetch(["Shots"], Cache(tmp_path / "cache", 10**9))
    assert not [key for key in gets(bucket) if "LR_bicubic" in key]
    (folder,) = DataRoots([root]).fetch(["Shots"], Cache(tmp_path / "cache", 10**9), lr_scale=4)
    assert sorted(key for key in gets(bucket) if "LR_bicubic" in key) == [
        f"sets/Shots/LR_bicubic/X4/{i}x4.png" for i in range(3)
    ]
    assert set(gets(bucket).values()) == {1}
    assert find_for("Shots", 4, [folder]).sha256 == find_for("Shots", 4, [tmp_path / "data"]).sha256
    with pytest.raises(DatasetProblem, match="no LR images of scale 2"):
        find_for("Shots", 2, [folder])


def test_what_is_wrong_with_lr_images_on_s3_is_reported_at_planning_by_its_address(
    tmp_path: Path, bucket: Bucket
) -> None:
    root = staged(tmp_path, bucket)
    file = sweep(tmp_path / "sweep", evaluate="")
    bucket.client.delete_object(Bucket=bucket.name, Key="sets/Shots/LR_bicubic/X2/0x2.png")
    bucket.put("sets/Shots/LR_bicubic/X2/1x2.png", b"another")
    with pytest.raises(UserError) as caught:
        load_plan(file, DataRoots([root]).find)
    said = str(caught.value)
    assert "given.yaml:7:15: data.train: data set 'Shots', its given LR images of scale 2" in said
    assert f"{root}/Shots/LR_bicubic/X2/0x2.png: is missing, but its {MANIFEST} names it" in said
    assert (
        f"{root}/Shots/LR_bicubic/X2/1x2.png: is not the object that its {MANIFEST} names" in said
    )
    assert "/tmp/normsweep-manifests" not in said
    file.write_text(file.read_text().replace(TASKS, "sr_x2"))
    assert len(load_plan(file, DataRoots([root]).find).trials) == 1, (
        "and does not concern tasks that make their own"
    )


def test_a_manifest_without_sizes_asks_for_a_check_and_one_without_lr_images_too(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMSWEEP_CACHE", str(tmp_path / "cache"))
    root = staged(tmp_path, bucket)
    manifest = json.loads(
        bucket.client.get_object(Bucket=bucket.name, Key=f"sets/Shots/{MANIFEST}")["Body"].read()
    )
    for record in manifest["images"].values():
        del record["px"]
    bucket.put(f"sets/Shots/{MANIFEST}", json.dumps(manifest).encode())
    with pytest.raises(
        DatasetProblem,
        match=f"its size is not in {MANIFEST}: run `normsweep data check Shots {root}/Shots`",
    ):
        planned(root, 2)
    manifest["images"] = {
        path: record for path, record in manifest["images"].items() if "X2" not in path
    }
    bucket.put(f"sets/Shots/{MANIFEST}", json.dumps(manifest).encode())
    with pytest.raises(
        DatasetProblem, match=f"If they are there, run `normsweep data check Shots {root}/Shots`"
    ):
        planned(root, 2)
    check_set("Shots", root)
    assert planned(root, 2) == find_for("Shots", 2, [tmp_path / "data"]).sha256


# --- staging


def test_reduced_images_are_brought_where_they_are_asked_for(
    tmp_path: Path, bucket: Bucket, capsys
) -> None:
    local = sets(tmp_path / "data")
    for to in (str(tmp_path / "to"), f"{bucket.uri}/sets"):
        stage_set("Shots", str(local), to)
        assert "LR_bicubic/X2, LR_bicubic/X4 stay behind" in capsys.readouterr().out
        with pytest.raises(DatasetProblem, match="no LR images of scale 2"):
            planned(to, 2)
        stage_set("Shots", str(local), to, reduced=True)
        assert "6 of them" in capsys.readouterr().out
        for scale in (2, 4):
            assert planned(to, scale) == find_for("Shots", scale, [local]).sha256
        for reduced in (True, False):
            stage_set("Shots", str(local), to, reduced=reduced)
            assert "has them already" in capsys.readouterr().out
        with pytest.raises(
            UserError,
            match=r"Bare: no reduced images there \(LR_bicubic/X2/\)\. Leave out --reduced",
        ):
            stage_set("Bare", str(local), to, reduced=True)
    assert (tmp_path / "to/Shots/LR_bicubic/X4/2x4.png").read_bytes() == (
        local / "Shots/LR_bicubic/X4/2x4.png"
    ).read_bytes()


def test_other_reduced_images_than_those_that_are_there_are_another_copy(
    tmp_path: Path, bucket: Bucket
) -> None:
    local = sets(tmp_path / "data")
    to, remote = tmp_path / "to", f"{bucket.uri}/sets"
    for place in (str(to), remote):
        stage_set("Shots", str(local), place, reduced=True)
    shutil.copyfile(local / "Shots/LR_bicubic/X2/1x2.png", tmp_path / "kept.png")
    from PIL import Image

    Image.new("RGB", Image.open(tmp_path / "kept.png").size).save(
        local / "Shots/LR_bicubic/X2/1x2.png"
    )
    with pytest.raises(UserError, match="a different copy is there already"):
        stage_set("Shots", str(local), remote, reduced=True)
    with pytest.raises(UserError, match="a different copy is there already"):
        stage_set("Shots", str(local), str(to), reduced=True)
    assert (to / "Shots/LR_bicubic/X2/1x2.png").read_bytes() == (tmp_path / "kept.png").read_bytes()
