"""LR images beside HR images: which belong together, what is refused, how they enter identity."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from orchestrator.datasets.check import check_set
from orchestrator.errors import UserError
from orchestrator.plan import Plan, load_plan
from tests.lr_images import save, write_pairs
from tests.sweeps import write_sweep
from trainers.build import build_benchmark
from trainers.data.cache import Cache
from trainers.data.given import find_for, with_given
from trainers.data.images import read_images
from trainers.data.lookup import find_set
from trainers.data.manifests import DatasetProblem
from trainers.tasks.packing import packed_pairs
from trainers.tasks.super_resolution import SuperResolution

GIVEN_X2 = "{name: sr_x2, lr_mode: given}"


def plan_of(folder: Path, tasks: str = GIVEN_X2, evaluate: str = "") -> Plan:
    file = write_sweep(folder / "sweeps", name="given", tasks=tasks)
    file.write_text(
        file.read_text().replace("{evaluate: []}", f"{{train: Shots, evaluate: [{evaluate}]}}")
    )
    return load_plan(file, lambda name: find_set(name, [folder]))


def refused(folder: Path, **about: str) -> str:
    with pytest.raises(UserError) as caught:
        plan_of(folder, **about)
    return str(caught.value)


# --- which belong together


@pytest.mark.parametrize(
    ("hr", "lr"),
    [
        ("HR", "LR_bicubic"),
        (".", "LR_bicubic"),
        ("GTmod12", "LR_bicubic"),
        ("HR", "Shots_LR_bicubic"),
    ],
)
@pytest.mark.parametrize("suffix", ["x2", ""])
def test_lr_images_are_found_beside_hr_by_their_names(
    tmp_path: Path, hr: str, lr: str, suffix: str
) -> None:
    folder = write_pairs(tmp_path / "Shots", hr=hr, lr=lr)
    for path in (folder / lr / "X2").iterdir():
        path.rename(path.with_stem(path.stem.removesuffix("x2") + suffix))
    found = find_for("Shots", 2, [tmp_path])
    assert len(found.files) == len(found.lq_files) == 3
    for image in read_images(found):
        pair = SuperResolution(2, "given").prepare(image.pixels, image.lq)
        expected = SuperResolution(2, "u8").prepare(image.pixels, None)
        assert np.array_equal(pair.lq, expected.lq)
        assert np.array_equal(pair.gt, expected.gt), "GT is cropped to the scale times LR"


def test_names_that_end_like_a_scale_find_their_own_partner(tmp_path: Path) -> None:
    for name, value in (("a", 10), ("ax2", 20)):
        save(tmp_path / "Shots/HR" / f"{name}.png", np.full((40, 40, 3), value, np.uint8))
        save(
            tmp_path / "Shots/LR_bicubic/X2" / f"{name}x2.png",
            np.full((20, 20, 3), value, np.uint8),
        )
    for image in read_images(find_for("Shots", 2, [tmp_path])):
        assert image.lq is not None
        assert image.lq.max() == image.pixels.max()


def test_beside_a_training_and_a_validation_part_each_finds_its_own(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "DIV2K", hr="DIV2K_train_HR", lr="DIV2K_train_LR_bicubic")
    write_pairs(folder, count=2, hr="DIV2K_valid_HR", lr="DIV2K_valid_LR_bicubic", seed=1)
    found = find_for("DIV2K", 2, [tmp_path])
    assert {file.path.parent for file in found.lq_files} == {folder / "DIV2K_train_LR_bicubic/X2"}
    write_pairs(tmp_path / "Shots", lr="one_LR_bicubic")
    write_pairs(tmp_path / "Shots", lr="two_LR_bicubic")
    with pytest.raises(
        DatasetProblem,
        match=r"in one_LR_bicubic/X2 and two_LR_bicubic/X2\. Keep only those of the set's images",
    ):
        find_for("Shots", 2, [tmp_path])


def df2k(root: Path) -> Path:
    write_pairs(root / "DF2K" / "DIV2K", count=2, hr="DIV2K_train_HR", lr="DIV2K_train_LR_bicubic")
    write_pairs(
        root / "DF2K" / "Flickr2K", count=3, hr="Flickr2K_HR", lr="Flickr2K_LR_bicubic", seed=1
    )
    return root / "DF2K"


def test_a_set_made_of_others_has_the_lr_images_of_each(tmp_path: Path) -> None:
    folder = df2k(tmp_path)
    found = find_for("DF2K", 2, [tmp_path])
    assert found.files == find_set("DF2K", [tmp_path]).files
    assert [file.path.stem.removesuffix("x2") for file in found.lq_files] == [
        file.path.stem for file in found.files
    ]
    for pair, image in zip(
        packed_pairs(found, SuperResolution(2, "given"), Cache(tmp_path / "c")),
        read_images(found),
        strict=True,
    ):
        assert np.array_equal(pair.lq, image.lq)
    shutil.rmtree(folder / "Flickr2K/Flickr2K_LR_bicubic")
    (folder / "DIV2K/DIV2K_train_LR_bicubic/X2/D1x2.png").unlink()
    with pytest.raises(DatasetProblem) as caught:
        find_for("DF2K", 2, [tmp_path])
    assert f"{folder}/DIV2K/DIV2K_train_HR/D1.png: has no partner in" in str(caught.value)
    assert f"{folder}/Flickr2K has no LR images of scale 2" in str(caught.value)


# --- training and evaluation read them


def test_given_lr_images_are_what_patches_are_cut_from(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "Shots")
    save(
        folder / "LR_bicubic/X2/1x2.png",
        np.zeros_like(np.asarray(Image.open(folder / "LR_bicubic/X2/1x2.png"))),
    )
    cache = Cache(tmp_path / "cache")
    made = packed_pairs(find_set("Shots", [tmp_path]), SuperResolution(2), cache)
    given = packed_pairs(find_for("Shots", 2, [tmp_path]), SuperResolution(2, "given"), cache)
    for i, (a, b) in enumerate(zip(made, given, strict=True)):
        assert np.array_equal(a.gt, b.gt)
        assert (b.lq.max() == 0) == (i == 1)
        assert np.array_equal(a.lq, b.lq) == (i != 1)
    assert len(list((tmp_path / "cache/entries").iterdir())) == 3, "GT is packed once for both"


def test_a_benchmark_has_its_given_lr_images_only_where_they_are_asked_for(tmp_path: Path) -> None:
    write_pairs(tmp_path / "Shots")
    assert all(image.lq is None for image in build_benchmark("Shots", "sr", [tmp_path]))
    assert all(
        image.lq is not None for image in build_benchmark("Shots", "sr", [tmp_path], lr_scale=2)
    )


def test_sets_of_pairs_leave_super_resolution_its_own_lq(tmp_path: Path) -> None:
    """Sets for deraining have rainy images, which are not LR images of anything."""
    for side in ("input", "target"):
        write_pairs(tmp_path / "Rain", hr=side, scales=())
    for path in (tmp_path / "Rain/input").iterdir():
        path.rename(path.with_name(path.name.replace("i", "t")))
    found = find_set("Rain", [tmp_path])
    assert found.lq_files
    for pair in packed_pairs(found, SuperResolution(2), Cache(tmp_path / "c")):
        assert pair.lq.shape[0] == pair.gt.shape[0] // 2


# --- identity


def test_given_lr_images_are_part_of_the_identity_of_trials_that_take_them_and_of_no_other(
    tmp_path: Path,
) -> None:
    folder = write_pairs(tmp_path / "Shots", scales=(2, 4))
    tasks = f"{GIVEN_X2}, {{name: sr_x4, lr_mode: given}}, sr_x2, denoise_25"

    def by_task() -> dict[str, tuple[str, str]]:
        return {
            t.axes["task"]: (t.id, t.spec.data.train_sha256)
            for t in plan_of(tmp_path, tasks).trials
        }

    before = by_task()
    assert before["sr_x2"][1] == before["denoise_25"][1] == find_set("Shots", [tmp_path]).sha256
    assert len({sha256 for _, sha256 in before.values()}) == 3
    save(
        folder / "LR_bicubic/X2/1x2.png",
        np.zeros_like(np.asarray(Image.open(folder / "LR_bicubic/X2/1x2.png"))),
    )
    after = by_task()
    assert {task for task in before if before[task] != after[task]} == {"sr_x2[lr_mode=given]"}


def test_how_a_copy_names_its_lr_images_is_not_part_of_the_identity(tmp_path: Path) -> None:
    write_pairs(tmp_path / "one/Shots", hr="GT", lr="Shots_LR_bicubic")
    write_pairs(tmp_path / "two/Shots", hr="GT")
    for path in (tmp_path / "two/Shots/LR_bicubic/X2").iterdir():
        path.rename(path.with_stem(path.stem.removesuffix("x2")))
    one, two = (find_for("Shots", 2, [tmp_path / side]) for side in ("one", "two"))
    assert one.sha256 == two.sha256


def test_a_checked_copy_has_the_same_identity_and_is_planned_from_its_manifest(
    tmp_path: Path, capsys
) -> None:
    folder = write_pairs(tmp_path / "Shots")
    before = plan_of(tmp_path).trials[0].id
    check_set("Shots", str(folder))
    capsys.readouterr()
    assert plan_of(tmp_path).trials[0].id == before
    assert {file.px for file in find_for("Shots", 2, [tmp_path]).lq_files} == {
        (31, 24),
        (32, 25),
        (33, 25),
    }


# --- what is refused


def test_everything_wrong_with_given_lr_images_is_reported_at_planning_with_its_place(
    tmp_path: Path,
) -> None:
    folder = write_pairs(tmp_path / "Shots", count=6)
    lr = folder / "LR_bicubic/X2"
    (lr / "0x2.png").unlink()
    save(lr / "1x2.png", np.zeros((25, 33, 3), np.uint8))
    save(lr / "9x2.png", np.zeros((25, 31, 3), np.uint8))
    (lr / "2x2.png").write_bytes(b"not an image")
    (folder / "HR/3.png").write_bytes((folder / "HR/3.png").read_bytes()[:20])
    save(lr / "4.png", np.zeros((26, 35, 3), np.uint8))
    said = refused(tmp_path)
    assert "given.yaml:7:15: data.train: data set 'Shots', its given LR images of scale 2:" in said
    for line in (
        f"{folder}/HR/0.png: has no partner in {lr}/",
        f"{lr}/1x2.png: is 33 x 25 pixels, but 1.png reduced by 2 is 32 x 25",
        f"{lr}/9x2.png: belongs to no image of the set",
        f"{lr}/2x2.png: its size cannot be read: cannot identify image file",
        f"{folder}/HR/3.png: its size cannot be read:",
        f"{lr}/4.png: belongs to no image of the set",
    ):
        assert any(told.strip().startswith(line) for told in said.splitlines()), (line, said)
    assert said.splitlines()[-1].strip() == "|               ^"
    assert len(said.splitlines()) == 9, "and nothing else is told"


def test_a_benchmark_without_given_lr_images_is_refused_where_the_sweep_names_it(
    tmp_path: Path,
) -> None:
    write_pairs(tmp_path / "Shots")
    write_pairs(tmp_path / "Bench", scales=(4,))
    said = refused(tmp_path, evaluate="Bench, embedded-test")
    assert (
        f"7:33: data.evaluate[0]: data set 'Bench': {tmp_path}/Bench has no LR images of scale 2"
        in said
    )
    assert "7:40: data.evaluate[1]: data set 'embedded-test':" in said
    assert "looked for LR_bicubic/X2/ and *_LR_bicubic/X2/" in said
    assert "data.train" not in said
    assert len(plan_of(tmp_path, "sr_x2", "Bench, embedded-test").trials) == 1


def test_a_set_that_is_not_there_is_reported_once(tmp_path: Path) -> None:
    write_pairs(tmp_path / "Shots")
    said = refused(tmp_path, evaluate="Nowhere")
    assert said.count("data.evaluate[0]: no data set 'Nowhere'") == 1
    assert len(said.splitlines()) == 3


def test_two_files_of_one_name_are_reported(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "Shots")
    Image.open(folder / "LR_bicubic/X2/1x2.png").save(folder / "LR_bicubic/X2/1x2.bmp")
    assert "1x2.bmp: 1x2.png has the same name" in refused(tmp_path)
    (folder / "LR_bicubic/X2/1x2.bmp").unlink()
    Image.open(folder / "HR/1.png").save(folder / "HR/1.bmp")
    assert "a partner could belong to either" in refused(tmp_path)


def test_a_manifest_with_bad_sizes_is_damaged(tmp_path: Path, capsys) -> None:
    folder = write_pairs(tmp_path / "Shots")
    check_set("Shots", str(folder))
    text = (folder / "normsweep.json").read_text()
    (folder / "normsweep.json").write_text(text.replace('"px": [', '"px": [0, ', 1))
    with pytest.raises(DatasetProblem, match="not a manifest of a data set"):
        find_set("Shots", [tmp_path])


def test_an_unreadable_lr_file_and_one_that_changes_later_are_reported(tmp_path: Path) -> None:
    folder = write_pairs(tmp_path / "Shots")
    (folder / "LR_bicubic/X2/dangling.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.raises(DatasetProblem, match=r"dangling\.png: cannot be read: No such file"):
        find_for("Shots", 2, [tmp_path])
    (folder / "LR_bicubic/X2/dangling.png").unlink()
    planned = find_for("Shots", 2, [tmp_path])
    save(folder / "LR_bicubic/X2/1x2.png", np.zeros((25, 32, 3), np.uint8))
    with pytest.raises(DatasetProblem, match=r"1x2\.png: is not the file that the manifest names"):
        packed_pairs(planned, SuperResolution(2, "given"), Cache(tmp_path / "cache"))
    assert not list((tmp_path / "cache/entries").glob("*given*"))


def test_pillow_is_only_imported_to_plan_sweeps_with_given_lr_images(tmp_path: Path) -> None:
    write_pairs(tmp_path / "Shots")
    for task, expected in (("sr_x2", "[]"), (GIVEN_X2, "['PIL']")):
        plan_of(tmp_path, task)
        code = (
            "import sys; from pathlib import Path; from orchestrator.plan import load_plan;"
            "from trainers.data.lookup import find_set; root = Path(sys.argv[1]);"
            "load_plan(root / 'sweeps/given.yaml', lambda name: find_set(name, [root]));"
            "print(sorted({'PIL', 'numpy', 'torch'} & set(sys.modules)))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == expected


def test_the_public_lr_images_of_set5_are_those_of_u8(photographs: Path) -> None:
    for scale in (2, 4):
        found = with_given(find_set("Set5", [photographs / "benchmarks"]), scale)
        for image in read_images(found):
            assert image.lq is not None
            assert np.array_equal(SuperResolution(scale).prepare(image.pixels, None).lq, image.lq)
