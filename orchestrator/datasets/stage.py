"""`normsweep data stage`: brings checked copies of a set to a folder or prefix, all or nothing."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Container, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.datasets.copies import Copy, file_errors, find_copies
from orchestrator.datasets.fetch import clear_others
from orchestrator.datasets.remote import read_manifest_at, record_of, write_manifest_at
from orchestrator.errors import UserError
from orchestrator.objects import Listed, Prefix, is_s3
from trainers.data.finder import is_reduced
from trainers.data.lookup import open_set
from trainers.data.manifests import DatasetProblem, ImageFile, read_manifest, write_manifest
from trainers.durable import fsync_tree, sha256_of

SHA256 = "sha256"  # the key of an object's metadata that holds its checksum
ELSEWHERE = "Remove it, or stage elsewhere."


def stage_set(
    name: str, source: str, target: str, *, partial: bool = False, reduced: bool = False
) -> int:
    """Check a set and bring it to TARGET/<name>, a folder or an S3 prefix.

    What an earlier attempt has brought is kept. Reduced images, which only runs with
    `lr_mode: given` read, stay behind unless `reduced` asks for them. Raises UserError.
    """
    with file_errors():
        bring = _to_prefix if is_s3(target) else _to_folder
        copies = find_copies(name, source, partial=partial)
        without = [copy.where for copy in copies if reduced and not copy.reduced]
        if without:
            raise UserError(
                f"{', '.join(without)}: no reduced images there (LR_bicubic/X2/). "
                "Leave out --reduced."
            )
        for copy in copies:
            images = copy.all_files if reduced else copy.files
            print(f"{copy.name}: {len(images)} images: {bring(copy, images, target)}")
            if copy.reduced and not reduced:
                stay = ", ".join(copy.reduced_folders)
                print(
                    f"{copy.name}: {stay} stay behind, since only `lr_mode: given` reads them. "
                    "Give --reduced to bring them."
                )
    return 0


def _to_folder(copy: Copy, images: Mapping[str, ImageFile], to: str) -> str:
    """Copy `images`, given by path, to TO/<name>, aside and renamed when the copy is complete.

    If there is a copy already, reduced images are added to it. Returns what was done, in words.
    """
    root = Path(to)
    root.mkdir(parents=True, exist_ok=True)
    target, aside = root / copy.name, root / f".{copy.name}.part"
    with (root / f".{copy.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # waits for another process that stages the same set
        if not target.exists():
            clear_others(aside, images)
            _copy(images, aside)
            write_manifest(
                copy.name,
                aside,
                [replace(file, path=aside / path) for path, file in images.items()],
            )
            fsync_tree(aside)
            aside.rename(target)
            return f"now in {target}"
        reduced = {path: file for path, file in images.items() if path not in copy.files}
        # A set's checksum covers its own images only, so reduced ones are compared one by one.
        same = all(
            sha256_of(target / path) == f.sha256
            for path, f in reduced.items()
            if (target / path).is_file()
        )
        if not same or open_set(copy.name, target).sha256 != copy.found.sha256:
            raise UserError(f"{target}: a different copy is there already. {ELSEWHERE}")
        recorded = (read_manifest(target) or {"images": {}})["images"]
        brought = _copy(reduced, target)
        if not brought and recorded.keys() >= images.keys():
            return f"{target} has them already"
        others = {
            path: record
            for path, record in _others(recorded, images).items()
            if (target / path).is_file()
        }
        kept = {
            path: ImageFile(path, target / path, r["sha256"], tuple(r["px"]) if "px" in r else None)
            for path, r in others.items()
        }
        files = [replace(file, path=target / path) for path, file in {**images, **kept}.items()]
        write_manifest(copy.name, target, files)
        fsync_tree(target)
    return f"now in {target}, {brought} of them copied"


def _to_prefix(copy: Copy, images: Mapping[str, ImageFile], to: str) -> str:
    """Upload those of `images`, given by path, that are not below TO/<name> yet.

    The manifest is written last. Returns what was done, in words.
    """
    prefix = Prefix(to) / copy.name
    listed = prefix.list()
    recorded = read_manifest_at(prefix, listed)
    if recorded is not None and not _same(copy, images, recorded):
        raise UserError(f"{prefix.uri}: a different copy is there already. {ELSEWHERE}")
    missing = {
        path: file
        for path, file in images.items()
        if not _is_at(prefix, path, file, listed.get(path))
    }
    if recorded is not None and recorded.keys() >= images.keys() and not missing:
        return f"{prefix.uri} has them already"
    notes = {path: {SHA256: file.sha256} for path, file in missing.items()}
    # Each step waits for one object, and raises if its upload has failed.
    for _ in prefix.upload({path: file.path for path, file in missing.items()}, notes):
        pass
    listed = prefix.list()
    others = {
        path: record for path, record in _others(recorded or {}, images).items() if path in listed
    }
    write_manifest_at(
        prefix, copy.name, {path: record_of(file) for path, file in images.items()} | others, listed
    )
    return f"now in {prefix.uri}, {len(missing)} of them uploaded"


def _copy(images: Mapping[str, ImageFile], folder: Path) -> int:
    """Copy the images that are not in the folder yet, and return their number."""
    brought = 0
    for path, file in images.items():
        there = folder / path
        if there.is_file() and sha256_of(there) == file.sha256:
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        part = there.with_name(f"{there.name}.part")  # not taken for an image until it is renamed
        shutil.copyfile(file.path, part)
        if sha256_of(part) != file.sha256:
            part.unlink()
            raise DatasetProblem(f"{file.path}: changed while it was being copied")
        part.rename(there)
        brought += 1
    return brought


def _same(
    copy: Copy, images: Mapping[str, ImageFile], recorded: Mapping[str, Mapping[str, Any]]
) -> bool:
    """Return whether a manifest is of this copy.

    Reduced images may be missing on either side, but must not differ.
    """
    then = {path: record["sha256"] for path, record in recorded.items()}
    own = {path: sha256 for path, sha256 in then.items() if not is_reduced(path)}
    return own == {path: file.sha256 for path, file in copy.files.items()} and all(
        then.get(path) in (None, file.sha256) for path, file in images.items()
    )


def _others(
    recorded: Mapping[str, Mapping[str, Any]], images: Container[str]
) -> dict[str, Mapping[str, Any]]:
    """The records of reduced images that are not among `images`; they stay in the copy."""
    return {
        path: record for path, record in recorded.items() if path not in images and is_reduced(path)
    }


def _is_at(prefix: Prefix, path: str, file: ImageFile, listed: Listed | None) -> bool:
    """Return whether an earlier attempt has uploaded this very file."""
    if listed is None or listed.bytes != file.path.stat().st_size:
        return False
    return prefix.head(path).about.get(SHA256) == file.sha256
