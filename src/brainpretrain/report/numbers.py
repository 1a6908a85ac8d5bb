"""Numbers as tables and figures print them: scores in printed units with two decimals, a true minus sign."""

from __future__ import annotations

import pandas as pd

from brainpretrain.report.metrics import METRICS, Metric

MINUS = "−"


def shown(value: float, metric: Metric) -> str:
    """A score in printed units: a Dice of 0.5898 is '58.98'."""
    return f"{metric.scale * value:.2f}".replace("-", MINUS)


def mean_sd(mean: float, sd: float, metric: Metric) -> str:
    """'58.98 ± 0.88', or '58.98' if the SD is NaN."""
    return shown(mean, metric) + (f" ± {shown(sd, metric)}" if pd.notna(sd) else "")


def percent(value: float) -> str:
    """Dice x 100: 0.5898 is '58.98'."""
    return shown(value, METRICS["dice"])


def signed(value: float, metric: Metric = METRICS["dice"]) -> str:
    """A difference in printed units with its sign: '+2.98', '−0.13', '±0.00'."""
    change = f"{metric.scale * value:+.2f}"
    return "±0.00" if change[1:] == "0.00" else change.replace("-", MINUS)


def p_value(p: float) -> str:
    """'p = 0.031', 'p < 0.001'."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def interval(low: str, high: str) -> str:
    """'[55.10, 61.20]'."""
    return f"[{low}, {high}]"


def rank(value: float) -> str:
    """A rank without trailing zeros: '2', '2.5', '2.33'."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def share(value: float) -> str:
    """A share of 0..1 in percent: 0.95 is '95 %'."""
    return f"{100 * value:g} %"
