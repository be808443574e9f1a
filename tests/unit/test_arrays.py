"""Arrays of probes are brought from a run folder to the store, each step once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from orchestrator.store import open_store
from orchestrator.store.arrays import ArrayShipper
from tests.tiny import tiny_spec
from trainers.probes.files import arrays_every, write_arrays

TRIAL = "0123456789abcdef"


def write(out: Path, *steps: int, value: float = 1.0, probe: str = "channels") -> Path:
    for step in steps:
        write_arrays(out, probe, step, {"group_0": np.full(3, value)})
    return out / "probes"


def test_an_array_written_is_read_back_whole(tmp_path: Path) -> None:
    write_arrays(
        tmp_path, "channels", 7, {"group_0": np.arange(4.0), "group_1": np.array([np.inf, np.nan])}
    )
    found = load_file(tmp_path / "probes" / "channels" / "step-00000007.safetensors")
    assert np.array_equal(found["group_0"], np.arange(4.0))
    assert np.array_equal(found["group_1"], [np.inf, np.nan], equal_nan=True)
    assert [path.name for path in (tmp_path / "probes" / "channels").iterdir()] == [
        "step-00000007.safetensors"
    ]


def test_a_step_measured_again_keeps_what_was_written_first(tmp_path: Path) -> None:
    write(tmp_path, 5, value=1.0)
    folder = write(tmp_path, 5, value=2.0)
    assert (
        load_file(folder / "channels" / "step-00000005.safetensors")["group_0"].tolist()
        == [1.0] * 3
    )


def test_arrays_are_shipped_with_probe_step_and_attempt_in_their_key(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    folder = write(write(tmp_path / "out", 0, 10).parent, 10, probe="other")
    ArrayShipper(store, TRIAL, 2).ship(folder)
    assert store.list(f"trials/{TRIAL}/probes") == [
        f"trials/{TRIAL}/probes/channels/step-00000000-2.safetensors",
        f"trials/{TRIAL}/probes/channels/step-00000010-2.safetensors",
        f"trials/{TRIAL}/probes/other/step-00000010-2.safetensors",
    ]


def test_a_continued_trial_ships_only_what_the_store_lacks(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "store"))
    ArrayShipper(store, TRIAL, 1).ship(write(tmp_path / "one", 0, 10))
    second = ArrayShipper(store, TRIAL, 2)
    second.ship(write(tmp_path / "two", 10, 20, value=2.0))
    second.ship(write(tmp_path / "two", 30, value=2.0))
    names = [key.rpartition("/")[2] for key in store.list(f"trials/{TRIAL}/probes")]
    assert names == [
        f"step-{step:08d}-{attempt}.safetensors"
        for step, attempt in ((0, 1), (10, 1), (20, 2), (30, 2))
    ]


def test_a_trial_without_arrays_asks_nothing_of_the_store(tmp_path: Path) -> None:
    ArrayShipper(None, TRIAL, 1).ship(tmp_path / "probes")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "probe_every", "expected"),
    [(300_000, 50, 3_000), (5_000, 50, 50), (5_001, 50, 100), (10, 50, 50), (1_000_000, 7, 10_003)],
)
def test_a_probe_leaves_about_100_files_of_arrays_by_default(
    steps: int, probe_every: int, expected: int
) -> None:
    spec = tiny_spec(training={"steps": steps}, observe={"probe_every": probe_every})
    assert arrays_every(spec) == expected
    assert arrays_every(spec) % probe_every == 0
    assert steps // arrays_every(spec) <= 100


def test_the_cadence_of_arrays_can_be_given() -> None:
    assert arrays_every(tiny_spec(observe={"arrays_every": 6})) == 6
