"""What `trainers.build.build_model` gives every backbone besides its knobs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from trainers.norms.base import Norm

MakeNorm = Callable[[int], Norm]  # from channels


class Around(NamedTuple):
    """The network around the blocks, as the spec and the task want it.

    A backbone without norms at its ends (`Shape.has_ends`) makes neither of the two.
    """

    make_embed_norm: MakeNorm  # after the patch embedding
    make_end_norm: MakeNorm  # before the head
    stdnorm: bool  # whether inputs are standardised
    scale: int  # of the output to the input
