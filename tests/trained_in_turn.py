"""Trains tiny trials in one process that has forked nothing: `python -m tests.trained_in_turn DIR`.

DIR holds a folder with `spec.json` for each trial, which becomes its run folder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from trainers.data.cache import Cache
from trainers.loop import Given, Rank, train
from trainers.spec import RunSpec


def main() -> None:
    for out in sorted(Path(sys.argv[1]).iterdir()):
        spec = RunSpec.from_json((out / "spec.json").read_bytes())
        train(spec, out, Given(Rank(0, 0, 1), None, (), Cache(out / "cache")))


if __name__ == "__main__":
    main()
