"""The manifest of a set below an S3 prefix: read, compared with what is there now, and written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from orchestrator.objects import Listed, Prefix
from trainers.data.datasets import dataset
from trainers.data.finder import is_image, is_junk, is_reduced
from trainers.data.manifests import (
    MANIFEST,
    DatasetProblem,
    ImageFile,
    checked_manifest,
    manifest_text,
)


def read_manifest_at(
    prefix: Prefix, listed: Mapping[str, Listed]
) -> Mapping[str, Mapping[str, Any]] | None:
    """The records of the manifest on S3, by path; None if there is no manifest.

    Raises DatasetProblem for a manifest that is damaged.
    """
    if MANIFEST not in listed:
        return None
    where = f"{prefix.uri}/{MANIFEST}"
    try:
        images: Mapping[str, Mapping[str, Any]] = checked_manifest(
            json.loads(prefix.get(MANIFEST)), where
        )["images"]
    except ValueError as error:
        problem = (
            error if isinstance(error, DatasetProblem) else f"{where}: not valid JSON ({error})"
        )
        raise DatasetProblem(
            f"{problem}. Remove it and run `normsweep data check` again."
        ) from None
    return images


def valid_manifest_at(prefix: Prefix, name: str) -> Mapping[str, Mapping[str, Any]] | None:
    """The records of the manifest, by path, checked against a listing.

    Few runs read reduced images, so those that do not agree only get a `problem` in their record.
    None if there is nothing below the prefix, or only other sets. Raises DatasetProblem for images
    that do not agree, and for images without a manifest.
    """
    listed = prefix.list()
    recorded, there = read_manifest_at(prefix, listed), images_at(listed)
    again = f"run `normsweep data check {name} {prefix.uri}`"
    if recorded is None:
        if there and not dataset(name).parts:
            raise DatasetProblem(
                f"data set {name!r}: {prefix.uri} holds {len(there)} images, "
                f"but no {MANIFEST}: {again}"
            )
        return None
    records: dict[str, Mapping[str, Any]] = {}
    problems = []
    for path, record in recorded.items():
        if is_junk(path):  # in a manifest that an earlier version wrote
            continue
        now, problem = listed.get(path), None
        if now is None:
            problem = f"{prefix.uri}/{path}: is missing, but its {MANIFEST} names it"
        elif now.bytes != record["bytes"] or record.get("etag") not in (None, now.etag):
            problem = f"{prefix.uri}/{path}: is not the object that its {MANIFEST} names: {again}"
        if problem is not None and not is_reduced(path):
            problems.append(problem)
        records[path] = record if problem is None else {**record, "problem": problem}
    if problems:
        raise DatasetProblem(f"data set {name!r}:\n  " + "\n  ".join(problems))
    return records


def write_manifest_at(
    prefix: Prefix,
    name: str,
    records: Mapping[str, Mapping[str, Any]],
    listed: Mapping[str, Listed],
) -> None:
    """Write the manifest of what was listed below the prefix."""
    images = {
        path: {**record, "bytes": listed[path].bytes, "etag": listed[path].etag}
        for path, record in records.items()
    }
    prefix.put(MANIFEST, manifest_text(name, images).encode())


def record_of(file: ImageFile) -> dict[str, Any]:
    """The part of an image's record on S3 that a listing does not provide."""
    return {"sha256": file.sha256, **({"px": file.px} if file.px else {})}


def images_at(listed: Mapping[str, Listed]) -> dict[str, Listed]:
    """The images in a listing. Raises DatasetProblem for a key that leads out of the folder."""
    images = {key: item for key, item in listed.items() if is_image(key)}
    for key in images:
        if PurePosixPath(key).is_absolute() or ".." in PurePosixPath(key).parts:
            raise DatasetProblem(f"{key!r}: not the name of a file below a folder")
    return images
