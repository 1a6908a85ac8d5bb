from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from brainpretrain.errors import UserError
from brainpretrain.report import crossed, power, results
from brainpretrain.report.metrics import METRICS
from report_fixtures import PRETRAINED, row, score, scores, spec, two_arms

# AMAES Table 4: mean and SD over 6 folds of BraTS21, ISLES22, WMH, WMH out of domain (facts, section 6).
PAPER = {
    ("unet_xl", "scratch"): [(56.00, 2.55), (48.30, 2.94), (68.32, 1.75), (67.22, 1.59)],
    ("unet_b", "scratch"): [(55.28, 1.75), (45.66, 2.40), (66.18, 2.28), (64.96, 2.52)],
    ("swinunetr", "scratch"): [(50.00, 2.59), (42.55, 2.49), (64.96, 3.90), (65.02, 2.86)],
    ("unet_xl", "amaes-on-brains45k"): [(58.98, 0.88), (53.58, 0.76), (70.40, 1.46), (68.22, 1.16)],
    ("unet_b", "amaes-on-brains45k"): [(57.20, 1.75), (48.42, 1.32), (69.11, 2.28), (67.51, 1.56)],
    ("swinunetr", "swinunetr-on-brains45k"): [(49.54, 0.94), (48.42, 3.14), (67.28, 2.67), (68.14, 1.43)],
}
PAPER_DELTAS = {"unet_xl": [2.98, 5.28, 2.08, 1.00], "unet_b": [1.92, 2.76, 2.93, 2.55], "swinunetr": [-0.46, 5.87, 2.32, 3.12]}
PAPER_COLUMNS = [("BraTS21", "brats21", "test"), ("ISLES22", "isles22", "test"), ("WMH", "wmh", "test"), ("OOD", "wmh", "ood")]


def test_fold_score_is_the_mean_over_labels_of_the_mean_over_cases() -> None:
    scratch = results.build(two_arms(), spec()).iloc[0]
    assert scratch["value"] == pytest.approx((0.65 + 0.70) / 2)  # pooling all scores of fold 0 would give 0.6
    assert scratch["sd"] == pytest.approx(0.05 / math.sqrt(2), abs=1e-6)
    assert (scratch["folds"], scratch["folds_expected"], scratch["cases"]) == (2, 2, 2)
    assert (scratch["label_scores"], scratch["left_out"], scratch["both_empty"]) == (8, 1, 0)


def test_delta_is_the_difference_to_the_baseline() -> None:
    scratch, pretrained = results.build(two_arms(), spec()).to_dict("records")
    assert pretrained["delta"] == pytest.approx(0.1)
    assert pretrained["baseline"] == "U-Net scratch"
    assert math.isnan(scratch["delta"])
    assert scratch["baseline"] == ""


def test_the_papers_table_4_comes_out_of_its_means() -> None:
    spread = math.sqrt(5 / 6)  # six values, three at +spread and three at -spread, have the sample SD 1
    rows = []
    for (backbone, init), cells in PAPER.items():
        for (_, task, cohort), (mean, sd) in zip(PAPER_COLUMNS, cells, strict=True):
            for fold in range(6):
                dice = (mean + (-1) ** fold * spread * sd) / 100
                rows.append(score(dice, backbone=backbone, init=init, task=task, cohort=cohort, fold=fold, label="lesion"))
    table4 = spec(
        folds=list(range(6)),
        columns=[{"title": title, "task": task, "cohort": cohort} for title, task, cohort in PAPER_COLUMNS],
        rows=[row(f"{backbone} {init}", init, backbone=backbone) for backbone, init in PAPER],
    )
    cells = results.build(pd.DataFrame(rows), table4)
    expected = [value for line in PAPER.values() for value in line]
    assert list(zip((100 * cells["value"]).round(2), (100 * cells["sd"]).round(2), strict=True)) == expected
    for backbone, deltas in PAPER_DELTAS.items():
        mine = cells[(cells["backbone"] == backbone) & (cells["init"] != "scratch")]
        assert (100 * mine["delta"]).round(2).tolist() == deltas  # among them +5.87, printed as +1.75 in the paper


