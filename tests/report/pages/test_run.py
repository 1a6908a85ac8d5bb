from __future__ import annotations

from brainpretrain.report.pages import run
from page_fixtures import HOSTILE, cells, stands_alone

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


def test_run_card() -> None:
    page = run.page(RUN)
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
    assert "<h1>Training: unnamed</h1>" in run.page({})


def test_everything_is_escaped() -> None:
    page = run.page({"name": HOSTILE, HOSTILE: HOSTILE, "config": {HOSTILE: {HOSTILE: [HOSTILE]}}})
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 6
