from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from brainpretrain.report import crossed, power
from brainpretrain.report.statistics import Cases, fold_scores

RNG = np.random.default_rng(5)


def of_anova(d: np.ndarray) -> tuple[float, float, float, float]:
    """Variance and degrees of freedom of the balanced layout, from its textbook sums of squares, and V_draws and V_subjects."""
    draws, subjects = d.shape
    of_draws = d.mean(1).var(ddof=1) / draws
    of_subjects = d.mean(0).var(ddof=1) / subjects
    left = d - d.mean(1, keepdims=True) - d.mean(0) + d.mean()
    rest = (left**2).sum() / ((draws - 1) * (subjects - 1) * draws * subjects)
    variance = max(of_draws + of_subjects - rest, of_draws, of_subjects)
    return variance, variance**2 / (of_draws**2 / (draws - 1) + of_subjects**2 / (subjects - 1)), of_draws, of_subjects


@pytest.mark.parametrize("sds", [(1, 1.5, 2), (0, 0, 1), (3, 0, 0.1), (0, 3, 0.1)])
def test_where_all_draws_score_all_subjects_it_is_the_crossed_interval(sds: tuple[float, float, float]) -> None:
    d = RNG.normal(0, sds[0], (4, 1)) + RNG.normal(0, sds[1], (1, 9)) + RNG.normal(0, sds[2], (4, 9))
    variance, df, _, _ = of_anova(d)
    found = crossed.estimate(d)
    assert (found.mean, found.draws, found.subjects) == (pytest.approx(d.mean()), 4, 9)
    assert (found.variance, found.df) == (pytest.approx(variance), pytest.approx(df))
    half = scipy.stats.t(df).ppf(0.975) * math.sqrt(variance)
    assert found.interval(0.95) == pytest.approx((d.mean() - half, d.mean() + half))
    assert found.p == pytest.approx(2 * scipy.stats.t(df).sf(abs(d.mean()) / math.sqrt(variance)))


def test_where_no_subject_is_scored_twice_it_is_the_t_interval_over_draws() -> None:
    d = np.full((3, 12), np.nan)
    for draw in range(3):
        d[draw, 4 * draw : 4 * draw + 4] = RNG.normal(draw, 1, 4)
    means = np.nanmean(d, 1)
    found = crossed.estimate(d)
    assert (found.variance, found.df) == (pytest.approx(means.var(ddof=1) / 3), pytest.approx(2))
    assert found.p == pytest.approx(scipy.stats.ttest_1samp(means, 0).pvalue)


def test_the_variances_are_right_on_average_where_draws_score_other_subjects() -> None:
    """20,000 studies of 4 draws, each of 7 of 10 subjects; the standard error of each variance is below 2 %."""
    there = np.array([np.roll(np.arange(10) < 7, 3 * draw) for draw in range(4)])
    n, sds = 20_000, {"draw": 0.5, "subject": 2.0, "rest": 1.0}
    d = RNG.normal(0, 0.5, (n, 4, 1)) + RNG.normal(0, 2, (n, 1, 10)) + RNG.normal(0, 1, (n, 4, 10))
    found = crossed.moments(np.where(there, d, np.nan))
    for part, sd in (("subject", 2.0), ("rest", 1.0)):
        assert found[part].mean() == pytest.approx(sds[part] ** 2, rel=0.04), sd
    true = found["mean"].var()
    assert found["variance"].mean() == pytest.approx(true, rel=0.12)  # never below its parts, so a little too large
    assert found["variance"].mean() > true


def test_what_a_subject_contributes_adds_up_to_the_score_of_the_fold() -> None:
    values = RNG.random((6, 3, 2))
    values[2, 0, 1] = np.nan
    values[:, 1, 1] = np.nan  # a label that a draw does not have
    values[4, 2] = np.nan  # a subject that a draw does not score
    counts = (~np.isnan(values)).astype(float)
    counts[0, 0, 0], values[0, 0, 0] = 3, 3 * values[0, 0, 0]  # three sessions
    cases = Cases(tuple("abcdef"), np.nan_to_num(values), counts)
    scored = counts.sum(-1) > 0
    parts = crossed.contributions(cases, scored)
    assert np.isnan(parts[2, 4]) and np.isnan(parts).sum() == 1
    assert np.nanmean(parts, 1) == pytest.approx(fold_scores(cases.totals.sum(0), cases.counts.sum(0)))
    assert parts[2, 0] == pytest.approx(values[0, 2].mean())  # one case and all labels: the mean over its labels


