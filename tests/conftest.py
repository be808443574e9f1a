"""What all tests share: one thread, development photographs, and the operators that torchvision
lacks beside a CPU torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.shapes import check_shapes

check_shapes()

# These come after the hook that checks shapes. bucket, command and s3_port are fixtures.
from orchestrator import hints  # noqa: E402
from orchestrator.plan import Plan, Trial  # noqa: E402
from orchestrator.store import open_store  # noqa: E402
from orchestrator.store.base import Store  # noqa: E402
from tests.in_process import command  # noqa: E402, F401
from tests.s3 import bucket, s3_port  # noqa: E402, F401

torch.set_num_threads(1)

TORCHVISION_OPERATORS = (
    "nms",
    "qnms",
    "qroi_align",
    "roi_align",
    "_roi_align_backward",
    "roi_pool",
    "_roi_pool_backward",
    "ps_roi_align",
    "_ps_roi_align_backward",
    "ps_roi_pool",
    "_ps_roi_pool_backward",
    "deform_conv2d",
    "_deform_conv2d_backward",
)


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    """What a test gives to a command, no hint of the next one names."""
    yield
    hints.forget()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store, in a folder."""
    return open_store(str(tmp_path / "runs"))


@pytest.fixture
def trial(plan: Plan) -> Trial:
    """The first trial of the test's plan."""
    return plan.trials[0]


@pytest.fixture(scope="session")
def photographs() -> Path:
    """The folder of development photographs: $NORMSWEEP_DATA, or ../shared/data."""
    named = os.environ.get("NORMSWEEP_DATA", "").split(os.pathsep)[0]
    folder = Path(named) if named else Path(__file__).parents[2] / "shared" / "data"
    if not (folder / "benchmarks").is_dir():
        pytest.skip(f"no development photographs in {folder}: set NORMSWEEP_DATA")
    return folder


@pytest.fixture(scope="session")
def torchvision_operators() -> None:
    """Declares the compiled operators that PyPI's torchvision lacks beside a CPU torch."""
    for name in TORCHVISION_OPERATORS:
        torch.library.define(f"torchvision::{name}", "(Tensor x) -> Tensor")


@pytest.fixture(scope="session")
def spandrel_archs(torchvision_operators: None):
    """spandrel's architectures."""
    from spandrel.architectures.DRCT import DRCT
    from spandrel.architectures.HAT import HAT
    from spandrel.architectures.SwinIR import SwinIR

    return {"swinir": SwinIR, "hat": HAT, "drct": DRCT}


@pytest.fixture(scope="session")
def published_restormer(torchvision_operators: None):
    """The published Restormer, as spandrel_extra_arches has it."""
    from spandrel_extra_arches.architectures.Restormer import Restormer

    return Restormer
