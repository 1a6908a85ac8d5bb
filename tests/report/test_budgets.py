from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from brainpretrain.config.sections import Bootstrap
from brainpretrain.errors import UserError
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import budgets
from report_fixtures import PRETRAINED, budget_scores, budget_spec, row, spec, two_arms

BOOTSTRAP = Bootstrap(resamples=200, confidence=0.95, seed=0)
COUNTED = {"hippocampus": 160.0}


def curves_and_matches(scores: pd.DataFrame, table: TableSpec, **changes) -> tuple[pd.DataFrame, pd.DataFrame]:
    points = budgets.curves(scores, table, COUNTED)
    return points, budgets.matched(scores, table, points, BOOTSTRAP.model_copy(update=changes))


def test_curves_by_hand() -> None:
    """Fold 0 of the scratch arm is 0.65, fold 1 is 0.70 (see `two_arms`)."""
    points = budgets.curves(two_arms(), spec(), {})
    scratch = points[points["row"] == "U-Net scratch"].iloc[0]
    assert (scratch["subjects"], scratch["mean"], scratch["fold_scores"]) == (20, 0.675, "0.650000 0.700000")
    assert scratch["sd"] == pytest.approx(np.std([0.65, 0.70], ddof=1), abs=1e-6)


def test_all_stands_where_the_trainings_say_and_budgets_ascend() -> None:
    points = budgets.curves(budget_scores(), budget_spec(), COUNTED)
    assert points["row"].tolist() == ["scratch"] * 4 + ["AMAES"] * 4
    assert points["n_train"].tolist() == ["10", "20", "40", "all"] * 2
    assert points["subjects"].tolist() == [10, 20, 40, 160] * 2
    with pytest.raises(UserError, match="'all' is not known for task 'hippocampus'"):
        budgets.curves(budget_scores(), budget_spec(), {})


def test_counted_subjects_are_the_mean_over_folds() -> None:
    runs = [{"task": "a", "n_train": "all", "train_subjects": ["x"] * n} for n in (10, 12)]
    runs.append({"task": "b", "n_train": "20", "train_subjects": ["x"] * 20})
    assert budgets.counted_subjects(runs) == {"a": 11}


def test_titles_lose_the_budget_and_nothing_else() -> None:
    titles = ("unet_b, scratch, n=20, sawtooth", "U-Net, n=200")
    rows = spec(rows=[row(title, "scratch", n_train="20") for title in titles]).rows
    assert [budgets.title_of(part) for part in rows] == ["unet_b, scratch, sawtooth", "U-Net, n=200"]


def test_reach_interpolates_in_the_logarithm_and_never_extrapolates() -> None:
    curves = np.array([[0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.5, 0.6, 0.7], [0.7, 0.5, 0.7], [np.nan, 0.6, 0.7]])
    crossings = budgets.reach([10, 20, 40], curves, np.array([0.65, 0.4, 0.71, 0.7, 0.6]))
    assert crossings.tolist() == pytest.approx([20 * 2**0.5, 10, np.inf, 10, 20])


def test_the_matched_budget_by_hand() -> None:
    """Scratch reaches 0.80 with all 160; the pretrained arm has 0.78 with 20 and 0.82 with 40, so it meets 0.80 in between."""
    _, matches = curves_and_matches(budget_scores(spread=0.0), budget_spec())
    scratch, pretrained = matches.to_dict("records")
    assert scratch["full_score"] == pytest.approx(0.80) and scratch["full_n_train"] == "all"
    assert scratch["matched"] == pytest.approx(160)
    assert pretrained["baseline"] == "scratch" and pretrained["init"] == PRETRAINED
    assert pretrained["matched"] == pytest.approx(20 * 2**0.5, abs=0.01)
    assert (pretrained["low"], pretrained["high"]) == (pretrained["matched"], pretrained["matched"])  # no spread, no doubt
    assert pretrained["words"] == "28 (95 % interval 28)"


def test_the_interval_comes_from_folds_and_subjects_and_is_repeatable() -> None:
    scores = budget_scores(spread=0.05)
    _, matches = curves_and_matches(scores, budget_spec())
    pretrained = matches.iloc[1]
    assert 10 <= pretrained["low"] < pretrained["matched"] < pretrained["high"]
    again = curves_and_matches(scores.sample(frac=1, random_state=1), budget_spec())[1]
    pd.testing.assert_frame_equal(matches, again)
    assert not matches.equals(curves_and_matches(scores, budget_spec(), seed=1)[1])


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    """40 cohorts drawn from the same truth (28.3 subjects): a 90 % interval that misses half of them would be none."""
    hits = 0
    for seed in range(40):
        scores = budget_scores(spread=0.06, folds=6, subjects=30, seed=seed)
        _, matches = curves_and_matches(scores, budget_spec(folds=list(range(6))), confidence=0.9)
        hits += matches.iloc[1]["low"] <= 20 * 2**0.5 <= matches.iloc[1]["high"]
    assert hits >= 32


