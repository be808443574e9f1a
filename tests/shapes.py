"""Shapes in annotations, `Float[Tensor, "B N C"]`, are checked at every call (jaxtyping, beartype).

They are checked in the processes of tests alone. The processes that train, which tests start as
users do, check nothing and need neither package.
"""

from __future__ import annotations

import builtins
import sys

import jaxtyping

SHAPED = ("trainers.backbones", "trainers.norms", "trainers.probes")
NAMES = ("Float", "Int", "Shaped")


def check_shapes() -> None:
    """Call this before any of SHAPED is imported."""
    early = [name for name in sys.modules if name.startswith(SHAPED)]
    assert not early, f"imported before their shapes could be checked: {early}"
    # Modules import these names for type checkers only, so that none needs jaxtyping to run. The
    # annotations are text, and whatever evaluates them looks among the builtins last.
    for name in NAMES:
        setattr(builtins, name, getattr(jaxtyping, name))
    jaxtyping.install_import_hook(SHAPED, "beartype.beartype")
