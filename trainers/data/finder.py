"""The one finder of images: which files below a data set's folder are its images, and what each is to the others.

Pure, and blind to where the files lie: it looks at their paths alone, from a folder, a manifest or a listing of S3. What it
cannot tell for certain is a problem that names what was found, never a guess: docs/decisions/0013-one-finder-of-images.md.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath, PurePosixPath

from trainers.data.datasets import Dataset, Layout

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"})
JUNK = frozenset({
    "@eadir", "@tmp", "#recycle", "#snapshot", "__macosx", "$recycle.bin", "system volume information", "lost+found",
    "thumbs.db", "desktop.ini",
})  # fmt: skip
WHOLE = 0  # in place of a scale: images that serve every scale
SERVES_ALL = 12  # GTmod12 is cropped to multiples of 2, 3 and 4 at once
GT_WORDS = (
    *("target", "targets", "gt", "hq", "sharp", "clean", "norain", "clear", "high"),
    *("groundtruth", "ground_truth", "reference"),
)
LQ_WORDS = (
    *("input", "inputs", "lq", "blur", "blur_gamma", "blurry", "noisy", "rain", "rainy", "hazy", "haze", "low"),
    "degraded",
)
REDUCED = "LR_bicubic"  # how the names of folders with reduced images end
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
    r"(?:.*[-_ ])?(?:lr|lq)|lr[-_ ]?(?:bi|x?\d|unknown|mild|wild|difficult).*|bicubic.*", re.IGNORECASE
)
SEPARATORS = re.compile(r"[-_. ]+")
LISTED = 20  # problems of one kind; a set of thousands has them by the thousand
ADVICE = (
    f"Put ground truth into HR/ and images reduced from it into {REDUCED}/X<scale>/, or pairs into target/ and input/ "
    "(docs/data.md)"
)


def is_junk(path: PurePath | str) -> bool:
    """Whether a path below a set's folder is hidden or was left there by a file system, a viewer or an editor."""
    parts = path.split("/") if isinstance(path, str) else path.parts
    return any(part.startswith(".") or part.lower() in JUNK for part in parts)


def has_image_suffix(path: PurePath | str) -> bool:
    return os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES


def is_image(path: PurePath | str) -> bool:
    """Whether a path below a set's folder is that of an image which somebody meant to lie there."""
    return has_image_suffix(path) and not is_junk(path)


def is_reduced(path: PurePath | str) -> bool:
    """Whether an image is one reduced from a set's own (LR_bicubic/X2/a.png): checked with them, but not of its identity."""
    below = path if isinstance(path, str) else path.as_posix()
    return f"{REDUCED}/" in below or _reduced(below) is not None


@dataclass(frozen=True)
class Pair:
    """Two images of one key, by path."""

    key: str
    gt: str
    lq: str


@dataclass(frozen=True)
class Reduced:
    """The images of one folder that were reduced by `scale`: path to key."""

    folder: str
    scale: int
    images: Mapping[str, str]


@dataclass(frozen=True)
class Arrangement:
    """What lies below a set's folder. Names are what identifies an image in its set, paths are below the folder.

    `gt` holds the images by scale, WHOLE where one lot serves every scale; of `pairs`, both sides. `others` are images that
    the layout has no place for: not read, but said.
    """

    gt: Mapping[int, Mapping[str, str]]
    pairs: tuple[Pair, ...] = ()
    reduced: tuple[Reduced, ...] = ()
    others: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def arrange(known: Dataset, paths: Iterable[str], where: str) -> Arrangement:
    """Sort the image files below the folder `where` of a set by its layouts, the first that fits."""
    images = sorted(path for path in paths if is_image(path))
    reduced = _reduced_folders(images)
    rest = [path for path in images if not is_reduced(path)]
    if any(layout.lq for layout in known.layouts) and (sides := _sides(known.layouts, rest)):
        return _paired(known, sides, reduced, rest, where)
    for layout in known.layouts:
        found = [] if layout.lq else _matches(layout.gt, rest)
        if found and not (layout.alone and len(found) < len(rest)):
            return _single(known, found, reduced, rest, where)
    layouts = "; ".join(dict.fromkeys(map(str, known.layouts)))
    why = f"holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
    if images:
        why = f"holds images ({told(images)}), but none where its ground truth should lie: {layouts}"
    return Arrangement({}, (), reduced, tuple(rest), (f"{where}: {why}",))


def told(paths: Sequence[str]) -> str:
    """How many images lie in which folder, in words: `HR/ 5, LRbicx2/ 5`."""
    folders = Counter(f"{path.rpartition('/')[0]}/" if "/" in path else "./" for path in paths)
    listed = [f"{folder} {count}" for folder, count in sorted(folders.items())]
    return ", ".join(listed[:8]) + (f" and {len(listed) - 8} more folders" if len(listed) > 8 else "")


def too_many(known: Dataset, count: int) -> str | None:
    """What is wrong with a known set that holds more than the published one."""
    if not known.images or count <= max(known.images):
        return None
    return f"holds {count} images, a whole copy has {' or '.join(map(str, known.images))}"