def test_a_missing_fold_leaves_its_cell_and_the_delta_on_it_empty() -> None:
    lacking = two_arms()
    lacking = lacking[(lacking["init"] != "scratch") | (lacking["fold"] != "1")]
    scratch, pretrained = results.build(lacking, spec()).to_dict("records")
    assert (scratch["folds"], math.isnan(scratch["value"])) == (1, True)
    assert (pretrained["folds"], math.isnan(pretrained["delta"])) == (2, True)
    assert pretrained["value"] == pytest.approx(0.775)


def test_no_scores_at_all() -> None:
    cells = results.build(two_arms().head(0), spec())
    assert cells["folds"].tolist() == [0, 0]
    assert cells["value"].isna().all()


def test_a_fold_without_any_defined_dice_does_not_count() -> None:
    cells = results.build(scores({("scratch", "0", "a", "x"): "nan", ("scratch", "1", "a", "x"): 0.5}), spec())
    assert cells.loc[0, "folds"] == 1
    assert math.isnan(cells.loc[0, "value"])


def test_folds_that_the_table_does_not_ask_for_are_ignored() -> None:
    cells = results.build(two_arms(), spec(folds=[1]))
    assert cells.loc[0, "value"] == pytest.approx(0.7)
    assert math.isnan(cells.loc[0, "sd"])  # one fold has no spread


def test_empty_masks_are_counted_by_what_became_of_them() -> None:
    rows = [
        score(0.5, volume="a"),
        score("nan", "both_empty", volume="b"),
        score(1.0, "both_empty", volume="c"),
        score(0.0, "reference_empty", volume="d"),
        score(0.0, "prediction_empty", volume="e"),
    ]
    cell = results.build(pd.DataFrame(rows), spec(folds=[0])).iloc[0]
    assert (cell["label_scores"], cell["left_out"]) == (5, 1)
    assert (cell["both_empty"], cell["reference_empty"], cell["prediction_empty"]) == (1, 1, 1)
    assert cell["value"] == pytest.approx(1.5 / 4)


def test_order_of_the_rows_and_types_of_the_columns_do_not_matter() -> None:
    text = two_arms()
    numbers = text.sample(frac=1, random_state=3).assign(
        dice=lambda t: t["dice"].astype(float), fold=lambda t: t["fold"].astype(int)
    )
    pd.testing.assert_frame_equal(results.build(text, spec()), results.build(numbers, spec()))
    pd.testing.assert_frame_equal(results.per_label(text, spec()), results.per_label(numbers, spec()))


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (score("1.2", volume="sub-9"), "outside 0..1"),
        (score("-0.1", volume="sub-9"), "outside 0..1"),
        (score("high", volume="sub-9"), "no number"),
        (score("nan", "ok", volume="sub-9"), "no mask is empty"),
        (score(0.5), "more than once"),
    ],
)
def test_bad_scores_are_refused(bad: dict[str, str], problem: str) -> None:
    table = pd.concat([two_arms(), pd.DataFrame([bad])], ignore_index=True)
    with pytest.raises(UserError, match=problem) as error:
        results.build(table, spec())
    assert f"volume={bad['volume']}" in str(error.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="n_train"):
        results.build(two_arms().drop(columns="n_train"), spec())


def test_arms_scored_on_different_cases_are_not_compared() -> None:
    table = two_arms()
    odd = (table["init"] == PRETRAINED) & (table["volume"] == "sub-2") & (table["fold"] == "1")
    with pytest.raises(UserError, match="not scored on the same cases") as error:
        results.build(table[~odd], spec())
    assert "volume='sub-2'" in str(error.value)


