"""Compiles every norm, with shapes unchecked: torch.compile cannot follow the code that checks
them.

`python -m tests.compiled_norms` prints one JSON object: norm -> what went wrong, or null.
"""

from __future__ import annotations

import json

import torch

from trainers.catalog import NORMS


def difference(name: str) -> str | None:
    torch.compiler.reset()
    norm = NORMS[name].load()(6, **NORMS[name].resolve({})).double()
    for parameter in norm.parameters():
        torch.nn.init.normal_(parameter)
    drawn = torch.randn(3, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    x = (drawn * 3 + 1).requires_grad_()
    results = []
    try:
        for call in (norm, torch.compile(norm, backend="eager", fullgraph=True)):
            normed = call(x)
            results.append(
                (normed.tokens, *torch.autograd.grad(normed.restore(normed.tokens).sum(), x))
            )
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    except (AssertionError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    print(json.dumps({entry.name: difference(entry.name) for entry in NORMS}))
