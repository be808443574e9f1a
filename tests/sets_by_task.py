"""Sweep files with data sets by task, and small sets for them: images, and pairs."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from orchestrator.plan import Plan, load_plan
from trainers.data.lookup import find_set

GRID = """\
# Does it hold for every task?
axes: {{backbone: [swinir-tiny], norm: [layer_norm, i_ln], task: [{tasks}]}}
training: {{steps: 20}}
observe: {{probe_every: 10}}
{rest}
"""
IMAGES = ("a.png", "b.png")
PAIRS = tuple(f"{side}/{name}" for side in ("input", "target") for name in IMAGES)


def write_images(folder: Path, names: tuple[str, ...], seed: int) -> None:
    random = np.random.default_rng(seed)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 256, (48, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)


def write_roots(root: Path) -> Path:
    """Write the sets `Shots`, `Views` and `More`, and the sets of pairs `Wet` and `Rain`."""
    for seed, name in enumerate(("Shots", "Views", "More", "Wet", "Rain")):
        write_images(root / name, PAIRS if name in ("Wet", "Rain") else IMAGES, seed)
    return root


def plan(roots: Path, tasks: str, data: str, rest: str = "") -> Plan:
    """The plan of a sweep file beside the sets."""
    path = roots.parent / "grid.yaml"
    path.write_text(GRID.format(tasks=tasks, rest=f"data: {data}\n{rest}"))
    return load_plan(path, partial(find_set, roots=(roots,)))
