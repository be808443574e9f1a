"""What each norm scores in one sweep, minus the same norm's scores in the first of the sweeps."""

from __future__ import annotations

from orchestrator.plan.axes import SWEEP
from orchestrator.report import drop_tables
from orchestrator.report.blocks import Block, text
from orchestrator.report.comparable import facts_of
from orchestrator.report.contents import Report
from orchestrator.report.words import listed

METHOD = (
    "Scores of the same norm, network, task and recipe, paired by seed and image, with 95 % "
    "intervals of t for other seeds on these images, or, with one seed, for other images with "
    "these weights. Sweeps that trained or scored otherwise cannot be compared, and the cell says "
    "in what they differ; a difference in the commit alone does not forbid it."
)


def blocks(report: Report) -> tuple[Block, ...]:
    if SWEEP not in report.frame.axes:
        return ()
    first, *others = report.frame.names(SWEEP.name)
    tables = drop_tables.tables(report, "sweep", f"scores minus those of {first}")
    if not tables:
        return (text("method", f"No norm has scores in {listed(others)}: nothing to compare."),)
    return (*tables, text("method", METHOD, *_commits(report)))


def _commits(report: Report) -> list[str]:
    """A sentence if the code was not the same in all sweeps."""
    commits: dict[str, dict[str, None]] = {}
    for row in report.frame.rows:
        if row["trial"] in report.frame.recorded:
            commit = facts_of(report.frame, row["trial"]).get("commit", "")
            commits.setdefault(str(row[SWEEP.name]), {})[commit] = None
    if len({commit for found in commits.values() for commit in found}) < 2:
        return []
    said = (f"{sweep} with {listed(found)}" for sweep, found in commits.items())
    return [f"They were trained by different commits: {'; '.join(said)}."]
