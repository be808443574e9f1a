"""The report of a sweep: a self-contained HTML page, the same in Markdown, figures, numbers as CSV.

    index.html                     everything, without any request over the network
    report.md, figures/*.svg       for a pull request or a paper's repository
    tables.tex, latex/*.tex        every table, for a paper
    claims.csv, table.csv, differences.csv, components.csv
    traces.csv, growth.csv, correlation.csv, trials.csv
    probes.csv                     what other probes measured, if there are any
    drops.csv                      what low precisions and tiles cost, if it was measured
    images.csv                     the scores of single images, if there are any
    inputs.csv                     the scores of the degraded inputs, if they are recorded
    paper.csv                      Tables 1 to 6 of the paper, if the sweep has one of its backbones

Every file is written aside and renamed, index.html last. Other files in the folder are left alone.
"""

from __future__ import annotations

import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd

from orchestrator.collecting import rarely_collected
from orchestrator.errors import EnvironmentProblem
from orchestrator.hints import hint
from orchestrator.plan.expand import Plan
from orchestrator.plan.states import State
from orchestrator.report import (
    drops,
    families,
    growth_tables,
    inputs,
    latex,
    observations,
    spreads,
    tables,
    thinning,
)
from orchestrator.report.apart import MANY
from orchestrator.report.as_csv import as_csv
from orchestrator.report.blocks import Section, figures_in
from orchestrator.report.chips import Chips
from orchestrator.report.claims.lines import Claim
from orchestrator.report.claims.show import as_frame as claims_as_frame
from orchestrator.report.columns import numbered
from orchestrator.report.contents import Report, build
from orchestrator.report.crops import scenes
from orchestrator.report.frame import Frame, read_frame
from orchestrator.report.paper import beside
from orchestrator.report.sections import sections
from orchestrator.store import children, open_store, read_store
from orchestrator.store.journals import READERS
from orchestrator.store.names import report_prefix
from orchestrator.tracking import is_there
from trainers.durable import write_aside

if TYPE_CHECKING:
    from orchestrator.tracking.mirror import Mirror

TRACES = "traces.csv"
# The training loop's notes on itself but for the loss, and on its machine: traces.csv has only the
# loss and what probes and evaluations measured.
UNTRACED = r"train/(?!loss$)|system/"


@dataclass(frozen=True)
class Written:
    """A report that has been written: the place of its page, and the text of each of its files."""

    page: str
    files: Mapping[str, str]


def write_report(
    plan: Plan,
    store_uri: str,
    tracking_uri: str | None = None,
    out: Path | None = None,
    *,
    frame: Frame | None = None,
    own: tuple[Claim, ...] | None = None,
    all_traces: bool = False,
    prefix: str = "",
    links: Mapping[str, str] | None = None,
) -> Written:
    """Write a report on what the store holds now.

    It goes to the folder `out`, or to `sweeps/<name>/report` in the store. With `tracking_uri` the
    files also become artifacts in the sweep's MLflow experiment, if a trial has begun and the
    address's database exists; if MLflow does not answer, a note goes to stderr. `frame`: what the
    store holds, if it has just been read. `own`: the user's claims; by default those of the file
    that the sweep names. `prefix`: another place in the store. `all_traces`: write every point to
    traces.csv, however many they are. `links`: pages of the trials' runs, by trial; by default
    those that the tracker has.

    Raises UserError if the address is not valid, EnvironmentProblem if the files cannot be written.
    """
    store = read_store(store_uri)
    frame = read_frame(plan, store) if frame is None else frame
    is_logged = tracking_uri is not None and frame.attempts and is_there(tracking_uri)
    mirror = _mirror(plan, tracking_uri) if tracking_uri and is_logged else None
    with rarely_collected():
        report = replace(
            build(plan, frame, datetime.now(UTC), own),
            scenes=scenes(frame, store),
            links=links or ({} if mirror is None else mirror.links),
        )
        files = render(report, all_traces=all_traces)
    prefix = prefix or report_prefix(plan.sweep)
    if out is not None:
        write_files(files, out)
    else:
        put_files(files, store_uri, prefix)
    if mirror is not None:
        _log(mirror, files)
    return Written(f"{out or f'{store.uri}/{prefix}'}/index.html", files)


