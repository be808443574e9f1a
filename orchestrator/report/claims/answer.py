"""The answer to a sweep's question in one sentence, from the claims that the sweep can judge.

Nothing understands the question. The claims that share most words with it come first, a user's own
before the paper's, and of equally many words the decided ones. The sentence quotes the first
MOST_QUOTED. If none of these is decided, it says what deciding the first would take.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from orchestrator.plan.expand import Plan
from orchestrator.report.claims.judging import Judged
from orchestrator.report.words import listed

MOST_QUOTED = 3
SHORTEST_WORD = 4  # letters; shorter ones are in every sentence, and so are these
VERDICTS = {
    "holds": ("holds", "hold"),
    "fails": ("fails", "fail"),
    "undecided": ("is undecided", "are undecided"),
}
EVERYWHERE = frozenset({"doe", "from", "have", "more", "than", "that", "what", "when", "with"})


def answer(plan: Plan, found: Sequence[Judged]) -> str:
    """The sentence; it begins with "Undecided: " if no claim that it would quote is decided."""
    here = by_relevance(plan.question, [judged for judged in found if judged.is_here])
    if not here:
        return "Undecided: none of the claims is about norms and places of this sweep."
    first, others = here[:MOST_QUOTED], here[MOST_QUOTED:]
    if all(judged.verdict == "undecided" for judged in first):
        return f"Undecided: {_takes(here[0])}{_others(here[1:])}."
    return f"{listed(map(_stated, first))}{_others(others)}."


def by_relevance(question: str, found: Sequence[Judged]) -> list[Judged]:
    """Claims in the order in which they answer a question."""
    asked = _words(question)
    return sorted(
        found,
        key=lambda judged: (
            not judged.is_own,
            -len(asked & _words(judged.claim.sentence)),
            judged.verdict == "undecided",
        ),
    )


def _stated(judged: Judged) -> str:
    is_open = judged.verdict == "undecided"
    verdict = "is undecided" if is_open else judged.verdict
    return f"{_quoted(judged)} {verdict}{_numbers(judged)}"


def _takes(judged: Judged) -> str:
    takes = f", {judged.missing.first}" if judged.missing.first else ""
    return f"{_quoted(judged)}{_numbers(judged)}{takes}"


def _others(rest: Sequence[Judged]) -> str:
    """The number of further claims with each verdict."""
    counts = Counter(str(judged.verdict) for judged in rest)
    said = [(verdict, counts[verdict]) for verdict in VERDICTS if counts[verdict]]
    if not said:
        return ""
    if len(said) == 1:
        ((verdict, number),) = said
        which = "the other claim" if number == 1 else f"the {number} other claims"
        return f"; {which} {VERDICTS[verdict][number > 1]}"
    each = [f"{number} {VERDICTS[verdict][number > 1]}" for verdict, number in said]
    return f"; of {len(rest)} other claims {listed(each)}"


def _quoted(judged: Judged) -> str:
    sentence = judged.claim.sentence.rstrip(".")
    return f"\N{LEFT DOUBLE QUOTATION MARK}{sentence}\N{RIGHT DOUBLE QUOTATION MARK}"


def _numbers(judged: Judged) -> str:
    found = judged.evidence
    return f" ({found.in_words(judged.unit)})" if found is not None else ""


def _words(text: str) -> set[str]:
    """The longer words of a text, lower case and without a plural's s."""
    found = re.findall(r"[a-z0-9]+(?:[-_][a-z0-9]+)*", text.lower())
    words = {word.removesuffix("s") for word in found if len(word) >= SHORTEST_WORD}
    return words - EVERYWHERE
