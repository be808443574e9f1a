"""The findings that stand out, judged by the numbers of the tables alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from orchestrator.plan.axes import COMPARED
from orchestrator.plan.states import State
from orchestrator.report import difference_tables, tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.contents import Report
from orchestrator.report.families import Difference
from orchestrator.report.frame import Frame, keyed, records, where
from orchestrator.report.growth_tables import factor, times
from orchestrator.report.growths import NormGrowth
from orchestrator.report.words import brief, listed
from orchestrator.statistics.interval import Interval, Unknown


def blocks(report: Report) -> tuple[Block, ...]:
    found = _findings(report)
    return (text("list", *found),) if found else ()


def _findings(report: Report) -> list[str]:
    """A sentence for everything that stands out."""
    found = []
    for task in report.frame.names("task"):
        for dataset in report.frame.evaluation_sets():
            found += _told(report, tables.Column(task, dataset, "psnr"))
        found += _growths(report, task)
    return [*found, *_gone(report)]


def _gone(report: Report) -> list[str]:
    """The trials that diverged, and those that failed with the reason of the first."""
    trials, said = report.frame.trials, []
    diverged = records(trials[trials["state"] == State.DIVERGED])
    if diverged:
        names = [f"{row['name']} (step {row['step']:.0f})" for row in diverged]
        said.append(f"Diverged: {_first(names)}.")
    said += stopped_in_words(report.frame)
    failed = records(trials[trials["state"].isin([State.FAILED, State.INFEASIBLE])])
    if failed:
        reason = brief(failed[0]["reason"]).rstrip(".")
        why = f" The first: {reason}." if reason else ""
        said.append(f"Failed: {_first([row['name'] for row in failed])}.{why}")
    return said


def stopped_in_words(frame: Frame) -> list[str]:
    """How many trials were stopped early, and how much of their training that saved."""
    trials, looks = frame.trials, frame.looks
    stopped = records(trials[trials["state"] == State.STOPPED])
    results = [look.result for row in stopped if (look := looks.get(row["trial"])) is not None]
    taken = sum(int(result["step"]) for result in results if result is not None)
    planned = sum(int(row["steps"]) for row in stopped)
    if not stopped:
        return []
    names = [f"{row['name']} (step {row['step']:.0f})" for row in stopped]
    return [
        f"Stopped early: {len(stopped)} of {len(trials)} trials, which took {taken:,} of their "
        f"{planned:,} steps: {_first(names)}. No average includes them."
    ]


def _first(names: Sequence[str]) -> str:
    more = [f"and {len(names) - 5} more"] if len(names) > 5 else []
    return ", ".join([*names[:5], *more])


def _growths(report: Report, task: str) -> list[str]:
    """What the features of each norm have done since step 0, a sentence for each panel."""
    frame, said = report.frame, []
    if not report.drawn("trace"):
        return []
    by = [*frame.tables_by, *frame.panels_by]
    for labels, _ in keyed(where(frame.trials, {"task": task}), *by):
        lines = [line for line in report.growths if labels.items() <= line.labels.items()]
        of_norms = (
            _growth(norm, [line for line in lines if line.labels[COMPARED] == norm])
            for norm in dict.fromkeys(line.labels[COMPARED] for line in lines)
        )
        name = frame.named(by if len(frame.names("backbone")) > 1 else frame.panels_by, labels)
        said.append(f"{name}: growth of the features since step 0: {'; '.join(of_norms)}.")
    return said


def _growth(norm: str, lines: Sequence[NormGrowth]) -> str:
    """`i_ln bounded at 3 of 4 sizes, undecided at 1 (× 0.7 to × 0.9)`."""
    verdicts = Counter(line.growth.verdict for line in lines).most_common()
    if len(verdicts) == 1:
        words = verdicts[0][0] + _at_all(len(lines))
    else:
        (first, most), *others = verdicts
        words = f"{first} at {most} of {len(lines)} sizes"
        words += "".join(f", {verdict} at {n}" for verdict, n in others)
    factors = [found for line in lines if (found := factor(line.growth).value) is not None]
    if not factors:
        return f"{norm} {words}"
    low, high = times(min(factors)), times(max(factors))
    return f"{norm} {words} ({low if low == high else f'{low} to {high}'})"


def _at_all(num_sizes: int) -> str:
    if num_sizes == 1:
        return ""
    return " at both sizes" if num_sizes == 2 else f" at all {num_sizes} sizes"


def _told(report: Report, column: tables.Column) -> list[str]:
    """The norms that differ from the baseline by PSNR, at which sizes and by how much.

    Where none does, the differences that would have been found.
    """
    words = report.frame.size_words
    several = len(report.frame.trials[report.frame.tables_by].drop_duplicates()) > 1
    found = [
        (
            ", ".join(
                [*[*map(str, family.labels.values())] * several, words[family.size], *recipe]
            ),
            norm,
            one,
        )
        for family in report.families
        if family.is_plain
        for ((task, name, metric, *recipe), norm), one in family.differences.items()
        if (task, name, metric) == (column.task, column.dataset, column.metric)
    ]
    judged = [(at, norm, one) for at, norm, one in found if one.p is not None]
    base = report.families[0].baseline if report.families else ""
    said = []
    for norm in dict.fromkeys(norm for _, norm, _ in judged):
        own = [(at, one) for at, of, one in judged if of == norm]
        for word, sign in (("above", 1), ("below", -1)):
            told = [(at, one) for at, one in own if one.is_told and sign * _mean(one) > 0]
            if told:
                said.append(f"{norm} is {word} {base} {_where(told, len(own), column)}")
    if untold := [one for _, _, one in judged if not one.is_told]:
        found_by = _detectable(untold, column)
        said.append(
            f"other differences are undecided{found_by}"
            if said
            else f"no norm can be told from {base}{found_by}"
        )
    open_ones = [one for one in found if one[2].p is None and one[2].both_scored]
    reasons = {difference_tables.undecided(one) for _, _, one in open_ones}
    said += reasons if len(reasons) == 1 and len(open_ones) == len(found) else _undecided(open_ones)
    return [f"{column.task}, PSNR on {column.dataset}: {'; '.join(said)}."] if said else []


def _undecided(found: Sequence[tuple[str, str, Difference]]) -> list[str]:
    """`i_ln at width 24, depth 2: undecided, one seed`; norms and sizes by reason."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for at, norm, one in found:
        reason = difference_tables.undecided(one)
        reasons.setdefault(reason, {}).setdefault(norm, []).append(at)
    return [
        f"{', '.join(f'{norm} at {listed(sizes)}' for norm, sizes in norms.items())}: {reason}"
        for reason, norms in reasons.items()
    ]