def test_not_reached_and_at_most_are_said_plainly() -> None:
    worse = curves_and_matches(budget_scores(gain=-0.2, spread=0.0), budget_spec())[1].iloc[1]
    assert np.isinf(worse["matched"]) and worse["reached_share"] == 0
    assert worse["words"] == "not reached with 160; reached in 0 % of resamples"
    better = curves_and_matches(budget_scores(gain=0.3, spread=0.0), budget_spec())[1].iloc[1]
    assert better["words"] == "at most 10 (95 % interval at most 10)"


def test_missing_runs_are_said_and_not_guessed() -> None:
    scores = budget_scores()
    no_full = scores[~((scores["init"] == "scratch") & (scores["n_train"] == "all") & (scores["fold"] == "1"))]
    points, matches = curves_and_matches(no_full, budget_spec())
    assert points["mean"].isna().sum() == 1 and points.iloc[3]["folds"] == 1
    assert set(matches["words"]) == {"not known: scratch with n=all is not scored in every fold"}
    points, matches = curves_and_matches(scores.head(0), budget_spec())
    assert points["mean"].isna().all() and matches["matched"].isna().all()


def test_an_arm_without_baseline_is_not_compared() -> None:
    table = budget_spec(rows=[row for row in budget_spec().rows if row.init == PRETRAINED])
    assert curves_and_matches(budget_scores(), table)[1].empty


def test_sessions_of_a_subject_stay_together() -> None:
    """Twice the sessions of the same subjects say nothing new: the interval must not shrink."""
    scores = budget_scores(spread=0.05)
    doubled = pd.concat([scores, scores.assign(volume=scores["volume"] + "_ses-2", session="2")], ignore_index=True)
    once, twice = (curves_and_matches(frame, budget_spec())[1].iloc[1] for frame in (scores, doubled))
    assert (once["low"], once["high"]) == (twice["low"], twice["high"])


def test_of_distances_less_is_better() -> None:
    scores = budget_scores(spread=0.0)
    scores["hd95_mm"] = [str(round(10 * (1 - float(dice)), 4)) for dice in scores["dice"]]
    matches = curves_and_matches(scores, budget_spec(metric="hd95_mm"))[1]
    assert matches.iloc[1]["matched"] == pytest.approx(20 * 2**0.5, abs=0.01)
    with pytest.raises(UserError, match="lack the columns nsd"):
        budgets.curves(scores, budget_spec(metric="nsd"), COUNTED)


def test_seeds_of_a_fold_are_one_draw() -> None:
    """Two seeds with the same scores change neither mean nor SD nor the interval of the matched budget."""
    scores, table = budget_scores(folds=3), budget_spec(folds=[0, 1, 2])
    twice = pd.concat([scores.assign(fold=scores["fold"] + f"-seed{seed}") for seed in (3, 4)])
    seeded = budget_spec(folds=[0, 1, 2], seeds=[3, 4])
    counted = {"hippocampus": 80.0}
    once, both = budgets.curves(scores, table, counted), budgets.curves(twice, seeded, counted)
    assert both["folds"].tolist() == [6] * 8
    pd.testing.assert_frame_equal(once[["mean", "sd"]], both[["mean", "sd"]])
    options = table.bootstrap
    matched = [budgets.matched(s, t, p, options) for s, t, p in ((scores, table, once), (twice, seeded, both))]
    pd.testing.assert_frame_equal(*matched)


def test_from_zero_to_the_smallest_number_a_curve_is_straight() -> None:
    """A source alone has 0 labels of the target, whose logarithm is not finite."""
    values = np.array([[0.5, 0.7, 0.8], [0.5, 0.6, 0.8], [0.7, 0.8, 0.9]])
    assert budgets.reach([0, 10, 20], values, np.array([0.6, 0.5, 0.95])).tolist() == [5, 0, np.inf]


def test_full_supervision_is_the_baseline_with_most_labels() -> None:
    arms = [("scratch", "short", 10.0), ("scratch", "long", 300.0), ("pretrained", "short", 10.0)]
    table = pd.DataFrame([{"backbone": "b", "init": init, "recipe": recipe, "subjects": n} for init, recipe, n in arms])
    assert budgets._baseline(table, ("b", "pretrained", "short"), spec())["recipe"].tolist() == ["long"]
