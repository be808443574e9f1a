"""Draws a scene: its crops in a row, enlarged, as images inside an SVG."""

from __future__ import annotations

import base64
import html
import io

from PIL import Image

from orchestrator.report.blocks import INK, Figure
from orchestrator.report.crops import Pixels, Scene

ENLARGED = 3
GAP_PX = 10
ROW_PX = 22  # for the name below a crop
IN_A_LINE = 6


def figure(scene: Scene, number: int, where: str) -> Figure:
    """The figure of a scene; `where` names its network, task and size."""
    row, column = scene.at
    size = f"{scene.truth.shape[1]} \N{MULTIPLICATION SIGN} {scene.truth.shape[0]} pixels"
    if scene.spread:
        rule = (
            f"Of the crops that trials keep, the window in which the norms differ most (standard "
            f"deviation {scene.spread:.2g} of 255 levels). "
        )
    else:
        rule = "The norms restored every crop alike. "
    lacking = "".join(f" Without {norm}: {why}." for norm, why in scene.lacking.items())
    return Figure(
        f"crops-{number}",
        f"Restored crops, {where}",
        f"{scene.image}, {size} from row {row}, column {column}; seed {scene.seed}. {rule}"
        f"The input is shown as it is scored.{lacking}",
        _svg(scene),
    )


def _svg(scene: Scene) -> str:
    tiles = [("input", scene.source), *scene.norms.items(), ("ground truth", scene.truth)]
    high, wide = (side * ENLARGED for side in scene.truth.shape[:2])
    columns = min(IN_A_LINE, len(tiles))
    lines = -(-len(tiles) // columns)
    width = columns * (wide + GAP_PX) - GAP_PX
    height = lines * (high + ROW_PX + GAP_PX) - GAP_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}">'
    ]
    for i, (name, pixels) in enumerate(tiles):
        x, y = (i % columns) * (wide + GAP_PX), (i // columns) * (high + ROW_PX + GAP_PX)
        parts.append(
            f'<image x="{x}" y="{y}" width="{wide}" height="{high}" '
            f'style="image-rendering:pixelated" href="data:image/png;base64,{_png(pixels)}"/>'
        )
        parts.append(
            f'<text x="{x}" y="{y + high + 15}" font-size="12" font-family="sans-serif" '
            f'fill="{INK}">{html.escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"])


def _png(pixels: Pixels) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()
