"""One lab for all tests on a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.deployment import started
from tests.cluster.lab import Lab, why_not


@pytest.fixture(scope="session")
def lab(photographs: Path) -> Iterator[Lab]:
    """A real cluster with everything in `k8s/` on it. Skips, with a reason, where none can run."""
    if (reason := why_not()) is not None:
        pytest.skip(reason)
    with started(photographs) as made:
        yield made
