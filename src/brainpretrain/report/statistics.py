"""Uncertainty, paired tests and ranks of scores: vectorised NumPy that returns the same bytes for the same input.

The unit is the subject: subjects are drawn, paired and tested with all their sessions, folds and labels.
docs/statistics.md explains each number of a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

EXACT_PAIRS = 50  # up to this number of pairs the distribution of the signed-rank sum is exact, beyond it is taken as normal


@dataclass(frozen=True)
class Cases:
    """The scores of one arm: sums and counts of its defined scores, each of shape (subjects, folds, labels)."""

    subjects: tuple[str, ...]
    totals: np.ndarray
    counts: np.ndarray


# --- scores of folds, and their bootstrap over subjects


def mean(values: np.ndarray, axis: int) -> np.ndarray:
    """Mean over an axis, ignoring NaN; NaN, without a warning, where all values are NaN."""
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
    """How often each unit occurs in each bootstrap sample of `units` draws with replacement: (resamples, units)."""
    drawn = np.random.default_rng(seed).integers(units, size=(resamples, units))
    drawn += units * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * units).reshape(resamples, units).astype(float)


def resampled(cases: Cases, resamples: int, seed: int) -> np.ndarray:
    """The mean fold score of an arm in each bootstrap sample of its subjects: (resamples,).

    A subject is drawn with all its scores, into all folds at once. A fold or label without any score of a drawn subject
    is left out of that sample.
    """
    weights = draws(len(cases.subjects), resamples, seed)
    shape = (resamples, *cases.totals.shape[1:])
    totals, counts = (weights @ part.reshape(len(part), -1) for part in (cases.totals, cases.counts))
    return mean(fold_scores(totals.reshape(shape), counts.reshape(shape)), -1)


def interval(samples: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of bootstrap samples (Efron 1979); NaN if no sample is defined."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


# --- paired tests


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test of paired differences, and two effect sizes.

    Attributes:
        pairs: number of pairs.
        zeros: number of pairs that do not differ.
        p: two-sided p value.
        smallest_p: the p value if all differing pairs had the same sign, the smallest that this number of pairs can give.
        biserial: matched-pairs rank-biserial correlation, -1 to 1.
        dz: Cohen's dz.
    """

    pairs: int
    zeros: int
    p: float
    smallest_p: float
    biserial: float
    dz: float


def signed_rank(differences: np.ndarray) -> SignedRank:
    """Two-sided Wilcoxon signed-rank test (Wilcoxon 1945).

    Zeros are ranked and then left out (Pratt 1959); ties share their mean rank. Up to `EXACT_PAIRS` differing pairs, p is exact
    given the ties; with more pairs it is the normal approximation with the variance corrected for ties.

    Returns:
        p is NaN if there is no pair, 1 if no pair differs. biserial (Kerby 2014) is 0 if no pair differs. dz is mean / SD
        (n - 1) of the differences (Cohen 1988), NaN if the SD is 0 or unknown.
    """
    d = np.asarray(differences, float)
    d = np.round(d[~np.isnan(d)], 9)  # differences of rounding alone are ties
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
    """Two-sided p of the sum `up` of positive ranks, if each rank is positive with probability one half."""
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
    """p values corrected for multiple testing by Holm's step-down method (Holm 1979); NaN is no test and stays NaN."""
    p = np.asarray(p, float)
    corrected = np.full(p.shape, np.nan)
    order = [i for i in np.argsort(p, kind="stable") if not np.isnan(p[i])]
    steps = [(len(order) - k) * p[i] for k, i in enumerate(order)]
    corrected[order] = np.minimum(1, np.maximum.accumulate(steps)) if order else []
    return corrected


# --- ranks


def ranks(values: np.ndarray, higher: bool) -> np.ndarray:
    """Ranks along the last axis; 1 is the best, and ties share their mean rank. `higher`: True if higher values are better."""
    v = -np.asarray(values, float) if higher else np.asarray(values, float)
    better = (v[..., None, :] < v[..., :, None]).sum(-1)
    equal = (v[..., None, :] == v[..., :, None]).sum(-1)
    return better + (equal + 1) / 2


def kendall(order: np.ndarray, orders: np.ndarray) -> np.ndarray:
    """Kendall's tau-b (Kendall 1945) of one order of methods with each of several: (m,), (n, m) -> (n,).

    NaN where all methods are tied in one of the two orders.
    """
    first, second = np.triu_indices(len(order), 1)
    a, b = (np.sign(x[..., first] - x[..., second]) for x in (order, orders))
    size = np.sqrt((a != 0).sum(-1) * (b != 0).sum(-1))
    return np.divide((a * b).sum(-1), size, out=np.full(len(orders), np.nan), where=size > 0)


@dataclass(frozen=True)
class Stability:
    """How stable a ranking is over bootstrap samples.

    Attributes:
        low, high: ends of the interval of each method's rank, (methods,).
        first: share of samples in which each method is the best, (methods,).
        tau: mean Kendall's tau of the rankings in the samples with the ranking itself.
    """

    low: np.ndarray
    high: np.ndarray
    first: np.ndarray
    tau: float


def stability(order: np.ndarray, orders: np.ndarray, confidence: float) -> Stability:
    """Stability of a ranking. A first place that several methods share is divided among them.

    Args:
        order: the ranks, (methods,).
        orders: the ranks in each bootstrap sample, (resamples, methods).
    """
    best = np.isclose(orders, orders.min(1, keepdims=True))
    low, high = np.quantile(orders, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Stability(low, high, (best / best.sum(1, keepdims=True)).mean(0), float(mean(kendall(order, orders), 0)))
