"""`normsweep run` inside a cluster's job: its outcome is kept in the store, its exit code asks for a new cluster or not."""

from __future__ import annotations

import sys
from collections.abc import Callable

from orchestrator.errors import NormsweepError, TrialsFailed, UserError
from orchestrator.store import open_store
from orchestrator.store.jobs import write_outcome

SETTLED = frozenset({0, UserError.exit_code, TrialsFailed.exit_code})  # which no new cluster would change


def run_for_job(job: str, store_uri: str, run: Callable[[], int]) -> int:
    """`run()`; 0 where its outcome is settled and kept, otherwise its exit code."""
    message = ""
    try:
        code = run()
    except NormsweepError as error:
        code, message = error.exit_code, str(error)
        print(message, file=sys.stderr)
    if code not in SETTLED:
        return code
    write_outcome(open_store(store_uri), job, code, message)
    return 0
