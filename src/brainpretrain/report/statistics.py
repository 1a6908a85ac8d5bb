"""Uncertainty, paired tests and ranks of scores: NumPy alone, vectorised, and the same bytes for the same input.

The unit is the subject: what is drawn again, paired and tested is a subject with all its sessions, folds and labels.
docs/statistics.md says how each number of a table comes about.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

EXACT_PAIRS = 50  # up to so many pairs the distribution of the signed-rank sum is counted, beyond it is taken as normal


@dataclass(frozen=True)
class Cases:
    """What one arm scored: sums and numbers of its defined scores, each of shape (subjects, folds, labels)."""

    subjects: tuple[str, ...]
    totals: np.ndarray
    counts: np.ndarray


# --- scores of folds, and their bootstrap over subjects


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over an axis without NaN; NaN, and no warning, where nothing is left."""
    defined = ~np.isnan(values)
    number = defined.sum(axis)
    total = np.where(defined, values, 0).sum(axis)
    return np.divide(total, number, out=np.full(np.shape(total), np.nan), where=number > 0)


def fold_scores(totals: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Score of each fold: the mean over labels of the mean over cases. (..., folds, labels) -> (..., folds)."""
    by_label = np.divide(totals, counts, out=np.full(np.shape(totals), np.nan), where=counts > 0)
    return mean(by_label, -1)


@lru_cache(maxsize=4)
def draws(units: int, resamples: int, seed: int) -> np.ndarray:
    """How often each unit stands in each bootstrap sample of `units` draws with replacement: (resamples, units)."""
    drawn = np.random.default_rng(seed).integers(units, size=(resamples, units))
    drawn += units * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(float)


def resampled(cases: Cases, resamples: int, seed: int) -> np.ndarray:
    """The mean fold score of an arm in each bootstrap sample of its subjects: (resamples,).

    A subject is drawn with all its scores, and into all folds at once. A fold or label that no drawn subject has is
    left out of that sample.
    """
    weights = draws(len(cases.subjects), resamples, seed)
    shape = (resamples, *cases.totals.shape[1:])
    totals, counts = (weights @ part.reshape(len(part), -1) for part in (cases.totals, cases.counts))
    return mean(fold_scores(totals.reshape(shape), counts.reshape(shape)), -1)


def interval(samples: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap samples (Efron 1979); NaN where there are none."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# --- paired tests


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of paired differences, and two sizes of the effect.

    `smallest_p` is what p would be if all differing pairs had the same sign: no result of so few pairs is below.
    """

    pairs: int
    zeros: int
    p: float
    smallest_p: float
    biserial: float
    dz: float


def signed_rank(differences: np.ndarray) -> SignedRank:
    """Two-sided Wilcoxon signed-rank test (Wilcoxon 1945).

    Zeros are ranked and then left out (Pratt 1959); ties share their mean rank. With up to `EXACT_PAIRS` pairs that differ,
    p is exact given the ties; with more it is the normal approximation with the variance that ties leave.

    Returns:
        p NaN if there is no pair, 1 if no pair differs. biserial: matched-pairs rank-biserial correlation
        (Kerby 2014), from -1 to 1, 0 if no pair differs. dz: mean / SD (n - 1) of the differences (Cohen 1988), NaN
        where the SD is 0 or unknown.
    """
    d = np.asarray(differences, float)
    d = np.round(d[~np.isnan(d)], 9)  # what differs by rounding alone is a tie
    if not len(d):
        return SignedRank(0, 0, *[float("nan")] * 4)
    differing = d != 0
    rank = ranks(np.abs(d), higher=False)[differing]
    up, total = rank[d[differing] > 0].sum(), rank.sum()
    spread = d.std(ddof=1) if len(d) > 1 else 0.0
    return SignedRank(
        pairs=len(d),
        zeros=int((~differing).sum()),
        p=_p_value(rank, up),
        smallest_p=_p_value(rank, total),
        biserial=float((2 * up - total) / total) if total else 0.0,
        dz=float(d.mean() / spread) if spread else float("nan"),
    )


def _p_value(rank: np.ndarray, up: float) -> float:
    """Two-sided p of the sum of positive ranks, where each rank is positive with probability one half."""
    lower = min(up, rank.sum() - up)
    if len(rank) <= EXACT_PAIRS:
        steps = np.round(2 * rank).astype(int)  # mean ranks are halves
        chance = np.zeros(steps.sum() + 1)
        chance[0] = 1
        for step in steps:
            chance[step:] = (chance[step:] + chance[: len(chance) - step]) / 2
            chance[:step] /= 2
        return float(min(1.0, 2 * chance[: round(2 * lower) + 1].sum()))
    deviation = (rank.sum() / 2 - lower) / math.sqrt((rank**2).sum() / 4)
    return math.erfc(deviation / math.sqrt(2))


def holm(p: np.ndarray) -> np.ndarray:
    """p values corrected for their number by Holm's step-down method (Holm 1979); NaN are no tests and stay NaN."""
    p = np.asarray(p, float)
    corrected = np.full(p.shape, np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    steps = [(len(order) - k) * p[i] for k, i in enumerate(order)]
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps)) if order else []
    return corrected


# --- ranks


def ranks(values: np.ndarray, higher: bool) -> np.ndarray:
    """Ranks along the last axis, 1 the best; ties share their mean rank. `higher`: more is better."""
    v = -np.asarray(values, float) if higher else np.asarray(values, float)
    better = (v[..., None, :] < v[..., :, None]).sum(-1)
    equal = (v[..., None, :] == v[..., :, None]).sum(-1)
    return better + (equal + 1) / 2


def kendall(order: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (Kendall 1945) of one order of methods with each of several: (m,), (n, m) -> (n,).

    NaN where one of the two has nothing but ties.
    """
    first, second = np.triu_indices(len(order), 1)
    a, b = (np.sign(x[..., first] - x[..., second]) for x in (order, orders))
    size = np.sqrt((a != 0).sum(-1) * (b != 0).sum(-1))
    return np.divide((a * b).sum(-1), size, out=np.full(len(orders), np.nan), where=size > 0)


@dataclass(frozen=True)
class Stability:
    """How much a ranking depends on what it was made from: by method, and Kendall's tau with the ranking itself."""

    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    tau: float


def stability(order: np.ndarray, orders: np.ndarray, confidence: float) -> Stability:
    """Percentile interval of the rank of each method, the share of samples that have it first, and mean tau.

    A first place that several share is divided among them.

    Args:
        order: the ranks that were found, (methods,).
        orders: the ranks in each bootstrap sample, (resamples, methods).
    """
    best = np.isclose(orders, orders.min(1, keepdims=True))
    low, high = np.quantile(orders, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Stability(low, high, (best / best.sum(1, keepdims=True)).mean(0), float(mean(kendall(order, orders), 0)))
