"""The verdict on each arm of a table: it helps, hurts or is equivalent to its baseline, or what it would take to decide."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers, power
from brainpretrain.report.crossed import FEWEST_DRAWS, Components
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.results import ARM
from brainpretrain.words import count

HELPS, HURTS, EQUIVALENT, UNDECIDED, MISSING = "helps", "hurts", "equivalent", "undecided", "missing"
COLUMNS = [
    "row", "column", "task", "cohort", *ARM, "metric", "baseline", "draws", "subjects", "delta", "delta_low", "delta_high",
    "p_holm", "p_margin_holm", "visible", "verdict", "draws_needed", "to_decide",
]  # fmt: skip


def judge(results: pd.DataFrame, spec: TableSpec) -> pd.DataFrame:
    """A line for each cell that has a baseline.

    helps, hurts: the t test rejects no difference, after Holm's correction. equivalent: the two one-sided tests reject a
    difference of the table's margin or more, after Holm's correction; this goes first, since a difference within the margin does
    not matter. undecided: neither. missing: runs are missing.

    Args:
        results: what `results.build` returned.

    Returns:
        `COLUMNS`: those of the results; verdict; draws_needed (about, of the same kind, on as many subjects; NaN where it is not
        known, infinite where more than `power.MOST_DRAWS`); to_decide (words).
    """
    lines = []
    for line in results[results["baseline"] != ""].to_dict("records"):
        verdict = _verdict(line, spec)
        needed, words = _to_decide(line, verdict, spec)
        lines.append(line | {"verdict": verdict, "draws_needed": needed, "to_decide": words})
    return pd.DataFrame(lines, columns=COLUMNS)


def _verdict(line: Mapping[str, Any], spec: TableSpec) -> str:
    level = 1 - spec.bootstrap.confidence
    if math.isnan(line["delta"]):
        return MISSING
    if line["p_margin_holm"] < level:
        return EQUIVALENT
    if line["p_holm"] < level:
        return HELPS if (line["delta"] > 0) == metric_of(spec).higher else HURTS
    return UNDECIDED


def _to_decide(line: Mapping[str, Any], verdict: str, spec: TableSpec) -> tuple[float, str]:
    """About how many draws would decide, as a number and in words."""
    if verdict != UNDECIDED:
        return math.nan, ""
    if not line["draws"]:
        return math.nan, "folds of a cross-validation say nothing about another training: draw them (split: {kind: fraction})"
    if line["draws"] < FEWEST_DRAWS:
        return math.nan, f"{count(line['draws'], 'draw')}: at least {FEWEST_DRAWS} are needed for any statement"
    if math.isnan(line["sd_draw"]):
        return math.nan, "more than one subject is needed"
    parts = Components(*(line[f"sd_{name}"] ** 2 for name in ("draw", "subject", "rest")))
    metric, level = metric_of(spec), 1 - spec.bootstrap.confidence
    if spec.margin is None:
        size = abs(line["delta"])
        needed = power.draws_to_see(parts, line["subjects"], size, level) if size else None
        what = f"would find {numbers.shown(size, metric)}"
    else:
        needed = power.draws_to_decide(parts, line["subjects"], spec.margin / metric.scale, level)
        what = "would decide"
    if needed is None:
        return math.inf, f"not {power.MOST_DRAWS:,} draws of {count(line['subjects'], 'subject')} {what}"
    return float(needed), f"about {needed:,} draws of {count(line['subjects'], 'subject')} {what}"
