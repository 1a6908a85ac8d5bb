from __future__ import annotations

from brainpretrain.config.sections import Bootstrap
from brainpretrain.report import budgets
from brainpretrain.report.pages import budgets as pages
from page_fixtures import SVG, cells, stands_alone
from report_fixtures import budget_scores, budget_spec


def test_budgets_page() -> None:
    points = budgets.curves(budget_scores(spread=0.0), budget_spec(), {"hippocampus": 160.0})
    matches = budgets.matched(budget_scores(spread=0.0), budget_spec(), points, Bootstrap(resamples=20, confidence=0.95, seed=0))
    page = pages.page(points, matches, budget_spec(), SVG, 20)
    lines = cells(page)
    assert ["Hippocampus (test)", "AMAES", "28 (95 % interval 28)", "scratch, all 160 subjects: 80.00"] in lines
    assert ["Hippocampus (test)", "scratch", "all", "160", "80.00", "0.00", "80.00, 80.00"] in lines
    assert "20 resamples" in page and "fewer cases" not in page and stands_alone(page)
    val = pages.page(points.assign(cohort="val"), matches.head(0), budget_spec(), SVG, 20)
    assert "fewer cases" in val and "Labels that match" not in val