def test_per_label() -> None:
    labels = results.per_label(two_arms(), spec())
    assert labels[["row", "label", "fold", "cases", "left_out", "value"]].values.tolist() == [
        ["U-Net scratch", "anterior", "0", 2, 0, 0.5],
        ["U-Net scratch", "anterior", "1", 2, 0, 0.7],
        ["U-Net scratch", "posterior", "0", 2, 1, 0.8],
        ["U-Net scratch", "posterior", "1", 2, 0, 0.7],
        ["U-Net AMAES", "anterior", "0", 2, 0, 0.6],
        ["U-Net AMAES", "anterior", "1", 2, 0, 0.8],
        ["U-Net AMAES", "posterior", "0", 2, 1, 0.9],
        ["U-Net AMAES", "posterior", "1", 2, 0, 0.8],
    ]


def test_label_scores_are_means_over_folds_with_the_difference_to_the_baseline() -> None:
    table = spec()
    labels = results.per_label(two_arms(), table)
    scratch, pretrained = results.label_scores(labels, table.columns[0], "anterior", table)
    assert scratch.by_fold == (0.5, 0.7) and math.isnan(scratch.delta)
    assert (scratch.mean, scratch.sd) == pytest.approx((0.6, 0.1 * math.sqrt(2)))
    assert pretrained.delta == pytest.approx(0.1)


def test_label_scores_without_a_fold_have_no_mean() -> None:
    table = spec()
    labels = results.per_label(two_arms(), table)
    scratch, pretrained = results.label_scores(labels[labels["fold"] != "1"].head(2), table.columns[0], "anterior", table)
    assert scratch.by_fold[0] == 0.5 and math.isnan(scratch.by_fold[1]) and math.isnan(scratch.mean)
    assert all(map(math.isnan, (*pretrained.by_fold, pretrained.mean, pretrained.sd, pretrained.delta)))


def test_case_scores() -> None:
    cases = results.case_scores(results.check(two_arms()), "dice")
    scratch = cases[(cases["init"] == "scratch") & (cases["fold"] == "0")]
    assert scratch[["volume", "dice"]].values.tolist() == [["sub-1", pytest.approx(0.6)], ["sub-2", pytest.approx(0.6)]]


# --- intervals and tests

THREE_DRAWS = spec(folds=[0, 1, 2])


def many_cases(n: int, gain: float = 0.02, folds: int = 2, **changes: object) -> pd.DataFrame:
    """Scratch and pretrained on n cases; the gain is the same in all of them but for noise."""
    rng = np.random.default_rng(1)
    rows = []
    for fold in range(folds):
        base = rng.uniform(0.4, 0.8, n)
        for init, dice in (("scratch", base), (PRETRAINED, base + gain + rng.normal(0, 0.01, n))):
            rows += [score(d, init=init, fold=fold, volume=f"sub-{i:02d}", **changes) for i, d in enumerate(dice)]
    return pd.DataFrame(rows)


def test_the_interval_of_a_delta_is_paired() -> None:
    for part, table in (("", THREE_DRAWS), ("models_", spec())):
        scratch, pretrained = results.build(many_cases(30, folds=len(table.folds)), table).to_dict("records")
        assert scratch[f"{part}low"] < scratch["value"] < scratch[f"{part}high"]
        assert pretrained[f"{part}delta_low"] < pretrained["delta"] < pretrained[f"{part}delta_high"]
        width = pretrained[f"{part}delta_high"] - pretrained[f"{part}delta_low"]
        assert width < 0.3 * (pretrained[f"{part}high"] - pretrained[f"{part}low"])  # cases differ more than their differences
        assert math.isnan(scratch[f"{part}delta_low"])


@pytest.mark.parametrize("draws", [1, 2])
def test_with_fewer_than_three_draws_there_is_no_statement_about_another_training(draws: int) -> None:
    _, pretrained = results.build(many_cases(12, folds=draws), spec(folds=list(range(draws)))).to_dict("records")
    unknown = ("delta_low", "delta_high", "low", "high", "p", "p_holm", "visible", "df", "sd_draw")
    assert all(math.isnan(pretrained[name]) for name in unknown)
    assert (pretrained["draws"], pretrained["tests"]) == (draws, 0)
    assert pretrained["models_delta_low"] > 0 and pretrained["models_p"] < 0.05


