"""A node's cache makes entries once, whole or not at all, and evicts the oldest that is unused."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from trainers.data import cache as cache_module
from trainers.data.cache import Cache, CacheProblem, cache_limit_bytes

SPAWN = multiprocessing.get_context("spawn")


def write(size: int):
    def build(folder: Path) -> None:
        (folder / "bytes").write_bytes(b"x" * size)

    return build


def entry(cache: Cache, key: str, size: int = 100) -> Path:
    return cache.entry(key, lambda: size, write(size))


def entries(root: Path) -> set[str]:
    return {path.name for path in (root / "entries").iterdir()}


def counted(root: Path, log: Path) -> None:
    def build(folder: Path) -> None:
        with log.open("a") as file:
            file.write("built\n")
        time.sleep(0.2)
        (folder / "bytes").write_bytes(b"x")

    cache = Cache(root, 1000)
    assert (cache.entry("a", lambda: 1, build) / "bytes").read_bytes() == b"x"


def test_of_many_processes_one_builds(tmp_path: Path) -> None:
    processes = [
        SPAWN.Process(target=counted, args=(tmp_path / "c", tmp_path / "log")) for _ in range(4)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert (tmp_path / "log").read_text() == "built\n"


def test_one_that_found_nothing_does_not_wait_for_the_user_of_what_was_built_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both look at once. By the time the slow one may build, the fast one has, and it uses that."""
    both_looked, mine, fast_has_it, got = (
        threading.Barrier(2),
        threading.local(),
        threading.Event(),
        [],
    )
    flock = fcntl.flock

    def paced(file: object, operation: int) -> None:
        slow = threading.current_thread().name == "slow"
        if slow and operation == fcntl.LOCK_EX:
            assert fast_has_it.wait(30)
        flock(file, operation)
        if operation == fcntl.LOCK_SH and not hasattr(mine, "has_looked"):
            mine.has_looked = True
            both_looked.wait(30)

    def take(cache: Cache) -> None:
        got.append(entry(cache, "a"))
        fast_has_it.set()

    monkeypatch.setattr(fcntl, "flock", paced)
    caches = [Cache(tmp_path, 1000) for _ in range(2)]
    threads = [
        threading.Thread(target=take, args=(cache,), name=name, daemon=True)
        for cache, name in zip(caches, ("fast", "slow"), strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(got) == 2


def stuck(root: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "bytes").write_bytes(b"half")
        time.sleep(600)

    Cache(root, 1000).entry("a", lambda: 1, build)


@pytest.mark.parametrize("resumable", [False, True])
def test_a_builder_killed_leaves_no_lock_and_nothing_half_made(
    tmp_path: Path, resumable: bool
) -> None:
    process = SPAWN.Process(target=stuck, args=(tmp_path,))
    process.start()
    until = time.monotonic() + 60
    while not (tmp_path / "entries/a.part/bytes").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not (tmp_path / "entries/a").exists()
    os.kill(process.pid, signal.SIGKILL)
    process.join()

    def build(folder: Path) -> None:
        assert (folder / "bytes").exists() == resumable, (
            "what a killed builder left is seen only by a build that continues"
        )
        (folder / "bytes").write_bytes(b"whole")

    made = Cache(tmp_path, 1000).entry("a", lambda: 1, build, resumable=resumable)
    assert (made / "bytes").read_bytes() == b"whole"
    assert {path.name for path in made.iterdir()} == {"bytes"}


def test_the_least_recently_used_goes_first(tmp_path: Path) -> None:
    for age, key in enumerate(["b", "a", "c"]):
        os.utime(entry(Cache(tmp_path, 350), key), (age, age))
    entry(Cache(tmp_path, 350), "b")  # used again
    entry(Cache(tmp_path, 350), "d")
    assert entries(tmp_path) == {"b", "c", "d"}


def test_what_is_in_use_stays_and_what_does_not_fit_is_reported(tmp_path: Path) -> None:
    user = Cache(tmp_path, 350)
    for key in "abc":
        entry(user, key)
    with pytest.raises(CacheProblem, match="will not fit in the cache"):
        entry(Cache(tmp_path, 350), "d")
    assert entries(tmp_path) == {"a", "b", "c"}
    del user
    entry(Cache(tmp_path, 350), "d")
    assert "d" in entries(tmp_path)


def test_what_a_killed_builder_left_goes_for_room(tmp_path: Path) -> None:
    left = tmp_path / "entries" / "old.part"
    left.mkdir(parents=True)
    (left / "bytes").write_bytes(b"x" * 300)
    entry(Cache(tmp_path, 350), "new", 200)
    assert entries(tmp_path) == {"new"}


@pytest.mark.parametrize("finished", [True, False])
def test_what_others_finish_or_give_up_while_room_is_made_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finished: bool
) -> None:
    """Two entries on their way end while the first of them is sized: one before it is looked at,
    the other before it is evicted.
    """
    for key in "ab":
        (tmp_path / "entries" / f"{key}.part").mkdir(parents=True)
        (tmp_path / "entries" / f"{key}.part" / "bytes").write_bytes(b"x" * 300)
    size = cache_module._size

    def sized_as_they_end(entry: Path) -> int:
        found = size(entry)
        for part in (tmp_path / "entries").glob("[ab].part"):
            if finished:
                part.rename(part.with_suffix(""))
            else:
                shutil.rmtree(part)
        return found

    monkeypatch.setattr(cache_module, "_size", sized_as_they_end)
    entry(Cache(tmp_path, 350), "new", 200)
    assert "new" in entries(tmp_path)
    assert not list((tmp_path / "entries").glob("*.part"))


def test_a_full_disk_is_reported_and_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "bytes").write_bytes(b"half")
        Path("/dev/full").write_bytes(b"x")

    with pytest.raises(CacheProblem, match="No space left on device"):
        Cache(tmp_path, 1000).entry("a", lambda: 1, build)
    assert entries(tmp_path) == set()


def test_a_build_that_fails_leaves_nothing_and_may_be_tried_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 1000)

    def fail(folder: Path) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        cache.entry("a", lambda: 1, fail)
    assert entries(tmp_path) == set()
    assert entry(cache, "a").is_dir()


@pytest.mark.parametrize("given", ["much", "-1", "0", "nan"])
def test_a_bad_limit_is_reported(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMSWEEP_CACHE_GB", given)
    with pytest.raises(CacheProblem, match="NORMSWEEP_CACHE_GB"):
        cache_limit_bytes()


@pytest.mark.parametrize("key", ["../a", "", "a/b", ".a"])
def test_a_key_is_checked(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="not a cache key"):
        entry(Cache(tmp_path, 1000), key)
