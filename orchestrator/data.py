"""`normsweep data`: which sets there are, whether a copy is whole, and how to bring one to a folder or an S3 prefix."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from orchestrator.copies import Copy, keep_checksums, to_folder, to_prefix
from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.objects import Listed, Prefix, is_s3
from orchestrator.staging import fetch_listed, images_at, read_manifest_at
from trainers.data.cache import Cache, CacheProblem, cache_root
from trainers.data.check import check
from trainers.data.datasets import DATASETS, Dataset, dataset, meant
from trainers.data.embedded import embedded_names
from trainers.data.finder import has_image_suffix, is_image, left_out
from trainers.data.manifests import (
    MANIFEST,
    DatasetProblem,
    check_name,
    is_group,
    read_manifest,
)


def list_sets(roots: Sequence[str], *, as_json: bool = False) -> int:
    """Print what is known of each set, and where it lies below `roots`, folders and S3 prefixes."""
    rows: list[dict[str, Any]] = []
    for known in DATASETS.values():
        row = vars(known) | {"found": _first_found(known, roots), "layouts": list(map(str, known.layouts))}
        rows.append(row | {"crops_px": dict(known.crops_px)})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    console = Console(file=sys.stdout, soft_wrap=True, highlight=False)
    for row in rows:
        layouts = ", ".join(dict.fromkeys(row["layouts"]))
        names = f" (also {', '.join(row['also_named'])})" if row["also_named"] else ""
        parts = f" {' and '.join(row['parts'])}, or" if row["parts"] else ""
        console.print(
            f"[bold]{row['name']}[/bold]{names}: {' or '.join(map(str, row['images']))} images. {row['about']}"
        )
        for key in ("note", "terms", "page"):
            if row[key]:
                console.print(f"  {key:7}{row[key]}", markup=False)
        if row["name"] in embedded_names():
            console.print("  here   in the installed wheel")
            continue
        console.print(f"  layout{parts} {layouts}", markup=False)
        console.print(f"  here   {row['found'] or 'no'}", markup=False)
    return 0


def _first_found(known: Dataset, roots: Sequence[str]) -> str | None:
    """Where the set lies, or all of those of which it is made."""
    here = next(filter(None, (_found(known.name, root) for root in roots)), None)
    if here is not None or not known.parts:
        return here
    parts = [_first_found(dataset(part), roots) for part in known.parts]
    return None if None in parts else " and ".join(filter(None, parts))


def check_set(name: str, place: str, *, partial: bool = False) -> int:
    """Check every image of a set in a folder or below an S3 prefix; keep its checksums there. Raises UserError."""
    with _told():
        copies = _copies(name, place, partial=partial)
        for copy in copies:
            what = "pairs" if copy.found.lq_files else "images"
            also = f", and so are {', '.join(copy.reduced_folders)}" if copy.reduced else ""
            print(f"{copy.name}: {copy.where}: {len(copy.found.files)} {what}, all in order{also}; {_keep(copy)}")
    return 0


def stage_set(name: str, source: str, target: str, *, partial: bool = False, reduced: bool = False) -> int:
    """Bring a set that is in order to TARGET/<name>: a folder or an S3 prefix. What an earlier try has brought stays.

    Reduced images, which only runs with `lr_mode: given` read, stay behind unless `reduced` asks for them.
    """
    with _told():
        bring = to_prefix if is_s3(target) else to_folder
        copies = _copies(name, source, partial=partial)
        without = [copy.where for copy in copies if reduced and not copy.reduced]
        if without:
            raise UserError(f"{', '.join(without)}: no reduced images there (LR_bicubic/X2/): leave --reduced out.")
        for copy in copies:
            images = copy.all_files if reduced else copy.files
            print(f"{copy.name}: {len(images)} images: {bring(copy, images, target)}")
            if copy.reduced and not reduced:
                stay = ", ".join(copy.reduced_folders)
                print(f"{copy.name}: {stay} stay behind: only `lr_mode: given` reads them; --reduced brings them")
    return 0


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except DatasetProblem as problem:
        raise UserError(str(problem)) from problem
    except CacheProblem as problem:
        raise EnvironmentProblem(str(problem)) from problem
    except OSError as error:
        raise EnvironmentProblem(f"{error.filename}: {error.strerror}") from error


def _copies(name: str, place: str, *, partial: bool) -> list[Copy]:
    """The set, or each of those of which it is made, once it is checked. Raises UserError with all problems."""
    check_name(name)
    if name in embedded_names():
        raise UserError(f"{name} lies inside the installed scikit-image: it needs neither check nor staging.")
    copies, problems = [], []
    for part, where in _parts(name, place):
        copy, wrong = _checked(part, where, partial=partial)
        copies.append(copy)
        problems += [problem.replace(str(copy.found.folder), where) for problem in wrong]
    for note in (note for copy in copies for note in copy.found.notes):
        print(note)
    if problems:
        raise UserError("\n".join([*problems, f"{name}: {len(problems)} problems; nothing was written."]))
    return copies


def _parts(name: str, place: str) -> list[tuple[str, str]]:
    """The sets of which this one is made, or itself, and the folder or prefix of each: `place`, or what lies below it."""
    place = place.rstrip("/") or "/"
    if not is_s3(place) and not Path(place).is_dir():
        raise UserError(f"{place}: is no folder; a folder or s3://BUCKET/PREFIX is wanted")
    known = dataset(name)
    named = _named(name, place)
    home = named or place
    if known.parts and not _has_layout(known, home):
        parts = {part: _named(part, home) for part in known.parts}
        if None in parts.values():
            raise UserError("\n".join(_not_there(part, home) for part, where in parts.items() if where is None))
        return [(part, where) for part, where in parts.items() if where is not None]
    if named is None and (name not in DATASETS or not _has_layout(known, place)):
        raise UserError(_not_there(name, place))
    return [(name, home)]


def _not_there(name: str, place: str) -> str:
    looked = ", ".join(f"{place}/{alias}, {place}/*/{alias}" for alias in (name, *dataset(name).also_named))
    return f"no data set {name!r} in {place}: looked for {looked}.{meant(name)}"


def _named(name: str, place: str) -> str | None:
    """The place itself, or what lies below it, by any of the set's names."""
    itself = place if is_s3(place) else str(Path(place).resolve())  # `.` has a name, too
    names = (name, *dataset(name).also_named)
    return place if {place.rpartition("/")[2], itself.rpartition("/")[2]} & {*names} else _found(name, place)


