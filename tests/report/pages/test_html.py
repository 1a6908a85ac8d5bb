from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from brainpretrain.report import budgets, costs
from brainpretrain.report.pages import html as pages
from report_fixtures import budget_scores, budget_spec, runs, spec, two_arms

HOSTILE = "<script>alert(1)</script>"
RUN = {
    "kind": "pretraining",
    "name": "amaes-on-ixi",
    "commit": "0f3c9a",
    "seconds": 210.4,
    "hardware": "CPU, 2 cores",
    "torch": "2.13.0",
    "parameters": 17879617,
    "steps": 2500,
    "patches_per_s": 19.914,
    "data_wait": 0.031,
    "peak_memory_gb": 3.412,
    "resumed_from": None,
    "volumes": 1812,
    "unforeseen": {"a": 1},
    "config": {"seed": 1, "recipe": {"patch_size": [32, 32, 32], "options": {"mask_ratio": 0.6}, "augmentation": {}}},
}


def shards(rejected: int = 2) -> dict[str, pd.DataFrame]:
    """A source with 3 accepted volumes of 2 subjects, and `rejected` others."""
    ok = [("s1", "T1w"), ("s1", "FLAIR"), ("s2", "T1w")]
    rows = [{"volume": f"{s}__{q}", "subject": s, "sequence": q, "status": "ok", "reason": "", "detail": ""} for s, q in ok]
    for i in range(rejected):
        fault = {"status": "rejected", "reason": "truncated", "detail": f"{HOSTILE} file {i}"}
        rows.append({"volume": f"bad{i:04d}__T1w", "subject": f"bad{i}", "sequence": "T1w"} | fault)
    return {"ixi": pd.DataFrame(rows)}


def cells(page: str) -> list[list[str]]:
    return [re.findall(r"<t[dh][^>]*>([^<]*)<", line) for line in re.findall(r"<tr>(.*?)</tr>", page)]


def stands_alone(page: str) -> bool:
    return not re.search(r"https?:|<script|<link|<img|@import|url\(", page)


def test_rejected_page_counts_and_lists() -> None:
    page = pages.rejected_page(shards())
    assert "2 of 5 volumes rejected in preprocessing (40.0 %)." in page
    lines = cells(page)
    assert ["ixi", "FLAIR", "1", "1", "0"] in lines
    assert ["ixi", "T1w", "2", "2", "2"] in lines
    assert ["all", "", "", "3", "2"] in lines
    assert ["ixi", "truncated", "2"] in lines
    assert ["ixi", "bad0001__T1w", "T1w", "truncated", "&lt;script&gt;alert(1)&lt;/script&gt; file 1"] in lines
    assert stands_alone(page)


def test_rejected_page_without_rejected_or_without_volumes() -> None:
    assert "0 of 3 volumes rejected in preprocessing (0.0 %)." in pages.rejected_page(shards(rejected=0))
    assert "Reasons" not in pages.rejected_page(shards(rejected=0))
    assert "0 of 0 volumes rejected" in pages.rejected_page({})


def test_a_flood_of_rejected_volumes_is_cut_and_counted() -> None:
    page = pages.rejected_page(shards(rejected=700))
    assert "200 more are listed in volumes.tsv of their data sets." in page
    assert "bad0499" in page and "bad0500" not in page
    assert len(page) < 100_000


def test_run_card() -> None:
    page = pages.run_card(RUN)
    lines = cells(page)
    for line in (
        ["duration", "3 min 30 s"],
        ["parameters", "17,879,617"],
        ["volumes", "1,812"],
        ["patches per second", "19.91"],
        ["time waiting for data", "3.1 %"],
        ["peak memory", "3.41 GB"],
        ["resumed from", "–"],
        ["torch", "2.13.0"],
        ["unforeseen.a", "1"],
        ["recipe.patch_size", "[32, 32, 32]"],
        ["recipe.options.mask_ratio", "0.6"],
        ["recipe.augmentation", "{}"],
    ):
        assert line in lines
    assert "<h1>Pretraining: amaes-on-ixi</h1>" in page
    assert "Hardware" in page and "More" in page
    assert stands_alone(page)


def test_run_card_of_almost_nothing() -> None:
    assert "<h1>Training: unnamed</h1>" in pages.run_card({})


def test_everything_is_escaped() -> None:
    page = pages.run_card({"name": HOSTILE, HOSTILE: HOSTILE, "config": {HOSTILE: {HOSTILE: [HOSTILE]}}})
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6


def test_write(tmp_path: Path) -> None:
    pages.write(tmp_path / "deep" / "page.html", pages.page("Größe ± 1", "<p>x</p>"))
    assert (tmp_path / "deep" / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


SVG = """<?xml version="1.0"?>
<!DOCTYPE svg PUBLIC "-//W3C//DTD SVG 1.1//EN" "http://www.w3.org/Graphics/SVG/1.1/DTD/svg11.dtd">
<svg xmlns:xlink="http://www.w3.org/1999/xlink" width="10pt" xmlns="http://www.w3.org/2000/svg">
 <metadata><rdf:RDF xmlns:dc="http://purl.org/dc"/></metadata>
 <g id="a"><title>tip</title><use xlink:href="#m"/></g>
</svg>"""


def test_an_inline_figure_keeps_what_is_drawn_and_names_no_address() -> None:
    shown = pages.inline(SVG)
    assert shown.startswith('<svg width="10pt">') and '<title>tip</title><use xlink:href="#m"/>' in shown
    assert stands_alone(shown) and "metadata" not in shown


def test_costs_page() -> None:
    arms = costs.arms(two_arms(), spec(), runs())
    page = pages.costs_page(arms, spec(title=HOSTILE), SVG, 100)
    names = ["1", "U-Net scratch", "Hippocampus (test)"]
    assert [*names, "67.50", "3.54", "2 h 00 min", "none", "2 h 00 min", "8.00", "1", "RTX"] in cells(page)
    assert "different hardware" in page and stands_alone(page)
    lines = cells(pages.costs_page(costs.arms(two_arms().head(0), spec(), {}), spec(), SVG, 100))
    assert [*names, "– (0 of 2 folds)", "–", "–", "none", "–", "–", "–", "–"] in lines
    elsewhere = pages.costs_page(arms.assign(pretrained_elsewhere=True), spec(), SVG, 100)
    assert elsewhere.count("not known") == 2


def test_budgets_page() -> None:
    points = budgets.curves(budget_scores(spread=0.0), budget_spec(), {"hippocampus": 160.0})
    matches = budgets.matched(budget_scores(spread=0.0), budget_spec(), points, {"resamples": 20, "confidence": 0.95, "seed": 0})
    page = pages.budgets_page(points, matches, budget_spec(), SVG, 100, 20)
    lines = cells(page)
    assert ["Hippocampus (test)", "AMAES", "28 (95 % interval 28)", "scratch, all 160 subjects: 80.00"] in lines
    assert ["Hippocampus (test)", "scratch", "all", "160", "80.00", "0.00", "80.00, 80.00"] in lines
    assert "20 resamples" in page and "fewer cases" not in page and stands_alone(page)
    val = pages.budgets_page(points.assign(cohort="val"), matches.head(0), budget_spec(), SVG, 100, 20)
    assert "fewer cases" in val and "Labels that match" not in val
