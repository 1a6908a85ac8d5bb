from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.stats

from brainpretrain.files import read_tsv
from brainpretrain.report import statistics
from helpers import ROOT

RNG = np.random.default_rng(0)


def cases(values: np.ndarray) -> statistics.Cases:
    """Scores (subjects, folds, labels), NaN where undefined."""
    totals, counts = np.nan_to_num(values), (~np.isnan(values)).astype(float)
    return statistics.Cases(tuple(f"s{i}" for i in range(len(values))), totals, counts)


# --- fold scores and bootstrap


def test_a_fold_score_is_the_mean_over_labels_of_the_mean_over_cases() -> None:
    values = cases(np.array([[[0.4, 0.8]], [[0.6, np.nan]]]))
    assert statistics.fold_scores(values.totals.sum(0), values.counts.sum(0)) == pytest.approx([0.65])


def test_a_mean_of_nothing_is_nan_without_a_warning() -> None:
    assert np.isnan(statistics.mean(np.array([[np.nan, np.nan], [1, np.nan]]), -1)).tolist() == [True, False]
    assert np.isnan(statistics.mean(np.zeros((2, 0)), -1)).all()


def test_draws_are_samples_with_replacement_and_the_same_each_time() -> None:
    weights = statistics.draws(5, 1000, 7)
    assert weights.shape == (1000, 5) and (weights.sum(1) == 5).all() and (weights >= 0).all()
    statistics.draws.cache_clear()
    assert (statistics.draws(5, 1000, 7) == weights).all()
    assert (statistics.draws(5, 1000, 8) != weights).any()


def test_resampling_is_the_score_of_the_drawn_subjects() -> None:
    values = RNG.random((6, 2, 3))
    values[2, 0, 1] = np.nan
    values[:, 1, 2] = np.nan  # a label that a fold does not have
    samples = statistics.resampled(cases(values), 20, 3)
    for weights, score in zip(statistics.draws(6, 20, 3), samples, strict=True):
        drawn = np.repeat(values, weights.astype(int), axis=0)
        folds = [np.mean([np.nanmean(drawn[:, f, k]) for k in range(3) if not np.isnan(drawn[:, f, k]).all()]) for f in range(2)]
        assert score == pytest.approx(np.mean(folds))


def test_the_bootstrap_interval_is_that_of_the_mean() -> None:
    """For the plain mean of many cases: mean ± 1.96 standard errors."""
    values = RNG.normal(0.6, 0.1, (400, 1, 1))
    low, high = statistics.interval(statistics.resampled(cases(values), 20_000, 0), 0.95)
    error = values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=error / 10)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=error / 10)


def test_interval_of_nothing() -> None:
    assert all(math.isnan(end) for end in statistics.interval(np.array([np.nan]), 0.95))


# --- signed-rank test


@pytest.mark.parametrize("n", [1, 3, 6, 20, 50])
def test_exact_p_values_are_those_of_scipy(n: int) -> None:
    differences = RNG.normal(0.3, 1, n)
    assert statistics.signed_rank(differences).p == pytest.approx(scipy.stats.wilcoxon(differences, method="exact").pvalue)


def test_p_values_of_many_pairs_with_ties_and_zeros_are_those_of_scipy() -> None:
    differences = np.round(RNG.normal(0.1, 1, 300), 1)
    assert (differences == 0).sum() > 5
    test = statistics.signed_rank(differences)
    expected = scipy.stats.wilcoxon(differences, zero_method="pratt", method="asymptotic", correction=False)
    assert test.p == pytest.approx(expected.pvalue)
    assert (test.pairs, test.zeros) == (300, (differences == 0).sum())


def test_p_with_ties_and_zeros_is_exact_over_all_signs() -> None:
    """By hand: |0|, |1|, |1|, |2|, |3| have the ranks 1, 2.5, 2.5, 4, 5; the zero's rank is left out (Pratt)."""
    test = statistics.signed_rank(np.array([0, 1, -1, 2, 3]))
    ranks, up = [2.5, 2.5, 4, 5], 11.5
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product([0, 1], repeat=4)]
    extreme = sum(s >= up for s in sums) / len(sums)
    assert test.p == pytest.approx(2 * extreme)
    assert test.biserial == pytest.approx((11.5 - 2.5) / 14)
    assert test.dz == pytest.approx(1 / np.std([0, 1, -1, 2, 3], ddof=1))


def test_differences_by_rounding_alone_are_ties() -> None:
    assert statistics.signed_rank(np.array([0.1 + 0.2 - 0.3, 0.2, 0.2 + 1e-15])).zeros == 1


def test_too_few_pairs_say_so() -> None:
    nothing = statistics.signed_rank(np.array([np.nan]))
    assert nothing.pairs == 0 and math.isnan(nothing.p)
    three = statistics.signed_rank(np.array([0.1, 0.2, 0.3]))
    assert three.p == three.smallest_p == 0.25
    same = statistics.signed_rank(np.zeros(4))
    assert (same.p, same.zeros, same.biserial) == (1, 4, 0) and math.isnan(same.dz)


