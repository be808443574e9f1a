"""Packed training images have the files' pixels, are made once, and serve any number of workers."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainers.data.cache import Cache, CacheProblem
from trainers.data.images import read_images
from trainers.data.lookup import find_set
from trainers.data.manifests import DatasetProblem
from trainers.tasks.denoising import Denoising
from trainers.tasks.deraining import Deraining
from trainers.tasks.jpeg import JpegArtefacts
from trainers.tasks.packing import packed_pairs
from trainers.tasks.patches import TrainingPatches
from trainers.tasks.super_resolution import SuperResolution


def write_images(folder: Path, count: int = 3, side: int = 50) -> None:
    folder.mkdir(parents=True)
    random = np.random.default_rng(len(folder.name))
    for i in range(count):
        pixels = random.integers(0, 256, (side + i, side + 2 * i + 1, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")


@pytest.mark.parametrize(
    "task", [Denoising(), SuperResolution(2), SuperResolution(3), SuperResolution(2, "f64")]
)
def test_packed_pairs_are_what_the_task_makes_of_the_files(tmp_path: Path, task) -> None:
    write_images(tmp_path / "photos")
    source = find_set("photos", [tmp_path])
    packed = packed_pairs(source, task, Cache(tmp_path / "cache"))
    for pair, image in zip(packed, read_images(source), strict=True):
        expected = task.prepare(image.pixels, None)
        assert np.array_equal(pair.lq, expected.lq)
        h, w = expected.gt.shape[:2]
        assert np.array_equal(pair.gt[:h, :w], expected.gt)
        assert max(pair.gt.shape[0] - h, pair.gt.shape[1] - w) < task.scale
        assert not pair.gt.flags.writeable


def test_pairs_are_packed_side_by_side(tmp_path: Path) -> None:
    for side in ("input", "target"):
        write_images(tmp_path / "Rain" / side)
    source = find_set("Rain", [tmp_path])
    for pair, image in zip(
        packed_pairs(source, Deraining(), Cache(tmp_path / "c")), read_images(source), strict=True
    ):
        assert np.array_equal(pair.gt, image.pixels)
        assert np.array_equal(pair.lq, image.lq)


def test_what_is_packed_is_not_read_again_and_shared_between_tasks(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    source = find_set("photos", [tmp_path])
    first = packed_pairs(source, SuperResolution(2), Cache(tmp_path / "cache"))
    for file in source.files:
        file.path.unlink()
    again = packed_pairs(source, SuperResolution(2), Cache(tmp_path / "cache"))
    assert all(np.array_equal(a.lq, b.lq) for a, b in zip(first, again, strict=True))
    packed_pairs(source, JpegArtefacts(), Cache(tmp_path / "cache"))
    assert len(list((tmp_path / "cache/entries").iterdir())) == 2  # GT, and LQ of x2


def test_every_bad_file_is_reported_and_nothing_stays(tmp_path: Path) -> None:
    write_images(tmp_path / "photos")
    (tmp_path / "photos/1.png").write_bytes(b"")
    (tmp_path / "photos/2.png").write_bytes((tmp_path / "photos/2.png").read_bytes()[:200])
    source = find_set("photos", [tmp_path])
    with pytest.raises(DatasetProblem) as caught:
        packed_pairs(source, Denoising(), Cache(tmp_path / "cache"))
    assert [
        line.split(":")[0].rpartition("/")[2] for line in str(caught.value).splitlines()[1:]
    ] == ["1.png", "2.png"]
    assert list((tmp_path / "cache/entries").iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 1 MB. Skips where none can be mounted."""
    mount = shutil.which("mount")
    if os.geteuid() != 0 or mount is None:
        pytest.skip("mounting a small file system needs root and mount(8)")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=1m", "none", disk],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no small file system can be mounted: {done.stderr.strip()}")
    yield disk
    subprocess.run(
        ["umount", "--lazy", disk], check=True
    )  # lazily: packed images may still be mapped


def test_a_disk_that_fills_while_packing_is_reported_left_empty_and_used_once_it_has_room(
    tmp_path: Path, small_disk: Path
) -> None:
    write_images(tmp_path / "photos", side=400)  # 1.4 MB decoded
    source = find_set("photos", [tmp_path])
    with pytest.raises(CacheProblem, match="No space left on device"):
        packed_pairs(source, Denoising(), Cache(small_disk / "cache", 10**9))
    assert list((small_disk / "cache/entries").iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
    pairs = packed_pairs(source, Denoising(), Cache(small_disk / "cache", 10**9))
    assert all(
        np.array_equal(pair.gt, image.pixels)
        for pair, image in zip(pairs, read_images(source), strict=True)
    )


@pytest.mark.parametrize("task", [Denoising(), SuperResolution(2), JpegArtefacts(10)])
def test_any_number_of_workers_gives_the_same_bits(tmp_path: Path, task) -> None:
    write_images(tmp_path / "photos")
    pairs = packed_pairs(find_set("photos", [tmp_path]), task, Cache(tmp_path / "cache"))
    places = [(step, part) for step in range(3, 6) for part in (slice(0, 2), slice(2, 3))]
    streams = [
        list(TrainingPatches(pairs, task, 8, seed=1).stream(iter(places), workers, pinned=False))
        for workers in (0, 1, 3)
    ]
    for other in streams[1:]:
        assert len(other) == len(places)
        for one, two in zip(streams[0], other, strict=True):
            assert torch.equal(one[0], two[0])
            assert torch.equal(one[1], two[1])
