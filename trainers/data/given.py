"""The LR images beside a set's own, for `lr_mode: given`: finds them and checks that they fit.

No image is decoded. trainers.data.finder.REDUCED_LAYOUTS says where LR images may be:
LR_bicubic/X<scale>, a folder whose name ends like this (DIV2K_train_LR_bicubic/X4), LRbicx4 ...
Each has the name of its HR image, with or without x<scale> at the end. Published sets drop the last
rows and columns of an HR image whose sides are not multiples of the scale, so the sides of an LR
image are those of the HR image over the scale, rounded down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from trainers.choice import Choice
from trainers.data.finder import REDUCED, Reduced
from trainers.data.lookup import find_set
from trainers.data.manifests import MANIFEST, DatasetProblem, ImageFile, ImageSet, Px
from trainers.data.set_folder import READERS, SetFolder


def scale_of(task: Choice) -> int:
    """How many times larger the task's output is than its input."""
    scale = task.knobs.get("scale", 1)
    assert isinstance(scale, int)
    return scale


def given_scale(task: Choice) -> int | None:
    """The scale of the LR images that must be beside a set's own; None if the task reads none."""
    return int(task["scale"]) if task.knobs.get("lr_mode") == "given" else None


def find_for(
    name: str, scale: int | None, roots: Sequence[Path] = (), *, task_scale: int | None = None
) -> ImageSet:
    """The set of this name, with its LR images if `scale` (a task's `given_scale`) is not None.

    Otherwise, a set that holds its images once for each scale provides those of `task_scale`.
    Raises DatasetProblem.
    """
    found = find_set(name, roots)
    if scale is not None:
        return with_given(found, scale)
    return found if task_scale is None else found.at_scale(task_scale)


def with_given(found: ImageSet, scale: int) -> ImageSet:
    """The set with its LR images of `scale` as the LQ side.

    Each side of an LR image is half as long (or a third, ...) as its partner's. Raises
    DatasetProblem that names every image with no partner, a wrong size or an unreadable header.
    """
    if found.parts:
        return replace(_joined(found, scale), parts=found.parts)
    found = found.at_scale(scale)
    content = SetFolder(found.folder)
    reduced = _reduced(found, content, scale)
    problems: list[str] = []
    lr_files = {
        file.path: file
        for file in content.files([(path, path) for path in sorted(reduced.images)], problems)
    }
    keys = {path: reduced.images[file.name] for path, file in lr_files.items()}
    partners, unpaired = pair(found.files, keys, scale, found.folder / reduced.folder)
    problems += unpaired
    pairs = [(file, lr_files[partners[file.path]]) for file in found.files if file.path in partners]
    problems += _size_problems(found.name, pairs, scale, content)
    if problems:
        listed = "\n  ".join(
            problem.replace(str(found.folder), content.address) for problem in problems
        )
        raise DatasetProblem(
            f"data set {found.name!r}, its given LR images of scale {scale}:\n  {listed}"
        )
    # Named after their partners: the names that a copy gives them are not part of its identity.
    lq_files = tuple(
        ImageFile(f"{REDUCED}/X{scale}/{hr.name}", lr.path, lr.sha256, lr.px) for hr, lr in pairs
    )
    return replace(found, lq_files=lq_files, lq_scale=scale)


def pair(
    files: Sequence[ImageFile], reduced: Mapping[Path, str], scale: int, below: Path
) -> tuple[dict[Path, Path], list[str]]:
    """Match HR images (`files`) with LR images (`reduced`: paths with their keys, in `below`).

    Returns the LR path for each HR path that has one, and the problems: images without a partner.
    """
    left = {key: path for path, key in reduced.items()}
    problems = [
        f"{path}: {left[key].name} has the same name"
        for path, key in reduced.items()
        if left[key] != path
    ]
    found: dict[Path, Path] = {}
    # Names with x<scale> first: given HR images `a` and `ax2`, LR `ax2` could be the partner of
    # either.
    for ending in (f"x{scale}", f"_x{scale}", f"_LRBI_x{scale}", ""):
        for file in files:
            key = file.name.rpartition(".")[0] + ending
            if file.path not in found and (path := left.pop(key, None)) is not None:
                found[file.path] = path
    problems += [
        f"{file.path}: has no partner in {below}/" for file in files if file.path not in found
    ]
    problems += [f"{path}: belongs to no image of the set" for path in left.values()]
    return found, problems