def _has_layout(known: Dataset, place: str) -> bool:
    """Whether a place, whatever its name, holds images as copies of the set do, not only folders of other sets."""
    for layout in known.layouts:
        folder = layout.gt.rpartition("/{key}")[0]
        if layout.gt == "{key}" and not known.parts and _holds_images(place):
            return True
        if folder and _has_folder(place, folder):
            return True
    return _has_folder(place, "image_SRF_{scale}")


def _has_folder(place: str, template: str) -> bool:
    above, _, folder = f"{place}/{template}".rpartition("/")
    pattern = re.sub(r"^x(?=\{)", "[xX]", folder).replace("{scale}", r"\d+")
    return "{" not in above and any(re.fullmatch(pattern, name) for name in _below(above))


def _holds_images(place: str) -> bool:
    """Whether images lie in a folder, or right below a prefix."""
    names = Prefix(place).list() if is_s3(place) else [path.name for path in Path(place).iterdir() if path.is_file()]
    return any("/" not in name and is_image(name) for name in names)


def _found(name: str, root: str) -> str | None:
    """ROOT/<name> or ROOT/*/<name>, by any of its names."""
    top = _below(root)
    for alias in (name, *dataset(name).also_named):
        for group in ("", *top):
            if (not group or is_group(group)) and alias in (_below(f"{root}/{group}") if group else top):
                return f"{root}/{group}/{alias}" if group else f"{root}/{alias}"
    return None


@functools.cache
def _below(place: str) -> list[str]:
    if is_s3(place):
        return Prefix(place).folders()
    return sorted(path.name for path in Path(place).iterdir() if path.is_dir()) if Path(place).is_dir() else []


def _checked(name: str, where: str, *, partial: bool) -> tuple[Copy, tuple[str, ...]]:
    """The copy at `where`, and what is wrong with it."""
    listed: Mapping[str, Listed] = {}
    notes: list[str] = []
    if is_s3(where):
        prefix = Prefix(where)
        listed = prefix.list()
        images = images_at(listed)
        notes = left_out([key for key in listed if has_image_suffix(key) and key not in images], where)
        if not images:
            raise UserError(f"{where}: holds no images")
        folder, recorded = fetch_listed(prefix, name, images, Cache(cache_root())), read_manifest_at(prefix, listed)
    else:
        folder = Path(where)
        recorded = (read_manifest(folder) or {}).get("images")
    checked = check(name, folder, recorded, partial=partial)
    found = checked.source
    notes += [note.replace(str(found.folder), where) for note in found.notes]
    return Copy(name, where, replace(found, notes=tuple(notes)), checked.reduced, listed), checked.problems


def _keep(copy: Copy) -> str:
    """Keep the checksums in the manifest; says what was done."""
    had = MANIFEST in copy.listed if is_s3(copy.where) else read_manifest(copy.found.folder) is not None
    try:
        keep_checksums(copy)
    except OSError as error:
        return f"checksums could not be kept ({error.strerror})"
    return f"checksums are those of {MANIFEST}" if had else f"checksums kept in {MANIFEST}"
