from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from brainpretrain.report import results
from brainpretrain.report.figures import ranks
from report_fixtures import PRETRAINED, row, score, spec, two_arms


def drawn(path: Path, scores: pd.DataFrame, **changes: object) -> str:
    table = spec(**changes)
    ranks.draw(results.rank(scores, table), table, path)
    return path.read_text() if path.suffix == ".svg" else ""


def many(rows: int, budgets: list[int]) -> tuple[pd.DataFrame, list[dict]]:
    rng = np.random.default_rng(0)
    arms = [row(f"arm {i} of {n}", f"p{i}-on-ixi", n_train=n) for n in budgets for i in range(rows)]
    scores = [
        score(rng.random(), init=arm["init"], n_train=arm["n_train"], fold=fold, volume=f"sub-{i}")
        for arm in arms
        for fold in (0, 1)
        for i in range(4)
    ]
    return pd.DataFrame(scores), arms


def test_every_row_and_column_is_named(tmp_path: Path) -> None:
    columns = [{"title": title, "task": "hippocampus", "cohort": "test"} for title in ("Left", "Right")]
    svg = drawn(tmp_path / "ranks.svg", two_arms(), columns=columns)
    for text in ("Demo: ranks by Dice", "U-Net scratch", "U-Net AMAES", "Left", "Right", "first in 100 %", "95 % interval"):
        assert text in svg
    assert svg.index("U-Net AMAES") < svg.index("U-Net scratch")  # the best on top


def test_a_single_column_has_no_legend(tmp_path: Path) -> None:
    assert "Hippocampus" not in drawn(tmp_path / "ranks.svg", two_arms())


def test_budgets_have_a_panel_each(tmp_path: Path) -> None:
    scores, rows = many(2, [10, 20])
    svg = drawn(tmp_path / "ranks.svg", scores, rows=rows)
    assert "10 training cases" in svg and "20 training cases" in svg


@pytest.mark.parametrize(("rows", "budgets"), [(2, [10]), (40, [10]), (5, [10, 20, 40, 80, 160])])
def test_a_figure_fits_the_report(tmp_path: Path, rows: int, budgets: list[int]) -> None:
    scores, arms = many(rows, budgets)
    drawn(tmp_path / "ranks.png", scores, rows=arms)
    with Image.open(tmp_path / "ranks.png") as image:
        width, height = image.size
    assert width <= 1600 and 100 < height <= 900


def test_without_complete_runs_it_says_so(tmp_path: Path) -> None:
    lacking = two_arms()
    lacking = lacking[lacking["fold"] != "1"]
    assert "no row is scored in all folds" in drawn(tmp_path / "ranks.svg", lacking)
    assert PRETRAINED not in drawn(tmp_path / "ranks.svg", lacking)


def test_the_same_ranks_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for suffix in (".svg", ".png"):
            drawn(tmp_path / (name + suffix), two_arms())
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert not re.search(r"\d{4}-\d\d-\d\d", (tmp_path / "a.svg").read_text())
