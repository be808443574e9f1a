"""The promises of a store, checked on every implementation: a new one is a new line in `STORES`."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from orchestrator.errors import EnvironmentProblem, UserError
from orchestrator.store import open_store, read_store
from orchestrator.store.base import InTheWay, Store, Unreadable
from orchestrator.store.folder import ABANDONED_AFTER_S, ASIDE
from orchestrator.trials import table
from tests.counted_store import CountedStore
from tests.s3 import Bucket, Wrong
from tests.sweeps import comparing, plan_of
from tests.unit.test_trials_verb import TRAINING, filled

STORES: dict[str, Callable[[pytest.FixtureRequest], str]] = {
    "folder": lambda request: str(request.getfixturevalue("tmp_path") / "store"),
    "s3": lambda request: f"{request.getfixturevalue('bucket').uri}/some/store",
}


@pytest.fixture(params=STORES, ids=list(STORES))
def uri(request: pytest.FixtureRequest) -> str:
    return STORES[request.param](request)


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri)


def test_what_is_put_is_got_and_may_be_put_again(store: Store) -> None:
    store.put("a/b.json", b"one")
    store.put("a/b.json", b"two")
    assert (store.get("a/b.json"), store.size("a/b.json")) == (b"two", 3)


def test_what_is_not_there_is_a_key_error(store: Store, tmp_path: Path) -> None:
    store.put("a/b", b"")
    for read in (
        store.get,
        store.get_tagged,
        store.size,
        lambda key: store.get_file(key, tmp_path / "x"),
    ):
        for key in ("a", "a/c", "a/b/c"):
            with pytest.raises(KeyError):
                read(key)


def test_put_once_makes_a_blob_that_is_not_there_and_leaves_one_that_is(store: Store) -> None:
    assert store.put_once("a", b"first")
    assert not store.put_once("a", b"second")
    assert store.get("a") == b"first"


def _race(uri: str, name: bytes) -> bool:
    return open_store(uri).put_once("race/winner", name)


def test_of_many_processes_exactly_one_puts_once(uri: str, store: Store) -> None:
    names = [f"process {i}".encode() for i in range(8)]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        won = list(pool.map(_race, [uri] * 8, names))
    assert won.count(True) == 1
    assert store.get("race/winner") == names[won.index(True)]


def _rewrite(uri: str, times: int) -> None:
    store = open_store(uri)
    for i in range(times):
        store.put("whole", bytes([i % 256]) * 300_000)


def test_a_reader_never_sees_half_a_blob(uri: str, store: Store) -> None:
    store.put("whole", bytes(300_000))
    writer = multiprocessing.get_context("spawn").Process(target=_rewrite, args=(uri, 200))
    writer.start()
    reads = 0
    while writer.is_alive():
        content = store.get("whole")
        assert len(content) == 300_000
        assert len(set(content)) == 1
        assert store.list("missing") == []
        reads += 1
    assert reads > 5
    assert writer.exitcode == 0


def test_replace_needs_the_tag_of_what_is_there(store: Store) -> None:
    store.put("a", b"1")
    _, tag = store.get_tagged("a")
    assert store.replace("a", b"2", tag)
    assert not store.replace("a", b"3", tag)
    assert not store.replace("missing", b"3", tag)
    assert store.get("a") == b"2"


def test_replace_gives_the_tag_for_the_next_one(store: Store) -> None:
    store.put("a", b"1")
    _, tag = store.get_tagged("a")
    for content in (b"2", b"3", b"2"):
        new = store.replace("a", content, tag)
        assert new is not None and new != tag
        assert store.get_tagged("a") == (content, new)
        tag = new


def _replace(uri: str, name: bytes, tag: str) -> bool:
    return open_store(uri).replace("race/lease", name, tag) is not None


def test_of_many_processes_exactly_one_replaces(uri: str, store: Store) -> None:
    store.put("race/lease", b"old")
    _, tag = store.get_tagged("race/lease")
    names = [f"process {i}".encode() for i in range(8)]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as pool:
        won = list(pool.map(_replace, [uri] * 8, names, [tag] * 8))
    assert won.count(True) == 1
    assert store.get("race/lease") == names[won.index(True)]


def test_list_gives_keys_below_a_prefix_in_order(store: Store) -> None:
    for key in ("t/b/2", "t/b/10", "t/a", "t/bc/1", "u/a"):
        store.put(key, b"x")
    assert store.list("t") == ["t/a", "t/b/10", "t/b/2", "t/bc/1"]
    assert store.list("t/b") == ["t/b/10", "t/b/2"]
    assert store.list("nothing") == []


def test_sizes_gives_the_keys_of_list_each_with_its_bytes(store: Store) -> None:
    for key, content in (("t/b", b"12345"), ("t/a", b""), ("t/c/d", b"x"), ("u/a", b"xx")):
        store.put(key, content)
    assert list(store.sizes("t").items()) == [("t/a", 0), ("t/b", 5), ("t/c/d", 1)]
    assert store.sizes("nothing") == {}


def _fill_and_empty(uri: str, times: int) -> None:
    store = open_store(uri)
    for i in range(times):
        store.put(f"busy/{i}/a", b"x")
        store.delete(f"busy/{i}/a")


def test_list_holds_while_others_put_and_delete(uri: str, store: Store) -> None:
    store.put("busy/kept", b"x")
    writer = multiprocessing.get_context("spawn").Process(target=_fill_and_empty, args=(uri, 300))
    writer.start()
    lists = 0
    while writer.is_alive():
        assert "busy/kept" in store.list("busy")
        lists += 1
    assert lists > 5
    assert writer.exitcode == 0
    assert store.list("busy") == ["busy/kept"]


def test_delete_is_idempotent(store: Store) -> None:
    store.put("a/b", b"x")
    store.delete("a/b")
    store.delete("a/b")
    assert store.list("a") == []
    store.put("a/b", b"y")
    assert store.get("a/b") == b"y"


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", "../a", "a/../b", ".hidden", "a/.b", "a b", "ä", "a\x00"]
)
def test_what_is_not_a_key_is_refused(store: Store, key: str) -> None:
    for use in (
        store.get,
        store.list,
        store.delete,
        lambda k: store.put(k, b""),
        lambda k: store.put_once(k, b""),
    ):
        with pytest.raises(ValueError, match="is not a key"):
            use(key)


def test_files_travel_whole(store: Store, tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    (tmp_path / "there").write_bytes(content)
    store.put_file("big/file", tmp_path / "there")
    store.get_file("big/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    assert store.sha256("big/file") == hashlib.sha256(content).hexdigest()
    store.put("small", b"x")
    assert store.sha256("small") == hashlib.sha256(b"x").hexdigest()


def test_everyone_who_opens_the_address_sees_the_same(uri: str, store: Store) -> None:
    store.put("a", b"x")
    assert open_store(uri).get("a") == b"x"


def test_reading_a_store_that_is_not_there_makes_nothing(uri: str) -> None:
    store = read_store(uri)
    assert store.list("trials") == []
    with pytest.raises(KeyError):
        store.get("trials/a")
    assert open_store(uri).list("trials") == []


def test_what_is_in_the_place_of_a_blob_is_named(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    (tmp_path / "store/a").mkdir()
    with pytest.raises(InTheWay, match="a is a folder"):
        store.get("a")
    os.mkfifo(tmp_path / "store/b")
    with pytest.raises(InTheWay, match="b is not a file"):  # reading it would block for ever
        store.get("b")


def test_a_folder_that_cannot_be_used_is_reported_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(EnvironmentProblem, match=r"cannot be used: .*\n?.*another --store"):
        open_store(str(tmp_path / "file"))
    with pytest.raises(EnvironmentProblem, match="cannot be used"):
        open_store("/proc/no-such-store")


def test_a_folder_store_gives_its_files_the_rights_that_the_umask_leaves(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    before = os.umask(0o027)
    try:
        store.put("a", b"x")
        store.put_once("b", b"x")
        store.put_file("c", tmp_path / "store/a")
    finally:
        os.umask(before)
    assert [(tmp_path / "store" / key).stat().st_mode & 0o777 for key in "abc"] == [0o640] * 3


def test_a_folder_store_clears_what_killed_writers_left_long_ago(tmp_path: Path) -> None:
    aside = tmp_path / "store" / ASIDE
    open_store(str(tmp_path / "store"))
    for name, age_s in (("old", 2 * ABANDONED_AFTER_S), ("new", 0.0)):
        (aside / name).write_bytes(b"half")
        os.utime(aside / name, (time.time() - age_s,) * 2)
    open_store(str(tmp_path / "store"))
    assert [path.name for path in aside.iterdir()] == ["new"]


def test_an_s3_server_that_ignores_conditions_is_refused(bucket: Bucket) -> None:
    bucket.fault = lambda method, *about: Wrong(200, b"") if method == "PUT" else None
    with pytest.raises(EnvironmentProblem, match="ignores conditional writes"):
        open_store(f"{bucket.uri}/store")


@pytest.mark.parametrize("answer", [Wrong(200, b""), Wrong.error(501, "NotImplemented")])
def test_an_s3_server_without_conditional_replaces_is_refused(
    bucket: Bucket, answer: Wrong
) -> None:
    """It knows If-None-Match, as older servers do, and ignores or refuses If-Match."""
    bucket.fault = lambda method, key, headers, body: answer if "If-Match" in headers else None
    for _ in range(2):
        with pytest.raises(EnvironmentProblem, match=r"If-Match.*two runs would take the same"):
            open_store(f"{bucket.uri}/store")
    bucket.fault = lambda *about: None
    open_store(f"{bucket.uri}/store")


@pytest.mark.parametrize("action", ["put_once", "replace"])
def test_a_write_whose_answer_was_lost_is_recognised(bucket: Bucket, action: str) -> None:
    """The server has written it. botocore never heard so, asks again, and is refused."""
    store = open_store(f"{bucket.uri}/store")
    store.put("old", b"1")
    tag = store.get_tagged("old")[1]
    key = "store/new" if action == "put_once" else "store/old"
    before = bucket.requests["PUT", key]

    def lost(method: str, asked: str, headers: dict[str, str], body: bytes) -> Wrong | None:
        first = (method, asked) == ("PUT", key) and bucket.requests[method, asked] == before + 1
        return Wrong.error(500, "InternalError") if first else None

    bucket.fault = lost
    done = store.put_once("new", b"2") if action == "put_once" else store.replace("old", b"2", tag)
    assert done
    assert bucket.requests["PUT", key] == before + 2
    assert store.get(key.removeprefix("store/")) == b"2"
    assert not (
        store.put_once("new", b"3") if action == "put_once" else store.replace("old", b"3", tag)
    )


def test_large_files_go_to_s3_in_parts_and_come_back(bucket: Bucket, tmp_path: Path) -> None:
    content = os.urandom(20 << 20)
    (tmp_path / "large").write_bytes(content)
    store = open_store(f"{bucket.uri}/store")
    store.put_file("large", tmp_path / "large")
    assert bucket.requests["PUT", "store/large"] == 3
    store.get_file("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_an_address_of_an_unknown_kind_is_refused() -> None:
    with pytest.raises(UserError, match="give a folder or s3://BUCKET/PREFIX"):
        open_store("ftp://host/path")


def test_a_full_disk_is_not_taken_for_a_damaged_blob(tmp_path: Path) -> None:
    if not os.access("/dev/full", os.W_OK):
        pytest.skip("no /dev/full here")
    store = open_store(str(tmp_path / "store"))
    store.put("a", b"x" * 100_000)
    with pytest.raises(EnvironmentProblem, match="No space left") as caught:
        store.get_file("a", Path("/dev/full"))
    assert not isinstance(caught.value, Unreadable)


def test_the_trials_of_a_store_are_listed_once_and_once_a_trial(
    store: Store, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, comparing(seed="0, 1, 2", training=TRAINING), "mine")
    counted = CountedStore(store)
    filled(counted, plan)
    counted.requests()
    found = {row.id: row for row in table.rows(counted)}
    assert counted.requests()["list"] == 1 + len(found) == 6
    assert found[plan.trials[0].id].bytes > 1_000
