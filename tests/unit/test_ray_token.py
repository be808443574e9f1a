"""The first runs on a machine agree on Ray's token, even if they start at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.run.ray_start import keep_token


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MODE", "TOKEN", "TOKEN_PATH"):
        monkeypatch.delenv(f"RAY_AUTH_{name}", raising=False)


def test_of_many_runs_at_once_all_begin_with_the_same_token(tmp_path: Path) -> None:
    for machine in range(50):
        file = tmp_path / str(machine) / ".ray/auth_token"

        def begun_with(_: int, file: Path = file) -> str:
            keep_token(file)
            return file.read_text()

        with ThreadPoolExecutor(8) as pool:
            tokens = set(pool.map(begun_with, range(8)))
        assert len(tokens) == 1
        assert len(tokens.pop()) == 64, "as long as Ray's own"
        assert file.stat().st_mode & 0o077 == 0, "only its user reads it"
        assert [path.name for path in file.parent.iterdir()] == ["auth_token"]


@pytest.mark.parametrize(
    ("name", "value"), [("MODE", "disabled"), ("TOKEN", "a" * 64), ("TOKEN_PATH", "token")]
)
def test_where_another_token_or_none_is_asked_for_none_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"RAY_AUTH_{name}", value)
    keep_token(tmp_path / "auth_token")
    assert not list(tmp_path.iterdir())


def test_a_home_that_cannot_be_written_is_left_to_ray(tmp_path: Path) -> None:
    (tmp_path / ".ray").write_text("a file")
    keep_token(tmp_path / ".ray/auth_token")