def put_files(files: Mapping[str, str], store_uri: str, prefix: str) -> None:
    """Put texts into the store by name, the last one last. Raises EnvironmentProblem."""
    *others, last = files
    try:
        store = open_store(store_uri)

        def put(name: str) -> None:
            store.put(f"{prefix}/{name}", files[name].encode())

        with ThreadPoolExecutor(READERS) as writers:  # a disk and S3 both take several at once
            list(writers.map(put, others))
        put(last)
    except EnvironmentProblem as error:
        raise EnvironmentProblem(
            f"{error}\nIf the store is read-only, write the report elsewhere with --out DIR."
        ) from error


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write texts into a folder by name. Raises EnvironmentProblem with advice."""
    try:
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            write_aside(folder / name, text.encode())
    except OSError as error:
        raise EnvironmentProblem(
            f"The report cannot be written to {folder}: {error.strerror}. "
            "Choose another folder with --out."
        ) from error


def _mirror(plan: Plan, tracking_uri: str) -> Mirror | None:
    from orchestrator.tracking.mirror import Mirror

    try:
        return Mirror(tracking_uri, plan)
    except EnvironmentProblem as error:
        print(f"The report will be written, but not logged. {error}", file=sys.stderr)
        return None


def _log(mirror: Mirror, files: Mapping[str, str]) -> None:
    try:
        mirror.log_report(files)
        for note in mirror.notes:
            print(note, file=sys.stderr)
    except EnvironmentProblem as error:
        print(f"The report has been written, but not logged. {error}", file=sys.stderr)


def render(report: Report, *, all_traces: bool = False) -> dict[str, str]:
    """The text of each file by name; index.html is the last one."""
    is_apart = len(report.frame.trials) >= MANY and children.is_cheap()
    begin = children.apart if is_apart else partial
    # All of them may be gigabytes, which would be copied from one process to the other.
    traces = (partial if all_traces else begin)(_traces, report.frame, all_traces)
    numbers = _numbers(report)
    texts = {name: as_csv(frame) for name, frame in numbers.items()}  # while figures are drawn
    made = sections(report)
    figures = [figure for section in made for figure in figures_in(section.blocks)]
    tables = [latex.WHOLE] if latex.has_tables(made) else []
    context = _context(report, made, beside=["report.md", *numbers, TRACES, *tables, "figures/"])
    for_papers = begin(_for_papers, made, context)
    text_of_traces, context["traces"] = traces()
    page = template("page.html.j2").render(context)
    return {
        **{f"figures/{figure.slug}.svg": figure.for_file() for figure in figures},
        **texts,
        TRACES: text_of_traces,
        **for_papers(),
        "index.html": page,
    }


def _for_papers(made: Sequence[Section], context: Mapping[str, Any]) -> dict[str, str]:
    """The page as LaTeX and as Markdown."""
    markdown = template("report.md.j2").render(context)
    return {**latex.files(made, context["sweep"]), "report.md": markdown}


def _is_traced(metric: str) -> bool:
    return not re.match(UNTRACED, metric)


def _traces(frame: Frame, all_traces: bool) -> tuple[str, str]:
    """The text of traces.csv, and a sentence on the points that it leaves out, if any."""
    points, diverged = frame.points, frame.diverged
    metric, names = numbered(points["metric"])
    counts = np.bincount(metric, minlength=len(names))
    there = int(sum(count for name, count in zip(names, counts, strict=True) if _is_traced(name)))
    share = 1.0 if all_traces else thinning.MOST_ROWS / max(1, there)
    kept = thinning.for_file(points, diverged, share, _is_traced)
    said = (
        f"traces.csv has {len(kept):,} of {there:,} points, at evenly spaced steps with the first "
        f"and the last; `{hint('report FILE --all-traces')}` writes all."
    )
    text = as_csv(frame.labelled(kept).drop(columns=["size"]))
    return text, said if len(kept) < there else ""


def _numbers(report: Report) -> dict[str, pd.DataFrame]:
    """The numbers of the report but for those of single steps, as files."""
    frame = report.frame
    trials = frame.trials.join(growth_tables.by_trial(frame, report.growths))
    seen = report.observed
    probes = {"probes.csv": observations.as_frame(frame, seen)} if seen else {}
    images = {"images.csv": frame.images.drop(columns=["size"])} if len(frame.images) else {}
    return {
        "claims.csv": claims_as_frame(report.claims),
        "table.csv": tables.as_frame(report.comparisons),
        "differences.csv": families.as_frame(frame, report.families),
        "components.csv": spreads.as_frame(frame, report.spreads),
        "growth.csv": growth_tables.growth_csv(frame, report.growths),
        "correlation.csv": growth_tables.trend_csv(frame, report.trends),
        "trials.csv": trials.drop(columns=["evaluate"]),
        **probes,
        **images,
        **({"drops.csv": drops.as_frame(frame, report.drops)} if report.drops else {}),
        **({"inputs.csv": inputs.as_frame(frame.inputs)} if frame.inputs else {}),
        **({"paper.csv": beside.as_frame(report.paper)} if report.paper else {}),
    }


def template(name: str, *folders: Path) -> jinja2.Template:
    """A template of this folder, or of one of `folders`, whose templates may extend these."""
    # Markdown is not HTML: escaped characters would show in the text.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=jinja2.select_autoescape(("html.j2",), default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["in_cell"] = _in_cell
    chips, numbers = Chips(), itertools.count()
    environment.filters["chip"] = chips.sign
    environment.globals |= {"chips": chips.drawn, "prefix": lambda: f"f{next(numbers)}"}
    return environment.get_template(name)


def _in_cell(text: str) -> str:
    """Escape a text for a Markdown table: `|` or a line break ends a cell, and `<` opens a tag."""
    return " ".join(text.split("\n")).replace("|", "\\|").replace("<", "&lt;")


def _context(report: Report, made: Sequence[Section], beside: Sequence[str]) -> dict[str, Any]:
    frame, plan = report.frame, report.plan
    states = frame.states()
    return {
        "sweep": plan.sweep,
        "question": plan.question,
        "answer": report.answer,
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
