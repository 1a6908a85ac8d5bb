from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv
from brainpretrain.report import layouts, printers, results
from brainpretrain.report.grid import Grid
from report_fixtures import PRETRAINED, row, spec, two_arms


def results_grid(scores: pd.DataFrame | None = None, **changes: object) -> Grid:
    table = spec(**changes)
    return layouts.results_grid(results.build(two_arms() if scores is None else scores, table), table)


def without(fold: str) -> pd.DataFrame:
    table = two_arms()
    return table[(table["init"] != PRETRAINED) | (table["fold"] != fold)]


PUBLISHED = {
    "source": "a paper",
    "notes": [],
    "cells": [
        {
            "backbone": "unet_b",
            "init": PRETRAINED,
            "n_train": "20",
            "column": "Hippocampus",
            "value": 71.2,
            "sd": 0.8,
            "differs": "",
        }
    ],
}


def test_markdown() -> None:
    lines = printers.markdown(results_grid()).splitlines()
    assert lines[:7] == [
        "**Demo**",
        "",
        "| Model | Hippocampus (test, 2 cases, 2 folds) |",
        "| --- | ---: |",
        "| U-Net scratch | 67.50 ± 3.54<br>these models [65.00, 67.50] |",
        "| U-Net AMAES | 77.50 ± 3.54 (+10.00)<br>these models [75.00, 77.50]<br>no test: 2 draws<br>these models [+10.00, +10.00], r = +1.00 |",
        "",
    ]


HOSTILE = "<script>alert('|')</script>\nx"


def test_titles_cannot_break_a_table_or_a_page() -> None:
    grid = results_grid(title=HOSTILE, rows=[row(HOSTILE, "scratch")])
    markdown = printers.markdown(grid)
    assert "<script" not in markdown
    assert {line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")} == {3}
    assert "<script" not in printers.html(grid)
    assert "&lt;script&gt;" in printers.html(grid)


def test_html_shows_a_delta_by_sign_and_by_colour() -> None:
    page = printers.html(results_grid())
    assert (
        '<td class="number">77.50 ± 3.54<span class="detail">these models [75.00, 77.50]</span></td><td class="change">' in page
    )
    assert '<td class="change"><span class="up">+10.00</span><span class="detail">' in page
    assert page.count("<td") == 4 and page.count('colspan="2"') == 1  # a heading over value and delta
    worse = two_arms().replace({"init": {"scratch": PRETRAINED, PRETRAINED: "scratch"}})
    assert '<span class="down">−10.00</span>' in printers.html(results_grid(worse))
    assert '<span class="missing">– (1 of 2 folds)</span>' in printers.html(results_grid(without("1")))


def test_many_columns_have_their_deltas_below() -> None:
    page = printers.html(layouts.per_metric_grid(results.everything(two_arms(), spec())["metrics"], spec()))
    assert '<td class="number">77.50 ± 3.54<br><span class="up">+10.00</span></td></tr>' in page
    assert 'colspan="2"' not in page


def test_html_stands_alone() -> None:
    page = printers.html(results_grid())
    assert not re.search(r"https?:|<script|<link|<img|@import|url\(", page)
    assert '<html lang="en">' in page
    assert 'scope="col"' in page
    assert 'scope="row"' in page


def test_text_is_plain_and_aligned() -> None:
    shown = printers.text(results_grid())
    assert "\x1b" not in shown
    scratch, pretrained = (line for line in shown.splitlines() if line.startswith("U-Net"))
    assert scratch.index("67.50") == pretrained.index("77.50")
    assert pretrained.endswith("+10.00")
    assert "published" not in shown
    assert shown.startswith("Demo\n")
    assert "Left out" in shown


def test_text_in_colour() -> None:
    assert "\x1b[32m+10.00" in printers.text(results_grid(), colour=True)


def test_the_text_of_a_wide_table_is_not_cut() -> None:
    columns = [{"title": f"A rather long title {i}", "task": "hippocampus", "cohort": "test"} for i in range(12)]
    shown = printers.text(results_grid(columns=columns))
    assert shown.count("77.50 ± 3.54") == 12
    assert "…" not in shown


def test_written_tables_depend_on_the_scores_alone(tmp_path: Path) -> None:
    shuffled = two_arms().sample(frac=1, random_state=1)
    for suffix in printers.SUFFIXES:
        for name, scores in (("a", two_arms()), ("b", shuffled)):
            cells = results.build(scores, spec())
            printers.write(tmp_path / (name + suffix), cells, layouts.results_grid(cells, spec()))
        assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_tsv_holds_numbers_in_0_to_1(tmp_path: Path) -> None:
    cells = results.build(without("1"), spec())
    printers.write(tmp_path / "table.tsv", cells, layouts.results_grid(cells, spec()))
    read = read_tsv(tmp_path / "table.tsv", numbers=["value"])
    assert read["value"].round(3).tolist()[:1] == [0.675]
    assert read["value"].isna().tolist() == [False, True]
    assert read["baseline"].tolist() == ["", "U-Net scratch"]


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="xlsx"):
        printers.write(tmp_path / "table.xlsx", pd.DataFrame(), replace(results_grid(), rows=()))


def test_the_published_value_is_grey_everywhere() -> None:
    grid = results_grid(published=PUBLISHED)
    assert '<span class="published">published 71.20 ± 0.80</span>' in printers.html(grid)
    assert "<br>*published 71.20 ± 0.80*" in printers.markdown(grid)
    assert "published 71.20 ± 0.80" in printers.text(grid)
    assert r"{\scriptsize\color{gray}published 71.20 $\pm$ 0.80}" in printers.latex(grid)
    assert "Published: a paper." in printers.text(grid)


def test_latex() -> None:
    assert printers.latex(results_grid()).splitlines()[:13] == [
        r"% \usepackage{booktabs}",
        r"% \usepackage{xcolor}",
        r"\begin{table}",
        r"\centering",
        r"\caption{Demo}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"{Model} & \shortstack[r]{{Hippocampus}\\{\scriptsize test, 2 cases, 2 folds}} \\",
        r"\midrule",
        r"{U-Net scratch} & \shortstack[r]{{67.50 $\pm$ 3.54}\\{\scriptsize these models [65.00, 67.50]}} \\",
        r"{U-Net AMAES} & \shortstack[r]{{77.50 $\pm$ 3.54 (+10.00)}\\{\scriptsize these models [75.00, 77.50]}"
        r"\\{\scriptsize no test: 2 draws}\\{\scriptsize these models [+10.00, +10.00], r = +1.00}} \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]


def test_titles_cannot_break_latex() -> None:
    odd = r"[a] & 50 % of_all #1 $x$ {y} \z ~ ^ < > |"
    shown = printers.latex(results_grid(title=odd, rows=[row(odd, "scratch")]))
    escaped = r"[a] \& 50 \% of\_all \#1 \$x\$ \{y\} \textbackslash{}z \textasciitilde{} \textasciicircum{} $<$ $>$ $|$"
    assert rf"\caption{{{escaped}}}" in shown and rf"{{{escaped}}} & " in shown
    body = shown.replace("\\\\", "").replace(r"\{", "").replace(r"\}", "")
    assert body.count("{") == body.count("}")
    assert body.count(r"\begin{") == body.count(r"\end{") == 3
    assert not re.search(r"\\\\\s*[\[*]", shown)  # a bracket behind a line end would be read as its option
