from __future__ import annotations

from brainpretrain.report import costs
from brainpretrain.report.pages import costs as pages
from page_fixtures import HOSTILE, SVG, cells, stands_alone
from report_fixtures import runs, spec, two_arms


def test_costs_page() -> None:
    arms = costs.arms(two_arms(), spec(), runs())
    page = pages.page(arms, spec(title=HOSTILE), SVG)
    names = ["1", "U-Net scratch", "Hippocampus (test)"]
    assert [*names, "67.50", "3.54", "2 h 00 min", "none", "none", "2 h 00 min", "8.00", "1", "RTX"] in cells(page)
    assert "different hardware" in page and stands_alone(page)
    lines = cells(pages.page(costs.arms(two_arms().head(0), spec(), {}), spec(), SVG))
    assert [*names, "– (0 of 2 folds)", "–", "–", "none", "none", "–", "–", "–", "–"] in lines
    elsewhere = pages.page(arms.assign(pretrained_elsewhere=True), spec(), SVG)
    assert elsewhere.count("not known") == 2
