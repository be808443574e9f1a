"""One trial by hand: `python -m trainers RUN.json --out DIR`, alone or under `torchrun` / `deepspeed`.

RUN.json is a RunSpec, as `normsweep plan FILE --json` prints under "spec". A run folder that holds an intact
checkpoint is continued from it. Exit codes: 0 ended (`result.json` says how), 2 the spec, the flags, the data or the
initial weights are wrong, 3 the cache cannot hold the data, 75 preempted by SIGTERM after a checkpoint, 1 anything
else; then `failure-rank-<r>.json` says what.
"""

from __future__ import annotations

import argparse
import ctypes
import inspect
import os
import signal
import sys
import traceback
from pathlib import Path

from trainers.checkpoint import newest_intact
from trainers.data.manifests import DatasetProblem
from trainers.durable import write_json
from trainers.spec import BadSpec, RunSpec

EXIT_BAD_INPUT = 2
EXIT_MACHINE = 3
EXIT_PREEMPTED = 75  # EX_TEMPFAIL: run it again
SAID_OF_MEMORY = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDNN_STATUS_ALLOC_FAILED")
# Where a smaller micro-batch would not help against a lack of memory, by (module, function).
PLACES = {
    ("trainers.engine", "__init__"): "set-up",
    ("trainers.evaluate", ""): "evaluation",
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainers", description="Train one trial from its RunSpec.")
    parser.add_argument("spec", type=Path, metavar="RUN.json", help="a RunSpec")
    parser.add_argument("--out", type=Path, required=True, help="the run folder; made if missing")
    parser.add_argument("--resume", type=Path, help="folder of a checkpoint; default: the newest intact one in --out")
    parser.add_argument("--data", type=Path, action="append", default=[], metavar="ROOT", help="where data sets lie")
    initial_help = "the file of weights whose content `training.initial` names"
    parser.add_argument("--initial", type=Path, metavar="FILE", help=initial_help)
    cache_help = "this node's folder for decoded images; default: $NORMSWEEP_CACHE, then OUT/cache"
    parser.add_argument("--cache", type=Path, metavar="DIR", help=cache_help)
    parser.add_argument("--end-with", type=int, metavar="PID", help="be killed when this parent process ends")
    # What the `deepspeed` launcher appends; the environment's LOCAL_RANK says the same.
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.end_with is not None:
        _end_with(options.end_with)
    rank = int(os.environ.setdefault("RANK", "0"))
    local_rank = int(os.environ.setdefault("LOCAL_RANK", "0"))
    world_size = int(os.environ.setdefault("WORLD_SIZE", "1"))
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    if (out / "result.json").exists():
        print(f"{out}: this trial has ended; see result.json", file=sys.stderr)
        return 0

    def failed(kind: str, error: BaseException, **more: str) -> None:
        told = {"kind": kind, "message": str(error), "traceback": "".join(traceback.format_exception(error))}
        write_json(out / f"failure-rank-{rank}.json", {**told, **more})

    try:
        spec = RunSpec.from_json(options.spec.read_bytes())
        if spec.placement.workers != world_size:
            raise BadSpec(f"placement.workers is {spec.placement.workers}, but {world_size} ranks were started")
    except (OSError, BadSpec) as error:
        failed("spec", error)
        print(f"{options.spec}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT

    from trainers.data.cache import Cache, CacheProblem, cache_root
    from trainers.initial import InitialProblem
    from trainers.loop import Rank, train

    resume = options.resume
    if resume is None:
        found = newest_intact(out / "checkpoints")
        resume = found.folder if found else None
    try:
        cache = Cache(options.cache or cache_root(out / "cache"))
        here = Rank(rank, local_rank, world_size)
        outcome = train(
            spec, out, rank=here, resume=resume, data_roots=options.data, cache=cache, initial=options.initial
        )
    except DatasetProblem as error:
        failed("data", error)
        print(f"{options.spec}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except InitialProblem as error:
        failed("initial", error)
        print(f"{options.spec}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except CacheProblem as error:
        failed("cache", error)
        print(error, file=sys.stderr)
        return EXIT_MACHINE
    except BadSpec as error:  # a device that this rank does not see
        failed("spec", error)
        print(f"{options.spec}: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except Exception as error:
        if _is_out_of_memory(error):
            failed("cuda_oom", error, during=_place_of(error))
        elif told := _of_own_norm(error, spec):
            failed("norm", error, **told)
        else:
            failed("bug", error)
        raise
    return EXIT_PREEMPTED if outcome == "preempted" else 0


def _is_out_of_memory(error: Exception) -> bool:
    """Libraries that allocate beside torch's allocator say so in an error of another class."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or any(said in str(error) for said in SAID_OF_MEMORY)


def _place_of(error: BaseException) -> str:
    """What the loop was doing: the outermost frame that says, otherwise training."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if place := PLACES.get((module, function)) or PLACES.get((module, "")):
            return place
    return "training"


def _of_own_norm(error: Exception, spec: RunSpec) -> dict[str, str] | None:
    """What to tell of an error that a norm from outside the catalogue raised, its own frames first; None for any other error."""
    from trainers.catalog import NORMS

    norm = NORMS[spec.model.norm.name]
    if not norm.open_knobs:
        return None
    files = {part.__code__.co_filename for part in vars(norm.load()).values() if inspect.isfunction(part)}
    frames = list(traceback.walk_tb(error.__traceback__))
    own = [depth for depth, (frame, _) in enumerate(frames) if frame.f_code.co_filename in files]
    ours = [
        depth for depth, (frame, _) in enumerate(frames) if frame.f_globals.get("__name__", "").startswith("trainers.")
    ]
    if not own or max(ours, default=-1) > own[-1]:
        return None
    tail = error.__traceback__
    for _ in range(own[0]):
        tail = tail.tb_next if tail is not None else None
    frame, line = frames[own[-1]]
    where = f"{Path(frame.f_code.co_filename).name}, line {line}"
    told = traceback.format_exception(type(error), error, tail)
    return {
        "message": f"the norm {norm.name} raised {type(error).__name__}: {error} ({where})",
        "traceback": "".join(told),
    }


def _end_with(parent: int) -> None:
    """Linux: no rank outlives the process that hosts it, also where that one is killed outright."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
