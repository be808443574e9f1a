"""Trains several specs in one process, one rank of each.

    python -m tests.parity.train_many DIR RANK WORLD_SIZE PORT NAME...

DIR holds `<name>.json`; the run folder is written to `<name>/`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from trainers.data.cache import Cache
from trainers.loop import Given, Rank, train
from trainers.spec import RunSpec


def main() -> None:
    folder, rank, world_size, port, *names = Path(sys.argv[1]), *sys.argv[2:]
    os.environ.update(
        RANK=rank, LOCAL_RANK="0", WORLD_SIZE=world_size, MASTER_ADDR="127.0.0.1", MASTER_PORT=port
    )
    # DeepSpeed's groups would not survive a second initialisation.
    torch.distributed.destroy_process_group = lambda: None
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    cache = Cache(folder / f"cache-{rank}")
    for name in names:
        spec = RunSpec.from_json((folder / f"{name}.json").read_bytes())
        out = folder / name / f"rank-{rank}"
        out.mkdir(parents=True)
        given = Given(Rank(int(rank), 0, int(world_size)), None, (), cache)
        outcome = train(spec, out, given)
        assert outcome == "completed", f"{name}: {outcome}"


if __name__ == "__main__":
    main()
