"""Planned learning rates: of recipes before anything is trained, and behind the learning rate that a training logged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from brainpretrain.config.sections import Phase
from brainpretrain.errors import UserError
from brainpretrain.report.figures.canvas import BLUE, GREEN, GREY, ORANGE, figure_at, panels
from brainpretrain.training import schedule

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

# what a phase trains -> what is frozen meanwhile, and the shade behind the curve
SHADES = {
    "decoder": ("encoder frozen", ORANGE, ""),
    "decoder_and_stem": ("encoder frozen but for its stem", ORANGE, "///"),
    "all_but_stem": ("stem frozen", GREEN, ""),
}
POINTS_PER_PHASE = 200
_STEPS_PER_EPOCH = 1000  # for recipes in epochs, whose number of steps follows from the data; any number gives the same curve


def draw_curve(axes: Axes, points: pd.DataFrame, **line: Any) -> dict[str, Artist]:
    """Draws a planned curve, shades the phases in which something is frozen, and marks where a phase ends.

    Args:
        axes: the axes to draw on; x is the step (or epoch) of the points.
        points: rows of `schedule.points`: step, lr, phase, train.
        line: style of the curve, as for `Axes.plot`.

    Returns:
        name of the frozen part -> its shade; empty if nothing is frozen.
    """
    axes.plot(points["step"], points["lr"], **line)
    phases = [phase for _, phase in points.groupby("phase")]
    borders = [phase["step"].iloc[0] for phase in phases] + [points["step"].iloc[-1]]
    shades: dict[str, Artist] = {}
    for phase, begin, end in zip(phases, borders, borders[1:], strict=False):
        if begin:
            axes.axvline(begin, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
        if phase["train"].iloc[0] in SHADES:
            frozen, colour, hatch = SHADES[phase["train"].iloc[0]]
            shades[frozen] = axes.axvspan(begin, end, facecolor=colour, alpha=0.2, hatch=hatch, edgecolor=colour, linewidth=0)
    return shades


def recipes(phases: Mapping[str, Sequence[Phase]], path: Path | str) -> None:
    """Draws a panel per recipe: its learning rate over steps, or over epochs where its phases are given in epochs.

    Args:
        phases: name of a recipe -> its phases.
        path: .svg or .png.

    Raises:
        UserError: there is no recipe, or a recipe mixes steps and epochs.
    """
    if not phases:
        raise UserError("no recipe to draw", fix="name entries of config/finetune.yaml or config/pretext.yaml")
    across = min(7, math.ceil(math.sqrt(len(phases))))
    down = math.ceil(len(phases) / across)
    with figure_at(path, 320 * across, 180 * down + 40) as figure:
        shades: dict[str, Artist] = {}
        for axes, (name, of_recipe) in zip(panels(figure, len(phases), across), phases.items(), strict=True):
            shades |= _draw_panel(axes, name, of_recipe)
        if shades:
            figure.legend(list(shades.values()), list(shades), loc="outside lower left", ncols=len(shades))


def _draw_panel(axes: Axes, name: str, phases: Sequence[Phase]) -> dict[str, Artist]:
    """Draws one recipe; returns its shades."""
    points, end, unit = _planned(name, phases)
    shades = draw_curve(axes, points, color=BLUE, linewidth=1.6)
    peak = points["lr"].max()
    axes.set_title(name, loc="left", fontsize=10)
    axes.set_xlim(0, end)
    axes.set_ylim(0, 1.1 * peak)
    axes.set_yticks([0, peak], ["0", f"{peak:g}"])
    axes.locator_params(axis="x", nbins=4)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.set_xlabel(unit, fontsize=8)
    axes.tick_params(labelsize=8)
    return shades


def _planned(name: str, phases: Sequence[Phase]) -> tuple[pd.DataFrame, float, str]:
    """Points of a recipe's curve with steps in the recipe's own unit, the end of the curve, and the unit."""
    in_epochs = any(phase.epochs or phase.warmup_epochs for phase in phases)
    if in_epochs and any(phase.steps or phase.warmup_steps for phase in phases):
        raise UserError(
            f"'{name}' gives phases in steps and in epochs: how they compare depends on the data",
            fix="train; schedule.tsv next to log.csv has the curve",
        )
    unit, scale = ("epochs", _STEPS_PER_EPOCH) if in_epochs else ("steps", 1)
    stretches = schedule.stretches(phases, scale)
    points = pd.DataFrame(schedule.points(stretches, POINTS_PER_PHASE))
    return points.assign(step=points["step"] / scale), schedule.total_steps(stretches) / scale, unit
