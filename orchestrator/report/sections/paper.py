"""Tables 1 to 6 of the paper, in its layout, with the sweep's numbers beside its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from orchestrator.plan.axes import COMPARED
from orchestrator.report.blocks import Block, Cell, Column, Table, text
from orchestrator.report.contents import Report
from orchestrator.report.pairs import Scores
from orchestrator.report.paper.beside import Beside
from orchestrator.report.paper.match import Network
from orchestrator.report.paper.printed import RECIPE, SOURCE, TABLES, Printed
from orchestrator.report.words import count
from orchestrator.statistics.interval import Interval
from trainers.catalog import METRICS

LEAD = (
    f"The tables of {SOURCE}, of which this sweep has at least one cell. A difference is ours "
    "minus the paper's, with its 95 % interval for other seeds on these images. The paper gives "
    "one number per cell, so the interval has the variation of our seeds alone. A difference "
    "without an interval may be chance."
)
METHOD = (
    "Where networks, steps or data are not the paper's, a difference says how far this sweep is "
    "from its setting, and nothing about a norm."
)
NORMS = {
    "layernorm": "LayerNorm",
    "iln": "i-LN",
    "iln_norescale": "i-LN, no rescaling",
    "layerscale": "LayerScale",
    "rmsnorm": "RMSNorm",
    "rezero": "ReZero",
    "none": "none",
    "instancenorm": "InstanceNorm",
    "batchnorm": "BatchNorm",
    "batchnorm_trainstats": "BatchNorm, statistics of the test batch",
}
TASKS = {
    "sr": "super-resolution",
    "dn": "denoising",
    "car": "JPEG artefacts",
    "dr": "deraining",
}
LEVELS = {
    "sr": "\N{MULTIPLICATION SIGN}{}",
    "dn": "\N{GREEK SMALL LETTER SIGMA} {}",
    "car": "quality {}",
}
MINUS = "\N{MINUS SIGN}"
NOTHING = Cell("")
DIFFERENCE = Cell("difference", "difference")
NO_INTERVAL = "no interval"


def blocks(report: Report) -> tuple[Block, ...]:
    numbers = {row.printed.table for row in report.paper if row.is_in_sweep}
    shown = [row for row in report.paper if row.printed.table in numbers]
    if not shown:
        return ()
    made = (
        _table(report, number, list(rows))
        for number, rows in groupby(shown, key=lambda row: row.printed.table)
    )
    return text("lead", LEAD), _networks(report, shown), *made, text("method", METHOD)


def _networks(report: Report, rows: Sequence[Beside]) -> Table:
    """What stands beside each backbone of the paper: how large, and how it was trained."""
    heads = ("in the paper", "task", "here")
    numbers = ("parameters", "steps", "batch", "seeds")
    columns = (
        *(Column((head,), is_label=head == heads[0]) for head in heads),
        *(Column((head,), "right") for head in numbers),
        Column(("training set",)),
    )
    found = {
        (row.printed.backbone, _task(row.printed)): row.network
        for row in rows
        if row.network is not None
    }
    lines = []
    for (backbone, task), network in found.items():
        spec = network.trials[0].spec
        seeds = sorted({trial.spec.training.seed for trial in network.trials})
        lines.append(
            (
                *(Cell(word, word) for word in (backbone, task, _name(report, network))),
                Cell(count(network.parameters), network.parameters),
                Cell(count(spec.training.steps), spec.training.steps),
                Cell(str(spec.training.batch_size), spec.training.batch_size),
                Cell(", ".join(map(str, seeds)), seeds),
                Cell(spec.data.train, spec.data.train),
            )
        )
    return Table(columns, tuple(lines), "Networks of this sweep", f"the paper's: {RECIPE}")


def _name(report: Report, network: Network) -> str:
    """`hat-tiny, width 24, depth 2`, and the values of what else the sweep varies."""
    frame = report.frame
    ids = frame.trials["trial"]
    size = frame.size_words[frame.trials.loc[ids == network.trials[0].id, "size"].iloc[0]]
    recipe = frame.named([name for name in frame.rows_by if name != COMPARED], network.labels)
    model = frame.named(frame.tables_by, network.labels)
    return ", ".join([model, size, *([recipe] if recipe else [])])


def _task(row: Printed) -> str:
    return f"{TASKS[row.task]} {_level(row)}".rstrip()


def _table(report: Report, number: int, rows: Sequence[Beside]) -> Table:
    """One table: three lines for each row of the paper's, if the sweep has numbers for it."""
    levels = {row.printed.level for row in rows}
    precisions = {row.printed.precision for row in rows}
    labels = [
        *(["level"] if len(levels) > 1 else []),
        "backbone",
        "norm",
        *(["precision"] if len(precisions) > 1 else []),
    ]
    scored = list(dict.fromkeys((row.printed.set, row.printed.metric) for row in rows))
    columns = (
        *(Column((label,), is_label=label == "norm") for label in labels),
        Column(("",)),
        *(Column((name, METRICS[metric].facts["title"]), "right") for name, metric in scored),
    )
    lines = []
    for _, group in groupby(rows, key=lambda row: row.printed.row):
        cells = {(row.printed.set, row.printed.metric): row for row in group}
        lines += _lines(report, labels, [cells.get(column) for column in scored])
    (level,) = levels if len(levels) == 1 else (None,)
    setting = f" {_level(rows[0].printed)}" if level is not None else ""
    caption = f"Table {number} of the paper: {TABLES[number]}{setting}"
    return Table(columns, tuple(lines), caption, style="comparison")