def test_effect_sizes_at_their_ends() -> None:
    up = statistics.signed_rank(np.array([1.0, 2, 3]))
    down = statistics.signed_rank(np.array([-1.0, -2, -3]))
    assert (up.biserial, down.biserial) == (1, -1)
    assert up.dz == pytest.approx(2) and down.dz == pytest.approx(-2)


def test_holm() -> None:
    """Sorted p times 4, 3, 2, 1, never falling: 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1 (at least 0.06)."""
    assert statistics.holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert statistics.holm(np.array([0.5, np.nan, 0.9])) == pytest.approx([1, np.nan, 1], nan_ok=True)
    assert np.isnan(statistics.holm(np.array([np.nan]))).all()


# --- ranks


def test_ranks_with_ties_in_both_directions() -> None:
    assert statistics.ranks(np.array([[0.7, 0.9, 0.7, 0.1]]), higher=True).tolist() == [[2.5, 1, 2.5, 4]]
    assert statistics.ranks(np.array([3.0, 1.0, 1.0]), higher=False).tolist() == [3, 1.5, 1.5]
    values = np.round(RNG.random((50, 8)), 1)
    assert (statistics.ranks(values, higher=False) == scipy.stats.rankdata(values, axis=1)).all()


def test_kendall() -> None:
    orders = statistics.ranks(np.round(RNG.random((30, 6)), 1), higher=True)
    expected = [scipy.stats.kendalltau(orders[0], order).statistic for order in orders]
    assert statistics.kendall(orders[0], orders) == pytest.approx(expected)
    assert np.isnan(statistics.kendall(np.ones(3), orders[:, :3])).all()


def test_stability() -> None:
    orders = np.array([[1, 2, 3], [1, 2, 3], [1.5, 1.5, 3], [2, 1, 3]])
    stable = statistics.stability(np.array([1.0, 2, 3]), orders, 0.95)
    assert stable.first == pytest.approx([2.5 / 4, 1.5 / 4, 0])
    assert stable.low[2] == stable.high[2] == 3
    assert stable.high[0] == pytest.approx(np.quantile(orders[:, 0], 0.975))
    assert stable.tau == pytest.approx(np.mean([1, 1, 2 / math.sqrt(2 * 3), 1 / 3]))


# --- what is published: S3D (Wald et al. 2025, arXiv 2410.23132)

S3D = [4.64, 4.55, 6.27, 4.36, 3.18, 2.00]  # average DSC ranks of Table 4: Dyn, Fixed, VoCo, VF, MG, S3D-B
SIX = [3.91, 3.64, 5.27, 3.73, 2.73, 1.73]  # of the six methods that Table 4 shows
METHODS = ["no_dyn", "no_fixed", "voco", "vf", "mg", "s3d", "s3d_long"]  # Table 4, and S3D-Long of Table 12


def published_scores(metric: str) -> np.ndarray:
    """Scores of METHODS (columns) on the data sets D1 to D11 (rows), as printed in Tables 4 and 12."""
    table = read_tsv(ROOT / "tests/report/s3d_tables.tsv", numbers=METHODS)
    return table.loc[table["metric"] == metric, METHODS].to_numpy()


def test_the_published_ranks_of_s3d_need_a_seventh_method() -> None:
    """Ranks of m methods add up to m (m + 1) / 2 on every data set, ties or not: 28 for seven, 21 for six.

    What is left for S3D-Long is 3.00, the "second-best method's mean rank of 3" of the paper's first version.
    """
    assert sum(S3D) > 21.1
    assert 28 - sum(S3D) == pytest.approx(3.00, abs=0.03)
    assert sum(SIX) == pytest.approx(21, abs=0.03)


def test_the_published_scores_give_the_published_average_ranks() -> None:
    """The average ranks that the paper prints for six methods are those among seven, with S3D-Long."""
    scores = published_scores("DSC")
    assert statistics.ranks(scores, higher=True).mean(0)[:6].round(2).tolist() == S3D
    assert statistics.ranks(scores[:, :6], higher=True).mean(0).round(2).tolist() == SIX


def test_ranks_of_the_published_generalisation_scores() -> None:
    table = read_tsv(ROOT / "tests/report/s3d_generalisation.tsv", numbers=["Dyn", "Fixed", "VoCo", "VF", "MG", "S3D-B", "S3D-L"])
    ranks = statistics.ranks(table.drop(columns="data").to_numpy(), higher=True)
    assert ranks.tolist() == [[1, 6, 7, 3, 2, 4, 5], [1, 6, 7, 3, 5, 4, 2], [4, 6, 7, 5, 3, 2, 1]]
    assert ranks.mean(0).round(2).tolist() == [2, 6, 7, 3.67, 3.33, 3.33, 2.67]
