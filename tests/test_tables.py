from __future__ import annotations

import math

import pandas as pd
import pytest

from brainpretrain import tables
from brainpretrain.errors import UserError
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
    scratch = tables.build(two_arms(), spec()).iloc[0]
    assert scratch["dice"] == pytest.approx((0.65 + 0.70) / 2)  # pooling all scores of fold 0 would give 0.6
    assert scratch["dice_sd"] == pytest.approx(0.05 / math.sqrt(2), abs=1e-6)
    assert (scratch["folds"], scratch["folds_expected"], scratch["cases"]) == (2, 2, 2)
    assert (scratch["label_scores"], scratch["left_out"], scratch["both_empty"]) == (8, 1, 0)


def test_delta_is_the_difference_to_the_baseline() -> None:
    scratch, pretrained = tables.build(two_arms(), spec()).to_dict("records")
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
    cells = tables.build(pd.DataFrame(rows), table4)
    expected = [value for line in PAPER.values() for value in line]
    assert list(zip((100 * cells["dice"]).round(2), (100 * cells["dice_sd"]).round(2), strict=True)) == expected
    for backbone, deltas in PAPER_DELTAS.items():
        mine = cells[(cells["backbone"] == backbone) & (cells["init"] != "scratch")]
        assert (100 * mine["delta"]).round(2).tolist() == deltas  # among them +5.87, printed as +1.75 in the paper


def test_a_missing_fold_leaves_its_cell_and_the_delta_on_it_empty() -> None:
    lacking = two_arms()
    lacking = lacking[(lacking["init"] != "scratch") | (lacking["fold"] != "1")]
    scratch, pretrained = tables.build(lacking, spec()).to_dict("records")
    assert (scratch["folds"], math.isnan(scratch["dice"])) == (1, True)
    assert (pretrained["folds"], math.isnan(pretrained["delta"])) == (2, True)
    assert pretrained["dice"] == pytest.approx(0.775)


def test_no_scores_at_all() -> None:
    cells = tables.build(two_arms().head(0), spec())
    assert cells["folds"].tolist() == [0, 0]
    assert cells["dice"].isna().all()


def test_a_fold_without_any_defined_dice_does_not_count() -> None:
    cells = tables.build(scores({("scratch", "0", "a", "x"): "nan", ("scratch", "1", "a", "x"): 0.5}), spec())
    assert cells.loc[0, "folds"] == 1
    assert math.isnan(cells.loc[0, "dice"])


def test_folds_that_the_table_does_not_ask_for_are_ignored() -> None:
    cells = tables.build(two_arms(), spec(folds=[1]))
    assert cells.loc[0, "dice"] == pytest.approx(0.7)
    assert math.isnan(cells.loc[0, "dice_sd"])  # one fold has no spread


def test_empty_masks_are_counted_by_what_became_of_them() -> None:
    rows = [
        score(0.5, volume="a"),
        score("nan", "both_empty", volume="b"),
        score(1.0, "both_empty", volume="c"),
        score(0.0, "reference_empty", volume="d"),
        score(0.0, "prediction_empty", volume="e"),
    ]
    cell = tables.build(pd.DataFrame(rows), spec(folds=[0])).iloc[0]
    assert (cell["label_scores"], cell["left_out"]) == (5, 1)
    assert (cell["both_empty"], cell["reference_empty"], cell["prediction_empty"]) == (1, 1, 1)
    assert cell["dice"] == pytest.approx(1.5 / 4)


def test_baseline_has_the_same_backbone_and_n_train() -> None:
    rows = [
        row("other backbone", "scratch", backbone="unet_xl"),
        row("other n_train", "scratch", n_train="10"),
        row("mine", "scratch", n_train=20, recipe="scratch_recipe"),
        row("pretrained", PRETRAINED),
    ]
    assert tables.baseline_row(rows[3], spec(rows=rows))["title"] == "mine"
    assert tables.baseline_row(rows[2], spec(rows=rows)) is None
    assert tables.baseline_row(rows[3], spec(rows=[*rows[:2], rows[3]])) is None


def test_among_baselines_the_same_recipe_wins() -> None:
    rows = [row("first", "scratch", recipe="a"), row("same", "scratch", recipe="b"), row("pretrained", PRETRAINED, recipe="b")]
    assert tables.baseline_row(rows[2], spec(rows=rows))["title"] == "same"


def test_order_of_the_rows_and_types_of_the_columns_do_not_matter() -> None:
    text = two_arms()
    numbers = text.sample(frac=1, random_state=3).assign(
        dice=lambda t: t["dice"].astype(float), fold=lambda t: t["fold"].astype(int)
    )
    pd.testing.assert_frame_equal(tables.build(text, spec()), tables.build(numbers, spec()))
    pd.testing.assert_frame_equal(tables.per_label(text, spec()), tables.per_label(numbers, spec()))


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
        tables.build(table, spec())
    assert f"volume={bad['volume']}" in str(error.value)


def test_a_missing_column_is_named() -> None:
    with pytest.raises(UserError, match="n_train"):
        tables.build(two_arms().drop(columns="n_train"), spec())


def test_arms_scored_on_different_cases_are_not_compared() -> None:
    table = two_arms()
    odd = (table["init"] == PRETRAINED) & (table["volume"] == "sub-2") & (table["fold"] == "1")
    with pytest.raises(UserError, match="not scored on the same cases") as error:
        tables.build(table[~odd], spec())
    assert "volume='sub-2'" in str(error.value)


def test_per_label() -> None:
    labels = tables.per_label(two_arms(), spec())
    assert labels[["row", "label", "fold", "cases", "left_out", "dice"]].values.tolist() == [
        ["U-Net scratch", "anterior", "0", 2, 0, 0.5],
        ["U-Net scratch", "anterior", "1", 2, 0, 0.7],
        ["U-Net scratch", "posterior", "0", 2, 1, 0.8],
        ["U-Net scratch", "posterior", "1", 2, 0, 0.7],
        ["U-Net AMAES", "anterior", "0", 2, 0, 0.6],
        ["U-Net AMAES", "anterior", "1", 2, 0, 0.8],
        ["U-Net AMAES", "posterior", "0", 2, 1, 0.9],
        ["U-Net AMAES", "posterior", "1", 2, 0, 0.8],
    ]


def test_case_scores() -> None:
    cases = tables.case_scores(tables.check(two_arms()))
    scratch = cases[(cases["init"] == "scratch") & (cases["fold"] == "0")]
    assert scratch[["volume", "dice"]].values.tolist() == [["sub-1", pytest.approx(0.6)], ["sub-2", pytest.approx(0.6)]]
