"""A rank's journal ships by time, its checkpoints at once and never before their lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.run import shipping
from orchestrator.run.shipping import SHIP_EVERY_S, Shipping
from orchestrator.store import open_store
from tests.counted_store import CountedStore
from trainers.durable import sha256_of
from trainers.journal import Journal


class Rank:
    """A rank's run folder, written by hand, and a clock."""

    def __init__(self, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.out = out
        self.now = 1000.0
        out.mkdir()
        self.journal = Journal(out / "journal.jsonl")
        monkeypatch.setattr(shipping.time, "monotonic", lambda: self.now)

    def save(self, step: int) -> None:
        folder = self.out / f"checkpoints/step-{step:08d}"
        folder.mkdir(parents=True)
        (folder / "weights.pt").write_bytes(b"w")
        files = {"weights.pt": {"sha256": sha256_of(folder / "weights.pt"), "bytes": 1}}
        (folder / "manifest.rank-0.json").write_text(json.dumps({"step": step, "files": files}))


@pytest.fixture
def rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rank:
    return Rank(tmp_path / "out", monkeypatch)


@pytest.fixture
def store(tmp_path: Path) -> CountedStore:
    return CountedStore(open_store(str(tmp_path / "runs")))


def steps(store: CountedStore) -> list[int]:
    """The steps of the lines in the store."""
    return [
        json.loads(line)["step"]
        for key in store.list("trials/t")
        for line in store.get(key).splitlines()
    ]


def test_a_journal_ships_by_time_and_its_values_are_known_at_once(
    store: CountedStore, rank: Rank
) -> None:
    shipper = Shipping(store, "t", 1, 0, rank.out)
    for step in range(1, 301):  # a line a second, looked for five times a second
        rank.journal.metrics(step, {"train/loss": float(step)})
        assert dict(shipper.ship(has_ended=False).values) == {"train/loss": float(step)}
        for _ in range(4):
            rank.now += 0.2
            assert not shipper.ship(has_ended=False).values
        rank.now += 0.2
    assert store.requests()["put"] == 300 / SHIP_EVERY_S
    shipper.ship(has_ended=True)
    assert steps(store) == list(range(1, 301)), "the rank's last lines are shipped when it ends"


def test_no_checkpoint_is_in_the_store_before_the_lines_that_it_covers(
    store: CountedStore, rank: Rank
) -> None:
    shipper = Shipping(store, "t", 1, 0, rank.out)
    rank.journal.metrics(1, {"train/loss": 1.0})
    shipper.ship(has_ended=False)
    rank.journal.metrics(2, {"train/loss": 1.0})
    shipper.ship(has_ended=False)
    assert steps(store) == [1], "not yet"
    rank.save(2)
    store.requests()
    (shipped,) = shipper.ship(has_ended=False).checkpoints
    assert shipped.step == 2
    puts = [key.split("/")[2:4] for request, key in store.asked if request == "put"]
    assert [kind for kind, _ in puts] == ["attempts", "checkpoints", "checkpoints"]
    assert shipper.ship(has_ended=False).checkpoints == ()


def test_a_checkpoint_that_is_finished_while_the_journal_is_read_waits_for_the_next_look(
    store: CountedStore, rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines may have been written after the journal was read."""
    shipper = Shipping(store, "t", 1, 0, rank.out)
    rank.journal.metrics(1, {"train/loss": 1.0})
    read = Shipping._read_journal

    def slowly(self: Shipping) -> Any:
        found = read(self)
        if not (rank.out / "checkpoints").exists():
            rank.journal.metrics(2, {"train/loss": 1.0})
            rank.save(2)
        return found

    monkeypatch.setattr(Shipping, "_read_journal", slowly)
    assert shipper.ship(has_ended=False).checkpoints == ()
    assert [part.step for part in shipper.ship(has_ended=False).checkpoints] == [2]
    journalled = [key for key in store.list("trials/t") if "/journal/" in key]
    assert len(journalled) == 2


@pytest.mark.parametrize("file", ["weights.pt", "manifest.rank-0.json"])
def test_a_checkpoint_that_the_rank_is_removing_is_passed_over(
    store: CountedStore, rank: Rank, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    """Its folder may still be there when one of its files is gone."""
    shipper = Shipping(store, "t", 1, 0, rank.out)
    rank.save(2)
    rank.save(4)
    read = Shipping._read_journal

    def meanwhile(self: Shipping) -> Any:
        (rank.out / "checkpoints/step-00000002" / file).unlink(missing_ok=True)
        return read(self)

    monkeypatch.setattr(Shipping, "_read_journal", meanwhile)
    assert [part.step for part in shipper.ship(has_ended=False).checkpoints] == [4]
    assert shipper.ship(has_ended=False).checkpoints == ()


def test_of_the_metric_that_is_watched_every_value_is_reported(
    store: CountedStore, rank: Rank
) -> None:
    shipper = Shipping(store, "t", 1, 0, rank.out, watched="train/loss")
    for step in (1, 2, 3):
        rank.journal.metrics(step, {"train/loss": 0.5 * step, "train/lr": 1.0})
    rank.journal.metrics(3, {"feature/entropy": 1.0})
    assert shipper.ship(has_ended=False).points == ((1, 0.5), (2, 1.0), (3, 1.5))
    assert shipper.ship(has_ended=False).points == (), "each of them once"