def shortened(problems: Sequence[str]) -> list[str]:
    """The problems, the first of them where there are very many."""
    more = len(problems) - LISTED
    return [*problems[:LISTED], *([f"and {more} more of this kind"] if more > 0 else [])]


def order_of(path: str) -> list[str]:
    """The key by which images are sorted, folder by folder: their order is of a set's identity."""
    return path.split("/")


def of_like_names(names: Sequence[str]) -> list[list[str]]:
    """Names that may be of the same picture: equal but for their folder, or for a scale behind them (`0001`, `0001x4`)."""
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names:
        alike[re.sub(r"[-_]?[xX][2-9]$", "", PurePosixPath(name).stem)].append(name)
    return [found for _, found in sorted(alike.items()) if len(found) > 1]


# --- paths and templates


@dataclass(frozen=True)
class _Match:
    path: str
    key: str
    scale: int = WHOLE

    @property
    def name(self) -> str:
        return self.key + PurePosixPath(self.path).suffix


@cache
def _compiled(template: str) -> re.Pattern[str]:
    """A layout's template as a pattern of paths without their suffix. `[...]` may be missing; `x` is also written `X`."""
    pattern = re.sub(r"x(?=\{scale\})", "[xX]", template.replace("[", "(?:").replace("]", ")?"))
    pattern = pattern.replace("{prefix}", "[^/]*").replace("{folders}", "(?:.*/)?").replace("{key}", "(?P<key>.+?)")
    return re.compile(pattern.replace("{scale}", r"(?P<scale>\d+)", 1).replace("{scale}", "(?P=scale)"))


def _match(template: str, path: str) -> _Match | None:
    found = _compiled(template).fullmatch(path[: path.rindex(".")])
    return _Match(path, found["key"], int(found.groupdict().get("scale") or WHOLE)) if found else None


def _matches(template: str, paths: Sequence[str]) -> list[_Match]:
    return [found for path in paths if (found := _match(template, path))]


def _reduced(path: str) -> _Match | None:
    if "LR" not in path:  # as all of the layouts have it: sets have tens of thousands of files
        return None
    return next((found for layout in REDUCED_LAYOUTS if (found := _match(layout, path))), None)


def _reduced_folders(images: Sequence[str]) -> tuple[Reduced, ...]:
    """The images reduced from others, by folder and scale: LR_bicubic/X4, LRbicx4, image_SRF_4 ..."""
    lots: dict[tuple[str, int], dict[str, str]] = defaultdict(dict)
    for path in images:
        if found := _reduced(path):
            folder = path.removesuffix(found.name) if path.endswith(found.name) else path.rpartition("/")[0]
            lots[folder.rstrip("/"), found.scale][path] = found.key
    return tuple(Reduced(folder, scale, found) for (folder, scale), found in sorted(lots.items()))


# --- sets of single images


def _single(
    known: Dataset, found: Sequence[_Match], reduced: tuple[Reduced, ...], rest: Sequence[str], where: str
) -> Arrangement:
    lots: dict[int, list[_Match]] = defaultdict(list)
    problems = []
    for one in found:
        lots[WHOLE if one.scale == SERVES_ALL else one.scale].append(one)
    for lot in lots.values():
        problems += _of_one_key(lot, where)
        if problem := too_many(known, len(lot)):
            problems.append(f"{where}: {problem} (found: {told([one.path for one in lot])}). {ADVICE}")
    problems += _look_alikes([one for one in found if one.scale in (WHOLE, SERVES_ALL, found[0].scale)], where)
    taken = {one.path for one in found}
    others = tuple(path for path in rest if path not in taken)
    gt = {scale: {one.name: one.path for one in lot} for scale, lot in lots.items()}
    return Arrangement(gt, (), reduced, others, tuple(problems))


def _of_one_key(found: Sequence[_Match], where: str) -> list[str]:
    """Images of one name, such as a.png and a.jpg: nobody knows which of them a partner, or a saved result, belongs to."""
    seen: dict[str, str] = {}
    problems = []
    for one in found:
        other = seen.setdefault(_normal(one.key), one.path)
        if other != one.path:
            problems.append(
                f"{where}/{one.path}: {PurePosixPath(other).name} ({where}/{other}) has the same name in the set, so that "
                "either has no partner of its own: keep one, or rename it"
            )
    return shortened(problems)


def _look_alikes(found: Sequence[_Match], where: str) -> list[str]:
    """Whether images whose folder or name says that they are reduced or degraded lie among those they were made of."""
    plain: set[str] = set()
    suspects: list[tuple[_Match, str, bool]] = []
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
        f"({', '.join(twins[:3])}{' ...' if len(twins) > 3 else ''}; found: {told(twins)}), beside {len(others)} that do not"
        f"{f' ({told(others)})' if others else ''}: they would be taken for ground truth. {ADVICE}"
    ]


