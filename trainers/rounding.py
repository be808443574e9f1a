"""Half precision emulated in float32: the result of every operation is rounded to the format.

A kernel in half precision sums in float32 and rounds what it stores, hence results and not terms.
An operation is one call of torch (`linear`, `layer_norm`, `softmax`). A norm or attention is one
kernel, or in the literal emulation the operations in which it was published. See
docs/decisions/0008-what-fp16-means.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

# From tensors and numbers to a tensor, or to a tuple of tensors and None.
Formula = Callable[..., Any]


class RoundedResults(TorchDispatchMode):
    """Rounds what every operation writes. Views need nothing: what they show is rounded already."""

    def __init__(self, dtype: torch.dtype, *, literal: bool) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.dtype = dtype
        self.literal = literal
        self._inside = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        if self._inside or not returns:
            return result
        of = args[0] if args else None
        if isinstance(result, tuple | list):
            # A list is one return value, so its items share what the schema says about aliases.
            aliases = (
                [r.alias_info for r in returns]
                if len(returns) > 1
                else [returns[0].alias_info] * len(result)
            )
            return type(result)(
                self._written(value, alias, of)
                for value, alias in zip(result, aliases, strict=True)
            )
        return self._written(result, returns[0].alias_info, of)

    def _written(self, value: Any, alias: Any, of: Any) -> Any:
        if not isinstance(value, Tensor) or alias is None or not value.is_floating_point():
            return self.rounded(value)
        if alias.is_write:  # in place: the result is one of the arguments
            return value.copy_(value.to(self.dtype))
        # `to` and `reshape` may return a view or a copy. A copy can be new: integers become floats
        # that nothing has rounded yet.
        shared = (
            isinstance(of, Tensor)
            and of.untyped_storage().data_ptr() == value.untyped_storage().data_ptr()
        )
        return value if shared else self.rounded(value)

    def rounded(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return value
        return value.to(self.dtype).to(value.dtype)

    def as_one(self, formula: Formula, *arguments: Any) -> Any:
        """`formula` of the arguments as one operation, in float32 inside.

        Within another such operation it is a part of that one and is not rounded.
        """
        if self._inside:
            return formula(*arguments)
        self._inside = True
        try:
            result = formula(*arguments)
        finally:
            self._inside = False
        return (
            self.rounded(result) if isinstance(result, Tensor) else tuple(map(self.rounded, result))
        )


_emulation: ContextVar[RoundedResults | None] = ContextVar("emulation", default=None)


@contextmanager
def emulated(dtype: torch.dtype, *, literal: bool) -> Iterator[None]:
    """Round results to `dtype`; with `literal`, norms and attention one operation at a time too.

    It runs in inference mode, whatever the caller's mode, because torch then hands over each call
    whole. Otherwise it takes some apart (`rms_norm`, `linear` of four axes), in a way that depends
    on the device and on whether gradients are wanted.
    """
    mode = RoundedResults(dtype, literal=literal)
    token = _emulation.set(mode)
    try:
        with torch.inference_mode(), mode:
            yield
    finally:
        _emulation.reset(token)


def is_emulated() -> bool:
    """Whether half precision is being emulated: then the plain formula runs on every device."""
    return _current() is not None


def as_operation(formula: Formula, *arguments: Any) -> Any:
    """`formula` of the arguments: one operation, also literally, because torch has one for it."""
    mode = _current()
    return formula(*arguments) if mode is None else mode.as_one(formula, *arguments)


def as_kernel(formula: Formula, *arguments: Any) -> Any:
    """`formula` of the arguments: one operation, but literally as many as it is written in."""
    mode = _current()
    return formula(*arguments) if mode is None or mode.literal else mode.as_one(formula, *arguments)


def _current() -> RoundedResults | None:
    return None if torch.compiler.is_compiling() else _emulation.get()
