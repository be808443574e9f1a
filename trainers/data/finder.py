"""The one finder of images: decides which files in a set's folder are its images, and their roles.

Pure: it sees only paths, whether they come from a folder, a manifest or a listing of S3. Where it
cannot be certain it never guesses, but reports a problem that names what was found:
docs/decisions/0013-one-finder-of-images.md.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath, PurePosixPath

from trainers.data.datasets import Dataset
from trainers.data.pairs import GT_WORDS, LQ_WORDS, SEPARATORS, Pair, Sides, paired, sides_of
from trainers.data.templates import WHOLE, Match, match, matches, normal, shortened

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
JUNK = frozenset({
    "@eadir", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin",
    "system volume information", "lost+found", "thumbs.db", "desktop.ini",
})  # fmt: skip
SERVES_ALL = 12  # GTmod12 is cropped to multiples of 2, 3 and 4 at once
REDUCED = "LR_bicubic"  # the names of folders with reduced images end like this
REDUCED_LAYOUTS = (
    "{prefix}LR_bicubic/x{scale}/{key}",
    "{prefix}LR_bicubic_x{scale}/{key}",
    "LRbicx{scale}/{key}",
    "LRx{scale}/{key}",
    "LR_x{scale}/{key}",
    "LR/x{scale}/{key}",
    "LR/LRBI/x{scale}/{key}",
    "{folders}{key}_SRF_{scale}_LR",
)
LR_LIKE = re.compile(
    r"(?:.*[-_ ])?(?:lq|lr(?:[-_ ]?(?:bi|x?\d|unknown|mild|wild|difficult).*)?)|bicubic.*",
    re.IGNORECASE,
)
ADVICE = (
    f"Put ground truth into HR/ and images reduced from it into {REDUCED}/X<scale>/, "
    "or pairs into target/ and input/ (docs/data.md)"
)


def is_junk(path: PurePath | str) -> bool:
    """Return whether a path in a set's folder is hidden, or left by a file system or a program."""
    parts = path.split("/") if isinstance(path, str) else path.parts
    return any(part.startswith(".") or part.lower() in JUNK for part in parts)