def _without_words(stem: str) -> tuple[str, bool, bool]:
    """A file's name without what tells its side or scale; whether it says LQ, and whether it says that it was reduced."""
    words = SEPARATORS.split(stem)
    lower = [word.lower() for word in words]
    reduced = [bool(re.fullmatch(r"lr(bi|bic)?(x?\d)?|lq|bicubic", word)) for word in lower]
    sides = [word in (*LQ_WORDS, *GT_WORDS, "hr") or bool(re.fullmatch(r"x\d", word)) for word in lower]
    kept = [word for word, *said in zip(words, reduced, sides, strict=True) if not any(said)]
    alone = len(kept) == 0  # `rain.png` is a picture of rain
    return "_".join(kept) or stem, not alone and any(word in LQ_WORDS for word in lower), not alone and any(reduced)


# --- pairs


@dataclass(frozen=True)
class _Sides:
    gt: list[_Match]
    lq: list[_Match]
    gt_folder: str
    lq_folder: str


def _sides(layouts: Sequence[Layout], rest: Sequence[str]) -> _Sides | None:
    """Both sides of a set of pairs: by a layout, by words in the names of folders at any depth, or by words in those of files."""
    for layout in layouts:
        gt, lq = (_matches(layout.gt, rest), _matches(layout.lq, rest)) if layout.lq else ([], [])
        if gt and lq and layout.lq:
            return _Sides(gt, lq, layout.gt.partition("/{")[0], layout.lq.partition("/{")[0])
    for split in (_by_folder, _by_file):
        sides: dict[str, list[_Match]] = {"gt": [], "lq": []}
        words: dict[str, set[str]] = {"gt": set(), "lq": set()}
        for path in rest:
            if said := split(path):
                side, word, key = said
                sides[side].append(_Match(path, key))
                words[side].add(word)
        shared = {one.key for one in sides["gt"]} & {one.key for one in sides["lq"]}
        of_all = len(sides["gt"]) + len(sides["lq"]) == len(rest)
        if all(sides.values()) and (split is _by_folder or (shared and of_all)):
            return _Sides(sides["gt"], sides["lq"], " or ".join(sorted(words["gt"])), " or ".join(sorted(words["lq"])))
    return None


def _by_folder(path: str) -> tuple[str, str, str] | None:
    """Side, word and key of `scene/sharp/0.png`: the key is the path without the outermost folder that names a side."""
    *folders, file = path.split("/")
    for i, folder in enumerate(folders):
        for side, words in (("gt", GT_WORDS), ("lq", LQ_WORDS)):
            if folder.lower() in words:
                return side, folder, "/".join([*folders[:i], *folders[i + 1 :], PurePosixPath(file).stem])
    return None


def _by_file(path: str) -> tuple[str, str, str] | None:
    """Side, word and key of `7_clean.png`, `rain-7.png` or `7_GT_SRGB.png`: one word of the name, and not all of it."""
    folder, _, file = path.rpartition("/")
    words = SEPARATORS.split(PurePosixPath(file).stem)
    for side, named in (("gt", GT_WORDS), ("lq", LQ_WORDS)):
        said = [word for word in words if word.lower() in named]
        if len(said) == 1 and len(words) > 1:
            key = "_".join(word for word in words if word not in said)
            return side, said[0], f"{folder}/{key}" if folder else key
    return None


def _paired(
    known: Dataset, sides: _Sides, reduced: tuple[Reduced, ...], rest: Sequence[str], where: str
) -> Arrangement:
    """Pairs of equal keys. Whatever has no partner, or could have two, is a problem; so are two of one key."""
    by_key: list[dict[str, list[_Match]]] = [defaultdict(list), defaultdict(list)]
    for side, found in zip(by_key, (sides.gt, sides.lq), strict=True):
        for one in found:
            side[_normal(one.key)].append(one)
    gt, lq = by_key
    pairs, doubled, unpaired = [], [], []
    for key in sorted(gt.keys() | lq.keys()):
        for side in (gt, lq):
            if len(several := side.get(key, [])) > 1:
                first, *more = (f"{where}/{one.path}" for one in several)
                doubled.append(
                    f"{' and '.join(more)}: {first} is the same image of the set by its name: keep one of them"
                )
        if key in gt and key in lq:
            pairs.append(Pair(gt[key][0].key, gt[key][0].path, lq[key][0].path))
        else:
            one, folder = (gt[key][0], sides.lq_folder) if key in gt else (lq[key][0], sides.gt_folder)
            unpaired.append(f"{where}/{one.path}: has no partner in {folder}/")
    pairs.sort(key=lambda pair: order_of(pair.gt))
    excess = too_many(known, len(pairs))
    wrong = [f"{where}: {excess} (found: {told(rest)}). {ADVICE}"] if excess else []
    taken = {one.path for found in (sides.gt, sides.lq) for one in found}
    others = tuple(path for path in rest if path not in taken)
    names = {WHOLE: {f"target/{pair.key}{PurePosixPath(pair.gt).suffix}": pair.gt for pair in pairs}}
    return Arrangement(names, tuple(pairs), reduced, others, (*wrong, *shortened(doubled), *shortened(unpaired)))


def _normal(key: str) -> str:
    """A key as it is compared: macOS decomposes accents where others do not."""
    return unicodedata.normalize("NFC", key)
