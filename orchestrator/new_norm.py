"""`normsweep new-norm`: a norm to start from, and its test, in the working folder."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from pathlib import Path

from orchestrator.errors import EnvironmentProblem, UserError
from trainers.catalog import NORMS

NAME = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
LONGEST = 60  # characters of a name
NORM = '''\
"""CLASS: each token divided by the root mean square of its channels. Make it yours."""

import torch
from torch import Tensor, nn

from trainers.norms.base import Norm, Normed, widened


class CLASS(Norm):
    """x / sqrt(mean_C(x^2) + eps) * weight, for tokens x (B, N, C) of B images."""

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Normed:
        x = widened(x, self.weight)  # statistics in float32, also under autocast
        return Normed(x * (x.square().mean(2, keepdim=True) + self.eps).rsqrt() * self.weight)
'''
TEST = '''\
"""CLASS equals its formula, written out in float64."""

import torch

from MODULE import CLASS


def test_it_equals_its_formula() -> None:
    x = torch.randn(2, 6, 8, generator=torch.Generator().manual_seed(0))
    wide = x.double()
    expected = wide / (wide.pow(2).mean(dim=2, keepdim=True) + 1e-3).sqrt()
    found = CLASS(8, eps=1e-3)(x).tokens.double()
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_tokens_of_zeros_stay_finite() -> None:
    assert CLASS(8)(torch.zeros(1, 4, 8)).tokens.isfinite().all()
'''


def new_norm(name: str, folder: Path) -> str:
    """Write NAME.py and test_NAME.py in a folder; returns what to do next.

    Raises UserError for a name that cannot be one and for files that exist, EnvironmentProblem if
    the folder cannot be written.
    """
    _check_form(name)
    title = "".join(part.capitalize() for part in name.split("_"))
    files = {folder / f"{name}.py": NORM, folder / f"test_{name}.py": TEST}
    there = [path for path in [*files, folder / name] if path.exists()]
    if there:
        raise UserError(
            f"{there[0].name} exists in {folder}, and is not overwritten. Give another name."
        )
    _check_free(name)
    try:
        for path, text in files.items():
            with path.open("x") as file:
                file.write(text.replace("CLASS", title).replace("MODULE", name))
    except OSError as error:
        raise EnvironmentProblem(f"{folder} cannot be written: {error.strerror}.") from error
    return (
        f"Wrote {name}.py and test_{name}.py. Next:\n"
        f"  normsweep check-norm {name}:{title}\n"
        f"  norm: [layer_norm, {name}:{title}]    # below `axes:` of a sweep file in this folder\n"
        "  normsweep plan FILE                   # that sweep file"
    )


def _check_form(name: str) -> None:
    """Raise UserError if this cannot be the name of a module."""
    if not NAME.fullmatch(name) or len(name) > LONGEST or keyword.iskeyword(name):
        raise UserError(
            f"new-norm {name}: not a module's name. Give small letters, digits and single "
            f"underscores, at most {LONGEST}, such as my_norm."
        )


def _check_free(name: str) -> None:
    """Raise UserError if a norm or a module has this name already."""
    if name in NORMS.names:
        raise UserError(f"new-norm {name}: a norm of this name is built in. Give another name.")
    if name in sys.stdlib_module_names or importlib.util.find_spec(name) is not None:
        raise UserError(
            f"new-norm {name}: a module of this name is installed, and yours would hide it in its "
            "own tests. Give another name."
        )
