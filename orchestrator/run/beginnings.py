"""How an attempt begins, given what the store still has of its trial's checkpoints."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from orchestrator.store.records import Damaged
from trainers.checkpoint import Start, start_from
from trainers.spec import PlacementSpec

ALL_DAMAGED = Start(
    "put aside", 0, "begins again at step 0: none of its checkpoints in the store is intact"
)


def beginning(found: Path | None, damaged: Sequence[Damaged], placement: PlacementSpec) -> Start:
    """How a gang begins from the checkpoint in `found`, the newest one that is intact.

    `damaged`: the newer ones that were passed over, one file of each.
    """
    if found is None and damaged:
        return replace(ALL_DAMAGED, sentence=f"{ALL_DAMAGED.sentence} ({damaged[0]})")
    begins, _ = start_from(found, placement.workers, placement.zero_stage)
    if not damaged:
        return begins
    number = "a newer checkpoint is" if len(damaged) == 1 else f"{len(damaged)} newer ones are"
    sentence = f"{begins.sentence}, since {number} damaged ({damaged[0]})"
    return replace(
        begins, how="older" if begins.how == "continued" else begins.how, sentence=sentence
    )
