"""The difference of two arms with an interval and tests that hold for another training: draws crossed with subjects.

A draw is a set of training cases with the trainings on it. Another draw, another seed and other subjects would each change a
difference, so its variance has a part of the draws and a part of the subjects. The same input always gives the same bytes.
docs/statistics.md explains the method; `bench/coverage_of_intervals.py` measures how often its intervals hold the truth.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from brainpretrain.report.statistics import Cases, fold_scores, mean

FEWEST_DRAWS = 3  # with fewer, nothing is said about another training


@dataclass(frozen=True)
class Components:
    """Variances of the difference, each of what another study would draw again. All are 0 or more.

    Attributes:
        draw: of the mean of one draw over all subjects: its training cases and, with the seeds that were run, its trainings.
        subject: of the mean of one subject over all draws.
        rest: of a subject in one draw, apart from the two above.
    """

    draw: float
    subject: float
    rest: float

    def variance(self, draws: float, subjects: float) -> tuple[float, float]:
        """Variance of the mean difference over so many draws and subjects, all crossed, and its degrees of freedom."""
        noise = self.rest / (draws * subjects)
        of_draws, of_subjects = self.draw / draws + noise, self.subject / subjects + noise
        variance = of_draws + of_subjects - noise
        return variance, float(freedom(variance, of_draws, of_subjects, draws, subjects))


@dataclass(frozen=True)
class Estimate:
    """A difference of two arms in one column of a table.

    Attributes:
        mean: over draws of the mean over subjects.
        variance: of `mean` over other draws and subjects; NaN with fewer than `FEWEST_DRAWS` draws, unless no training
            is in it, or with a single subject.
        df: degrees of freedom of `variance`.
        draws, subjects: their numbers.
        components: None where `variance` is NaN.
    """

    mean: float
    variance: float
    df: float
    draws: int
    subjects: int
    components: Components | None = None

    def interval(self, confidence: float) -> tuple[float, float]:
        """Ends of the two-sided t interval; NaN if the variance is not known."""
        half = quantile(self.df, (1 + confidence) / 2) * math.sqrt(self.variance)
        return self.mean - half, self.mean + half

    @property
    def p(self) -> float:
        """Two-sided t test of no difference: below 5 % exactly where the 95 % interval does not hold 0."""
        return 2 * self._tail(abs(self.mean))

    def p_equivalent(self, margin: float) -> float:
        """Two one-sided t tests of a difference of `margin` or more, in either direction (Schuirmann 1987)."""
        return self._tail(margin - abs(self.mean))

    def _tail(self, distance: float) -> float:
        """Probability that t exceeds `distance` in standard errors; NaN if the variance is not known."""
        if self.variance == 0:  # the difference is the same in every draw and subject
            return 0.5 if distance == 0 else float(distance < 0)
        return float(special.stdtr(self.df, -distance / math.sqrt(self.variance)))


def quantile(df: float, probability: float) -> float:
    """Quantile of Student's t distribution."""
    return float(special.stdtrit(df, probability))


def freedom(variance, of_draws, of_subjects, draws, subjects):
    """Degrees of freedom of a sum of the variances of draws and subjects (Satterthwaite 1946); infinite if both are 0."""
    below = np.asarray(of_draws**2 / (draws - 1) + of_subjects**2 / (subjects - 1))
    return np.divide(np.asarray(variance) ** 2, below, out=np.full(np.shape(below), math.inf), where=below > 0)


# --- the estimate


def estimate(differences: np.ndarray, are_draws: bool = True) -> Estimate:
    """The crossed estimate of differences (draws, subjects), NaN where a draw does not score a subject (cohort `val`).

    Args:
        are_draws: False for the folds of a cross-validation. Any two of them share training cases and score other subjects, so
            their spread says too little of another training's; then only the mean is known, of 0 draws.
    """
    d = np.asarray(differences, float)
    d = d[~np.isnan(d).all(1)] if d.size else d
    d = d[:, ~np.isnan(d).all(0)] if d.size else d
    draws, subjects = d.shape if are_draws else (0, d.shape[1])
    if draws < FEWEST_DRAWS or subjects < 2:
        return Estimate(float(mean(d, 1).mean()) if d.size else math.nan, math.nan, math.nan, draws, subjects)
    found = moments(d)
    components = Components(*(float(np.maximum(found[part], 0)) for part in ("draw", "subject", "rest")))
    return Estimate(*(float(found[part]) for part in ("mean", "variance", "df")), draws, subjects, components)


