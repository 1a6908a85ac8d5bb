from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from brainpretrain.report.figures import cases
from figure_fixtures import size_px, svg_text
from report_fixtures import PRETRAINED, budget_scores, budget_spec, row, scores, spec, two_arms


def test_paired_cases_count_and_mean(tmp_path: Path) -> None:
    values: dict = {}
    for volume, before, after in (("a", 0.5, 0.6), ("b", 0.7, 0.65), ("c", 0.2, 0.3)):
        for fold in ("0", "1"):
            values["scratch", fold, volume, "x"] = before
            values[PRETRAINED, fold, volume, "x"] = after
    cases.draw(scores(values), spec(), tmp_path / "p.svg")
    text = svg_text(tmp_path / "p.svg")
    assert "mean +5.00" in text
    assert "2 of 3 better" in text
    assert all(word in text for word in ("Hippocampus (test)", "U-Net scratch", "→ U-Net AMAES"))


def test_paired_cases_without_runs_or_without_pairs(tmp_path: Path) -> None:
    cases.draw(two_arms().head(0), spec(), tmp_path / "missing.svg")
    assert "runs missing" in svg_text(tmp_path / "missing.svg")
    cases.draw(two_arms(), spec(rows=[row("alone", "scratch")]), tmp_path / "alone.svg")
    assert "no row to compare" in svg_text(tmp_path / "alone.svg")


def test_paired_cases_that_are_all_perfect(tmp_path: Path) -> None:
    table = two_arms()
    cases.draw(table[table["status"] == "ok"].assign(dice="1.0"), spec(), tmp_path / "p.svg")
    assert "0 of 2 better" in svg_text(tmp_path / "p.svg")


def test_a_big_table_and_a_big_cohort_stay_within_bounds(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = [row(f"{name} {init}", init, backbone=name) for name in "abcde" for init in ("scratch", PRETRAINED)]
    parts = []
    for line in rows:
        dice = {(line["init"], "0", f"v{i}", "x"): round(float(rng.random()), 4) for i in range(150)}
        parts.append(scores(dice, backbone=line["backbone"]))
    columns = [{"title": f"T{i}", "task": "hippocampus", "cohort": "test"} for i in range(4)]
    cases.draw(pd.concat(parts, ignore_index=True), spec(rows=rows, folds=[0], columns=columns), tmp_path / "p.png")
    width, height = size_px(tmp_path / "p.png")
    assert width <= 1600 and height <= 900
    assert (tmp_path / "p.png").stat().st_size < 300_000


def test_a_table_of_budgets_on_four_tasks_names_its_pairs_once_per_column(tmp_path: Path) -> None:
    columns = [{"title": f"T{i}", "task": "hippocampus", "cohort": "test"} for i in range(4)]
    cases.draw(budget_scores(), budget_spec(columns=columns), tmp_path / "p.svg")
    text = svg_text(tmp_path / "p.svg")
    assert text.count("→ AMAES, n=40") == 2 and text.count("of 8 better") == 16
    width, height = size_px(tmp_path / "p.svg")
    assert width <= 1600 and height <= 900
