"""`entropy`: the channel entropy of features at the end, the smallest over groups, in nats.

The probe `entropy` measures it at every group, `features` at the last one alone; what a trial has
of both counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from orchestrator.regression.cases import Case
from orchestrator.regression.last import lasts
from orchestrator.regression.measured import Measured
from orchestrator.regression.seeds import Limit, of_seeds

ENTROPY = re.compile(r"feature/entropy(/group_\d+)?")
MISSING = "it recorded no channel entropy: put `features` or `entropy` in observe.probes"


def entropy(case: Case) -> Iterator[Measured]:
    if case.asked.entropy is None:
        return
    limit = Limit(case.asked.entropy, "nats", "at_least")
    yield of_seeds(case, case.key("entropy"), limit, lasts(case, ENTROPY, min, MISSING))
