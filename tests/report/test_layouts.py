from __future__ import annotations

import pandas as pd
import pytest

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import crossed, layouts, power, results, verdicts
from brainpretrain.report.grid import Cell, Grid
from brainpretrain.report.notes import interval_notes, verdict_notes
from report_fixtures import PRETRAINED, budget_scores, row, score, spec, two_arms


def results_grid(scores: pd.DataFrame | None = None, **changes: object) -> Grid:
    table = spec(**changes)
    return layouts.results_grid(results.build(two_arms() if scores is None else scores, table), table)


def per_label(scores: pd.DataFrame | None = None, **changes: object) -> Grid:
    table = spec(**changes)
    return layouts.per_label_grid(results.per_label(two_arms() if scores is None else scores, table), table)


def without(fold: str) -> pd.DataFrame:
    table = two_arms()
    return table[(table["init"] != PRETRAINED) | (table["fold"] != fold)]


def test_results_grid() -> None:
    grid = results_grid()
    assert grid.header == (Cell("Model"), Cell("Hippocampus", "test, 2 cases, 2 folds"))
    assert grid.rows[0] == (Cell("U-Net scratch"), Cell("67.50 ± 3.54", under=("these models [65.00, 67.50]",)))
    beside = ("no test: 2 draws", "these models [+10.00, +10.00], r = +1.00")
    pretrained = Cell("77.50 ± 3.54", "+10.00", "up", ("these models [75.00, 77.50]",), beside)
    assert grid.rows[1] == (Cell("U-Net AMAES"), pretrained)


def test_a_cell_without_its_runs_says_so() -> None:
    grid = results_grid(without("1"))
    assert grid.rows[1][1] == Cell("– (1 of 2 folds)", tone="missing")
    assert any("1 of 2 cells" in note for note in grid.notes)


def test_one_fold_shows_no_spread() -> None:
    assert results_grid(folds=[1]).rows[0][1].text == "70.00"


def test_notes_say_how_folds_and_empty_masks_are_treated() -> None:
    notes = " ".join(results_grid().notes)
    assert "mean over labels of the mean over cases" in notes
    assert "Left out, as their Dice is undefined (empty masks): 2 of 16 scores." in notes
    assert "Training cases (n_train): 20." in notes
    assert "Counted in spite" not in notes
    assert "Signed" not in " ".join(results_grid(rows=[row("alone", "scratch")]).notes)


def test_notes_count_scores_with_an_empty_mask() -> None:
    rows = [score(0.5), score(0.0, "reference_empty", volume="b"), score(0.0, "prediction_empty", volume="c")]
    notes = results_grid(pd.DataFrame(rows), folds=[0], rows=[row("U-Net", "scratch")]).notes
    assert "Counted in spite of an empty mask: only the reference empty: 1; only the prediction empty: 1." in notes


def test_a_group_begins_with_each_backbone() -> None:
    rows = [row(name, "scratch", backbone=name) for name in ("a", "a", "b", "c")]
    assert results_grid(rows=rows).starts == {2, 3}


def test_per_label_grid() -> None:
    grid = per_label()
    assert [cell.text for cell in grid.header] == ["Data", "Label", "Model", "fold 0", "fold 1", "all folds"]
    assert [[cell.text for cell in line] for line in grid.rows] == [
        ["Hippocampus", "anterior", "U-Net scratch", "50.00", "70.00", "60.00 ± 14.14"],
        ["Hippocampus", "anterior", "U-Net AMAES", "60.00", "80.00", "70.00 ± 14.14"],
        ["Hippocampus", "posterior", "U-Net scratch", "80.00", "70.00", "75.00 ± 7.07"],
        ["Hippocampus", "posterior", "U-Net AMAES", "90.00", "80.00", "85.00 ± 7.07"],
    ]
    assert [line[-1].detail for line in grid.rows] == ["", "+10.00", "", "+10.00"]
    assert grid.starts == {2}


def test_per_label_grid_with_missing_runs() -> None:
    line = per_label(without("1")).rows[1]
    assert [cell.text for cell in line[3:]] == ["60.00", "–", "– (1 of 2 folds)"]
    nothing = per_label(two_arms().head(0)).rows
    assert [[cell.text for cell in line] for line in nothing] == [
        ["Hippocampus", "–", title, "–", "–", "– (0 of 2 folds)"] for title in ("U-Net scratch", "U-Net AMAES")
    ]


def test_a_group_for_each_row_is_none() -> None:
    rows = [row(name, "scratch", backbone=name) for name in ("a", "b", "c")]
    assert results_grid(rows=rows).starts == frozenset()


# --- statistics, metrics, publications


