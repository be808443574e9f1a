"""A user's modules come from the user's folders, by full name, and never replace a library's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.sweeps import environment
from trainers import own
from trainers.catalog import NORMS


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The sweep's folder and the working folder, in both of which modules are looked for."""
    monkeypatch.setenv(own.FOLDERS, "")
    sweep, here = tmp_path / "sweep", tmp_path / "here"
    for folder in (sweep, here):
        folder.mkdir()
    own.look_in(sweep, here)
    return sweep, here


def test_the_sweeps_folder_comes_before_the_working_one(folders: tuple[Path, Path]) -> None:
    sweep, here = folders
    (here / "norms.py").write_text("")
    assert own.file_of("norms") == here / "norms.py"
    (sweep / "norms.py").write_text("")
    assert own.file_of("norms") == sweep / "norms.py"
    assert own.file_of("norms.inner") is None


def test_a_module_with_a_librarys_name_is_the_users_and_the_library_stays(
    folders: tuple[Path, Path],
) -> None:
    sweep, _ = folders
    (sweep / "copy.py").write_text(
        "import copy, sibling\nNorm = (copy.deepcopy([1]), sibling.TWO)\n"
    )
    (sweep / "sibling.py").write_text("TWO = 2\n")
    (sweep / "package").mkdir()
    (sweep / "package" / "__init__.py").write_text("")
    (sweep / "package" / "inner.py").write_text("from . import other\nNorm = other.THREE\n")
    (sweep / "package" / "other.py").write_text("THREE = 3\n")
    program = (
        "from trainers.catalog import NORMS; "
        "print(NORMS['copy:Norm'].load(), NORMS['package.inner:Norm'].load())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**environment(), **own.as_environment()},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout == "([1], 2) 3\n", done.stderr


def test_an_entry_of_the_catalogue_is_never_the_users(folders: tuple[Path, Path]) -> None:
    sweep, _ = folders
    (sweep / "trainers.py").write_text("raise RuntimeError")
    assert NORMS["i_ln"].load().__module__ == "trainers.norms.i_ln"
