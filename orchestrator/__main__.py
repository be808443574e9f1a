"""`python -m orchestrator` and the command `normsweep`."""

import os
import sys

# `python -m` puts the working folder first on the path, so that a `copy.py` in it would hide
# Python's own. The entry stays if it is the checkout's root, through which this package is found.
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
    """The entry point. Signals are heeded before the imports that take time."""
    try:
        signals.install()
        os.environ.setdefault("PYTHONSAFEPATH", "1")  # inherited by every Python started from here
        from orchestrator.cli import main as cli

        code = cli()
    except Interrupted as interrupted:
        code = interrupted.exit_code
    sys.exit(code)


if __name__ == "__main__":
    main()
