"""Volumes that were brought onto the grid of another one, next to it: those that cover least come first."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.preprocess import atlases, frames
from brainpretrain.preprocess.geometry import Geometry, fitted, to_ras
from brainpretrain.preprocess.recipes import ICBM152
from brainpretrain.preprocess.resampling import LINEAR, resize
from brainpretrain.preprocess.sessions import alignment_of
from brainpretrain.report.figures.canvas import DARK, figure_at, write_message
from brainpretrain.report.figures.slices import draw_slice, mark_sides

SHOWN = 4
TILE = 8  # tiles of the checkerboard along the longer side


def draw(table: pd.DataFrame, folder: Path, path: Path | str, atlas: str | None = None) -> None:
    """Draws a row per volume: the grid it was brought onto, the volume, and both in a checkerboard; and its numbers.

    Args:
        table: of stored volumes.
        folder: that the table's files are relative to.
        path: .png or .svg.
        atlas: of the recipe.
    """
    aligned = table[table.get("aligned_to", "") != ""] if "aligned_to" in table else table[:0]
    aligned = aligned.assign(share=aligned["covered"].astype(float) if len(aligned) else []).sort_values(["share", "volume"])
    rows = aligned.head(SHOWN).to_dict("records")
    with figure_at(path, 1040, 60 + 205 * max(len(rows), 1)) as figure:
        if not rows:
            write_message(figure.subplots(), "no volume was brought onto the grid of another one")
            return
        axes = figure.subplots(len(rows), 4, squeeze=False, width_ratios=[1.2, 1, 1, 1])
        for panels, row in zip(axes, rows, strict=True):
            volume = frames.load(folder, row).astype(np.float32)
            frame = _frame(table, folder, row, atlas)
            z = volume.shape[2] // 2
            write_message(panels[0], _text(row), DARK)
            for panel, image in zip(
                panels[1:], (frame[..., z], volume[..., z], checkered(frame[..., z], volume[..., z])), strict=True
            ):
                draw_slice(panel, image)
            mark_sides(panels[1])
        for panel, title in zip(axes[0, 1:], ("onto", "aligned volume", "both in turn"), strict=True):
            panel.set_title(title)


def checkered(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two slices (x y) of one size in the tiles of a checkerboard."""
    edge = max(1, max(first.shape) // TILE)
    x, y = np.indices(first.shape) // edge
    return np.where((x + y) % 2 == 0, first, second)


def _frame(table: pd.DataFrame, folder: Path, row: Mapping[str, Any], atlas: str | None) -> np.ndarray:
    """What a volume was brought onto, on its stored grid, in 0..1: the first sequence of its session, or the atlas."""
    own = table[
        (table["subject"] == row["subject"]) & (table["session"] == row["session"]) & (table["path"] == row["aligned_to"])
    ]
    if len(own):
        return frames.load(folder, own.to_dict("records")[0]).astype(np.float32)
    geometry = Geometry.from_json(row["geometry"])
    volume = atlases.load(atlas or ICBM152).volume
    box = tuple(slice(low, high) for low, high in geometry.box)
    array = resize(to_ras(volume.array, volume.affine)[0][box], geometry.resized_shape or geometry.stored_shape, LINEAR)
    array = fitted(array, geometry.stored_shape)
    return np.clip(array / (np.quantile(array, 0.995) or 1.0), 0, 1)


def _text(row: Mapping[str, Any]) -> str:
    place = alignment_of(row)
    assert place is not None
    lines = [fill(str(row["volume"]), 26), fill(f"{place.method}, onto {place.to}", 26), f"covers {100 * place.covered:.1f} %"]
    if place.metric is not None and place.metric_before is not None:
        lines.append(f"information {-place.metric_before:.3f} to {-place.metric:.3f}")
    return "\n".join(lines)
