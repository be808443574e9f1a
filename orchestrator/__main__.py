"""`python -m orchestrator` is the command `normsweep`."""

from orchestrator.cli import main

main()
