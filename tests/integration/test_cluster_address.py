"""`normsweep run --address` waits for a cluster that still grows, and names what is missing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.local_cluster import local_cluster
from tests.sweeps import results, run, start, write_sweep


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """A Ray cluster of one node with one CPU, to which nodes can be added."""
    with local_cluster(monkeypatch, num_cpus=1) as made:
        yield made


def test_workers_still_joining_are_waited_for_and_then_named(tmp_path: Path, cluster) -> None:
    file = write_sweep(tmp_path, workers=2)
    output = run(file, "--address", cluster.address, "--join-deadline-s", "3", expect=3)
    assert "2 workers of 1 CPU each do not fit on 1 node" in output
    assert "after waiting 3 s for workers to join" in output

    driver = start(file, "--address", cluster.address, "--join-deadline-s", "120")
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    output, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, output
    assert [result["outcome"] for result in results(tmp_path).values()] == ["completed"]


def test_an_address_where_nothing_listens_is_reported(tmp_path: Path) -> None:
    output = run(write_sweep(tmp_path), "--address", "127.0.0.1:1", expect=3)
    assert "No Ray cluster at --address 127.0.0.1:1" in output
    assert "Traceback" not in output
    assert os.listdir(tmp_path / "runs/work") == []
