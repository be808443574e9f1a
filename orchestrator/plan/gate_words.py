"""A gate in words: what it compares, and what it asks of each candidate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from orchestrator.plan.gate import Gate, GatePlan

MOST_NAMED = 12  # candidates; more are counted


def gate_as_text(gate: GatePlan) -> list[str]:
    """Two lines: baseline and candidates, then the questions with their limits."""
    names = [*gate.candidates, *(f"{label} (missing)" for label, _ in gate.unavailable)]
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    questions = "; ".join(questions_of(gate.asked))
    return [
        f"Gate: {', '.join(names[:MOST_NAMED])}{more} against {_baseline(gate)}.",
        f"  Asked: {questions}. Chance of any false alarm in {gate.asked.looks} looks: "
        f"{gate.asked.error_rate:.3g}.",
    ]


def gate_as_json(gate: GatePlan) -> dict[str, Any]:
    file = gate.file or gate.sweep
    return {
        "baseline": gate.norm or str(file),
        "candidates": list(gate.candidates),
        "unavailable": dict(gate.unavailable),
        "asked": list(questions_of(gate.asked)),
    }


def questions_of(gate: Gate) -> Iterator[str]:
    """Each question with its limit: `PSNR at most 0.1 dB lower`."""
    if gate.margin is not None:
        yield f"PSNR at most {gate.margin:g} dB lower"
    if gate.ssim_margin is not None:
        yield f"SSIM at most {gate.ssim_margin:g} lower"
    if gate.growth is not None:
        yield f"growth of features at most {gate.growth:g} times"
    if gate.entropy is not None:
        yield f"channel entropy at least {gate.entropy:g} nats"
    if gate.fp16 is not None:
        yield "no overflow in fp16"
    for what, ratio in (("time of a step", gate.step_time), ("memory", gate.memory)):
        if ratio is not None:
            yield f"{what} at most {ratio:g} times the baseline's"
    if gate.parameters is not None:
        yield "as many parameters"
    if gate.weights is not None:
        yield "final weights equal to the bit"
    for bounds, words in ((gate.at_most, "at most"), (gate.at_least, "at least")):
        yield from (f"{metric} {words} {limit:g}" for metric, limit in bounds.items())


def _baseline(gate: GatePlan) -> str:
    if gate.norm:
        return gate.norm
    return f"the same norm in {gate.file or gate.sweep}"
