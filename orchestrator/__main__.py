"""`python -m orchestrator` and the command `normsweep`."""

import os
import sys

# `python -m` puts the working folder first, whose `copy.py` would stand for Python's; a checkout is found through it, too.
root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if (
    __name__ == "__main__"
    and not sys.flags.safe_path
    and (not sys.path[0] or os.path.realpath(sys.path[0]) != root)
):
    del sys.path[0]

from orchestrator import signals  # noqa: E402
from orchestrator.errors import Interrupted  # noqa: E402


def main() -> None:
    """The entry point: heeds signals before anything that takes time is imported."""
    try:
        signals.install()
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # for every Python that is started from here
        from orchestrator.cli import main as cli

        code = cli()
    except Interrupted as interrupted:
        code = interrupted.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
