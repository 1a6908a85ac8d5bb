"""A frame of `report/watch.py` as a page that loads itself again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from brainpretrain.report.curves import Curve
from brainpretrain.report.jobs import COUNTED
from brainpretrain.report.pages.html import Table, render, table
from brainpretrain.report.screen import number
from brainpretrain.report.status import STATES, Training
from brainpretrain.report.watch import Frame
from brainpretrain.words import rough_duration

WIDTH, HEIGHT = 300.0, 90.0  # of a drawing, in its own units
COLOURS = {"loss": "#1f5fbf", "val_loss": "#b35900", "val_dice": "#1a7f37"}
NAMES = {"loss": "loss", "val_loss": "validation loss", "val_dice": "validation Dice"}


@dataclass(frozen=True)
class Line:
    """A curve as the points of an SVG polyline, with its range in words."""

    name: str
    colour: str
    points: str
    last: str


@dataclass(frozen=True)
class Card:
    """A training with its curves. `low`, `high`: of the losses; the Dice is drawn from 0 at the bottom to 1."""

    run: str
    state: str
    facts: str
    lines: Sequence[Line]
    low: str
    high: str


def page(frame: Frame, reload_s: int) -> str:
    """The page of a frame.

    Args:
        frame: what is shown.
        reload_s: seconds after which a browser loads the page again; 0 for never.
    """
    cards = [
        _card(training, frame.curves[training.run])
        for training in frame.trainings
        if frame.curves.get(training.run, Curve()).last
    ]
    return render(
        "watch",
        title=frame.study or "by hand",
        frame=frame,
        reload_s=reload_s,
        states=[(state, frame.counts[state], 100 * frame.counts[state] / len(frame.trainings)) for state in STATES],
        stages=_stages(frame),
        running=_running(frame),
        cards=sorted(cards, key=lambda card: (list(STATES).index(card.state), card.run)),
        legend=[(NAMES[name], COLOURS[name]) for name in NAMES if any(NAMES[name] in _shown(card) for card in cards)],
    )


def _shown(card: Card) -> list[str]:
    return [line.name for line in card.lines]


def _stages(frame: Frame) -> Table:
    rows = [
        (
            stage.name,
            f"{stage.exist} of {stage.planned} {COUNTED[stage.name]}" if stage.planned else "",
            f"{stage.done} of {stage.jobs}" if stage.jobs or stage.done else "",
            stage.running or "",
            stage.failed or "",
        )
        for stage in frame.stages
    ]
    return table(["stage", "results", "jobs of the last run", "running", "failed"], rows, numeric=(2, 3, 4))


def _running(frame: Frame) -> Table:
    rows = []
    for training in frame.running:
        last = frame.curves[training.run].last
        rows.append(
            (
                training.run,
                f"{training.step}/{training.total_steps}" if training.total_steps else "",
                number(last.get("loss")),
                number(last.get("val_dice")),
                f"{training.patches_per_s:.1f}" if training.patches_per_s else "",
                rough_duration(training.left_s),
                f"{rough_duration(training.seen_s)} ago" if training.seen_s is not None else "",
            )
        )
    header = ["training", "step", "loss", "validation Dice", "patches/s", "left", "seen"]
    return table(header, rows, numeric=(1, 2, 3, 4, 5, 6))


def _card(training: Training, curve: Curve) -> Card:
    losses = [value for name in ("loss", "val_loss") for _, value in curve.points[name]]
    low, high = (min(losses), max(losses)) if losses else (0.0, 0.0)
    end = max((step for points in curve.points.values() for step, _ in points), default=0)
    facts = [f"step {training.step} of {training.total_steps}"] if training.total_steps else []
    facts += [f"{rough_duration(training.left_s)} left"] if training.left_s is not None else []
    facts += [f"{training.patches_per_s:.1f} patches/s"] if training.patches_per_s else []
    lines = []
    for name, colour in COLOURS.items():
        if curve.points[name]:
            bounds = (0.0, 1.0) if name == "val_dice" else (low, high)
            drawn = _polyline(curve.points[name], end, *bounds)
            lines.append(Line(NAMES[name], colour, drawn, number(curve.last[name])))
    return Card(training.run, training.state, ", ".join(facts), lines, number(low), number(high))


def _polyline(points: Sequence[tuple[int, float]], end: int, low: float, high: float) -> str:
    """Points of a polyline from the first step to `end`; a single point becomes a short dash."""
    height = (high - low) or 1.0
    drawn = [(WIDTH * step / max(end, 1), HEIGHT * (1 - (value - low) / height)) for step, value in points]
    if len(drawn) == 1:
        drawn.append((drawn[0][0] + 3, drawn[0][1]))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
