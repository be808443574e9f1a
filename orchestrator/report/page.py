"""The report of a sweep: one self-contained HTML page, the same in Markdown, the figures and the numbers as files.

    index.html                     everything, no request to anywhere
    report.md, figures/*.svg       for a pull request or a paper's repository
    table.csv, traces.csv, correlation.csv, trials.csv

Every file is written aside and renamed, index.html last. Other files in the folder are left alone.
"""

from __future__ import annotations

import csv
import io
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.axes import COMPARED
from orchestrator.plan.expand import Plan
from orchestrator.plan.states import State
from orchestrator.report import correlation, protocol, tables
from orchestrator.report.drawing import Figure, norm_styles
from orchestrator.report.figures import all_figures
from orchestrator.report.frame import Frame, in_words, keyed, read_frame, records, where
from orchestrator.store import open_store, read_store
from trainers.durable import write_aside

TRACED = ("feature/", "train/loss", "val/")


@dataclass(frozen=True)
class Report:
    """All that the templates show."""

    plan: Plan
    frame: Frame
    comparisons: tuple[tables.Comparison, ...]
    divergence: pd.DataFrame
    correlations: tuple[correlation.Correlation, ...]
    figures: list[Figure]
    written: datetime


def build(plan: Plan, frame: Frame, written: datetime) -> Report:
    rows = correlation.divergence(frame)
    found = correlation.correlations(frame, rows)
    return Report(plan, frame, tables.comparisons(frame), rows, found, all_figures(frame, rows, found), written)


@dataclass(frozen=True)
class Written:
    """A report that was written: where its page is, and the text of each of its files."""

    page: str
    files: Mapping[str, str]


def write_report(
    plan: Plan,
    store_uri: str,
    tracking_uri: str | None = None,
    out: Path | None = None,
    *,
    frame: Frame | None = None,
) -> Written:
    """Write the report of what the store holds now, to the folder `out` or to `sweeps/<name>/report` in the store.

    With `tracking_uri` the files become artifacts in the sweep's MLflow experiment too, once a trial began and where its
    database is there; if MLflow does not answer, that is said on stderr. Raises UserError for an address that is none,
    EnvironmentProblem where the files cannot be written. `frame`: what the store holds, if it has just been read.
    """
    store = read_store(store_uri)
    frame = read_frame(plan, store) if frame is None else frame
    files = render(build(plan, frame, datetime.now(UTC)))
    if out is not None:
        _write(files, out)
    else:
        _put(files, store_uri, _prefix(plan))
    if tracking_uri is not None and frame.attempts and _is_there(tracking_uri):
        _log(plan, tracking_uri, files)
    return Written(f"{out or f'{store.uri}/{_prefix(plan)}'}/index.html", files)


def _prefix(plan: Plan) -> str:
    return f"sweeps/{plan.sweep}/report"


def _put(files: Mapping[str, str], store_uri: str, prefix: str) -> None:
    try:
        store = open_store(store_uri)
        for name, text in files.items():
            store.put(f"{prefix}/{name}", text.encode())
    except EnvironmentProblem as error:
        raise EnvironmentProblem(
            f"{error}\nThe report of a store that can only be read goes elsewhere: --out DIR."
        ) from error


def _is_there(tracking_uri: str) -> bool:
    """Whether there may be something to log to: a report makes no database."""
    database = tracking_uri.removeprefix("sqlite:///")
    return database == tracking_uri or Path(database).is_file()


def _write(files: Mapping[str, str], folder: Path) -> None:
    try:
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_aside(folder / name, text.encode())
    except OSError as error:
        raise EnvironmentProblem(
            f"The report cannot be written to {folder}: {error.strerror}. Choose another with --out."
        ) from error


def _log(plan: Plan, tracking_uri: str, files: Mapping[str, str]) -> None:
    from orchestrator.tracking.address import parse

    try:
        address = parse(tracking_uri)
        if address.database is not None and not address.database.exists():
            return  # a report reads; runs and `sync` make the database
        from orchestrator.tracking.mlflow import Mirror

        mirror = Mirror(tracking_uri, plan)
        mirror.log_report(files)
        for note in mirror.notes:
            print(note, file=sys.stderr)
    except EnvironmentProblem as error:
        print(f"The report is written, but not logged. {error}", file=sys.stderr)


def render(report: Report) -> dict[str, str]:
    """File name -> text; index.html is the last one."""
    context = _context(report)
    traced = report.frame.points[report.frame.points["metric"].str.startswith(TRACED)]
    return {
        **{f"figures/{figure.slug}.svg": figure.for_file() for figure in report.figures},
        "table.csv": _csv(tables.as_frame(report.comparisons)),
        "traces.csv": _csv(traced.drop(columns=["time", "size"])),
        "correlation.csv": _csv(correlation.as_frame(report.frame, report.correlations)),
        "trials.csv": _csv(report.frame.trials.drop(columns=["evaluate"])),
        "report.md": _template("report.md.j2").render(context),
        "index.html": _template("page.html.j2").render(context),
    }


