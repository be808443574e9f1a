"""The name under which Python runs the command: `python -m normsweep`. There is nothing else here.

The code is in `orchestrator` and `trainers`.
"""
