"""Training patches from packed images against reading and decoding the files at every step, as
BasicSR does.

    python benchmarks/patches.py [FOLDER]

Takes the images of FOLDER (by default BSDS400 under NORMSWEEP_DATA, otherwise the embedded
photographs). Prints the median of patches per second in one process on one core, the two ways
taking turns, and the peak resident memory of each. That of the packed way includes pages of the
mapped file, which processes share.
"""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image

from trainers.data.cache import Cache
from trainers.data.images import decode
from trainers.data.lookup import find_set, open_set
from trainers.data.manifests import DatasetProblem, ImageSet
from trainers.tasks.base import Pair, Task
from trainers.tasks.jpeg import JpegArtefacts
from trainers.tasks.packing import packed_pairs
from trainers.tasks.patches import TrainingPatches
from trainers.tasks.super_resolution import SuperResolution

BATCH = 16
RUNS = 5
CASES: dict[str, tuple[Task, int]] = {
    "SR x4, LQ 32": (SuperResolution(4), 32),
    "JPEG q10, 64": (JpegArtefacts(10), 64),
}


class Files(Sequence[Pair]):
    """Pairs that are read and decoded whenever they are asked for.

    For super-resolution, LQ is read from files as well.
    """

    def __init__(self, source: ImageSet, task: Task, folder: Path) -> None:
        self._gt = [file.path for file in source.files]
        self._lq = self._gt
        if task.prepared is not None:
            self._lq = [folder / f"{i}.png" for i in range(len(self._gt))]
            for path, gt in zip(self._lq, self._gt, strict=True):
                Image.fromarray(task.prepare(decode(gt.read_bytes()), None).lq).save(path)

    def __len__(self) -> int:
        return len(self._gt)

    def __getitem__(self, index: int) -> Pair:
        gt = decode(self._gt[index].read_bytes())
        return Pair(gt if self._lq is self._gt else decode(self._lq[index].read_bytes()), gt)


def source() -> tuple[ImageSet, str]:
    """The set to measure, and a phrase that describes it."""
    if len(sys.argv) > 1:
        images = open_set("BSDS400", Path(sys.argv[1]))
        return images, f"the images of {images.folder}"
    try:
        images = find_set("BSDS400")
    except DatasetProblem as problem:
        return find_set("embedded-train"), f"the embedded photographs, NOT on BSDS400: {problem}"
    return images, f"BSDS400 of {images.folder}"


def rate(patches: TrainingPatches, first_step: int, steps: int) -> float:
    began = time.perf_counter()
    for step in range(first_step, first_step + steps):
        patches.batch(step, slice(0, BATCH))
    return steps * BATCH / (time.perf_counter() - began)


def measure(
    pairs: Sequence[Pair], task: Task, patch: int, steps: int, results: multiprocessing.Queue
) -> None:
    """Median rate and peak memory of one way, measured in its own process."""
    torch.set_num_threads(1)
    patches = TrainingPatches(pairs, task, patch, seed=0)
    rate(patches, 0, 2)
    rates = [rate(patches, 10 + run * steps, steps) for run in range(RUNS)]
    results.put(
        (statistics.median(rates), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    )


def in_a_process(pairs: Sequence[Pair], task: Task, patch: int, steps: int) -> tuple[float, float]:
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    process = fork.Process(target=measure, args=(pairs, task, patch, steps, results))
    process.start()
    figures: tuple[float, float] = results.get()
    process.join()
    return figures


def main() -> None:
    images, told = source()
    print(f"Measured on {told}")
    print(f"{len(images.files)} images, batches of {BATCH}, one core, medians of {RUNS}")
    for name, (task, patch) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            files = Files(images, task, Path(folder))
            began = time.perf_counter()
            packed = packed_pairs(images, task, Cache(Path(folder) / "cache"))
            packing_s = time.perf_counter() - began
            ours, our_memory = in_a_process(packed, task, patch, 200)
            theirs, their_memory = in_a_process(files, task, patch, 10)
        print(
            f"{name:14s} packed {ours:6.0f} patches/s, {our_memory:4.0f} MiB   "
            f"files {theirs:6.0f} patches/s, {their_memory:4.0f} MiB   {ours / theirs:5.1f} x"
            f"   packed once in {packing_s:.1f} s"
        )


if __name__ == "__main__":
    main()