def _mean(one: Difference) -> float:
    found = one.contrast.other_seeds
    assert isinstance(found, Interval)
    return found.estimate


def _where(told: Sequence[tuple[str, Difference]], total: int, column: tables.Column) -> str:
    """`at width 24 (+0.30 dB [+0.22, +0.38])`, or at how many of the sizes and by how much."""
    if len(told) <= 2:
        parts = []
        for at, one in told:
            found = one.contrast.other_seeds
            assert isinstance(found, Interval)
            interval = difference_tables.bounds(column, found)
            estimate = difference_tables.signed(column, found.estimate)
            parts.append(f"at {at} ({estimate} dB {interval})")
        return " and ".join(parts)
    sizes = [abs(_mean(one)) for _, one in told]
    return (
        f"at {len(told)} of {total} sizes "
        f"(by {column.text(min(sizes))} to {column.text(max(sizes))} dB)"
    )


def _detectable(ones: Sequence[Difference], column: tables.Column) -> str:
    seen = [
        one.contrast.detectable for one in ones if not isinstance(one.contrast.detectable, Unknown)
    ]
    if not seen:
        return ""
    low, high = column.text(min(seen)), column.text(max(seen))
    span = low if low == high else f"{low} to {high}"
    return f" (one of {span} dB would be found in 80 % of cases)"