def has_image_suffix(path: PurePath | str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def is_image(path: PurePath | str) -> bool:
    """Return whether a path in a set's folder is an image that somebody meant to be there."""
    return has_image_suffix(path) and not is_junk(path)


def is_reduced(path: PurePath | str) -> bool:
    """Return whether an image is one of the set's own, reduced (LR_bicubic/X2/a.png).

    Reduced images are checked with the set but are not part of its identity.
    """
    below = path if isinstance(path, str) else path.as_posix()
    return f"{REDUCED}/" in below or _reduced(below) is not None


@dataclass(frozen=True)
class Reduced:
    """The images of one folder that were reduced by `scale`, as paths with their keys."""

    folder: str
    scale: int
    images: Mapping[str, str]


@dataclass(frozen=True)
class Arrangement:
    """The arrangement of the images below a set's folder.

    Names identify an image within its set; paths are relative to the folder. `gt` holds paths by
    name for each scale, which is WHOLE if one lot serves every scale. `pairs` has both sides of a
    set of pairs. `others` are images that the layout has no place for: reported, but not read.
    """

    gt: Mapping[int, Mapping[str, str]]
    pairs: tuple[Pair, ...] = ()
    reduced: tuple[Reduced, ...] = ()
    others: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def arrange(known: Dataset, paths: Iterable[str], where: str) -> Arrangement:
    """Arrange the image files in a set's folder `where` by the first of its layouts that fits."""
    images = sorted(path for path in paths if is_image(path))
    reduced = _reduced_folders(images)
    rest = [path for path in images if not is_reduced(path)]
    # Pairs first: as single images, both of their sides would be ground truth.
    if any(layout.lq for layout in known.layouts) and (sides := sides_of(known.layouts, rest)):
        return _double(known, sides, reduced, rest, where)
    for layout in known.layouts:
        found = [] if layout.lq else matches(layout.gt, rest)
        if found and not (layout.alone and len(found) < len(rest)):
            return _single(known, found, reduced, rest, where)
    layouts = "; ".join(dict.fromkeys(map(str, known.layouts)))
    why = f"holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
    if images:
        why = (
            f"holds images ({by_folder(images)}), "
            f"but none where its ground truth should be: {layouts}"
        )
    return Arrangement({}, (), reduced, tuple(rest), (f"{where}: {why}",))


def holds_itself(known: Dataset, paths: Sequence[str]) -> bool:
    """Return whether a set made of others is there as one (in HR/), not as one folder per part."""
    heads = [
        layout.gt.partition("/")[0].replace("{scale}", r"\d+")
        for layout in known.layouts
        if "/" in layout.gt
    ]
    first = {path.partition("/")[0] for path in paths}
    return any(re.fullmatch(head, folder) for head in heads if "{" not in head for folder in first)


def left_out(junk: Sequence[str], where: str) -> list[str]:
    """A note on images that nobody meant to be in a set, if there are any."""
    if not junk:
        return []
    some = ", ".join(junk[:3]) + (" ..." if len(junk) > 3 else "")
    return [f"{where}: hidden or system files left out: {len(junk)} ({some})"]


def by_folder(paths: Sequence[str]) -> str:
    """The number of images in each folder, in words: `HR/ 5, LRbicx2/ 5`."""
    folders = Counter(f"{path.rpartition('/')[0]}/" if "/" in path else "./" for path in paths)
    listed = [f"{folder} {count}" for folder, count in sorted(folders.items())]
    return ", ".join(listed[:8]) + (
        f" and {len(listed) - 8} more folders" if len(listed) > 8 else ""
    )


def too_many(known: Dataset, count: int) -> str | None:
    """The problem with a known set that holds more images than the published one, if it does."""
    if not known.images or count <= max(known.images):
        return None
    return f"holds {count} images, but a complete copy has {' or '.join(map(str, known.images))}"


def of_like_names(names: Sequence[str]) -> list[list[str]]:
    """Groups of names that may be of the same picture.

    They are equal but for their folder, or for a scale at the end (`0001`, `0001x4`).
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[re.sub(r"[-_]?[xX][2-9]$", "", PurePosixPath(name).stem)].append(name)
    return [found for _, found in sorted(alike.items()) if len(found) > 1]


# --- reduced images


def _reduced(path: str) -> Match | None:
    if "LR" not in path:  # as in every layout; saves time in sets of tens of thousands of files
        return None
    return next((found for layout in REDUCED_LAYOUTS if (found := match(layout, path))), None)


def _reduced_folders(images: Sequence[str]) -> tuple[Reduced, ...]:
    """The reduced images, by folder and scale: LR_bicubic/X4, LRbicx4, image_SRF_4 ..."""
    lots: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for path in images:
        if found := _reduced(path):
            folder = (
                path.removesuffix(found.name)
                if path.endswith(found.name)
                else path.rpartition("/")[0]
            )
            lots[folder.rstrip("/"), found.scale][path] = found.key
    return tuple(Reduced(folder, scale, found) for (folder, scale), found in sorted(lots.items()))


# --- sets of single images


def _single(
    known: Dataset,
    found: Sequence[Match],
    reduced: tuple[Reduced, ...],
    rest: Sequence[str],
    where: str,
) -> Arrangement:
    lots: dict[int, list[Match]] = defaultdict(list)
    problems = []
    for one in found:
        lots[WHOLE if one.scale == SERVES_ALL else one.scale].append(one)
    for lot in lots.values():
        problems += _of_one_key(lot, where)
        if problem := too_many(known, len(lot)):
            problems.append(
                f"{where}: {problem} (found: {by_folder([one.path for one in lot])}). {ADVICE}"
            )
    problems += _look_alikes(
        [one for one in found if one.scale in (WHOLE, SERVES_ALL, found[0].scale)], where
    )
    taken = {one.path for one in found}
    others = tuple(path for path in rest if path not in taken)
    gt = {scale: {one.name: one.path for one in lot} for scale, lot in lots.items()}
    return Arrangement(gt, (), reduced, others, tuple(problems))


def _of_one_key(found: Sequence[Match], where: str) -> list[str]:
    """Problems with images that share a name, such as a.png and a.jpg.

    A partner, or a saved result, could belong to either.
    """
    seen: dict[str, str] = {}
    problems = []
    for one in found:
        other = seen.setdefault(normal(one.key), one.path)
        if other != one.path:
            problems.append(
                f"{where}/{one.path}: {PurePosixPath(other).name} ({where}/{other}) has the same "
                "name in the set, so a partner could belong to either: keep one, or rename it"
            )
    return shortened(problems)


def _look_alikes(found: Sequence[Match], where: str) -> list[str]:
    """The problem with reduced or degraded copies among the images that they were made from.

    Their folders or names give them away. A word such as `noisy` may also describe a photograph, so
    it only counts if the same name is there without it. `LR` and `bicubic` always count.
    """
    plain: set[str] = set()
    suspects: list[tuple[Match, str, bool]] = []
    for one in found:
        *folders, stem = one.key.split("/")
        base, says_lq, says_lr = _without_words(stem)
        certain = says_lr or any(LR_LIKE.fullmatch(folder) for folder in folders)
        if certain or says_lq or any(folder.lower() in LQ_WORDS for folder in folders):
            suspects.append((one, base, certain))
        else:
            plain.add(base)
    twins = [one.path for one, base, certain in suspects if certain or base in plain]
    if not twins:
        return []
    others = [one.path for one in found if one.path not in {*twins}]
    return [
        f"{where}: holds {len(twins)} images that look like reduced or degraded copies of others "
        f"({', '.join(twins[:3])}{' ...' if len(twins) > 3 else ''}; found: {by_folder(twins)}), "
        f"beside {len(others)} that do not{f' ({by_folder(others)})' if others else ''}: "
        f"they would be taken for ground truth. {ADVICE}"
    ]


def _without_words(stem: str) -> tuple[str, bool, bool]:
    """Return a file's stem without the words for its side or scale, and what these words said.

    The two booleans are whether it says LQ, and whether it says that the image was reduced.
    """
    words = SEPARATORS.split(stem)
    lower = [word.lower() for word in words]
    reduced = [bool(re.fullmatch(r"lr(bi|bic)?(x?\d)?|lq|bicubic", word)) for word in lower]
    sides = [
        word in (*LQ_WORDS, *GT_WORDS, "hr") or bool(re.fullmatch(r"x\d", word)) for word in lower
    ]
    kept = [word for word, *said in zip(words, reduced, sides, strict=True) if not any(said)]
    alone = len(kept) == 0  # `rain.png` is a picture of rain
    return (
        "_".join(kept) or stem,
        not alone and any(word in LQ_WORDS for word in lower),
        not alone and any(reduced),
    )


# --- sets of pairs


def _double(
    known: Dataset, sides: Sides, reduced: tuple[Reduced, ...], rest: Sequence[str], where: str
) -> Arrangement:
    pairs, problems = paired(sides, where)
    if excess := too_many(known, len(pairs)):
        problems.append(f"{where}: {excess} (found: {by_folder(rest)}). {ADVICE}")
    taken = {one.path for found in (sides.gt, sides.lq) for one in found}
    others = tuple(path for path in rest if path not in taken)
    gt = {WHOLE: {pair.names[0]: pair.gt for pair in pairs}}
    return Arrangement(gt, tuple(pairs), reduced, others, tuple(problems))
