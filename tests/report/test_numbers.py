from __future__ import annotations

import math

import pytest

from brainpretrain.report import numbers
from brainpretrain.report.metrics import METRICS


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0298, "+2.98"), (-0.0013, "−0.13"), (0.0, "±0.00"), (-0.00001, "±0.00"), (0.00001, "±0.00"), (0.1, "+10.00")],
)
def test_signed(value: float, shown: str) -> None:
    assert numbers.signed(value) == shown


@pytest.mark.parametrize(("p", "shown"), [(0.0004, "p < 0.001"), (0.0314, "p = 0.031"), (0.0999, "p = 0.100"), (0.5, "p = 0.50")])
def test_p_value(p: float, shown: str) -> None:
    assert numbers.p_value(p) == shown


@pytest.mark.parametrize(
    ("mean", "sd", "metric", "shown"),
    [(0.5898, 0.0088, "dice", "58.98 ± 0.88"), (0.5898, math.nan, "dice", "58.98"), (4.5, 0.7, "hd95_mm", "4.50 ± 0.70")],
)
def test_mean_and_sd(mean: float, sd: float, metric: str, shown: str) -> None:
    assert numbers.mean_sd(mean, sd, METRICS[metric]) == shown


@pytest.mark.parametrize(("rank", "shown"), [(2.0, "2"), (2.5, "2.5"), (7 / 3, "2.33"), (10.0, "10")])
def test_a_rank_has_no_trailing_zeros(rank: float, shown: str) -> None:
    assert numbers.rank(rank) == shown
