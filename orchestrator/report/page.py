"""The report of a sweep: one self-contained HTML page, the same in Markdown, the figures and the numbers as files.

    index.html                     everything, no request to anywhere
    report.md, figures/*.svg       for a pull request or a paper's repository
    table.csv, traces.csv, correlation.csv, trials.csv
    images.csv                     the scores of single images, where there are any

Every file is written aside and renamed, index.html last. Other files in the folder are left alone.
"""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from orchestrator.errors import EnvironmentProblem
from orchestrator.plan.expand import Plan
from orchestrator.plan.states import State
from orchestrator.report import correlation, tables
from orchestrator.report.blocks import Section, figures_in
from orchestrator.report.contents import Report, build
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.sections import sections
from orchestrator.store import open_store, read_store
from orchestrator.tracking import is_there
from trainers.durable import write_aside

UNTRACED = r"train/(?!loss$)"  # what the loop notes of itself; the rest is what probes and evaluations measured


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
    if tracking_uri is not None and frame.attempts and is_there(tracking_uri):
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
    from orchestrator.tracking.mirror import Mirror

    try:
        mirror = Mirror(tracking_uri, plan)
        mirror.log_report(files)
        for note in mirror.notes:
            print(note, file=sys.stderr)
    except EnvironmentProblem as error:
        print(f"The report is written, but not logged. {error}", file=sys.stderr)


def render(report: Report) -> dict[str, str]:
    """File name -> text; index.html is the last one."""
    made = sections(report)
    figures = [figure for section in made for figure in figures_in(section.blocks)]
    numbers = _numbers(report)
    context = _context(report, made, beside=["report.md", *numbers, "figures/"])
    return {
        **{f"figures/{figure.slug}.svg": figure.for_file() for figure in figures},
        **{name: _csv(frame) for name, frame in numbers.items()},
        "report.md": _template("report.md.j2").render(context),
        "index.html": _template("page.html.j2").render(context),
    }


def _numbers(report: Report) -> dict[str, pd.DataFrame]:
    """The numbers of the report, as files."""
    frame = report.frame
    traced = frame.points[~frame.points["metric"].str.match(UNTRACED)]
    images = {"images.csv": frame.images.drop(columns=["size"])} if len(frame.images) else {}
    return {
        "table.csv": tables.as_frame(report.comparisons),
        "traces.csv": traced.drop(columns=["time", "size"]),
        "correlation.csv": correlation.as_frame(frame, report.correlations),
        "trials.csv": frame.trials.drop(columns=["evaluate"]),
        **images,
    }


def _csv(frame: pd.DataFrame) -> str:
    """RFC 4180 with \\n; a number that is not finite is nan, inf or -inf, a missing one is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(frame.columns)
    writer.writerows(
        ["" if value is None else value for value in row]
        for row in frame.itertuples(index=False, name=None)
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
    environment.filters["in_cell"] = _in_cell
    return environment.get_template(name)


def _in_cell(text: str) -> str:
    """A text in a table of Markdown, where a bar or the end of a line ends the cell and `<` begins a tag."""
    return " ".join(text.split("\n")).replace("|", "\\|").replace("<", "&lt;")


def _context(report: Report, made: Sequence[Section], beside: Sequence[str]) -> dict[str, Any]:
    frame, plan = report.frame, report.plan
    states = frame.states()
    return {
        "sweep": plan.sweep,
        "question": plan.question,
        "file": plan.path.name,
        "written": report.written.strftime("%Y-%m-%d %H:%M UTC"),
        "states": states,
        "total": len(frame.trials),
        "ended": sum(states.get(state, 0) for state in State if state.has_result),
        "excluded": len(plan.excluded),
        "folded": len(plan.folded),
        "seeds": frame.repeats,
        "sections": made,
        "beside": beside,
    }
