"""The metrics that a table can show: what each is called, and its unit, range and direction (docs/evaluation.md)."""

from __future__ import annotations

import math
from dataclasses import dataclass

from brainpretrain.plan.table_spec import TableSpec


@dataclass(frozen=True)
class Metric:
    """The meaning of a column of scores.tsv.

    Attributes:
        scale: factor from the units of scores.tsv to printed units.
        unit: printed unit.
        higher: True if higher values are better.
        low, high: valid range in scores.tsv.
        magnitude: True if scores are compared and averaged without their sign.
    """

    title: str
    scale: float
    unit: str
    higher: bool
    low: float
    high: float
    magnitude: bool = False


METRICS = {
    "dice": Metric("Dice", 100, "x 100", True, 0, 1),
    "nsd": Metric("NSD", 100, "x 100", True, 0, 1),
    "hd95_mm": Metric("HD95", 1, "mm", False, 0, math.inf),
    "volume_error": Metric("Volume error, absolute", 100, "%", False, -1, math.inf, magnitude=True),
    "lesion_f1": Metric("Lesion F1", 100, "x 100", True, 0, 1),
    "dice_with_background": Metric("Dice with background", 100, "x 100", True, 0, 1),
}


def metric_of(spec: TableSpec) -> Metric:
    """The metric that a table shows."""
    return METRICS[spec.metric]


def score_words(spec: TableSpec) -> str:
    """The label of an axis with the metric of a table: 'Dice x 100', 'HD95 (mm)'."""
    metric = metric_of(spec)
    return f"{metric.title} {metric.unit}" if metric.unit.startswith("x") else f"{metric.title} ({metric.unit})"
