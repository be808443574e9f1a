"""Data sets: what is found, what is refused, and patches that depend on nothing but (seed, step,
index).
"""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from benchmarks.mutated_images import mutations, outcome
from trainers.build import build_benchmark
from trainers.data.headers import image_size
from trainers.data.images import read_images
from trainers.data.lookup import find_set
from trainers.data.manifests import DatasetProblem
from trainers.data.resize import downsample_u8
from trainers.tasks.base import Pair, Task
from trainers.tasks.denoising import Denoising
from trainers.tasks.deraining import Deraining, SyntheticRain
from trainers.tasks.jpeg import JpegArtefacts
from trainers.tasks.patches import TrainingPatches
from trainers.tasks.super_resolution import SuperResolution


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def folder_of(root: Path, **files: bytes | Image.Image) -> Path:
    folder = root / "photos"
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / f"{name}.png"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path)
    return folder


def whole(side: int = 40) -> Image.Image:
    return Image.fromarray(picture(side, side))


def test_the_embedded_sets_are_the_wheels_photographs_and_disjoint() -> None:
    train, test = find_set("embedded-train", ()), find_set("embedded-test", ())
    assert (len(read_images(train)), len(read_images(test))) == (
        7,
        2,
    )  # decoding also compares the checksums
    assert not {file.name for file in train.files} & {file.name for file in test.files}
    assert not {file.sha256 for file in train.files} & {file.sha256 for file in test.files}


def test_an_unknown_set_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NORMSWEEP_DATA", str(tmp_path / "elsewhere"))
    with pytest.raises(DatasetProblem, match="no data set 'DF2K'") as caught:
        find_set("DF2K", [tmp_path])
    assert "Did you mean" not in str(caught.value)
    assert f"{tmp_path}/DF2K" in str(caught.value)
    assert f"{tmp_path}/elsewhere/DF2K" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "meant"), [("Set15", "Set5"), ("urban100", "Urban100"), ("DIV2k", "DIV2K")]
)
def test_for_a_misspelt_set_the_message_says_which_may_be_meant(
    tmp_path: Path, name: str, meant: str
) -> None:
    with pytest.raises(DatasetProblem, match=f"no data set '{name}'. Did you mean '{meant}'?"):
        find_set(name, [tmp_path])


def test_a_folder_is_a_set_and_its_checksum_follows_names_and_bytes(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a=whole(), b=whole(50))
    first = find_set("photos", [tmp_path])
    assert [file.name for file in first.files] == ["a.png", "b.png"]
    (folder / "b.png").rename(folder / "c.png")
    renamed = find_set("photos", [tmp_path])
    (folder / "c.png").write_bytes((folder / "a.png").read_bytes())
    changed = find_set("photos", [tmp_path])
    assert len({first.sha256, renamed.sha256, changed.sha256}) == 3


def test_a_benchmark_folder_gives_its_hr_images(tmp_path: Path) -> None:
    for sub in ("HR", "LR_bicubic/X2"):
        (tmp_path / "benchmarks/Set/" / sub).mkdir(parents=True)
        whole().save(tmp_path / "benchmarks/Set/" / sub / "a.png")
    found = find_set("Set", [tmp_path])
    assert [file.path for file in found.files] == [tmp_path / "benchmarks/Set/HR/a.png"]


def test_a_folder_without_images_is_a_problem(tmp_path: Path) -> None:
    folder_of(tmp_path)
    with pytest.raises(DatasetProblem, match="holds no images"):
        find_set("photos", [tmp_path])


