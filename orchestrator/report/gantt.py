"""The picture of a simulated schedule: a row for each GPU (or core), a bar for each trial."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from orchestrator.errors import UserError
from orchestrator.plan.show import duration
from orchestrator.plan.simulate import Schedule

KINDS = (".svg", ".png")
WIDE_IN, ROW_IN, HIGHEST_IN = 10.0, 0.11, 24.0
# By the workers of a gang, from Okabe and Ito's colours, which colour-blind readers tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
RC: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "normsweep",  # so that the same schedule has the same picture
    "font.family": "sans-serif",
    "font.size": 9,
}


def check_kind(path: Path) -> None:
    """Raise UserError for a picture of another kind."""
    if path.suffix.lower() not in KINDS:
        raise UserError(f"--gantt {path}: must end in {' or '.join(KINDS)}.")


def draw_gantt(schedule: Schedule, title: str, path: Path) -> None:
    """Write the picture. Raises UserError if it cannot be written there."""
    cluster = schedule.cluster
    each = cluster.gpus or cluster.cpus or 1
    rows = cluster.nodes * each
    hours = 3_600.0 if schedule.makespan_s >= 5_400 else 1.0
    widths = sorted({run.trial.spec.placement.workers for run in schedule.runs})
    colours = {width: COLOURS[i % len(COLOURS)] for i, width in enumerate(widths)}
    with mpl.rc_context(RC):
        canvas = Figure(figsize=(WIDE_IN, min(HIGHEST_IN, 1.6 + ROW_IN * rows)))
        FigureCanvasAgg(canvas)
        axes = canvas.subplots()
        for run in schedule.runs:
            share = run.trial.spec.placement.gpus or 1.0
            for slot in run.slots:
                axes.broken_barh(
                    [(run.start_s / hours, (run.end_s - run.start_s) / hours)],
                    (slot.node * each + slot.number, 0.9),
                    facecolor=colours[run.trial.spec.placement.workers],
                    edgecolor="white",
                    linewidth=0.4,
                    alpha=1.0 if share >= 1 else 0.6,
                )
        axes.axvline(schedule.bound_s / hours, color="#444", linewidth=1.0, linestyle="--")
        axes.set_ylim(rows, 0)
        axes.set_xlim(0, max(schedule.makespan_s / hours * 1.02, 1e-9))
        axes.set_yticks([node * each for node in range(cluster.nodes)])
        axes.set_yticklabels([f"node {node}" for node in range(cluster.nodes)])
        axes.set_xlabel("hours" if hours > 1 else "seconds")
        axes.set_title(
            f"{title}: {duration(schedule.makespan_s)}, {100 * schedule.utilisation:.0f} % busy "
            f"(dashed: no schedule is shorter than {duration(schedule.bound_s)})",
            loc="left",
            fontsize=9.5,
        )
        axes.legend(
            handles=[Patch(color=colours[w], label=f"{w} worker{'s' * (w != 1)}") for w in widths],
            loc="upper left",
            bbox_to_anchor=(1.0, 1.0),
            frameon=False,
        )
        canvas.set_layout_engine("constrained")
        about = {"Date": None, "Creator": None} if path.suffix.lower() == ".svg" else None
        try:
            canvas.savefig(path, dpi=150, metadata=about)
        except OSError as error:
            raise UserError(f"--gantt {path}: cannot be written: {error.strerror}") from error