def test_notes_say_how_the_statistics_were_made() -> None:
    notes = " ".join(results_grid().notes)
    assert "95 % interval, bootstrap over subjects (200 samples, percentiles)" in notes
    assert "2 draws of training cases: no statement about another training, so no interval and no test between arms." in notes
    assert "t test" not in notes and "another pretraining" not in notes
    one = " ".join(results_grid(folds=[0]).notes)
    assert "One draw of training cases: no statement about another training" in one


def three_draws(**changes: object) -> tuple[pd.DataFrame, TableSpec]:
    """Scores of three draws of eight subjects with a gain of about 5 points."""
    scores = budget_scores(gain=0.05, folds=3)
    return scores[scores["n_train"] == "20"], spec(folds=[0, 1, 2], **changes)


def test_three_draws_have_an_interval_a_test_and_a_power() -> None:
    scores, table = three_draws()
    grid = layouts.results_grid(results.build(scores, table), table)
    (line,) = results.build(scores, table).query("baseline != ''").to_dict("records")
    beside = grid.rows[1][1].beside
    assert beside[0] == f"[{100 * line['delta_low']:+.2f}, {100 * line['delta_high']:+.2f}]".replace("-", "−")
    assert beside[1].startswith("p ") and beside[2].startswith("these models [+")
    notes = " ".join(grid.notes)
    assert "95 % interval for another training and other subjects: 3 draws crossed with subjects" in notes
    assert f"Power, Hippocampus: with 3 draws and 8 subjects a difference of {100 * line['visible']:.2f} can be seen" in notes
    assert "Holm's correction for 1 test in its column" in notes and "no interval includes another pretraining" in notes
    assert "Draws may share training cases" in notes
    seeded = spec(folds=[0, 1, 2], seeds=[0, 1], disjoint=True, rows=[row("a", "scratch", n_train="all")])
    words = " ".join(interval_notes(results.build(scores, table), seeded))
    assert "3 draws and 2 seeds" in words and "share" not in words and "every draw has the same training cases" in words


def test_verdicts_say_what_was_shown_and_what_would_decide() -> None:
    scores, table = three_draws(margin=2)
    cells = results.build(scores, table)
    numbers = {"delta": 0.01, "p_holm": 0.5, "p_margin_holm": 0.5, "sd_draw": 0.01, "sd_subject": 0.0, "sd_rest": 0.0}

    def verdict(spec_of: TableSpec = table, **changes: float) -> tuple[str, str]:
        judged = verdicts.judge(cells.assign(**numbers | changes), spec_of).iloc[0]
        return judged["verdict"], judged["to_decide"]

    assert verdict(p_holm=0.01) == ("helps", "")
    assert verdict(p_holm=0.01, delta=-0.01) == ("hurts", "")
    assert verdict(spec(folds=[0, 1, 2], metric="hd95_mm"), p_holm=0.01) == ("hurts", "")
    assert verdict(p_margin_holm=0.01, p_holm=0.01) == ("equivalent", "")
    needed = power.draws_to_decide(crossed.Components(1e-4, 0, 0), 8, 0.02)
    assert verdict() == ("undecided", f"about {needed} draws of 8 subjects would decide")
    assert verdict(spec(folds=[0, 1, 2]))[1].endswith("would find 1.00")
    assert verdict(sd_draw=1.0)[1] == "not 1,000 draws of 8 subjects would decide"
    assert verdict(draws=1)[1] == "1 draw: at least 3 are needed for any statement"
    assert verdict(delta=float("nan"))[0] == "missing"


def test_the_page_of_verdicts() -> None:
    scores, table = three_draws(margin=20)
    grid = layouts.verdict_grid(verdicts.judge(results.build(scores, table), table), table)
    assert [cell.text for cell in grid.header] == ["Model", "compared with", "Hippocampus"]
    assert [cell.text for cell in grid.rows[0]] == ["U-Net AMAES", "U-Net scratch", "equivalent"]
    notes = " ".join(grid.notes)
    assert "within ±20 (Dice x 100, a margin stated before)" in notes and "no evidence that there is no difference" in notes
    assert "states no margin" in " ".join(verdict_notes(pd.DataFrame(columns=verdicts.COLUMNS), spec()))


def test_a_note_counts_scores_that_one_arm_alone_has() -> None:
    assert "up to 3 scores in 1 cell." in " ".join(layouts.results_grid(cells(unpaired=[0, 3]), spec()).notes)
    assert "in one of the two arms alone" not in " ".join(results_grid().notes)


