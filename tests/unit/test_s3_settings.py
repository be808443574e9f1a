"""A setting that boto3 refuses is named: the variable, or the file and its entry."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import objects
from orchestrator.errors import EnvironmentProblem
from orchestrator.objects import Prefix

SECRET = "s3cr3t-w0rd"


@pytest.fixture(autouse=True)
def _plain_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
    }.items():
        monkeypatch.setenv(name, value)
    objects.forget()
    yield
    objects.forget()


def said() -> str:
    with pytest.raises(EnvironmentProblem) as told:
        Prefix("s3://bucket/x").list()
    assert told.value.exit_code == 3
    return str(told.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_MAX_ATTEMPTS", "abc"),
        ("AWS_MAX_ATTEMPTS", ""),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_RETRY_MODE", "nope"),
        ("AWS_DEFAULT_REGION", "not a region"),
        ("AWS_DEFAULT_REGION", "eu_west.1"),
        ("AWS_PROFILE", "nobody"),
        ("AWS_DEFAULTS_MODE", "nope"),
        ("AWS_REQUEST_CHECKSUM_CALCULATION", "nope"),
        ("AWS_ENDPOINT_URL", "localhost:9000"),
        ("AWS_ENDPOINT_URL", "http://a b"),
        ("AWS_ENDPOINT_URL", "ftp://x"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
        ("AWS_ENDPOINT_URL_S3", "nope"),
        ("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:7"),
    ],
)
def test_a_refused_setting_is_named_and_no_other(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    advice = said().rpartition(". ")[2]
    assert [word.strip(".,") for word in advice.split() if word.startswith("AWS_")] == [name], (
        advice
    )


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[default\n", "AWS_CONFIG_FILE"),
        ("[default]\nregion = not a region\n", "Correct region in {}"),
        ("[default]\nendpoint_url = nope\n", "Correct endpoint_url in {}"),
    ],
)
def test_a_bad_configuration_file_is_named_with_its_entry(
    text: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(text)
    assert named.format(tmp_path / "config") in said()


def test_half_of_a_pair_of_keys_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    assert "AWS_SECRET_ACCESS_KEY belong together" in said()


def test_a_password_in_the_endpoint_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://ada:hidden@127.0.0.1:9")
    assert "hidden" not in said()
    assert "AWS_ENDPOINT_URL" in said()
