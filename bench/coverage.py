"""How often the intervals and tests of a table hold, in simulated studies of which the truth is known.

    python bench/coverage.py [--samples 2000] [--json FILE] [--figure docs/coverage.svg]

A difference of two arms is drawn as: draw of training cases + seed of each arm + subject + noise. The true difference is 0, or a given one
for power and equivalence. Settings are standard deviations in points of Dice. The estimates are those of the tables (`report/crossed.py`).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from brainpretrain.cohorts.splits import fold_order
from brainpretrain.report import crossed, statistics

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Setting:
    """Standard deviations of a difference: draw of training cases, seed of one arm, subject, noise."""

    name: str
    draw: float
    seed: float
    subject: float
    noise: float


SETTINGS = (
    Setting("calm", 0.5, 0.3, 1.5, 2),
    Setting("like hippocampus", 1, 0.5, 1.5, 2),
    Setting("like brains", 5, 2, 2, 3),
    Setting("subjects dominate", 0.2, 0.1, 3, 2),
)
CROSSED = ((52, 3, 1), (52, 3, 3), (52, 6, 1), (52, 6, 3), (17, 3, 1), (17, 3, 3), (17, 6, 1))  # subjects, draws, seeds
VAL = ((17, 6, 3, 1), (17, 6, 3, 3), (17, 6, 6, 1), (60, 20, 3, 1), (60, 20, 6, 1), (60, 50, 6, 1))  # pool, n_train, draws, seeds
EXTRA = "one label in five is missing"


def differences(
    setting: Setting, samples: int, draws: int, subjects: int, seeds: int, rng: np.random.Generator
) -> np.ndarray:
    """Differences of simulated studies, the mean over the seeds of a draw: (samples, draws, subjects)."""
    one = rng.normal(0, setting.draw, (samples, draws, 1)) + rng.normal(0, setting.subject, (samples, 1, subjects))
    trained = rng.normal(0, math.sqrt(2) * setting.seed, (samples, draws, seeds)).mean(-1)[..., None]
    return one + trained + rng.normal(0, setting.noise / math.sqrt(seeds), (samples, draws, subjects))


def scored_by_fold(pool: int, n_train: int, draws: int) -> np.ndarray:
    """Which subjects of a pool each fold scores in the cohort `val`, with the order of the splits: (draws, pool)."""
    names = [f"{number:03d}" for number in range(pool)]
    trained = [fold_order(names, fold, n_train, 17)[:n_train] for fold in range(draws)]
    return np.array([[name not in chosen for name in names] for chosen in trained])


def coverage(d: np.ndarray, confidence: float = 0.95) -> dict[str, float]:
    """Share of studies whose interval holds 0, mean width, and share of false rejections (the same test)."""
    found = crossed.moments(d)
    half = np.array([crossed.quantile(df, (1 + confidence) / 2) for df in found["df"]]) * np.sqrt(found["variance"])
    holds = np.abs(found["mean"]) <= half
    return {"coverage": float(holds.mean()), "width": float(2 * half.mean())}


def of_these_models(d: np.ndarray, resamples: int) -> dict[str, float]:
    """The interval that takes the trained models as given (bootstrap over subjects), and its Wilcoxon test, for a true 0."""
    means = np.nanmean(d, 1)
    weights = statistics.draws(d.shape[-1], resamples, 0) / d.shape[-1]
    low, high = np.quantile(weights @ means.T, [0.025, 0.975], axis=0)
    rejected = [statistics.signed_rank(line).p < 0.05 for line in means[: len(means) // 4]]
    return {"these_models": float(((low <= 0) & (high >= 0)).mean()), "wilcoxon": float(np.mean(rejected))}


def decisions(d: np.ndarray, margin: float) -> dict[str, float]:
    """Share of studies that find a difference, and that find equivalence within the margin, at 5 %."""
    found = crossed.moments(d)
    error = np.sqrt(found["variance"])
    different = np.abs(found["mean"]) > np.array([crossed.quantile(df, 0.975) for df in found["df"]]) * error
    equivalent = np.abs(found["mean"]) + np.array([crossed.quantile(df, 0.95) for df in found["df"]]) * error < margin
    return {"different": float(different.mean()), "equivalent": float(equivalent.mean())}
