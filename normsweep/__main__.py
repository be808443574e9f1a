"""`python -m normsweep`: the command `normsweep`."""

import os
import sys

# Before anything else is imported, as in orchestrator/__main__.py and for its reason.
root = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
if __name__ == "__main__" and not sys.flags.safe_path and os.path.realpath(sys.path[0]) != root:
    del sys.path[0]

from orchestrator.__main__ import main  # noqa: E402

if __name__ == "__main__":
    main()
