"""Outlines of reference and prediction on a slice of the worst, the median and the best case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from brainpretrain.report.figures.canvas import DARK, figure_at, write_message
from brainpretrain.report.figures.slices import draw_slice, mark_sides
from brainpretrain.report.numbers import percent
from brainpretrain.report.overlays import Overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

REFERENCE, PREDICTION = "#2fa4ff", "#ff6a13"
DETAIL_MARGIN_MM = 12


def draw(cases: Sequence[Overlay], path: Path | str) -> None:
    """Draws a row per case: the axial slice with most reference voxels, a detail, and the detail with outlines.

    Args:
        cases: the cases of `report.overlays`.
        path: .png or .svg.
    """
    from matplotlib.lines import Line2D

    with figure_at(path, 1040, 70 + 275 * max(len(cases), 1)) as figure:
        if not cases:
            write_message(figure.subplots(), "no case with a defined Dice")
            return
        axes = figure.subplots(len(cases), 4, squeeze=False, width_ratios=[0.6, 1, 1, 1])
        for row, case in zip(axes, cases, strict=True):
            _draw_case(row, case)
        for panel, title in zip(axes[0, 1:], ("whole slice", "detail", "detail with outlines"), strict=True):
            panel.set_title(title)
        lines = [Line2D([], [], color=REFERENCE, linewidth=3), Line2D([], [], color=PREDICTION, linewidth=1.3)]
        figure.legend(lines, ["reference", "prediction"], loc="outside upper right", ncols=2)


def _draw_case(row: Sequence[Axes], case: Overlay) -> None:
    from matplotlib.patches import Rectangle

    z = busiest_slice(case.reference, case.prediction)
    image, reference, prediction = (array[:, :, z] for array in (case.image, case.reference, case.prediction))
    low, high = np.quantile(image, [0.002, 0.998])
    image = (image - low) / ((high - low) or 1.0)
    aspect = case.spacing_mm[1] / case.spacing_mm[0]
    box = detail_box((reference > 0) | (prediction > 0), case.spacing_mm)
    write_message(row[0], _case_text(case, z), DARK)
    for axes in row[1:]:
        draw_slice(axes, image, aspect=aspect)
    mark_sides(row[1])
    size = [edge.stop - edge.start for edge in box]
    corner = (box[0].start - 0.5, box[1].start - 0.5)
    if size[0] * size[1] < 0.6 * reference.size:
        row[1].add_patch(Rectangle(corner, *size, fill=False, edgecolor=PREDICTION, linewidth=1.5))
    for axes in row[2:]:
        axes.set(xlim=(corner[0], corner[0] + size[0]), ylim=(corner[1], corner[1] + size[1]))
    width = float(np.clip(50 / max(size), 0.6, 1.3))  # thin where voxels are small, or the lines would hide the image
    draw_outline(row[3], reference, REFERENCE, 2.3 * width)
    draw_outline(row[3], prediction, PREDICTION, width)


def _case_text(case: Overlay, z: int) -> str:
    pick = case.pick
    lines = [pick["rank"], fill(pick["volume"], 26), f"fold {pick['fold']}", f"Dice {percent(pick['dice'])}"]
    return "\n".join([*lines, f"slice {z + 1} of {case.image.shape[2]}"])


def busiest_slice(reference: np.ndarray, prediction: np.ndarray) -> int:
    """Index of the axial slice with most reference voxels; of the prediction if that is empty; the middle if both are."""
    for mask in (reference, prediction):
        counts = np.count_nonzero(mask, axis=(0, 1))
        if counts.any():
            return int(counts.argmax())
    return reference.shape[2] // 2


def detail_box(mask: np.ndarray, spacing_mm: Sequence[float]) -> tuple[slice, slice]:
    """The part of a slice (x y) that holds `mask` and a margin, as long in x as in y where the slice allows it."""
    if not mask.any():
        return slice(0, mask.shape[0]), slice(0, mask.shape[1])
    bounds = [(np.flatnonzero(mask.any(axis=1 - d)) + 0.5) * spacing_mm[d] for d in (0, 1)]
    half_mm = max(b[-1] - b[0] for b in bounds) / 2 + DETAIL_MARGIN_MM
    box = []
    for d in (0, 1):
        middle = (bounds[d][0] + bounds[d][-1]) / 2
        start, stop = (round((middle + side * half_mm) / spacing_mm[d]) for side in (-1, 1))
        box.append(slice(max(start, 0), min(stop, mask.shape[d])))
    return box[0], box[1]


def draw_outline(axes: Axes, labels: np.ndarray, colour: str, width: float) -> None:
    """Draws the voxel edges between different labels (x y): exact for any number of labels."""
    from matplotlib.collections import LineCollection

    padded = np.pad(labels, 1)
    lines = []
    for x, y in np.argwhere(padded[1:, :] != padded[:-1, :]):
        lines.append([(x - 0.5, y - 1.5), (x - 0.5, y - 0.5)])
    for x, y in np.argwhere(padded[:, 1:] != padded[:, :-1]):
        lines.append([(x - 1.5, y - 0.5), (x - 0.5, y - 0.5)])
    axes.add_collection(LineCollection(lines, colors=colour, linewidths=width, capstyle="round"), autolim=False)
