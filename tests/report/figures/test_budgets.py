from __future__ import annotations

from pathlib import Path

from brainpretrain.config.sections import Bootstrap
from brainpretrain.report import budgets
from brainpretrain.report.figures import budgets as figures
from figure_fixtures import curves_and_matches, svg_text, tooltips
from report_fixtures import budget_scores, budget_spec


def test_budget_curves_say_where_they_reach_full_supervision(tmp_path: Path) -> None:
    figures.draw(*curves_and_matches(spread=0.0), budget_spec(), tmp_path / "b.svg")
    text = svg_text(tmp_path / "b.svg")
    assert all(part in text for part in ("10", "20", "40", "all", "(160)", "scratch", "AMAES", "labelled training subjects"))
    assert tooltips(tmp_path / "b.svg")[3] == "scratch\nn_train all (160 subjects)\n80.00 ± 0.00"


def test_budget_curves_without_runs(tmp_path: Path) -> None:
    points = budgets.curves(budget_scores().head(0), budget_spec(), {"hippocampus": 160.0})
    matches = budgets.matched(budget_scores().head(0), budget_spec(), points, Bootstrap(resamples=5, confidence=0.9, seed=0))
    figures.draw(points, matches, budget_spec(), tmp_path / "b.svg")
    assert "runs missing" in svg_text(tmp_path / "b.svg")