def _level(row: Printed) -> str:
    return LEVELS[row.task].format(row.level) if row.level is not None else ""


def _lines(
    report: Report, labels: Sequence[str], cells: Sequence[Beside | None]
) -> list[tuple[Cell, ...]]:
    """The paper's numbers, ours, and the differences, as far as the sweep has any."""
    rows = [cell for cell in cells if cell is not None]
    theirs = (Cell(cell.printed.text, cell.printed.value) if cell else NOTHING for cell in cells)
    lines = [(*_theirs(labels, rows[0]), Cell("paper", "paper"), *theirs)]
    if rows[0].norm is None:
        return lines
    with_numbers = [row for row in rows if row.mean is not None]
    notes = [_notes(row) for row in with_numbers or rows]
    common = [note for note in notes[0] if all(note in others for others in notes)]
    mine = (
        _score(cell, [note for note in _notes(cell) if note not in common]) if cell else NOTHING
        for cell in cells
    )
    whose = Cell("here", "here", note="; ".join(common))
    lines.append((*_ours(report, labels, rows[0]), whose, *mine))
    if with_numbers:
        lines.append((*(NOTHING for _ in labels), *_differences(cells)))
    return lines


def _theirs(labels: Sequence[str], row: Beside) -> list[Cell]:
    """The network and the norm of the paper in a row."""
    of = row.printed
    names = {
        "level": _level(of),
        "backbone": of.backbone,
        "norm": NORMS[of.norm],
        "precision": of.precision,
    }
    absent = "not in the sweep" if row.norm is None else ""
    return [
        Cell(names[label], names[label], note=absent if label == "norm" else "") for label in labels
    ]


def _ours(report: Report, labels: Sequence[str], row: Beside) -> list[Cell]:
    """The network and the norm of the sweep in a row."""
    cells = dict.fromkeys(labels, NOTHING)
    if row.network is not None and row.norm is not None:
        name = _name(report, row.network)
        cells |= {"backbone": Cell(name, name), "norm": report.norm_cell(row.norm)}
    return [cells[label] for label in labels]


def _notes(row: Beside) -> list[str]:
    """The seeds behind a cell and what is missing, in words."""
    if not isinstance(row.ours, Scores):
        return [row.ours.reason]
    seeds = len(row.ours.seeds)
    return [f"{seeds} seeds" if seeds > 1 else "one seed", *row.ours.left_out]


def _score(row: Beside, notes: Sequence[str]) -> Cell:
    words = "" if row.mean is None else f"{row.mean:.{_decimals(row)}f}"
    return Cell(words, row.mean, note="; ".join(notes))


def _decimals(row: Beside) -> int:
    """As many digits as the paper prints, or as our tables do, if those are more."""
    digits: int = METRICS[row.printed.metric].facts["decimals"]
    return max(row.printed.decimals, digits)


def _differences(cells: Sequence[Beside | None]) -> list[Cell]:
    """The third line: what is the same for all its cells is said once."""
    made = [
        NOTHING if cell is None or cell.margin is None else _difference(cell, cell.margin)
        for cell in cells
    ]
    notes = {cell.note for cell in made if cell.text}
    common = notes.pop() if len(notes) == 1 else ""
    if not common.startswith(NO_INTERVAL):
        return [DIFFERENCE, *made]
    return [replace(DIFFERENCE, note=common), *(replace(cell, note="") for cell in made)]


def _difference(row: Beside, margin: float) -> Cell:
    """Ours minus the paper's, and the interval below, or why there is none."""
    digits = _decimals(row)

    def signed(value: float) -> str:
        return f"{value:+.{digits}f}".replace("-", MINUS)

    if isinstance(row.difference, Interval):
        note = f"{signed(row.difference.low)} to {signed(row.difference.high)}"
    else:
        note = f"{NO_INTERVAL}: {row.difference.reason.partition(':')[0]}"
    return Cell(signed(margin), margin, note=note)