def test_the_interval_and_the_test_are_those_of_the_differences_of_subjects() -> None:
    scores = many_cases(30, folds=3)
    line = results.build(scores, THREE_DRAWS).iloc[1]
    values = scores.assign(dice=scores["dice"].astype(float)).pivot_table(
        index=["init", "fold"], columns="subject", values="dice"
    )
    found = crossed.estimate((values.loc[PRETRAINED] - values.loc["scratch"]).to_numpy())
    assert found.mean == pytest.approx(line["delta"], abs=1e-6)
    assert line[["delta_low", "delta_high"]].tolist() == pytest.approx(found.interval(0.95), abs=1e-6)
    assert line["p"] == line["p_holm"] == pytest.approx(found.p, rel=1e-5)
    assert line["visible"] == pytest.approx(power.visible(found.variance, found.df), abs=1e-6)


def test_an_undefined_score_moves_the_interval_with_its_delta() -> None:
    """The interval is centred on the delta that the table shows, also where an arm lacks scores."""
    scores = many_cases(12, folds=3)
    gone = (scores["init"] == "scratch") & (scores["volume"] == "sub-03")
    scores.loc[gone, ["dice", "status"]] = ["nan", "both_empty"]
    line = results.build(scores, THREE_DRAWS).iloc[1]
    assert line["unpaired"] == 3
    assert (line["delta_low"] + line["delta_high"]) / 2 == pytest.approx(line["delta"], abs=2e-6)


