"""`normsweep run` inside a cluster's job: its outcome goes to the store, for `submit` and `status`.

An exit code other than 0 asks for a new cluster.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from collections.abc import Set as AbstractSet

from orchestrator.errors import NormsweepError, TrialsFailed, UserError
from orchestrator.store import open_store
from orchestrator.store.ending import Ended
from orchestrator.store.jobs import write_outcome

# A new cluster would not change these.
SETTLED = frozenset({0, UserError.exit_code, TrialsFailed.exit_code})


def run_for_job(
    job: str,
    store_uri: str,
    run: Callable[[], Ended],
    also: AbstractSet[int] = frozenset(),
) -> int:
    """Call `run()`. Returns 0 once its outcome is settled and kept, otherwise its exit code.

    `also`: exit codes that are settled too if `run()` returns them instead of raising.
    """
    settled = SETTLED | also
    try:
        ended = run()
    except NormsweepError as error:
        ended, settled = Ended(error.exit_code, (str(error),)), SETTLED
        print(error, file=sys.stderr)
    if ended.exit_code not in settled:
        return ended.exit_code
    write_outcome(
        open_store(store_uri), job, ended.exit_code, "\n".join(ended.warnings), ended.summary
    )
    return 0