def _csv(frame: pd.DataFrame) -> str:
    """RFC 4180 with \\n; a number that is not finite is nan, inf or -inf, a missing one is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(
        ["" if value is None else value for value in row] for row in frame.itertuples(index=False, name=None)
    )
    return text.getvalue()


def _template(name: str) -> jinja2.Template:
    # The Markdown is no HTML: escaping there would show in the text.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=jinja2.select_autoescape(("html.j2",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(number=_number, count=_count, cell=_cell_text)
    return environment.get_template(name)


def _context(report: Report) -> dict[str, Any]:
    frame, plan = report.frame, report.plan
    states = frame.states()
    ended = sum(states.get(state, 0) for state in State if state.has_result)
    return {
        "report": report,
        "sweep": plan.sweep,
        "question": plan.question,
        "file": plan.path.name,
        "written": report.written.strftime("%Y-%m-%d %H:%M UTC"),
        "states": states,
        "total": len(frame.trials),
        "ended": ended,
        "excluded": len(plan.excluded),
        "folded": len(plan.folded),
        "findings": _findings(report),
        "styles": norm_styles(frame.names(COMPARED)),
        "norms": protocol.norms(plan, frame.recorded),
        "settings": protocol.settings(plan, frame.recorded),
        "edited": protocol.edited(plan, frame.recorded),
        "evaluation": protocol.evaluation(plan, frame.recorded),
        "damage": frame.damage,
        "trials": _trials(frame),
        "machines": _machines(frame),
        "seeds": frame.repeats,
        "rows_by": frame.rows_by,
        "units": tables.UNITS,
        "figures": {kind: [f for f in report.figures if f.slug.split("-")[0] == kind] for kind in KINDS},
    }


KINDS = ("trace", "size", "entropy", "loss", "psnr", "groups")


def _findings(report: Report) -> list[str]:
    """What stands out, one sentence each, from the numbers of the tables alone."""
    found = []
    for task in report.frame.names("task"):
        for dataset in report.frame.evaluation_sets():
            found += _winners(report, tables.Column(task, dataset, "psnr"))
        for labels, rows in keyed(where(report.divergence, {"task": task}), *report.frame.panels_by):
            found += _spread(report.frame.named(report.frame.panels_by, labels), rows)
    gone = records(report.frame.trials[report.frame.trials["state"] == State.DIVERGED])
    if gone:
        names = [f"{row['name']} (step {row['step']:.0f})" for row in gone[:5]]
        more = [f"and {len(gone) - 5} more"] if len(gone) > 5 else []
        found.append(f"Diverged: {', '.join(names + more)}.")
    return found


def _spread(name: str, divergence: pd.DataFrame) -> list[str]:
    """From where to where the features of the norms in one panel are."""
    rows = records(divergence[divergence["value"].map(math.isfinite)])
    if len({row[COMPARED] for row in rows}) < 2:
        return []
    low, top = (choose(rows, key=lambda row: row["value"]) for choose in (min, max))
    where_low, where_top = (f"({row[COMPARED]}, {row['size']})" for row in (low, top))
    return [
        f"{name}: at step {top['step']} the largest group's mean square is from {_number(low['value'])} {where_low} "
        f"to {_number(top['value'])} {where_top}."
    ]


def _winners(report: Report, column: tables.Column) -> list[str]:
    """Which norm has the highest value of a column, at how many of the sizes and by how much."""
    leads: dict[str, list[tuple[float, str]]] = {}
    total = 0
    for table in report.comparisons:
        i = table.columns.index(column)
        ranked = sorted(
            ((row.cells[i].mean, row.name) for row in table.rows if row.cells[i].mean is not None), reverse=True
        )
        if len(ranked) > 1:
            total += 1
            (best, norm), (second, other) = ranked[:2]
            assert best is not None
            assert second is not None
            where = f"{table.size} ({column.text(best)} dB, {best - second:+.2f} on {other})"
            leads.setdefault(norm, []).append((best - second, where))
    if not leads:
        return []
    if total <= 2:
        said = [f"{norm} at {' and '.join(where for _, where in lead)}" for norm, lead in leads.items()]
    else:
        said = [
            f"{norm} at {len(lead)} of {total} sizes (by {min(lead)[0]:.2f} to {max(lead)[0]:.2f} dB)"
            for norm, lead in leads.items()
        ]
    return [f"{column.task}: highest PSNR on {column.dataset}: {'; '.join(said)}."]


def _trials(frame: Frame) -> list[dict[str, Any]]:
    spans = frame.points.groupby("trial")["time"].agg(lambda times: times.max() - times.min()).to_dict()
    return [{**row, "words": in_words(row), "seconds": spans.get(row["trial"])} for row in records(frame.trials)]


def _machines(frame: Frame) -> list[dict[str, Any]]:
    """The attempts' hosts, commits and versions, with how many attempts ran there."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for attempt in frame.attempts:
        versions = attempt.get("versions") or {}
        listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        counts[str(attempt.get("host", "unknown")), str(attempt.get("commit") or "unknown"), listed] += 1
    return [
        {"host": host, "commit": commit[:12], "versions": versions, "attempts": n}
        for (host, commit, versions), n in counts.items()
    ]


def _number(value: float | None) -> str:
    """Three digits, without an exponent where that can be read."""
    if value is None or math.isnan(value):
        return "\N{EN DASH}"
    return f"{value:,.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"


def _count(value: float) -> str:
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _cell_text(cell: tables.Cell, column: tables.Column) -> Mapping[str, str]:
    """A cell in words: value, spread, note."""
    value = "" if cell.mean is None else column.text(cell.mean)
    spread = f"± {column.text(cell.sd)}" if cell.sd is not None else ""
    seeds = [f"n = {cell.n}"] if cell.sd is not None or (cell.n and cell.missing) else []
    return {"value": value, "spread": spread, "note": ", ".join([*seeds, *cell.missing])}