def cells(**changes: object) -> pd.DataFrame:
    return results.build(two_arms(), spec()).assign(**changes)


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({"pairs": 0}, ("no test: 2 draws", "no paired case", "n = 0")),
        ({"zeros": 2}, ("no test: 2 draws", "no case differs")),
        (
            {"pairs": 7, "biserial": -0.5, "delta_low": -0.1, "delta_high": 0.3, "p_holm": 0.031},
            ("[−10.00, +30.00]", "p = 0.031", "these models [+10.00, +10.00], r = −0.50", "n = 7"),
        ),
    ],
)
def test_what_stands_beside_a_delta(changes: dict[str, float], beside: tuple[str, ...]) -> None:
    assert layouts.results_grid(cells(**changes), spec()).rows[1][1].beside == beside


def test_a_metric_of_which_less_is_better() -> None:
    scores = two_arms().assign(hd95_mm=lambda s: 20 * (1 - s["dice"].replace("nan", "").apply(pd.to_numeric)))
    grid = results_grid(scores, metric="hd95_mm")
    cell = grid.rows[1][1]
    assert (cell.text, cell.detail, cell.tone) == ("4.50 ± 0.71", "−2.00", "up")
    assert grid.notes[:2] == (f"HD95 in mm: {layouts.FOLD_SCORE}.", "Lower is better.")
    worse = layouts.results_grid(results.build(scores, spec(metric="hd95_mm")).assign(delta=2), spec(metric="hd95_mm"))
    assert worse.rows[1][1].tone == "down"


def test_the_number_of_cases_stands_in_the_cells_where_it_differs() -> None:
    rows = [row(f"n={n}", "scratch", n_train=n) for n in (10, 20)]
    scores = pd.DataFrame([score(0.5, n_train=n, volume=f"sub-{i}") for n, cases in ((10, 4), (20, 3)) for i in range(cases)])
    grid = results_grid(scores, rows=rows, folds=[0])
    assert [line[1].under[-1] for line in grid.rows] == ["4 cases", "3 cases"]
    assert grid.header[1].detail == "test, 3 to 4 cases, 1 fold"


PUBLISHED_CELL = {"backbone": "unet_b", "init": PRETRAINED, "n_train": "20", "column": "Hippocampus", "value": 71.2, "sd": None}


@pytest.mark.parametrize(("differs", "shown"), [("", "71.20"), ("2 instead of 6 folds", "71.20 *")])
def test_published_values_and_what_was_run_otherwise(differs: str, shown: str) -> None:
    published = {"source": "a paper", "notes": ["It has a misprint."], "cells": [PUBLISHED_CELL | {"differs": differs}]}
    grid = results_grid(published=published)
    assert [line[1].published for line in grid.rows] == ["", shown]
    assert {"Published: a paper.", "It has a misprint."} <= set(grid.notes)
    assert ("* differs from the published protocol: 2 instead of 6 folds." in grid.notes) == bool(differs)
    missing = results_grid(two_arms().head(0), published=published)
    assert missing.rows[1][1] == Cell("– (0 of 2 folds)", tone="missing", published=shown)


def test_cells_of_a_corpus_that_holds_scored_subjects_are_marked() -> None:
    marked = layouts.results_grid(cells(shared=[0, 2]), spec())
    assert marked.rows[1][1].text == "† 77.50 ± 3.54" and marked.rows[0][1].text == "67.50 ± 3.54"
    assert "† pretrained, without labels, on subjects of the cohort (Hippocampus: 2 subjects in ixi)." in marked.notes
    unknown = layouts.results_grid(results.build(two_arms(), spec(), {"ixi": None}), spec())
    assert unknown.rows[1][1].text.startswith("† ")
    assert any("the audit of ixi (overlap.tsv) is missing" in note for note in unknown.notes)
    nothing_ran = results.build(two_arms().head(0), spec(), {"ixi": None})
    assert not any("†" in note for grid in (results_grid(), layouts.results_grid(nothing_ran, spec())) for note in grid.notes)


def test_subjects_to_look_at_are_named_in_the_notes_and_mark_no_score() -> None:
    audit = pd.DataFrame({"task": ["hippocampus"], "cohort": ["test"], "shared": ["0"], "look": ["2"]})
    looked = layouts.results_grid(results.build(two_arms(), spec(), {"ixi": audit}), spec())
    (note,) = [note for note in looked.notes if note.startswith("Look at these")]
    assert note == "Look at these: 2 subjects of Hippocampus may be in ixi (overlap.html has the pictures)."
    earlier = layouts.results_grid(results.build(two_arms(), spec(), {"ixi": audit.drop(columns="look")}), spec())
    assert earlier.rows == looked.rows and not any("Look at" in note for note in earlier.notes)


