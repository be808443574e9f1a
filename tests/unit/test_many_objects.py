"""Many objects are read by obstore, and by botocore as soon as something is wrong with that."""

from __future__ import annotations

import multiprocessing
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from orchestrator import many_objects
from orchestrator.errors import EnvironmentProblem
from orchestrator.many_objects import FEW, ManyObjects
from orchestrator.objects import Prefix
from orchestrator.store import children
from tests.s3 import Bucket, Wrong

MORE = 40


@pytest.fixture
def prefix(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> Prefix:
    """A prefix with an object, in a process in which nobody has used obstore."""
    monkeypatch.setattr(ManyObjects, "_process", None)
    bucket.put("a/b", b"content")
    return Prefix(f"{bucket.uri}/a")


@pytest.fixture
def readers(bucket: Bucket) -> list[str]:
    """Who has asked for an object: obstore writes `user-agent`."""
    asked: list[str] = []

    def note(method: str, key: str, headers: dict[str, str]) -> None:
        if method == "GET" and key:
            asked.append("botocore" if "User-Agent" in headers else "obstore")

    bucket.before = note
    return asked


def test_few_are_read_by_botocore_and_the_others_by_obstore(
    prefix: Prefix, readers: list[str]
) -> None:
    found = {prefix.get("b") for _ in range(FEW)}
    with ThreadPoolExecutor(8) as threads:
        found |= set(threads.map(prefix.get, ["b"] * MORE))
    assert found == {b"content"}
    assert readers == ["botocore"] * FEW + ["obstore"] * MORE


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(many_objects, "FEW", 0)


@pytest.mark.usefixtures("at_once")
def test_an_object_that_is_not_there_is_a_key_error_and_hinders_no_other(
    prefix: Prefix, readers: list[str]
) -> None:
    with pytest.raises(KeyError, match="a/none"):
        prefix.get("none")
    assert prefix.get("b") == b"content"
    assert readers == ["obstore", "botocore", "obstore"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "answer",
    [Wrong.error(403, "AccessDenied"), Wrong.error(503, "SlowDown"), Wrong(301, b"")],
    ids=["no rights", "too much", "elsewhere"],
)
def test_where_obstore_fails_botocore_reads_from_then_on(
    bucket: Bucket, prefix: Prefix, readers: list[str], answer: Wrong
) -> None:
    bucket.fault = lambda *about: answer if readers == ["obstore"] else None
    assert [prefix.get("b") for _ in range(3)] == [b"content"] * 3
    assert readers == ["obstore", *["botocore"] * 3]


@pytest.mark.usefixtures("at_once")
def test_what_fails_for_both_is_said_in_our_words(
    bucket: Bucket, prefix: Prefix, readers: list[str]
) -> None:
    bucket.fault = lambda *about: Wrong.error(403, "AccessDenied")
    with pytest.raises(EnvironmentProblem, match=r"/a/b: .*AccessDenied"):
        prefix.get("b")
    assert readers == ["obstore", "botocore"]


@pytest.mark.usefixtures("at_once")
def test_other_bytes_than_the_server_has_are_read_again(
    bucket: Bucket, prefix: Prefix, readers: list[str]
) -> None:
    bucket.fault = lambda *about: b"c0ntent" if readers == ["obstore"] else None
    assert prefix.get("b") == b"content"
    assert readers == ["obstore", "botocore"]


@pytest.mark.usefixtures("at_once")
def test_obstore_is_given_up_if_it_finds_less_than_botocore(
    bucket: Bucket, prefix: Prefix, readers: list[str]
) -> None:
    bucket.fault = lambda *about: (
        Wrong.error(404, "NoSuchKey") if readers[-1:] == ["obstore"] else None
    )
    assert [prefix.get("b") for _ in range(2)] == [b"content"] * 2
    assert readers == ["obstore", "botocore", "botocore"]


@pytest.mark.usefixtures("at_once")
def test_an_answer_that_does_not_come_costs_its_time_once(
    bucket: Bucket, prefix: Prefix, readers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(many_objects, "WITHIN", timedelta(seconds=1))

    def stall(*about: object) -> None:
        if readers == ["obstore"]:
            time.sleep(20.0)

    bucket.fault = stall
    began = time.monotonic()
    assert prefix.get("b") == b"content"
    assert time.monotonic() - began < 15.0
    assert readers == ["obstore", "botocore"]


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize("name", ["VIRTUAL_HOSTED_STYLE_REQUEST", "SKIP_SIGNATURE"])
def test_variables_that_botocore_does_not_know_change_nothing(
    prefix: Prefix, readers: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(f"AWS_{name}", "true")
    assert prefix.get("b") == b"content"
    assert readers == ["obstore"]


@pytest.mark.usefixtures("at_once")
def test_without_obstore_botocore_reads(
    prefix: Prefix, readers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    assert prefix.get("b") == b"content"
    assert readers == ["botocore"]


@pytest.mark.usefixtures("at_once")
def test_a_fork_of_a_process_that_used_obstore_reads_by_botocore(
    prefix: Prefix, readers: list[str]
) -> None:
    prefix.get("b")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(prefix.get, ["b"]).get(timeout=60) == b"content"
    assert readers == ["obstore", "botocore"]
    assert children.context().get_start_method() == "spawn", "forks are slower then"
