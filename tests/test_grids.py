from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from brainpretrain import grids, pages, tables
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from report_fixtures import PRETRAINED, row, score, spec, two_arms


def results(scores: pd.DataFrame | None = None, **changes: object) -> grids.Grid:
    table = spec(**changes)
    return grids.results_grid(tables.build(two_arms() if scores is None else scores, table), table)


def per_label(scores: pd.DataFrame | None = None, **changes: object) -> grids.Grid:
    table = spec(**changes)
    return grids.per_label_grid(tables.per_label(two_arms() if scores is None else scores, table), table)


def without(fold: str) -> pd.DataFrame:
    table = two_arms()
    return table[(table["init"] != PRETRAINED) | (table["fold"] != fold)]


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0298, "+2.98"), (-0.0013, "−0.13"), (0.0, "±0.00"), (-0.00001, "±0.00"), (0.00001, "±0.00"), (0.1, "+10.00")],
)
def test_signed(value: float, shown: str) -> None:
    assert grids.signed(value) == shown


def test_results_grid() -> None:
    grid = results()
    assert grid.header == (grids.Cell("Model"), grids.Cell("Hippocampus", "test, 2 cases, 2 folds"))
    assert grid.rows[0] == (grids.Cell("U-Net scratch"), grids.Cell("67.50 ± 3.54"))
    assert grid.rows[1] == (grids.Cell("U-Net AMAES"), grids.Cell("77.50 ± 3.54", "+10.00", "up"))


def test_a_cell_without_its_runs_says_so() -> None:
    grid = results(without("1"))
    assert grid.rows[1][1] == grids.Cell("– (1 of 2 folds)", tone="missing")
    assert any("1 of 2 cells" in note for note in grid.notes)


def test_one_fold_shows_no_spread() -> None:
    assert results(folds=[1]).rows[0][1] == grids.Cell("70.00")


def test_notes_say_how_folds_and_empty_masks_are_treated() -> None:
    notes = " ".join(results().notes)
    assert "mean over labels of the mean over cases" in notes
    assert "Left out, as the Dice of empty masks is undefined: 2 of 16 scores." in notes
    assert "Training cases (n_train): 20." in notes
    assert "Counted in spite" not in notes
    assert "Signed" not in " ".join(results(rows=[row("alone", "scratch")]).notes)


def test_notes_count_scores_with_an_empty_mask() -> None:
    rows = [score(0.5), score(0.0, "reference_empty", volume="b"), score(0.0, "prediction_empty", volume="c")]
    notes = results(pd.DataFrame(rows), folds=[0], rows=[row("U-Net", "scratch")]).notes
    assert (
        "Counted in spite of an empty mask: only the reference empty (Dice 0): 1; only the prediction empty (Dice 0): 1." in notes
    )


def test_a_group_begins_with_each_backbone() -> None:
    rows = [row(name, "scratch", backbone=name) for name in ("a", "a", "b", "c")]
    assert results(rows=rows).starts == {2, 3}


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


def test_markdown() -> None:
    lines = grids.markdown(results()).splitlines()
    assert lines[:7] == [
        "**Demo**",
        "",
        "| Model | Hippocampus (test, 2 cases, 2 folds) |",
        "| --- | ---: |",
        "| U-Net scratch | 67.50 ± 3.54 |",
        "| U-Net AMAES | 77.50 ± 3.54 (+10.00) |",
        "",
    ]


HOSTILE = "<script>alert('|')</script>\nx"


def test_titles_cannot_break_a_table_or_a_page() -> None:
    grid = results(title=HOSTILE, rows=[row(HOSTILE, "scratch")])
    markdown = grids.markdown(grid)
    assert "<script" not in markdown
    assert {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")} == {3}
    assert "<script" not in grids.html(grid)
    assert "&lt;script&gt;" in grids.html(grid)


def test_html_shows_a_delta_by_sign_and_by_colour() -> None:
    page = grids.html(results())
    assert '77.50 ± 3.54 <span class="up">+10.00</span>' in page
    assert '67.50 ± 3.54 <span class="none"></span>' in page
    worse = two_arms().replace({"init": {"scratch": PRETRAINED, PRETRAINED: "scratch"}})
    assert '<span class="down">−10.00</span>' in grids.html(results(worse))
    assert '<span class="missing">– (1 of 2 folds)</span>' in grids.html(results(without("1")))


def test_html_stands_alone() -> None:
    page = grids.html(results())
    assert not re.search(r"https?:|<script|<link|<img|@import|url\(", page)
    assert '<html lang="en">' in page
    assert 'scope="col"' in page
    assert 'scope="row"' in page


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_contrast_of_every_text_is_accessible() -> None:
    rules = re.findall(r"([^{}]+)\{([^{}]*)\}", pages.STYLE)
    checked = 0
    for _, declarations in rules:
        colour = re.search(r"(?<![-\w])color: (#\w{6})", declarations)
        background = re.search(r"background: (#\w{6})", declarations)
        if colour:
            light, dark = sorted([luminance(colour[1]), luminance(background[1] if background else "#ffffff")], reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, declarations  # WCAG 2 AA
            checked += 1
    assert checked >= 6


def test_text_is_plain_and_aligned() -> None:
    shown = grids.text(results())
    assert "\x1b" not in shown
    scratch, pretrained = (line for line in shown.splitlines() if line.startswith("U-Net"))
    assert scratch.index("67.50") == pretrained.index("77.50")
    assert pretrained.endswith("+10.00")
    assert shown.startswith("Demo\n")
    assert "Left out" in shown


def test_text_in_colour() -> None:
    assert "\x1b[32m+10.00" in grids.text(results(), colour=True)


def test_the_text_of_a_wide_table_is_not_cut() -> None:
    columns = [{"title": f"A rather long title {i}", "task": "hippocampus", "cohort": "test"} for i in range(12)]
    shown = grids.text(results(columns=columns))
    assert shown.count("77.50 ± 3.54") == 12
    assert "…" not in shown


def test_written_tables_depend_on_the_scores_alone(tmp_path: Path) -> None:
    shuffled = two_arms().sample(frac=1, random_state=1)
    for suffix in (".tsv", ".md", ".html", ".txt"):
        for name, scores in (("a", two_arms()), ("b", shuffled)):
            cells = tables.build(scores, spec())
            grids.write(tmp_path / (name + suffix), cells, grids.results_grid(cells, spec()))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_tsv_holds_numbers_in_0_to_1(tmp_path: Path) -> None:
    cells = tables.build(without("1"), spec())
    grids.write(tmp_path / "table.tsv", cells, grids.results_grid(cells, spec()))
    read = read_tsv(tmp_path / "table.tsv", numbers=["dice"])
    assert read["dice"].round(3).tolist()[:1] == [0.675]
    assert read["dice"].isna().tolist() == [False, True]
    assert read["baseline"].tolist() == ["", "U-Net scratch"]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="xlsx"):
        grids.write(tmp_path / "table.xlsx", pd.DataFrame(), replace(results(), rows=()))