@pytest.mark.parametrize(
    ("shape", "statement"), [((0, 0), False), ((1, 9), False), ((2, 9), False), ((3, 1), False), ((3, 2), True)]
)
def test_two_draws_or_one_subject_allow_no_statement(shape: tuple[int, int], statement: bool) -> None:
    found = crossed.estimate(RNG.normal(size=shape))
    assert (found.draws, found.subjects) == shape
    assert math.isnan(found.p) != statement and math.isnan(found.interval(0.95)[0]) != statement
    assert math.isnan(found.p_equivalent(1)) != statement and (found.components is None) != statement


def test_differences_that_do_not_vary() -> None:
    same = crossed.estimate(np.full((3, 4), 0.25))
    assert same.interval(0.95) == (0.25, 0.25) and same.p == 0 and same.p_equivalent(0.5) == 0 and same.p_equivalent(0.1) == 1
    assert crossed.estimate(np.zeros((3, 4))).p == 1


def test_equivalence_is_the_90_percent_interval_within_the_margin() -> None:
    found = crossed.estimate(RNG.normal(0.2, 0.4, (5, 20)))
    reach = max(map(abs, found.interval(0.90)))
    assert found.p_equivalent(reach) == pytest.approx(0.05)
    assert found.p_equivalent(1.1 * reach) < 0.05 < found.p_equivalent(0.9 * reach)


# --- power


def test_the_visible_difference_is_found_in_four_of_five_studies() -> None:
    """With known variance and degrees of freedom, by scipy's noncentral t."""
    size = power.visible(0.04, 7.5)
    t = scipy.stats.nct(7.5, size / 0.2)
    assert t.sf(scipy.stats.t(7.5).ppf(0.975)) == pytest.approx(0.8, abs=1e-6)
    assert power.visible(0, 5) == 0 and math.isnan(power.visible(math.nan, math.nan))


def test_draws_needed_are_the_fewest_that_suffice() -> None:
    parts = crossed.Components(1.5, 2.25, 4)
    enough = power.draws_to_see(parts, 52, 1.5)
    assert power.visible(*parts.variance(enough, 52)) <= 1.5 < power.visible(*parts.variance(enough - 1, 52))
    assert power.draws_to_decide(parts, 52, 1.5) >= enough
    assert power.draws_to_see(parts, 52, 100) == crossed.FEWEST_DRAWS
    assert power.draws_to_see(parts, 4, 0.5) is None  # the subjects alone vary more than that


def test_a_fixed_predictor_has_the_t_interval_over_subjects() -> None:
    """Another program has the same score of a subject in every draw: its interval is that of its subjects, with any number of draws."""
    of_subject = RNG.normal(80, 3, 9)
    expected = scipy.stats.ttest_1samp(of_subject, 79)
    for draws in (1, 2, 5):
        found = crossed.fixed(np.tile(of_subject, (draws, 1)) - 79)
        assert (found.p, found.df) == (pytest.approx(expected.pvalue), pytest.approx(8))
        assert found.interval(0.95) == pytest.approx(tuple(end - 79 for end in expected_interval(of_subject)))
    assert math.isnan(crossed.fixed(of_subject[None, :1]).variance)
    assert math.isnan(crossed.fixed(np.zeros((0, 0))).mean)


def expected_interval(values: np.ndarray) -> tuple[float, float]:
    half = scipy.stats.t(len(values) - 1).ppf(0.975) * values.std(ddof=1) / math.sqrt(len(values))
    return values.mean() - half, values.mean() + half


def test_intervals_of_a_fixed_predictor_hold_the_truth_whichever_subjects_the_draws_score() -> None:
    """2,000 studies: its score, where draws score other subjects (`val`), and the difference of a trained arm to it (crossed)."""
    rng = np.random.default_rng(7)  # docs/statistics.md has its numbers
    there = np.array([np.roll(np.arange(12) < 8, 3 * draw) for draw in range(4)])
    held = {"value": 0, "difference": 0}
    for _ in range(2000):
        program = rng.normal(0, 2, 12)
        arm = rng.normal(0, 1, (4, 1)) + 0.5 * program + rng.normal(0, 1, (4, 12)) + rng.normal(0, 1, 12)
        for name, found in (
            ("value", crossed.fixed(np.where(there, program, np.nan))),
            ("difference", crossed.estimate(arm - program)),
        ):
            low, high = found.interval(0.95)
            held[name] += low <= 0 <= high
    # 0.95, with a standard error of 0.005
    assert 0.935 <= held["value"] / 2000 <= 0.97 and 0.93 <= held["difference"] / 2000 <= 0.98, held
