"""`normsweep data check`: checks copies of a set, and keeps their checksums beside them."""

from __future__ import annotations

from orchestrator.datasets.copies import Copy, file_errors, find_copies
from orchestrator.datasets.remote import record_of, write_manifest_at
from orchestrator.objects import Prefix, is_s3
from trainers.data.manifests import MANIFEST, read_manifest, write_manifest


def check_set(name: str, place: str, *, partial: bool = False) -> int:
    """Check every image of a set in a folder or below an S3 prefix, and keep the checksums there.

    Raises UserError with all problems.
    """
    with file_errors():
        copies = find_copies(name, place, partial=partial)
        for copy in copies:
            what = "pairs" if copy.found.lq_files else "images"
            also = f", and so are {', '.join(copy.reduced_folders)}" if copy.reduced else ""
            print(
                f"{copy.name}: {copy.where}: {len(copy.found.files)} {what}, all in order{also}; "
                f"{_keep(copy)}"
            )
    return 0


def _keep(copy: Copy) -> str:
    """Keep the checksums in the manifest; returns what was done, in words."""
    had = (
        MANIFEST in copy.listed
        if is_s3(copy.where)
        else read_manifest(copy.found.folder) is not None
    )
    try:
        keep_checksums(copy)
    except OSError as error:
        return f"checksums could not be kept ({error.strerror})"
    return f"checksums match {MANIFEST}" if had else f"checksums kept in {MANIFEST}"


def keep_checksums(copy: Copy) -> None:
    """Write the manifest of a copy beside its images. Raises OSError, EnvironmentProblem."""
    if copy.listed:
        records = {path: record_of(file) for path, file in copy.all_files.items()}
        write_manifest_at(Prefix(copy.where), copy.name, records, copy.listed)
    else:
        # RCAN's reduced images are outside the folder, and a manifest only lists what is inside.
        folder = copy.found.folder
        write_manifest(
            copy.name,
            folder,
            [file for path, file in copy.all_files.items() if file.path == folder / path],
        )