def test_what_only_looks_like_an_image_file_is_named_at_once(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, good=whole())
    (folder / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    (folder / "folder.png").mkdir()
    with pytest.raises(DatasetProblem) as caught:
        find_set("photos", [tmp_path])
    said = str(caught.value).splitlines()
    assert [line.strip() for line in said[1:]] == [
        f"{folder}/dangling.png: cannot be read: No such file or directory",
        f"{folder}/folder.png: cannot be read: Is a directory",
    ]


def test_an_image_gone_since_planning_is_a_problem(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, a=whole(), b=whole())
    planned = find_set("photos", [tmp_path])
    (folder / "a.png").unlink()
    with pytest.raises(DatasetProblem, match=r"a\.png: cannot be read: No such file"):
        read_images(planned)


def claiming(side: int) -> bytes:
    """A BMP whose header claims side x side pixels, and little more than the header."""
    file = io.BytesIO()
    whole(4).save(file, "BMP")
    content = bytearray(file.getvalue())
    content[18:26] = struct.pack("<ii", side, side)
    return bytes(content)


def deep_png() -> bytes:
    """RGB of 16 bits, which Pillow reads but cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content))
            + kind
            + content
            + struct.pack(">I", zlib.crc32(kind + content))
        )

    pixels = picture(40, 40).astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", 40, 40, 16, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def deep_tiff(planes: str) -> bytes:
    file = io.BytesIO()
    pixels = picture(40, 40).astype(np.uint16) * 257
    turned = pixels if planes == "contig" else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    tifffile.imwrite(file, turned, photometric="rgb", planarconfig=planes)
    return file.getvalue()


@pytest.mark.parametrize(
    "content",
    [deep_png(), deep_tiff("contig"), deep_tiff("separate")],
    ids=["PNG", "TIFF", "planes"],
)
def test_rgb_of_16_bits_is_refused_not_cut_to_its_high_bytes(
    tmp_path: Path, content: bytes
) -> None:
    folder_of(tmp_path, deep=content)
    with pytest.raises(DatasetProblem, match=r"deep\.png: is 16-bit: convert it to 8-bit RGB"):
        read_images(find_set("photos", [tmp_path]))


def test_every_bad_image_is_named_at_once(tmp_path: Path) -> None:
    cut = folder_of(tmp_path, good=whole()) / "good.png"
    folder_of(
        tmp_path,
        cut=cut.read_bytes()[:300],
        empty=b"",
        text=b"not an image at all",
        deep=Image.fromarray(np.full((40, 40), 40_000, dtype=np.uint16)),
        palette=whole().convert("P"),
        alpha=whole().convert("RGBA"),
        bilevel=whole().convert("1"),
        huge=claiming(20_000),
        small=whole(8),
    )
    whole().convert("CMYK").save(tmp_path / "photos" / "print.png", "JPEG")
    with pytest.raises(DatasetProblem) as caught:
        read_images(find_set("photos", [tmp_path]), at_least_px=16)
    said = str(caught.value)
    for name, why in {
        "cut": "cannot be decoded",
        "empty": "is empty",
        "text": "is not an image",
        "deep": "mode I;16",
        "palette": "mode P",
        "alpha": "mode RGBA",
        "bilevel": "mode 1",
        "huge": "cannot be decoded",
        "print": "mode CMYK",
        "small": "8 x 8 pixels",
    }.items():
        assert any(f"{name}.png" in line and why in line for line in said.splitlines()), (
            name,
            said,
        )
    assert "good.png" not in said


def test_an_image_changed_since_planning_is_a_problem(tmp_path: Path) -> None:
    folder_of(tmp_path, a=whole())
    planned = find_set("photos", [tmp_path])
    folder_of(tmp_path, a=whole(41))
    with pytest.raises(DatasetProblem, match="is not the file that the manifest"):
        read_images(planned)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damage as well
def test_a_damaged_file_is_an_image_or_a_problem_and_nothing_else() -> None:
    damaged = [content for _, content in mutations(600, seed=7)]
    kinds = Counter(map(outcome, damaged))
    assert not [kind for kind in kinds if kind.startswith("BUG")]
    assert kinds["an image"] > 60
    assert kinds["cannot be decoded"] > 60
    for content in damaged:
        with contextlib.suppress(OSError, ValueError):
            image_size(io.BytesIO(content))


@pytest.mark.parametrize("type_", [2, 5, 11, 12], ids=["text", "fraction", "float", "double"])
@pytest.mark.parametrize("tag", [257, 258, 259, 273, 277, 278, 279])
def test_a_tiff_whose_tags_are_of_another_type_is_an_image_or_a_problem(
    tag: int, type_: int
) -> None:
    file = io.BytesIO()
    whole(24).save(file, "TIFF")
    content = bytearray(file.getvalue())
    (start,) = struct.unpack_from("<I", content, 4)
    for entry in range(start + 2, start + 2 + 12 * content[start], 12):
        if struct.unpack_from("<H", content, entry) == (tag,):
            struct.pack_into("<H", content, entry + 2, type_)
    assert not outcome(bytes(content)).startswith("BUG")


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_stored_turned_is_named_not_read_as_it_lies(tmp_path: Path, format_: str) -> None:
    exif = Image.Exif()
    for orientation in range(10):
        exif[0x0112] = orientation
        file = io.BytesIO()
        whole().save(file, format_, exif=exif)
        folder_of(tmp_path, photo=file.getvalue())
        found = find_set("photos", [tmp_path])
        if orientation in range(2, 9):
            with pytest.raises(
                DatasetProblem,
                match=rf"photo\.png: is stored turned \(EXIF orientation {orientation}\)",
            ):
                read_images(found)
        else:
            assert read_images(found)[0].pixels.shape == (40, 40, 3)


def test_an_image_that_holds_no_square_of_its_benchmark_is_named(tmp_path: Path) -> None:
    (tmp_path / "Urban100").mkdir()
    for name, size in (("large", (300, 260)), ("small", (300, 255)), ("tiny", (40, 40))):
        Image.fromarray(picture(*size)).save(tmp_path / f"Urban100/{name}.png")
    with pytest.raises(DatasetProblem) as caught:
        build_benchmark("Urban100", "denoise", [tmp_path])
    assert "small.png: is 255 x 300 pixels, but one of Urban100's squares needs 256 x 256" in str(
        caught.value
    )
    assert "tiny.png" in str(caught.value)
    assert "large.png" not in str(caught.value)
    assert len(build_benchmark("Urban100", "sr", [tmp_path])) == 3


def test_gray_becomes_three_equal_channels(tmp_path: Path) -> None:
    folder_of(tmp_path, gray=whole().convert("L"))
    (image,) = read_images(find_set("photos", [tmp_path]))
    assert image.pixels.shape == (40, 40, 3)
    assert np.array_equal(image.pixels[..., 0], image.pixels[..., 2])


def pairs_of(task: Task, *images: np.ndarray) -> list[Pair]:
    return [task.prepare(image, None) for image in images]


TASKS = {
    "x2": SuperResolution(2),
    "x3": SuperResolution(3),
    "noise": Denoising(25.0),
    "jpeg": JpegArtefacts(10),
    "synthetic rain": SyntheticRain(),
}


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
def test_any_partition_of_a_batch_gives_the_same_bits(task) -> None:
    pairs = pairs_of(task, picture(50, 61), picture(70, 48, seed=1))
    whole_batch = TrainingPatches(pairs, task, 8, seed=5).batch(3, slice(0, 6))
    other = TrainingPatches(pairs, task, 8, seed=5)
    other.batch(9, slice(2, 4))  # what was drawn before must not matter
    parts = [other.batch(3, part) for part in (slice(4, 6), slice(0, 1), slice(1, 4))]
    for side in (0, 1):
        assert torch.equal(
            torch.cat([parts[1][side], parts[2][side], parts[0][side]]), whole_batch[side]
        )


def test_seed_step_and_index_each_change_the_patch() -> None:
    noise = Denoising(25.0)
    pairs = pairs_of(noise, picture(90, 90))
    patches = {
        tuple(
            TrainingPatches(pairs, noise, 8, seed)
            .batch(step, slice(i, i + 1))[1]
            .flatten()
            .tolist()
        )
        for seed, step, i in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (0, 2**31 - 1, 7)]
    }
    assert len(patches) == 5


def test_lq_and_gt_of_a_patch_are_the_same_place_turned_the_same_way() -> None:
    image = picture(40, 40)
    lq, gt = TrainingPatches(
        pairs_of(SuperResolution(2), image), SuperResolution(2), 20, seed=0
    ).batch(0, slice(0, 24))
    expected = downsample_u8(image, 2)
    seen = set()
    for small, large in zip(lq, gt, strict=True):
        for flip in (0, 1):
            for turns in range(4):
                turned = np.rot90(image[:, ::-1] if flip else image, turns)
                if np.array_equal((large.permute(1, 2, 0) * 255).round().numpy(), turned):
                    reduced = np.rot90(expected[:, ::-1] if flip else expected, turns)
                    assert np.array_equal((small.permute(1, 2, 0) * 255).round().numpy(), reduced)
                    seen.add((flip, turns))
    assert len(seen) > 4, "flips and quarter turns occur"


def test_training_noise_has_the_asked_strength() -> None:
    patches = TrainingPatches(
        pairs_of(Denoising(25.0), picture(80, 80)), Denoising(25.0), 64, seed=0
    )
    lq, gt = patches.batch(0, slice(0, 8))
    assert abs((lq - gt).std().item() * 255 - 25.0) < 0.3
    assert (lq < 0).any()
    assert (lq > 1).any()


def test_jpeg_patches_are_of_an_encoded_larger_one_whose_blocks_begin_anywhere() -> None:
    """At the lowest quality a block is nearly flat, so its borders show. They must not always be at
    the same column.
    """
    gradient = np.tile(np.arange(0, 160, 1, dtype=np.uint8), (160, 1))
    image = np.stack([gradient] * 3, axis=-1)
    lq, gt = TrainingPatches(pairs_of(JpegArtefacts(1), image), JpegArtefacts(1), 32, seed=0).batch(
        0, slice(0, 32)
    )
    assert lq.shape == gt.shape == (32, 3, 32, 32)
    assert (lq - gt).abs().max() > 0.01
    jumps = (lq[:, 0].diff(dim=2).abs().sum(1) + lq[:, 0].diff(dim=1).abs().sum(2)).argmax(1) % 8
    assert len(set(jumps.tolist())) > 3


def test_jpeg_quality_orders_the_damage() -> None:
    image = np.random.default_rng(0).random((3, 64, 64), dtype=np.float32)
    damage = [
        np.abs(JpegArtefacts(q).degrade(image, np.random.default_rng(0)) - image).mean()
        for q in (10, 40, 95)
    ]
    assert damage == sorted(damage, reverse=True)


def test_synthetic_rain_brightens_streaks_and_leaves_the_rest() -> None:
    image = np.full((3, 100, 120), 0.4, dtype=np.float32)
    rainy = SyntheticRain().degrade(image, np.random.default_rng(0))
    assert rainy.dtype == np.float32
    assert (rainy >= image).all()
    assert rainy.max() <= 1.0
    assert 0.02 < (rainy > image).mean() < 0.6
    assert np.array_equal(rainy, SyntheticRain().degrade(image, np.random.default_rng(0)))
    assert not np.array_equal(rainy, SyntheticRain().degrade(image, np.random.default_rng(1)))


def rainy_pairs(root: Path, *, missing: str = "", other_size: bool = False) -> Path:
    for side in ("input", "target"):
        (root / "Rain" / side).mkdir(parents=True)
        for i, name in enumerate("abc"):
            if f"{side}/{name}" != missing:
                size = (40, 44) if other_size and (side, name) == ("input", "b") else (40, 40)
                pixels = picture(*size, seed=2 * i + (side == "input"))
                Image.fromarray(pixels).save(root / "Rain" / side / f"{name}.png")
    return root / "Rain"


def test_pairs_go_together_by_name_and_are_cut_at_the_same_place(tmp_path: Path) -> None:
    rainy_pairs(tmp_path)
    found = find_set("Rain", [tmp_path])
    assert [file.name for file in found.files] == ["target/a.png", "target/b.png", "target/c.png"]
    assert [file.name for file in found.lq_files] == ["input/a.png", "input/b.png", "input/c.png"]
    images = read_images(found)
    pairs = [Deraining().prepare(image.pixels, image.lq) for image in images]
    lq, gt = TrainingPatches(pairs, Deraining(), 40, seed=0).batch(0, slice(0, 12))
    for small, large in zip(lq, gt, strict=True):
        sides = [(side.permute(1, 2, 0) * 255).round().numpy() for side in (small, large)]
        turned = [
            [np.rot90(side[:, ::-1] if f else side, t) for side in sides]
            for f in (0, 1)
            for t in range(4)
        ]
        assert any(
            np.array_equal(a, i.lq) and np.array_equal(b, i.pixels)
            for i in images
            for a, b in turned
        )


@pytest.mark.parametrize(
    ("missing", "said"),
    [
        ("input/b", r"target/b\.png: has no partner in input/"),
        ("target/c", r"input/c\.png: has no"),
    ],
)
def test_a_pair_without_its_partner_is_named(tmp_path: Path, missing: str, said: str) -> None:
    rainy_pairs(tmp_path, missing=missing)
    with pytest.raises(DatasetProblem, match=said):
        find_set("Rain", [tmp_path])


def test_partners_of_different_sizes_are_named(tmp_path: Path) -> None:
    rainy_pairs(tmp_path, other_size=True)
    with pytest.raises(DatasetProblem, match=r"input/b\.png: is 44 x 40 pixels, but its partner"):
        read_images(find_set("Rain", [tmp_path]))


def test_the_checksum_of_pairs_follows_either_side(tmp_path: Path) -> None:
    folder = rainy_pairs(tmp_path)
    before = find_set("Rain", [tmp_path]).sha256
    Image.fromarray(picture(40, 40, seed=99)).save(folder / "input/a.png")
    assert find_set("Rain", [tmp_path]).sha256 != before
