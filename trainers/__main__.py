"""One trial by hand: `python -m trainers RUN.json --out DIR`, alone or under `torchrun` or
`deepspeed`.

RUN.json is a RunSpec, as `normsweep plan FILE --json` prints it under "spec". If the run folder
holds an intact checkpoint, training continues from it. Exit codes:

    0    the trial has ended; `result.json` says how
    1    anything not listed here
    2    the spec, the flags, the data or the initial weights are wrong
    3    the cache cannot hold the data, or the disk of the run folder is full
    75   preempted: SIGTERM was answered with a checkpoint

Every failure but that of wrong flags is described in `failure-rank-<r>.json` in the run folder.
"""

from __future__ import annotations

import argparse
import ctypes
import faulthandler
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from trainers.checkpoint import newest_intact
from trainers.errors import NormsweepError, UserError
from trainers.failures import disk_full, write_disk_full, write_failure, write_unexpected
from trainers.spec import BadSpec, RunSpec

EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run it again


def main(arguments: list[str] | None = None) -> int:
    options = _parsed(arguments)
    if not faulthandler.is_enabled():
        # SIGABRT asks a rank that hangs for the stacks of all its threads.
        faulthandler.enable(sys.__stderr__ or sys.stderr)
    if options.end_with is not None:
        end_with(options.end_with)
    rank = int(os.environ.setdefault("RANK", "0"))
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))
    world_size = int(os.environ.setdefault("WORLD_SIZE", "1"))
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if (out / "result.json").exists():
        print(f"{out}: this trial has already ended. See result.json.", file=sys.stderr)
        return 0
    try:
        spec = RunSpec.from_json(options.spec.read_bytes())
        if spec.placement.workers != world_size:
            raise BadSpec(
                f"placement.workers is {spec.placement.workers}, "
                f"but {world_size} ranks were started"
            )
    except (OSError, BadSpec) as error:
        write_failure(out, rank, "spec", error)
        print(f"{options.spec}: {error}", file=sys.stderr)
        return UserError.exit_code
    return _train(spec, options, rank, local_rank)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m trainers", description="Train one trial from its RunSpec."
    )
    parser.add_argument("spec", type=Path, metavar="RUN.json", help="a RunSpec")
    parser.add_argument(
        "--out", type=Path, required=True, help="run folder, created if it does not exist"
    )
    parser.add_argument(
        "--resume",
        type=Path,
        help="folder of the checkpoint to continue from; default: the newest intact one in --out",
    )
    data_help = "folder that holds data sets; may be repeated"
    parser.add_argument(
        "--data", type=Path, action="append", default=[], metavar="ROOT", help=data_help
    )
    initial_help = "file of weights whose SHA-256 is the spec's `training.initial`"
    parser.add_argument("--initial", type=Path, metavar="FILE", help=initial_help)
    cache_help = "this node's folder for decoded images; default: $NORMSWEEP_CACHE, else OUT/cache"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=cache_help)
    end_help = "kill this process when its parent, process PID, ends (Linux)"
    parser.add_argument("--end-with", type=int, metavar="PID", help=end_help)
    # The `deepspeed` launcher appends it; the environment's LOCAL_RANK says the same.
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _train(spec: RunSpec, options: argparse.Namespace, rank: int, local_rank: int) -> int:
    """Train and return the exit code.

    Errors that are neither the user's nor the machine's are raised again.
    """
    # Imported only here, so that a bad spec is reported without waiting for torch.
    from trainers.data.cache import Cache, cache_root
    from trainers.loop import Given, Rank, train

    out: Path = options.out
    resume = options.resume
    if resume is None:
        found = newest_intact(out / "checkpoints")
        resume = found.folder if found else None
    try:
        given = Given(
            Rank(rank, local_rank, spec.placement.workers),
            resume,
            options.data,
            Cache(options.cache or cache_root(out / "cache")),
            options.initial,
        )
        outcome = train(spec, out, given)
    except NormsweepError as error:
        write_failure(out, rank, error.kind, error)
        print(
            f"{options.spec}: {error}" if isinstance(error, UserError) else error, file=sys.stderr
        )
        return error.exit_code
    except Exception as error:
        if (full := disk_full(error, out)) is not None:
            write_disk_full(out, rank, full)
            with suppress(OSError):  # the output may be on the same disk
                print(full, file=sys.stderr, flush=True)
            return full.exit_code
        write_unexpected(out, rank, error, spec)
        raise
    return EXIT_PREEMPTED if outcome == "preempted" else 0


def end_with(parent: int) -> None:
    """On Linux, have the kernel kill this process when `parent`, its host, ends in any way."""
    pr_set_pdeathsig = 1  # <sys/prctl.h>
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    # The signal comes only for a parent that ends from now on.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