def fixed(values: np.ndarray) -> Estimate:
    """The estimate of what no training changes: the score of another program, or the difference of two programs.

    Only subjects vary. A subject has the same value in every draw that scores it, and the mean over draws of the mean over
    subjects is a weighted mean: the weight w of a subject is the mean over draws of 1 / (subjects of the draw) where it is
    scored, and 0 where it is not. So

        V = s² * sum of w²,   s² = sum over subjects of w (value - mean)² / (1 - sum of w²)

    with 1 / (sum of w²) - 1 degrees of freedom. If all draws score all subjects, it is the t interval over subjects.

    Args:
        values: (draws, subjects), NaN where a draw does not score a subject.
    """
    d = np.asarray(values, float)
    d = d[~np.isnan(d).all(1)] if d.size else d
    d = d[:, ~np.isnan(d).all(0)] if d.size else d
    draws, subjects = d.shape
    there = ~np.isnan(d)
    weight = (there / there.sum(1, keepdims=True)).mean(0) if d.size else np.zeros(0)
    by_subject = mean(d, 0)
    centre, squares = float((weight * by_subject).sum()), float((weight**2).sum())
    if subjects < 2:
        return Estimate(centre if d.size else math.nan, math.nan, math.nan, draws, subjects)
    spread = float((weight * (by_subject - centre) ** 2).sum()) / (1 - squares)
    return Estimate(centre, spread * squares, 1 / squares - 1, draws, subjects, Components(0.0, spread, 0.0))


def moments(d: np.ndarray) -> dict[str, np.ndarray]:
    """Mean, its variance and degrees of freedom, and the variances of draw, subject and rest by the method of moments.

    The spread of the draws' means holds the variance of draws, of noise, and of subjects as far as draws score different ones.
    The variance of the subjects that draws have in common is added. With n(f) subjects in draw f and n(f, g) in both f and g:

        V = s²(means of draws) / draws + mean over pairs of n(f, g) / (n(f) n(g)) * variance of subjects

    If all draws score all subjects, this is V_draws + V_subjects - V_rest of the crossed layout; if no subject is scored twice,
    it is that of the t interval over draws. V is at least the part of the draws and at least that of the subjects.

    Args:
        d: differences (..., draws, subjects), NaN at the same places of every leading index; at least two of each.
    """
    there = ~np.isnan(d.reshape(-1, *d.shape[-2:])[0])
    draws, subjects = there.shape
    share = there / there.sum(1, keepdims=True)
    means = mean(d, -1)
    overlap = share @ share.T
    own = float(np.trace(overlap)) / draws
    common = float(overlap.sum() - np.trace(overlap)) / (draws * (draws - 1))
    rest = _rest(d, there)
    within = np.where(there, d - means[..., None], 0)
    squares = ((within * share).sum(-2) ** 2).sum(-1) / draws**2
    spread = np.diag(share.sum(0)) / draws - share.T @ share / draws
    per_subject = float((spread**2).sum())
    per_rest = float((share.max(1) * (1 - share.max(1))).sum()) / draws**2
    crude = squares / per_subject if per_subject > 0 else np.zeros_like(squares)  # of subjects, with a part of the rest
    subject = crude - (per_rest / per_subject if per_subject > 0 else 0) * rest
    between = means.var(-1, ddof=1)
    of_draws, of_subjects = between / draws, common * crude
    variance = np.maximum(np.maximum(of_draws + common * subject, of_draws), of_subjects)
    df = freedom(variance, of_draws, of_subjects, draws, subjects)
    draw = between - (own - common) * np.maximum(subject, 0) - own * rest
    return {"mean": means.mean(-1), "variance": variance, "df": df, "draw": draw, "subject": subject, "rest": rest}


def _rest(d: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Mean square of what the means of draws and subjects leave (least squares); 0 where nothing is left to estimate it from."""
    within = np.where(there, d - mean(d, -2)[..., None, :], 0)
    totals = within.sum(-1)
    inner = np.diag(there.sum(1)) - (there / there.sum(0)) @ there.T
    free = int(there.sum()) - there.shape[1] - int(np.linalg.matrix_rank(inner))
    if free <= 0:
        return np.zeros(d.shape[:-2])
    fitted = totals @ np.linalg.pinv(inner, hermitian=True)
    return np.maximum((within**2).sum((-1, -2)) - (fitted * totals).sum(-1), 0) / free


# --- what a subject contributes


def contributions(cases: Cases, scored: np.ndarray) -> np.ndarray:
    """What each subject contributes to each fold score: (folds, subjects), NaN where `scored` (subjects, folds) is False.

    Their mean over the scored subjects of a fold is the fold score: the mean over labels of the mean over cases. A subject that
    lacks a label, or that has several sessions, counts as it does there (linearisation of a ratio). With one case per subject and
    all labels it is the subject's mean over labels.
    """
    totals, counts = cases.totals, cases.counts
    number = counts.sum(0)
    by_label = np.divide(totals.sum(0), number, out=np.full(number.shape, np.nan), where=number > 0)
    beyond = np.divide(totals - counts * by_label, number, out=np.full(totals.shape, np.nan), where=number > 0)
    values = fold_scores(totals.sum(0), number) + scored.sum(0) * mean(beyond, -1)
    return np.where(scored, values, np.nan).T
