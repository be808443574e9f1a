"""A training set as packed pairs of LQ and GT.

They are made once per node and shared by all trials with the same set and task.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from trainers.data.cache import Cache
from trainers.data.headers import image_size
from trainers.data.images import Pixels, partner_problem, read_pixels
from trainers.data.manifests import DatasetProblem, ImageFile, ImageSet
from trainers.data.packed import PackedImages, in_order, pack
from trainers.tasks.base import Pair, Task


def packed_pairs(source: ImageSet, task: Task, cache: Cache) -> list[Pair]:
    """LQ and GT of every image of `source`, in its order, as views into mapped files.

    GT is not cropped. Raises DatasetProblem, which names every file that fails, and CacheProblem.
    """
    name = f"{source.name}-{source.sha256[:16]}"
    # Named without the LQ files, so that every set with this GT shares it.
    gt_name = f"{source.name}-{replace(source, lq_files=()).sha256[:16]}"
    gt = _packed(cache, f"{gt_name}-gt", source.name, source.files)
    if task.prepared is None:
        return [Pair(pixels, pixels) for pixels in gt]
    if task.lq_from_set:
        lq = _packed(cache, f"{name}-{task.prepared}", source.name, source.lq_files)
        _check_sizes(source, gt, lq)
    else:

        def prepare(folder: Path) -> None:
            prepared = in_order(lambda pixels: task.prepare(pixels, None).lq, gt)
            pack(zip(gt.names, prepared, strict=True), folder)

        def expected_bytes() -> int:
            return sum(pixels.nbytes for pixels in gt) // task.scale**2

        lq = PackedImages(cache.entry(f"{name}-{task.prepared}", expected_bytes, prepare))
    return [Pair(*sides) for sides in zip(lq, gt, strict=True)]


def _packed(cache: Cache, key: str, name: str, files: tuple[ImageFile, ...]) -> PackedImages:
    def decode(folder: Path) -> None:
        problems: list[str] = []
        pack(_decoded(files, problems), folder)
        if problems:
            raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(sorted(problems)))

    return PackedImages(cache.entry(key, lambda: sum(map(_decoded_bytes, files)), decode))


def _decoded_bytes(file: ImageFile) -> int:
    try:
        width, height = image_size(file.path)
    except (OSError, ValueError):
        return 0  # decoding will report the file
    return 3 * width * height


def _decoded(files: tuple[ImageFile, ...], problems: list[str]) -> Iterator[tuple[str, Pixels]]:
    """Yield every file that can be decoded; faults of the others are added to `problems`."""
    found = in_order(lambda file: read_pixels(file, problems), files)
    return (
        (file.name, pixels) for file, pixels in zip(files, found, strict=True) if pixels is not None
    )


def _check_sizes(source: ImageSet, gt: PackedImages, lq: PackedImages) -> None:
    found = (partner_problem(source, i, *sides) for i, sides in enumerate(zip(gt, lq, strict=True)))
    problems = [problem for problem in found if problem]
    if problems:
        raise DatasetProblem(f"data set {source.name!r}:\n  " + "\n  ".join(problems))
