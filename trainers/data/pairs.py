"""The two sides of a set of pairs, and which images belong together. Pure: paths alone decide."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from trainers.data.datasets import Layout
from trainers.data.templates import Match, matches, normal, order_of, shortened

GT_WORDS = (
    *("target", "targets", "gt", "hq", "sharp", "clean", "norain", "clear", "high"),
    *("groundtruth", "ground_truth", "reference"),
)
LQ_WORDS = (
    *("input", "inputs", "lq", "blur", "blur_gamma", "blurry", "noisy"),
    *("rain", "rainy", "hazy", "haze", "low", "degraded"),
)
SEPARATORS = re.compile(r"[-_. ]+")
# After the word for a side: MPRNet's target_crops, NAFNet's sharp_crops.
CROPS = re.compile(r"[-_](crops?|sub|patches|images?)$")


@dataclass(frozen=True)
class Pair:
    """The paths of two images with the same key."""

    key: str
    gt: str
    lq: str

    @property
    def names(self) -> tuple[str, str]:
        """The names of GT and LQ in the set, whatever the folders of the two sides are called."""
        sides = (("target", self.gt), ("input", self.lq))
        gt, lq = (f"{side}/{self.key}{PurePosixPath(path).suffix}" for side, path in sides)
        return gt, lq


@dataclass(frozen=True)
class Sides:
    """Both sides of a set of pairs, not paired yet, and the names of their folders."""

    gt: list[Match]
    lq: list[Match]
    gt_folder: str
    lq_folder: str


def sides_of(layouts: Sequence[Layout], rest: Sequence[str]) -> Sides | None:
    """Find both sides of a set of pairs.

    They are recognised by a layout, or else by words in the names of folders at any depth, or else
    by words in the names of files.
    """
    for layout in layouts:
        gt, lq = (matches(layout.gt, rest), matches(layout.lq, rest)) if layout.lq else ([], [])
        if gt and lq and layout.lq:
            return _comparable(gt, lq, layout.gt.partition("/{")[0], layout.lq.partition("/{")[0])
    for split in (_by_folder, _by_file):
        sides: dict[str, list[Match]] = {"gt": [], "lq": []}
        words: dict[str, set[str]] = {"gt": set(), "lq": set()}
        for path in rest:
            if said := split(path):
                side, word, key = said
                sides[side].append(Match(path, key))
                words[side].add(word)
        # A word in a file's name proves less: all files must have one, and some keys must match.
        shared = {one.key for one in sides["gt"]} & {one.key for one in sides["lq"]}
        of_all = len(sides["gt"]) + len(sides["lq"]) == len(rest)
        if all(sides.values()) and (split is _by_folder or (shared and of_all)):
            folders = (" or ".join(sorted(words[side])) for side in ("gt", "lq"))
            return _comparable(sides["gt"], sides["lq"], *folders)
    return None


def _comparable(gt: list[Match], lq: list[Match], gt_folder: str, lq_folder: str) -> Sides:
    """Drop the word for a side from keys that differ by it: norain/norain-7, rain/rain-7."""
    if not {normal(one.key) for one in gt} & {normal(one.key) for one in lq}:
        said = [[_by_file(f"{one.key}.png") for one in side] for side in (gt, lq)]
        if all(map(all, said)):
            gt, lq = (
                [
                    replace(one, key=about[2])
                    for one, about in zip(side, found, strict=True)
                    if about
                ]
                for side, found in zip((gt, lq), said, strict=True)
            )
    return Sides(gt, lq, gt_folder, lq_folder)


def _by_folder(path: str) -> tuple[str, str, str] | None:
    """Side, word and key of `scene/sharp/0.png`.

    The key is the path without the outermost folder that names a side.
    """
    *folders, file = path.split("/")
    for i, folder in enumerate(folders):
        for side, words in (("gt", GT_WORDS), ("lq", LQ_WORDS)):
            if CROPS.sub("", folder.lower()) in words:
                return (
                    side,
                    folder,
                    "/".join([*folders[:i], *folders[i + 1 :], PurePosixPath(file).stem]),
                )
    return None


def _by_file(path: str) -> tuple[str, str, str] | None:
    """Side, word and key of `7_clean.png`, `rain-7.png` or `7_GT_SRGB.png`.

    Exactly one word of the name must name a side, and it must not be the whole name.
    """
    folder, _, file = path.rpartition("/")
    words = SEPARATORS.split(PurePosixPath(file).stem)
    for side, named in (("gt", GT_WORDS), ("lq", LQ_WORDS)):
        said = [word for word in words if word.lower() in named]
        if len(said) == 1 and len(words) > 1:
            key = "_".join(word for word in words if word not in said)
            return side, said[0], f"{folder}/{key}" if folder else key
    return None


def paired(sides: Sides, where: str) -> tuple[list[Pair], list[str]]:
    """Pair images of equal keys, and list the problems.

    An image without a partner is a problem, and so are several images of one key on one side.
    """
    gt, lq = (_by_key(found) for found in (sides.gt, sides.lq))
    pairs, doubled, unpaired = [], [], []
    for key in sorted(gt.keys() | lq.keys()):
        for several in (gt.get(key, []), lq.get(key, [])):
            if len(several) > 1:
                first, *more = (f"{where}/{one.path}" for one in several)
                doubled.append(
                    f"{' and '.join(more)}: {first} has the same name in the set, "
                    "and either could be meant: keep one of them, or rename it"
                )
        if key in gt and key in lq:
            pairs.append(Pair(gt[key][0].key, gt[key][0].path, lq[key][0].path))
        else:
            one, folder = (
                (gt[key][0], sides.lq_folder) if key in gt else (lq[key][0], sides.gt_folder)
            )
            unpaired.append(f"{where}/{one.path}: has no partner in {folder}/")
    pairs.sort(key=lambda pair: order_of(pair.gt))
    return pairs, [*shortened(doubled), *shortened(unpaired)]


def _by_key(found: Sequence[Match]) -> dict[str, list[Match]]:
    by_key = defaultdict(list)
    for one in found:
        by_key[normal(one.key)].append(one)
    return by_key
