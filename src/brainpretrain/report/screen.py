"""A frame of `watch.py` in a terminal."""

from __future__ import annotations

import itertools
from typing import Any

from rich.console import Group
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from brainpretrain.report.curves import Curve
from brainpretrain.report.jobs import COUNTED
from brainpretrain.report.status import STATES, Training
from brainpretrain.report.watch import Frame, Stage
from brainpretrain.words import rough_duration

BARS = "▁▂▃▄▅▆▇█"
SPARKS = 16  # characters of a small curve
FIXED_LINES = 9  # of a frame, besides stages, trainings and troubles


def rendered(frame: Frame, height: int | None = None) -> Group:
    """Everything on one screen.

    Args:
        frame: what is shown.
        height: lines of the terminal; None to leave nothing out.
    """
    rows = max(3, (height - FIXED_LINES - len(frame.stages)) // 2) if height else None
    parts: list[Any] = [_title(frame)]
    if frame.stages:
        parts += [_stages(frame.stages), Text()]
    if frame.running:
        parts += [_running(frame, rows), Text()]
    if frame.queue:
        parts.append(Text.assemble(("Slurm queue: ", "bold"), frame.queue))
    parts += [Text.assemble(("left: ", "bold"), "; ".join(frame.estimate))] if frame.estimate else []
    parts += _troubles(frame.troubles, rows // 2 if rows else None)
    parts += [Text(note, style="yellow") for note in frame.notes]
    return Group(*parts)


def _title(frame: Frame) -> Text:
    title = Text(frame.study or "by hand", style="bold")
    title.append(f"  {frame.time}\n", style="dim")
    counted = [(f"{frame.counts[state]} {state}", style) for state, style in STATES.items() if frame.counts[state]]
    for number, (words, style) in enumerate(counted):
        title.append(", " if number else "trainings: ", style="")
        title.append(words, style=style)
    return title


def _stages(stages: list[Stage]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("stage")
    table.add_column("")
    table.add_column("results", justify="right", no_wrap=True)
    table.add_column("jobs of the last run", no_wrap=True)
    for stage in stages:
        bar = ProgressBar(total=stage.planned, completed=stage.exist, width=20) if stage.planned else ""
        exist = f"{stage.exist}/{stage.planned} {COUNTED[stage.name]}" if stage.planned else ""
        table.add_row(stage.name, bar, exist, _jobs(stage))
    return table


def _jobs(stage: Stage) -> Text:
    text = Text(f"{stage.done} of {stage.jobs} done" if stage.jobs or stage.done else "")
    for number, word, style in ((stage.running, "running", "cyan"), (stage.failed, "failed", "red")):
        if number:
            text.append(f", {number} {word}", style=style)
    return text


def _running(frame: Frame, rows: int | None) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("running", overflow="fold", ratio=1)
    curves = [frame.curves.get(training.run, Curve()) for training in frame.running[:rows]]
    is_validated = any("val_dice" in curve.last for curve in curves)
    names = ["step", "loss", "", *(["val Dice"] if is_validated else []), "patches/s", "left", "seen"]
    for name in names:
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    for training, curve in zip(frame.running[:rows], curves, strict=True):
        table.add_row(
            training.run,
            f"{training.step}/{training.total_steps}" if training.total_steps else "",
            number(curve.last.get("loss")),
            spark([value for _, value in curve.points["loss"]]),
            *([number(curve.last.get("val_dice"))] if is_validated else []),
            f"{training.patches_per_s:.1f}" if training.patches_per_s else "",
            rough_duration(training.left_s),
            f"{rough_duration(training.seen_s)} ago" if training.seen_s is not None else "",
        )
    hidden = len(frame.running) - len(curves)
    if hidden:
        table.add_row(Text(f"and {hidden} more: brainpretrain status", style="dim"))
    return table


def _troubles(troubles: list[Training], rows: int | None) -> list[Text]:
    lines = []
    for training in troubles[:rows]:
        lines.append(Text.assemble((f"{training.state}: ", STATES[training.state]), f"{training.run}: {training.trouble}"))
        lines += [Text(f"  log: {training.log}", style="dim")] if training.log else []
    hidden = len(troubles) - len(troubles[:rows])
    return lines + ([Text(f"and {hidden} more with trouble: brainpretrain status", style="red")] if hidden else [])


def number(value: float | None) -> str:
    """A loss or a Dice in four digits; '' for None."""
    return "" if value is None else f"{value:.4g}"


def spark(values: list[float]) -> str:
    """The course of values as a row of bars, the mean of each part of it; '' for fewer than two."""
    if len(values) < 2:
        return ""
    parts = min(SPARKS, len(values))
    edges = [len(values) * part // parts for part in range(parts + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    return "".join(BARS[round((mean - low) / (high - low or 1) * (len(BARS) - 1))] for mean in means)
