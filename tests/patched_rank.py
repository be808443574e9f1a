"""One rank of a training in which something happens that a test cannot wait for.

    python -m tests.patched_rank RUN.json OUT PATCH

RANK, WORLD_SIZE, MASTER_ADDR and MASTER_PORT come from the environment. An intact checkpoint in OUT
is continued. PATCH is one of:

    restless-scale    fp16's loss scale starts far too high and grows every third step, so that
                      steps are skipped
    one-sees          from the second probe on, rank 1 alone measures features beyond all limits
    patience          prints how many seconds each process group waits
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
from pathlib import Path

import torch
from torch.distributed.fsdp.sharded_grad_scaler import ShardedGradScaler

from trainers import engine, loop
from trainers.checkpoint import newest_intact
from trainers.data.cache import Cache
from trainers.probes.base import Observation
from trainers.probes.features import Features
from trainers.spec import RunSpec


def restless_scale() -> None:
    engine.ShardedGradScaler = functools.partial(
        ShardedGradScaler, init_scale=2.0**34, growth_interval=3
    )


def one_sees() -> None:
    observe, calls = Features.observation, 0

    def observed(self: Features) -> Observation:
        nonlocal calls
        seen, calls = observe(self), calls + 1
        beyond = calls > 1 and os.environ["RANK"] == "1"
        return dataclasses.replace(seen, mean_squares=(1e30,)) if beyond else seen

    Features.observation = observed


def patience() -> None:
    close = engine.Engine.close

    def closed(self: engine.Engine) -> None:
        for group in torch.distributed.distributed_c10d._world.pg_map:
            print("waits", group._get_backend(torch.device("cpu")).options._timeout.total_seconds())
        close(self)

    engine.Engine.close = closed


def main() -> None:
    spec, out = RunSpec.from_json(Path(sys.argv[1]).read_bytes()), Path(sys.argv[2])
    {"restless-scale": restless_scale, "one-sees": one_sees, "patience": patience}[sys.argv[3]]()
    torch.set_num_threads(1)
    out.mkdir(exist_ok=True)
    rank = loop.Rank(int(os.environ["RANK"]), 0, int(os.environ["WORLD_SIZE"]))
    found = newest_intact(out / "checkpoints")
    resume = found.folder if found else None
    given = loop.Given(rank, resume, (), Cache(out / f"cache-{rank.rank}"))
    print(loop.train(spec, out, given))


if __name__ == "__main__":
    main()
