"""`normsweep data`: a copy is checked image by image, and brought elsewhere whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.sweeps import command, environment, normsweep
from trainers.data.lookup import find_set
from trainers.data.manifests import MANIFEST


def picture(path: Path, width: int = 40, height: int = 36, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(
        0, 256, (height, width, 3), dtype=np.uint8
    )
    Image.fromarray(pixels).convert(mode).save(path)


def set5(root: Path, count: int = 5) -> Path:
    """A folder with the layout and the number of images of Set5."""
    for number in range(count):
        picture(root / "Set5" / "HR" / f"{number}.png")
        for factor in (2, 4):
            picture(
                root / "Set5" / f"LR_bicubic/X{factor}" / f"{number}x{factor}.png",
                40 // factor,
                36 // factor,
            )
    return root / "Set5"


def data(*arguments: object, expect: int = 0, folder: Path = Path()) -> str:
    """Run `normsweep data ...` in a folder; returns what it printed."""
    done = normsweep(folder, "data", *arguments, expect=expect)
    output = done.stdout + done.stderr
    assert "Traceback" not in output
    return output


def test_the_list_has_every_set_of_the_paper_and_where_yours_are(tmp_path: Path) -> None:
    set5(tmp_path / "benchmarks")
    told = data("list", "--data", tmp_path)
    names = (
        "DF2K DIV2K Flickr2K BSDS400 Rain13K Set5 Set14 BSD100 Urban100 Manga109 "
        "CBSD68 Kodak24 McMaster LIVE1 Classic5"
    )
    for name in [*names.split(), "Test100", "Rain100L", "embedded-train", "embedded-test"]:
        assert any(line.startswith(name) for line in told.splitlines()), name
    rows = {row["name"]: row for row in json.loads(data("list", "--data", tmp_path, "--json"))}
    assert rows["Set5"]["found"] == str(tmp_path / "benchmarks/Set5")
    assert rows["DF2K"]["found"] is None
    assert all(row["terms"] and row["page"] for row in rows.values())
    assert "not a folder" in data("list", "--data", tmp_path / "nowhere", expect=2)


def test_a_copy_in_order_gets_its_checksums(tmp_path: Path) -> None:
    folder = set5(tmp_path / "benchmarks")
    before = find_set("Set5", [tmp_path]).sha256
    for place in (tmp_path, folder):
        assert "5 images, all in order" in data("check", "Set5", place)
    kept = json.loads((folder / MANIFEST).read_text())["images"]
    reduced = [
        f"LR_bicubic/X{factor}/{number}x{factor}.png" for factor in (2, 4) for number in range(5)
    ]
    assert sorted(kept) == [*(f"HR/{number}.png" for number in range(5)), *reduced]
    assert find_set("Set5", [tmp_path]).sha256 == before, (
        "reduced images are not of a set's identity"
    )


def test_a_later_check_reports_a_changed_reduced_image_and_a_missing_folder_of_them(
    tmp_path: Path,
) -> None:
    folder = set5(tmp_path)
    assert "all in order, and so are LR_bicubic/X2, LR_bicubic/X4" in data(
        "check", "Set5", tmp_path
    )
    black = folder / "LR_bicubic/X2/1x2.png"
    Image.new("RGB", Image.open(black).size).save(black)
    shutil.rmtree(folder / "LR_bicubic/X4")
    told = data("check", "Set5", tmp_path, expect=2)
    assert f"{black}: is not the file of the first check (checksum)" in told
    assert f"{folder}/LR_bicubic/X4: is missing, but was there at the first check" in told
    assert "2 problems" in told


def test_folders_of_reduced_images_that_a_manifest_does_not_know_are_added_to_it(
    tmp_path: Path,
) -> None:
    folder = set5(tmp_path)
    shutil.move(folder / "LR_bicubic", tmp_path / "kept")
    data("check", "Set5", tmp_path)
    assert not any(
        "LR_bicubic" in path for path in json.loads((folder / MANIFEST).read_text())["images"]
    )
    shutil.move(tmp_path / "kept", folder / "LR_bicubic")
    data("check", "Set5", tmp_path)
    assert "LR_bicubic/X2/0x2.png" in json.loads((folder / MANIFEST).read_text())["images"]
    shutil.rmtree(folder / "LR_bicubic/X2")
    assert "LR_bicubic/X2: is missing" in data("check", "Set5", tmp_path, expect=2)


def test_a_name_that_is_not_there_checks_nothing_and_writes_nothing(tmp_path: Path) -> None:
    set5(tmp_path / "benchmarks")
    said = data("check", "Set6", tmp_path, expect=2)
    assert f"no data set 'Set6' in {tmp_path}" in said
    assert "Did you mean 'Set5'?" in said
    said = data("check", "Set14", tmp_path, expect=2)
    assert (
        f"no data set 'Set14' in {tmp_path}: looked for {tmp_path}/Set14, {tmp_path}/*/Set14"
        in said
    )
    assert "holds" not in said
    assert "Did you mean" not in said
    assert "no data set 'Set6'" in data(
        "stage", "Set6", "--from", tmp_path, "--to", tmp_path / "to", expect=2
    )
    assert [path.name for path in tmp_path.iterdir()] == ["benchmarks"]
    assert not list(tmp_path.rglob(MANIFEST))


def test_a_folder_of_another_name_is_a_set_of_the_paper_by_its_layout(tmp_path: Path) -> None:
    set5(tmp_path).rename(tmp_path / "mine")
    assert "5 images, all in order" in data("check", "Set5", tmp_path / "mine")
    (tmp_path / "mine" / MANIFEST).unlink()
    assert "5 images, all in order" in data("check", "Set5", tmp_path / "mine" / "HR")
    assert "no data set 'photos'" in data("check", "photos", tmp_path / "mine", expect=2)


def test_a_folder_is_known_by_its_name_from_within(tmp_path: Path) -> None:
    picture(tmp_path / "photos" / "a.png")
    assert "1 images, all in order" in data("check", "photos", ".", folder=tmp_path / "photos")


def test_every_problem_is_reported_at_once_with_its_file(tmp_path: Path) -> None:
    folder = set5(tmp_path)
    picture(folder / "HR" / "5.png", mode="P")
    (folder / "HR" / "1.png").write_bytes((folder / "HR" / "1.png").read_bytes()[:200])
    (folder / "HR" / "2.png").write_bytes(b"")
    (folder / "LR_bicubic/X2/3x2.png").unlink()
    picture(folder / "LR_bicubic/X4/4x4.png", 11, 9)
    picture(folder / "LR_bicubic/X4/stray.png", 11, 9)
    told = data("check", "Set5", tmp_path, expect=2)
    for file, why in {
        "Set5": "holds 6 images, but a complete copy has 5",
        "Set5/HR/5.png": "has mode P",
        "Set5/HR/1.png": "cannot be decoded",
        "Set5/HR/2.png": "is empty",
        "Set5/HR/3.png": f"has no partner in {folder}/LR_bicubic/X2/",
        "Set5/LR_bicubic/X4/4x4.png": "is 11 x 9 pixels, but 4.png reduced by 4 is 10 x 9",
        "Set5/LR_bicubic/X4/stray.png": "belongs to no image",
    }.items():
        assert any(line.startswith(f"{tmp_path}/{file}: {why}") for line in told.splitlines()), (
            file,
            told,
        )
    assert not (folder / MANIFEST).exists()


def test_a_later_check_compares_bytes_even_where_size_and_time_are_the_same(tmp_path: Path) -> None:
    folder = set5(tmp_path)
    victim = folder / "HR/2.png"
    picture(
        victim.with_suffix(".bmp")
    )  # in this format any byte can differ and the file is still an image
    victim.with_suffix(".bmp").rename(victim)
    data("check", "Set5", tmp_path)
    stat, content = victim.stat(), victim.read_bytes()
    victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(victim, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (folder / "HR/3.png").unlink()
    picture(folder / "HR/new.png")
    told = data("check", "Set5", tmp_path, expect=2)
    assert f"{victim}: is not the file of the first check (checksum)" in told
    assert f"{folder}/HR/3.png: is missing, but was there at the first check" in told
    assert f"{folder}/HR/new.png: was not there at the first check" in told


def test_pairs_are_checked_by_name_and_size(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / "rain" / "target" / f"{name}.png")
        picture(tmp_path / "rain" / "input" / f"{name}.png")
    assert "2 pairs, all in order" in data("check", "rain", tmp_path)
    (tmp_path / "rain" / MANIFEST).unlink()
    picture(tmp_path / "rain/input/b.png", width=30)
    picture(tmp_path / "rain/input/c.png")
    told = data("check", "rain", tmp_path, expect=2)
    assert (
        f"{tmp_path}/rain/input/b.png: is 30 x 36 pixels, "
        "but its partner target/b.png is 40 x 36 pixels" in told
    )
    assert f"{tmp_path}/rain/input/c.png: has no partner in target/" in told


def test_a_partial_copy_is_one_only_where_it_is_meant(tmp_path: Path) -> None:
    set5(tmp_path, count=3)
    assert "holds 3 images, but a complete copy has 5" in data("check", "Set5", tmp_path, expect=2)
    assert "3 images, all in order" in data("check", "Set5", tmp_path, "--partial")


def test_a_set_made_of_others_is_checked_part_by_part(tmp_path: Path) -> None:
    for part in ("DIV2K/DIV2K_train_HR", "Flickr2K"):
        for number in range(2):
            picture(tmp_path / "DF2K" / part / f"{part[0]}{number}.png")
    told = data("check", "DF2K", tmp_path, "--partial")
    assert f"DIV2K: {tmp_path}/DF2K/DIV2K: 2 images" in told
    assert f"Flickr2K: {tmp_path}/DF2K/Flickr2K: 2 images" in told
    assert len(find_set("DF2K", [tmp_path]).files) == 4


def test_staging_brings_a_whole_copy_or_none(tmp_path: Path) -> None:
    folder = set5(tmp_path / "from")
    half = tmp_path / "to" / ".Set5.part" / "HR"
    half.mkdir(parents=True)  # as a killed one leaves it
    shutil.copyfile(folder / "HR/0.png", half / "0.png")
    (half / "1.png").write_bytes((folder / "HR/1.png").read_bytes()[:100])
    picture(half / "stale.png")
    picture(half.parent / "GT" / "stale.png")
    inode = (half / "0.png").stat().st_ino
    processes = [
        subprocess.Popen(
            command("data", "stage", "Set5", "--from", tmp_path / "from", "--to", tmp_path / "to"),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    told = sorted(process.communicate(timeout=120)[0] for process in processes)
    assert [process.returncode for process in processes] == [0, 0], told
    assert "now in" in told[1] or "now in" in told[0]
    assert "has them already" in told[0] + told[1]
    staged = tmp_path / "to" / "Set5"
    assert (staged / "HR/0.png").stat().st_ino == inode, "what was brought is not brought again"
    assert (
        find_set("Set5", [tmp_path / "to"]).sha256 == find_set("Set5", [tmp_path / "from"]).sha256
    )
    assert sorted(path.name for path in staged.iterdir()) == ["HR", MANIFEST], (
        "what another copy has left is gone"
    )
    assert sorted(path.name for path in (staged / "HR").iterdir()) == [
        f"{number}.png" for number in range(5)
    ]
    assert any("LR_bicubic/X2, LR_bicubic/X4 stay behind" in said for said in told)
    assert "all in order" in data("check", "Set5", tmp_path / "to")

    (folder / "HR/4.png").write_bytes(b"")
    told_bad = data(
        "stage", "Set5", "--from", tmp_path / "from", "--to", tmp_path / "third", expect=2
    )
    assert f"{folder}/HR/4.png: is empty" in told_bad
    assert not (tmp_path / "third").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("check", "embedded-train", "."), "is part of the installed scikit-image"),
        (("check", "Set5", "/nowhere"), "/nowhere: not a folder"),
        (("check", "Set5", "gs://x/y"), "not a folder. Give a folder or s3://BUCKET/PREFIX."),
        (("check", "../Set5", "."), "is not a valid name for a data set"),
        (("stage", "Set5", "--from", "/nowhere", "--to", "/tmp/x"), "/nowhere: not a folder"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, ...], said: str) -> None:
    assert said in data(*arguments, expect=2)
