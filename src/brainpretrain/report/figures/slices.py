"""Axial slices: reconstructions of masked patches, and what each augmentation does to an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

import numpy as np

from brainpretrain.report.figures.canvas import DARK, GREY, figure_at, write_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

PANELS = ("input", "masked", "output", "target")
TITLES = ("input", "masked input", "output", "target", "error")
TRANSFORMS_ACROSS = 3


def reconstructions(npz: Path | str, path: Path | str) -> None:
    """Draws how a network reconstructs masked patches: a row per case; input, masked input, output, target, error.

    Args:
        npz: input, masked, output, target (n, X, Y) in 0..1, hidden (n, X, Y) bool, True = masked out, and
            names (n,): axial slices in RAS, so that left in the picture is left in the patient; and, if the pretext is
            none of masked patches, titles (5,) of the panels, whose hidden voxels are not tinted.
        path: .png or .svg.
    """
    with np.load(npz) as arrays:
        stack = {name: arrays[name] for name in arrays.files}
    errors = np.abs(stack["output"].astype(np.float32) - stack["target"].astype(np.float32))
    top = float(np.quantile(errors, 0.995)) or 1.0
    titles = [str(title) for title in stack.get("titles", np.array(TITLES))]
    n = len(stack["names"])
    with figure_at(path, 1200, 60 + 205 * n) as figure:
        axes = figure.subplots(n, 6, squeeze=False, width_ratios=[0.8, 1, 1, 1, 1, 1])
        for i in range(n):
            write_message(axes[i, 0], _case_text(stack, errors, i), DARK)
            for j, (name, title) in enumerate(zip(PANELS, titles, strict=False), start=1):
                draw_slice(axes[i, j], stack[name][i])
                axes[0, j].set_title(title)
            mark_sides(axes[i, 1])
            if "titles" not in stack:
                _tint(axes[i, 2], stack["hidden"][i])
            error = draw_slice(axes[i, 5], errors[i], top=top, colours="magma")
        axes[0, 5].set_title(titles[-1])
        figure.colorbar(error, ax=list(axes[:, 5]), label="|output − target|", shrink=0.9)


def _case_text(stack: Mapping[str, np.ndarray], errors: np.ndarray, i: int) -> str:
    text = f"{fill(str(stack['names'][i]), 20)}\n\nmean error\nall {errors[i].mean():.3f}"
    hidden = stack["hidden"][i].astype(bool)
    return f"{text}\nhidden {errors[i][hidden].mean():.3f}" if hidden.any() else text


def augmentations(pictures: Sequence[tuple[str, str, np.ndarray, np.ndarray]], path: Path | str, title: str, credit: str) -> None:
    """Draws what each transform does: before, after, and the difference, each difference on its own scale.

    Args:
        pictures: name of the transform, its drawn parameters as text, and axial slices (x y) in 0..1 before and after.
        path: .png or .svg.
        title: above the figure.
        credit: below the figure: source and licence of the image.
    """
    rows = -(-len(pictures) // TRANSFORMS_ACROSS)
    with figure_at(path, 1580, 60 + 210 * rows) as figure:
        figure.suptitle(title, fontweight="bold")
        figure.supxlabel(credit, fontsize=8, color=GREY)
        axes = figure.subplots(rows, 3 * TRANSFORMS_ACROSS, squeeze=False)
        for panel in axes.flat:
            panel.set_axis_off()
        for (before, after, difference), (name, parameters, image, changed) in zip(axes.reshape(-1, 3), pictures, strict=False):
            draw_slice(before, image)
            draw_slice(after, changed)
            change = changed - image
            largest = float(np.abs(change).max())
            limit = largest or 1.0
            difference.imshow(change.T, cmap="RdBu_r", vmin=-limit, vmax=limit, origin="lower", interpolation="nearest")
            before.set_title(name, loc="left")
            after.set_title(fill(parameters, 26), fontsize=8, fontweight="normal")
            difference.set_title(f"difference,\nup to {largest:.2g}", fontsize=8, fontweight="normal")


def corruptions(rows: Sequence[tuple[str, Sequence[np.ndarray]]], path: Path | str, title: str, credit: str) -> None:
    """Draws what a pretext makes of a patch: a row for each kind of picture, a column for each draw.

    Args:
        rows: what a row shows, and its axial slices (x y) in 0..1.
        path: .png or .svg.
        title: above the figure.
        credit: below the figure: source and licence of the image.
    """
    with figure_at(path, 1200, 90 + 225 * len(rows)) as figure:
        figure.suptitle(title, fontweight="bold")
        figure.supxlabel(credit, fontsize=8, color=GREY)
        columns = max(len(images) for _, images in rows)
        axes = figure.subplots(len(rows), columns + 1, squeeze=False, width_ratios=[0.5, *[1] * columns])
        for line, (words, images) in zip(axes, rows, strict=True):
            write_message(line[0], fill(words, 14), DARK)
            for panel in line[1:]:
                panel.set_axis_off()
            for panel, image in zip(line[1:], images, strict=False):
                draw_slice(panel, image)


def draw_slice(axes: Axes, image: np.ndarray, *, top: float = 1.0, aspect: float = 1.0, colours: str = "gray") -> AxesImage:
    """Draws an axial slice (x y) in RAS: anterior is up, the patient's left is left.

    Args:
        top: the value shown as the brightest colour; 0 is the darkest.
        aspect: height of a voxel over its width.
        colours: name of a colour map.
    """
    axes.set_axis_off()
    return axes.imshow(image.T, cmap=colours, vmin=0, vmax=top, origin="lower", interpolation="nearest", aspect=aspect)


def mark_sides(axes: Axes) -> None:
    """Writes L and R, the patient's sides, into the lower corners of a slice."""
    for x, side, align in ((0.03, "L", "left"), (0.97, "R", "right")):
        box = {"facecolor": "black", "alpha": 0.6, "edgecolor": "none", "pad": 1.5}
        axes.text(x, 0.03, side, color="white", fontsize=8, bbox=box, ha=align, va="bottom", transform=axes.transAxes)


def _tint(axes: Axes, hidden: np.ndarray) -> None:
    """Covers hidden voxels with a colour of their own: black would look like air."""
    colour = np.zeros((*hidden.T.shape, 4))
    colour[hidden.T.astype(bool)] = (0.20, 0.36, 0.55, 1.0)
    axes.imshow(colour, origin="lower", interpolation="nearest")