def size_problem(hr: ImageFile, hr_px: Px, lr: Path, lr_px: Px, scale: int) -> str | None:
    """The problem with the size of an LR image, if there is one."""
    wanted = hr_px[0] // scale, hr_px[1] // scale
    if lr_px == wanted:
        return None
    return (
        f"{lr}: is {lr_px[0]} x {lr_px[1]} pixels, "
        f"but {hr.name} reduced by {scale} is {wanted[0]} x {wanted[1]}"
    )


def _joined(found: ImageSet, scale: int) -> ImageSet:
    """A set made of others, each with its own LR images; all problems are reported at once."""
    parts, problems = [], []
    for part in found.parts:
        try:
            parts.append(with_given(part, scale))
        except DatasetProblem as problem:
            problems.append(str(problem))
    if problems:
        raise DatasetProblem("\n".join(problems))
    both = [sides for part in parts for sides in zip(part.files, part.lq_files, strict=True)]
    both.sort(key=lambda sides: sides[0].name)  # the order of `found.files`
    return replace(found, lq_files=tuple(lr for _, lr in both), lq_scale=scale)


def _reduced(found: ImageSet, content: SetFolder, scale: int) -> Reduced:
    """The set's LR images of this scale. Raises DatasetProblem for none, or for several folders."""
    there = {reduced.folder: reduced for reduced in content.reduced() if reduced.scale == scale}
    # DIV2K_train_HR and DIV2K_valid_HR may be side by side, each with an LR folder.
    hr_folder = found.files[0].path.relative_to(found.folder).parts[0]
    own = f"{hr_folder.removesuffix('HR')}{REDUCED}/X{scale}"
    if len(there) == 1 or own in there:
        return there[own] if own in there else next(iter(there.values()))
    if there:
        raise DatasetProblem(
            f"data set {found.name!r}: {content.address} has LR images of scale {scale} in "
            f"{' and '.join(there)}. Keep only those of the set's images, "
            f"or name their folder {own}."
        )
    again = (
        f" If they are there, run `normsweep data check {found.name} {content.address}`."
        if content.elsewhere
        else ""
    )
    raise DatasetProblem(
        f"data set {found.name!r}: {content.address} has no LR images of scale {scale}, which "
        f"`lr_mode: given` reads: looked for {REDUCED}/X{scale}/ and *_{REDUCED}/X{scale}/, "
        f"LRbicx{scale}/, LRx{scale}/.{again}"
    )


def _size_problems(
    name: str, pairs: Sequence[tuple[ImageFile, ImageFile]], scale: int, content: SetFolder
) -> list[str]:
    with ThreadPoolExecutor(READERS) as readers:
        sizes = list(
            readers.map(
                lambda file: _size(name, file, content), [file for both in pairs for file in both]
            )
        )
    problems = []
    for (hr, lr), hr_px, lr_px in zip(pairs, sizes[::2], sizes[1::2], strict=True):
        unread = [size for size in (hr_px, lr_px) if isinstance(size, str)]
        if isinstance(hr_px, tuple) and isinstance(lr_px, tuple):
            wrong = size_problem(hr, hr_px, lr.path, lr_px, scale)
            problems += [wrong] if wrong else []
        problems += unread
    return problems


def _size(name: str, file: ImageFile, content: SetFolder) -> Px | str:
    """Width and height, or the reason why they are unknown."""
    if file.px is not None:
        return file.px
    if content.elsewhere:
        return (
            f"{file.path}: its size is not in {MANIFEST}: "
            f"run `normsweep data check {name} {content.address}` again"
        )
    from trainers.data.headers import image_size  # Pillow, which planning needs for nothing else

    try:
        return image_size(file.path)
    except (OSError, ValueError) as error:
        return f"{file.path}: its size cannot be read: {getattr(error, 'strerror', None) or error}"