def test_seeds_are_averaged_within_their_draw() -> None:
    """Three draws of two seeds: the SD is that of the means of draws, and the interval has three draws, not six."""
    scores = many_cases(12, folds=6)
    names = {str(i): f"{i // 2}-seed{i % 2}" for i in range(6)}
    seeded = results.build(scores.assign(fold=scores["fold"].map(names)), spec(folds=[0, 1, 2], seeds=[0, 1])).iloc[1]
    numbers = scores.assign(dice=scores["dice"].astype(float), fold=scores["fold"].astype(int) // 2)
    averaged = numbers.groupby([*(c for c in numbers if c != "dice")], as_index=False, sort=False)["dice"].mean()
    single = results.build(averaged, THREE_DRAWS).iloc[1]
    same = ["value", "sd", "delta", "low", "high", "delta_low", "delta_high", "p", "draws", "sd_draw", "visible"]
    assert seeded[same].astype(float).tolist() == pytest.approx(single[same].astype(float).tolist(), abs=2e-6)
    assert (seeded["folds"], seeded["folds_expected"]) == (6, 6)
    lacking = scores[(scores["init"] == "scratch") | (scores["fold"] != "5")]
    line = results.build(lacking.assign(fold=lacking["fold"].map(names)), spec(folds=[0, 1, 2], seeds=[0, 1])).iloc[1]
    assert (line["folds"], math.isnan(line["value"])) == (5, True)


def test_a_row_may_name_its_baseline() -> None:
    control = many_cases(12, folds=3).query("init == 'scratch'")
    control = control.assign(recipe="spatial", dice=(control["dice"].astype(float) + 0.01).astype(str))
    rows = [row("scratch", "scratch"), row("spatial", "scratch", recipe="spatial", against=list(spec().rows[0].arm))]
    rows.append(row("AMAES", PRETRAINED, against=["unet_b", "scratch", "spatial", "20"]))
    cells = results.build(pd.concat([many_cases(12, folds=3), control]), spec(rows=rows, folds=[0, 1, 2]))
    assert cells["baseline"].tolist() == ["", "scratch", "spatial"]
    assert cells["delta"].tolist()[1:] == pytest.approx([0.01, 0.01], abs=0.004)
    assert cells["tests"].tolist() == [2, 2, 2]


def test_the_paired_test_is_on_subjects() -> None:
    scores = many_cases(12)
    pretrained = results.build(scores, spec()).iloc[1]
    numbers = scores.assign(dice=scores["dice"].astype(float)).pivot_table(index="subject", columns="init", values="dice")
    expected = scipy.stats.wilcoxon(numbers[PRETRAINED] - numbers["scratch"], method="exact")
    assert (pretrained["pairs"], pretrained["cases"]) == (12, 12)
    assert pretrained["models_p"] == pretrained["models_p_holm"] == pytest.approx(expected.pvalue, rel=1e-5)


def test_two_sessions_are_one_subject() -> None:
    scores = many_cases(12)
    scores["subject"] = (scores["volume"].str[-2:].astype(int) // 2).astype(str)
    cell = results.build(scores, spec()).iloc[1]
    assert (cell["cases"], cell["subjects"], cell["pairs"]) == (12, 6, 6)


def test_undefined_scores_pair_with_nothing() -> None:
    scores = many_cases(8)
    empty = (scores["volume"] == "sub-03") & (scores["init"] == "scratch")
    scores.loc[empty, ["dice", "status"]] = ["nan", "both_empty"]
    cell = results.build(scores, spec()).iloc[1]
    assert (cell["pairs"], cell["unpaired"]) == (7, 2)  # two folds


def test_holm_runs_over_the_rows_of_a_column() -> None:
    parts = [many_cases(9, gain, folds=3).replace(PRETRAINED, f"{name}-on-ixi") for gain, name in ((0.02, "a"), (0.001, "b"))]
    scores = pd.concat(parts).drop_duplicates(results.KEYS)
    rows = [row("scratch", "scratch"), row("a", "a-on-ixi"), row("b", "b-on-ixi")]
    cells = results.build(scores, spec(rows=rows, folds=[0, 1, 2], margin=5))
    assert cells["tests"].tolist() == [2, 2, 2]
    for name, first, second in (("p", 1, 2), ("models_p", 1, 2), ("p_margin", 2, 1)):
        p = cells[name]
        assert p[first] < p[second]
        assert cells.loc[first, f"{name}_holm"] == pytest.approx(2 * p[first], rel=1e-5)
        assert cells.loc[second, f"{name}_holm"] == pytest.approx(max(p[second], 2 * p[first]), rel=1e-5)


def test_one_subject_has_no_interval() -> None:
    cell = results.build(pd.DataFrame([score(0.5)]), spec(folds=[0])).iloc[0]
    assert (cell["value"], cell["subjects"]) == (0.5, 1)
    assert math.isnan(cell["low"]) and math.isnan(cell["models_low"])


def test_budgets_with_other_cases_each_are_compared_within_a_budget() -> None:
    """The cohort `val` is smaller where more cases are trained on; each budget has a baseline of its own."""
    rows = [row(f"{init} {n}", init, n_train=n) for n in (10, 20, "all") for init in ("scratch", PRETRAINED)]
    parts = [many_cases(cases, gain, n_train=n) for n, cases, gain in ((10, 14, 0.03), (20, 9, 0.02), ("all", 7, 0.0))]
    cells = results.build(pd.concat(parts), spec(rows=rows))
    assert cells["cases"].tolist() == [14, 14, 9, 9, 7, 7]
    assert cells["baseline"].tolist() == ["", "scratch 10", "", "scratch 20", "", "scratch all"]
    assert cells["pairs"].tolist() == [0, 14, 0, 9, 0, 7]
    assert cells.loc[[1, 3, 5], "delta"].round(2).tolist() == pytest.approx([0.03, 0.02, 0.0], abs=0.011)
    ranks = results.rank(pd.concat(parts), spec(rows=rows))
    assert ranks.loc[ranks["column"] == results.ALL, "rows_ranked"].tolist() == [2] * 6


# --- metrics


def with_metrics(**changes: object) -> pd.DataFrame:
    table = many_cases(6)
    values = table["dice"].astype(float)
    return table.assign(
        nsd=values + 0.1, hd95_mm=20 * (1 - values), volume_error=-values / 2, lesion_f1="", dice_with_background=values
    ).assign(**changes)


@pytest.mark.parametrize("metric", [name for name in METRICS if name != "lesion_f1"])
def test_each_metric_makes_a_table(metric: str) -> None:
    table = with_metrics()
    cells = results.build(table, spec(metric=metric))
    expected = table[table["init"] == "scratch"][metric].astype(float).abs().mean()
    assert cells.loc[0, "value"] == pytest.approx(expected, abs=1e-6)
    assert set(cells["metric"]) == {metric}


def test_the_direction_of_a_metric_makes_the_rank() -> None:
    best = {}
    for metric in ("dice", "hd95_mm", "volume_error"):
        ranks = results.rank(with_metrics(), spec(metric=metric))
        best[metric] = ranks.sort_values("rank")["row"].iloc[0]
    assert best == {"dice": "U-Net AMAES", "hd95_mm": "U-Net AMAES", "volume_error": "U-Net scratch"}  # smaller volume error


def test_a_metric_that_is_asked_for_must_be_there() -> None:
    with pytest.raises(UserError, match="nsd"):
        results.build(two_arms(), spec(metric="nsd"))


@pytest.mark.parametrize(("column", "value", "problem"), [
    ("nsd", 1.5, "NSD is outside"), ("hd95_mm", -1, "HD95 is outside"), ("hd95_mm", np.inf, "HD95 is outside"),
    ("volume_error", -1.2, "outside -1"), ("hd95_mm", "far", "HD95 is no number"),
])  # fmt: skip
def test_a_metric_out_of_range_is_refused(column: str, value: object, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        results.build(with_metrics(**{column: value}), spec())


def test_the_table_of_all_metrics_holds_those_that_were_scored() -> None:
    metrics = results.everything(with_metrics(), spec())["metrics"]
    assert metrics["metric"].tolist() == [name for name in METRICS if name != "lesion_f1" for _ in range(2)]
    assert results.everything(two_arms(), spec())["metrics"]["metric"].tolist() == ["dice", "dice"]


def test_everything_is_what_its_parts_are() -> None:
    frames = results.everything(two_arms(), spec())
    pd.testing.assert_frame_equal(frames["results"], results.build(two_arms(), spec()))
    pd.testing.assert_frame_equal(frames["labels"], results.per_label(two_arms(), spec()))
    pd.testing.assert_frame_equal(frames["ranks"], results.rank(two_arms(), spec()))


# --- ranks


def three_arms() -> pd.DataFrame:
    """a is best on both data sets, b and c change places."""
    rows = []
    for task, values in (("t1", {"a": 0.8, "b": 0.6, "c": 0.5}), ("t2", {"a": 0.7, "b": 0.5, "c": 0.6})):
        for name, mean in values.items():
            rows += [score(mean + 0.1 * (i - 2), init=f"{name}-on-ixi", task=task, volume=f"sub-{i}") for i in range(5)]
    return pd.DataFrame(rows)


RANKED = spec(
    folds=[0],
    columns=[{"title": name.upper(), "task": name, "cohort": "test"} for name in ("t1", "t2")],
    rows=[row(name, f"{name}-on-ixi") for name in "abc"],
)


def test_ranks_by_column_and_on_average() -> None:
    ranks = results.rank(three_arms(), RANKED)
    by_column = {column: frame["rank"].tolist() for column, frame in ranks.groupby("column", sort=False)}
    assert by_column == {"T1": [1, 2, 3], "T2": [1, 3, 2], results.ALL: [1, 2.5, 2.5]}
    whole = ranks[ranks["column"] == results.ALL]
    assert whole["first"].tolist() == [1, 0, 0] and whole["case_rank"].tolist() == [1, 2.5, 2.5]
    assert whole[["low", "high"]].to_numpy().tolist() == [[1, 1], [2.5, 2.5], [2.5, 2.5]]  # the order is the same in each case
    assert whole[["columns_low", "columns_high"]].to_numpy().tolist() == [[1, 1], [2, 3], [2, 3]]


def test_rank_then_aggregate_is_not_aggregate_then_rank() -> None:
    """b is far better in one case, a a little better in four."""
    rows = [score(0.52, init="a-on-ixi", task=t, volume=f"sub-{i}") for t in ("t1", "t2") for i in range(5)]
    rows += [score(0.99 if i == 0 else 0.5, init="b-on-ixi", task=t, volume=f"sub-{i}") for t in ("t1", "t2") for i in range(5)]
    ranks = results.rank(pd.DataFrame(rows), RANKED.model_copy(update={"rows": RANKED.rows[:2]}))
    whole = ranks[ranks["column"] == results.ALL]
    assert whole["rank"].tolist() == [2, 1]
    assert whole["case_rank"].tolist() == [1.2, 1.8]
    assert 0 < whole["first"].iloc[0] < whole["first"].iloc[1]


def test_rows_with_missing_runs_are_not_ranked() -> None:
    scores = three_arms()
    ranks = results.rank(scores[(scores["init"] != "a-on-ixi") | (scores["task"] != "t2")], RANKED)
    whole = ranks[ranks["column"] == results.ALL].set_index("row")
    assert math.isnan(whole.loc["a", "rank"]) and whole.loc["b", "rows_ranked"] == 2
    assert results.rank(scores.head(0), RANKED)["rank"].isna().all()


def test_rows_on_different_cases_are_not_ranked_against_each_other() -> None:
    scores = three_arms()
    odd = (scores["init"] == "c-on-ixi") & (scores["volume"] == "sub-3")
    with pytest.raises(UserError, match="'c' and 'a' are not scored on the same cases"):
        results.rank(scores[~odd], RANKED)


# --- what was published, and what a corpus shares with a cohort


def published(**changes: object) -> dict[str, object]:
    cell = {"backbone": "unet_b", "init": PRETRAINED, "n_train": "20", "column": "Hippocampus", "value": 71.2, "sd": 0.8}
    return {"source": "a paper", "notes": ["A misprint."], "cells": [cell | {"differs": ""} | changes]}


def test_published_values_stand_beside_the_cell() -> None:
    cells = results.build(two_arms(), spec(published=published()))
    assert math.isnan(cells.loc[0, "published"])
    assert cells.loc[1, ["published", "published_sd"]].tolist() == pytest.approx([0.712, 0.008])


def test_a_published_value_is_shown_without_runs_and_in_the_units_of_its_metric() -> None:
    nothing = with_metrics().head(0)
    cells = results.build(nothing, spec(metric="hd95_mm", published=published(value=8.5, sd=None)))
    assert cells.loc[1, "published"] == 8.5 and math.isnan(cells.loc[1, "published_sd"]) and math.isnan(cells.loc[1, "value"])


AUDIT = {"task": ["hippocampus", "other"], "dataset": ["msd", "msd"], "evaluated": ["2", "9"], "shared": ["1", "9"]}


@pytest.mark.parametrize(
    ("audit", "shared"),
    [
        (AUDIT | {"subjects": ["2", "1 2"]}, 1),
        (AUDIT | {"subjects": ["77", "1 2"]}, 0),  # shared, but not with what is scored here
        (AUDIT | {"subjects": ["2", "1"], "cohort": ["test", "test"]}, 1),
        (AUDIT | {"subjects": ["2", "1"], "cohort": ["ood", "test"]}, 0),
    ],
)
def test_cells_of_a_corpus_that_holds_scored_subjects_are_marked(audit: dict[str, list[str]], shared: int) -> None:
    cells = results.build(two_arms(), spec(), {"ixi": pd.DataFrame(audit), "other": None})
    assert cells["shared"].tolist() == [0, shared]


def test_an_audit_that_is_not_at_hand_is_unknown() -> None:
    assert results.build(two_arms(), spec(), {"ixi": None})["shared"].tolist() == [0, results.UNKNOWN]
    assert results.build(two_arms(), spec())["shared"].tolist() == [0, 0]
