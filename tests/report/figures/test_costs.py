from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from brainpretrain.report import costs
from brainpretrain.report.figures import costs as figures
from figure_fixtures import size_px, svg_text, tooltips
from report_fixtures import row, runs, scores, spec, two_arms


def test_costs_have_their_numbers_under_the_pointer(tmp_path: Path) -> None:
    figures.draw(costs.arms(two_arms(), spec(), runs()), spec(), tmp_path / "c.svg")
    shown = tooltips(tmp_path / "c.svg")
    assert shown[1].splitlines() == [
        "2  U-Net AMAES",
        "Dice x 100: 77.50 ± 3.54",
        "pretraining 30 h 00 min, fine-tuning 2 h 00 min",
        "peak memory 40.00 GB",
        "H100; RTX",
    ]
    text = svg_text(tmp_path / "c.svg")
    assert all(
        part in text for part in ("1  U-Net scratch", "2  U-Net AMAES", "largest 40 GB", "hours of pretraining", "Dice x 100")
    )
    assert shown[0].startswith("1  U-Net scratch") and len(shown) == 2


def test_the_area_of_a_bubble_is_the_memory(tmp_path: Path) -> None:
    """Widths of 8 and 40 GB: their squares are as 1 to 5."""
    figures.draw(costs.arms(two_arms(), spec(), runs()), spec(), tmp_path / "c.svg")
    widths = []
    for number in (1, 2):
        group = (tmp_path / "c.svg").read_text().split(f'<g id="cost-hippocampus-test-{number}">')[1]
        outline = re.search(r'<path[^>]* d="([^"]*)"', group)[1]
        x = [float(place) for place in re.findall(r"-?[\d.]+", outline)[::2]]
        widths.append(max(x) - min(x))
    assert (widths[1] / widths[0]) ** 2 == pytest.approx(5, rel=1e-3)


def test_costs_choose_their_unit_and_mark_unknown_hours(tmp_path: Path) -> None:
    quick = {place: run | {"seconds": run["seconds"] / 3600} for place, run in runs().items()}
    figures.draw(costs.arms(two_arms(), spec(), quick), spec(), tmp_path / "s.svg")
    assert "seconds of pretraining" in svg_text(tmp_path / "s.svg")
    arms = costs.arms(two_arms(), spec(), runs()).assign(pretrained_elsewhere=[False, True])
    figures.draw(arms, spec(), tmp_path / "e.svg")
    assert (
        "* hours of the pretraining not known" in svg_text(tmp_path / "e.svg")
        and "pretraining not known" in tooltips(tmp_path / "e.svg")[1]
    )
    figures.draw(costs.arms(two_arms(), spec(), {}), spec(), tmp_path / "n.svg")
    assert "runs missing" in svg_text(tmp_path / "n.svg") and not tooltips(tmp_path / "n.svg")


def test_costs_of_a_big_table_stay_within_bounds(tmp_path: Path) -> None:
    rows = [row(f"network {i}, n={n}", "scratch", backbone=f"b{i}", n_train=n) for i in range(5) for n in (5, 10, 20, 40, 80)]
    columns = [{"title": f"T{i}", "task": f"t{i}", "cohort": "test"} for i in range(10)]
    parts = [
        scores(
            {("scratch", "0", "v", "x"): 0.5 + 0.01 * i}, backbone=line["backbone"], n_train=line["n_train"], task=column["task"]
        )
        for i, line in enumerate(rows)
        for column in columns
    ]
    places = {
        f"finetune/{column['task']}/{line['backbone']}/scratch/amaes/n{line['n_train']}/fold0": {
            "seconds": 100.0 * (i + 1), "peak_memory_gb": 1.0 + i, "hardware": "x",
        }
        for i, line in enumerate(rows)
        for column in columns
    }  # fmt: skip
    table = spec(rows=rows, columns=columns, folds=[0])
    figures.draw(costs.arms(pd.concat(parts), table, places), table, tmp_path / "c.svg")
    width, height = size_px(tmp_path / "c.svg")
    assert width <= 1600 and height <= 900
    assert (tmp_path / "c.svg").stat().st_size < 1_000_000
    assert "rows of the table not drawn: 1" in svg_text(tmp_path / "c.svg")


def test_a_hostile_title_stays_text_in_a_figure(tmp_path: Path) -> None:
    table = spec(rows=[row("<script>alert(1)</script>", "scratch")])
    figures.draw(costs.arms(two_arms(), table, runs()), table, tmp_path / "c.svg")
    assert "<script" not in (tmp_path / "c.svg").read_text() and tooltips(tmp_path / "c.svg")[0].startswith("1  <script>")
