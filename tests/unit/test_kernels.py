"""Switches that choose torch's kernels. They are global, so each test has its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PRELUDE = """
import os, torch
from trainers.kernels import choose_kernels, tf32

def allowed():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
"""


def run(code: str) -> None:
    environment = {
        name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"
    }
    subprocess.run(
        [sys.executable, "-c", PRELUDE + code],
        cwd=Path(__file__).parents[2],
        env=environment,
        check=True,
    )


def test_fp32_is_fp32_and_tf32_is_allowed_only_where_it_is_asked_for() -> None:
    run("""
assert torch.backends.cudnn.allow_tf32, "torch's default, which is the trap"
choose_kernels(torch.device("cpu"))
assert allowed() == (False, False)
with tf32(True):
    assert allowed() == (True, True)
assert allowed() == (False, False)
try:
    with tf32(True):
        raise KeyError
except KeyError:
    assert allowed() == (False, False)
with tf32(False):
    assert allowed() == (False, False)
""")


def test_on_cuda_kernels_are_deterministic_or_refused_and_on_a_cpu_nothing_changes() -> None:
    run("""
choose_kernels(torch.device("cpu"))
assert not torch.are_deterministic_algorithms_enabled()
choose_kernels(torch.device("cuda"))
assert torch.are_deterministic_algorithms_enabled()
assert not torch.is_deterministic_algorithms_warn_only_enabled()
assert torch.backends.cudnn.deterministic and not torch.backends.cudnn.benchmark
assert not torch.utils.deterministic.fill_uninitialized_memory
assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
""")


def test_a_workspace_that_the_user_chose_is_left_alone() -> None:
    run("""
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":16:8"
choose_kernels(torch.device("cuda"))
assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
""")