def test_per_metric_grid() -> None:
    scores = two_arms().assign(hd95_mm=lambda s: 20 * (1 - s["dice"].replace("nan", "").apply(pd.to_numeric)))
    frames = results.everything(scores, spec())
    grid = layouts.per_metric_grid(frames["metrics"], spec())
    assert [(cell.text, cell.detail) for cell in grid.header[2:]] == [("Dice", "x 100 ↑"), ("HD95", "mm ↓")]
    assert [cell.text for cell in grid.rows[1]] == ["Hippocampus", "U-Net AMAES", "77.50 ± 3.54", "4.50 ± 0.71"]
    assert grid.rows[1][3].tone == "up"


def test_rank_grid() -> None:
    grid = layouts.rank_grid(results.rank(two_arms(), spec()), spec())
    assert [cell.text for cell in grid.header] == ["Model", "rank", "first", "rank by case"]
    assert [[cell.text for cell in line] for line in grid.rows] == [
        ["U-Net AMAES", "1.00", "100 %", "1.00"],
        ["U-Net scratch", "2.00", "0 %", "2.00"],
    ]
    columns = [{"title": title, "task": "hippocampus", "cohort": "test"} for title in ("A", "B")]
    two = layouts.rank_grid(results.rank(two_arms(), spec(columns=columns)), spec(columns=columns))
    assert [cell.text for cell in two.header] == ["Model", "A", "B", "rank", "rank", "first", "rank by case"]
    assert [cell.text for cell in two.rows[0]] == ["U-Net AMAES", "1", "1", "1.00", "[1, 1]", "100 %", "1.00"]


def test_rank_grid_without_runs() -> None:
    grid = layouts.rank_grid(results.rank(without("1"), spec()), spec())
    assert [[cell.text for cell in line] for line in grid.rows] == [
        ["U-Net scratch", "1.00", "100 %", "1.00"],
        ["U-Net AMAES", "not ranked", "–", "–"],
    ]
    assert "Not ranked: rows with missing runs." in grid.notes


def test_what_compared_rows_differ_in_is_noted() -> None:
    rows = [row("a", "scratch"), *(row(name, f"{name}-on-ixi", besides=["augmentation (x, not y)"]) for name in ("b", "c"))]
    notes = " ".join(results_grid(two_arms(), rows=rows).notes)
    assert "Not the encoder alone: 'b', 'c' also differ from the baseline in augmentation (x, not y)." in notes
    assert "Not the encoder" not in " ".join(results_grid().notes)


def test_folds_of_a_cross_validation_are_no_draws() -> None:
    """Each subject is scored by one fold. Its value and these models' interval are there, and nothing about another training."""
    columns = [{"title": "Hippocampus", "task": "hippocampus", "cohort": "test", "kfold": 4}]
    watched = row("U-Net AMAES", PRETRAINED, watched="validated every 10 steps on 2 subjects of the pool besides n_train")
    table = spec(folds=[0, 1, 2, 3], columns=columns, rows=[row("U-Net scratch", "scratch"), watched], margin=2)
    scores = budget_scores(gain=0.05, folds=4, subjects=8)
    scores = scores[(scores["n_train"] == "20") & (scores["volume"].str[-1].astype(int) % 4 == scores["fold"].astype(int))]
    assert len(scores) and scores.groupby(["init", "subject"]).size().eq(1).all()
    cells = results.build(scores, table)
    scratch, pretrained = cells.to_dict("records")
    assert pretrained["value"] == pytest.approx(
        scores.query("init != 'scratch'").astype({"dice": float}).groupby("fold")["dice"].mean().mean(), abs=1e-6
    )
    assert pretrained["draws"] == 0 and pretrained["tests"] == 0
    for name in ("delta_low", "low", "p", "p_margin", "visible", "sd_draw"):
        assert pd.isna(pretrained[name]) and pd.isna(scratch[name]), name
    assert pretrained["models_delta_low"] < pretrained["delta"] < pretrained["models_delta_high"]
    grid = layouts.results_grid(cells, table)
    assert grid.rows[1][1].beside[0] == "no test: cross-validation"
    notes = " ".join(grid.notes)
    assert "Hippocampus: cross-validation, 4 parts;" in notes and "they share training cases" in notes
    assert "'U-Net AMAES': trainings validated every 10 steps" in notes
    assert "In brackets" not in notes and "4 draws" not in notes and "Draws may share" not in notes
    (judged,) = verdicts.judge(cells, table).to_dict("records")
    assert judged["verdict"] == "undecided" and "say nothing about another training" in judged["to_decide"]


def test_a_draw_scored_by_each_fold_differs_from_a_cross_validation_in_one_key() -> None:
    scores, table = three_draws()
    assert pd.notna(results.build(scores, table).iloc[1]["p"])
    crossed_columns = [{"title": "Hippocampus", "task": "hippocampus", "cohort": "test", "kfold": 3}]
    assert pd.isna(results.build(scores, spec(folds=[0, 1, 2], columns=crossed_columns)).iloc[1]["p"])
