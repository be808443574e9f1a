"""A checkpoint that is cut or flipped anywhere is never loaded: an older one is, which is said."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.plan import Plan
from orchestrator.run.beginnings import beginning
from orchestrator.store.attempts import new_attempt
from orchestrator.store.base import Store
from orchestrator.store.checkpoints import checkpoint_prefix, fetch_checkpoint, write_manifest
from orchestrator.store.records import Damaged
from tests.sweeps import comparing, plan_of
from trainers.checkpoint import folder_name, newest_intact, seal

BLOCK = 4096
SIZES = {"weights.pt": 5 * BLOCK + 100, "ema.pt": 3 * BLOCK, "zero_pp_rank_0_x.pt": 1}


def damages(path: Path, every: int = BLOCK) -> Iterator[str]:
    """Cut the file and flip a bit in it at every block; it is whole again after each."""
    whole = path.read_bytes()
    for offset in range(0, len(whole), every):
        path.write_bytes(whole[:offset])
        yield f"{path.name} cut at {offset}"
        path.write_bytes(whole[:offset] + bytes([whole[offset] ^ 1]) + whole[offset + 1 :])
        yield f"{path.name} flipped at {offset}"
    path.write_bytes(whole)


def content(step: int) -> dict[str, bytes]:
    dice = random.Random(step)
    return {name: dice.randbytes(size) for name, size in SIZES.items()}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return plan_of(tmp_path, comparing(training="steps: 40"))


def test_a_run_folder_with_a_torn_checkpoint_continues_from_the_one_before(tmp_path: Path) -> None:
    for step in (20, 40):
        folder = tmp_path / folder_name(step)
        folder.mkdir()
        for name, data in content(step).items():
            (folder / name).write_bytes(data)
        files = list(folder.iterdir())
        seal(folder, rank=0, step=step, world_size=1, zero_stage=0, files=files)
    whole = newest_intact(tmp_path)
    assert whole is not None and whole.step == 40
    files = sorted((tmp_path / folder_name(40)).iterdir())
    assert len(files) == len(SIZES) + 1, "and the manifest"
    for path in files:
        is_manifest = path.suffix == ".json"  # which is short, so that its every byte is damaged
        for what in damages(path, 1 if is_manifest else BLOCK):
            found = newest_intact(tmp_path)
            # Flipped in the name of its checksum, a manifest still says what it said.
            assert found is not None, what
            assert found.step == 20 or (is_manifest and found == whole), what
    assert newest_intact(tmp_path) == whole


def test_a_store_with_a_torn_checkpoint_continues_from_the_one_before_and_says_so(
    store: Store, plan: Plan, tmp_path: Path
) -> None:
    trial = plan.trials[0]
    attempt = new_attempt(store, trial, {})
    for step in (20, 40):
        prefix, files = checkpoint_prefix(trial.id, step, attempt), {}
        for name, data in content(step).items():
            store.put(f"{prefix}/{name}", data)
            files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        write_manifest(store, trial.id, attempt, step=step, world_size=1, zero_stage=0, files=files)
    into = tmp_path / "resume"
    assert fetch_checkpoint(store, trial.id, into)[0] == 40
    newest = Path(store.uri) / checkpoint_prefix(trial.id, 40, attempt)
    for path in sorted(newest.iterdir()):
        every = 64 if path.suffix == ".json" else BLOCK
        for what in damages(path, every):
            damaged: list[Damaged] = []
            found = fetch_checkpoint(store, trial.id, into, damaged)
            assert found is not None and found[0] == 20, what
            assert [problem.key.rpartition("/")[2] for problem in damaged] == [path.name], what
    assert fetch_checkpoint(store, trial.id, into)[0] == 40


def test_how_an_attempt_begins_after_damage_is_a_sentence(plan: Plan, tmp_path: Path) -> None:
    placement = plan.trials[0].spec.placement
    folder = tmp_path / folder_name(20)
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"w")
    files = [folder / "weights.pt"]
    seal(folder, rank=0, step=20, world_size=1, zero_stage=0, files=files)
    damage = Damaged("trials/x/checkpoints/step-00000040-1/ema.pt", "has 7 bytes, not 8")
    begins = beginning(folder, [damage], placement)
    assert (begins.how, begins.step, begins.continues, begins.is_surprising) == (
        "older",
        20,
        True,
        True,
    )
    assert begins.sentence == (
        "continues from step 20, since a newer checkpoint is damaged "
        "(trials/x/checkpoints/step-00000040-1/ema.pt has 7 bytes, not 8)"
    )
    assert beginning(folder, [], placement).how == "continued"
    assert beginning(None, [], placement).how == "new"
    lost = beginning(None, [damage], placement)
    assert (lost.how, lost.step) == ("put aside", 0)
    assert "none of its checkpoints in the store is intact" in lost.sentence
