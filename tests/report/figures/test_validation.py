from __future__ import annotations

from pathlib import Path

from brainpretrain.report.figures import validation
from figure_fixtures import svg_text, watched


def test_a_line_for_each_row_and_a_dot_for_each_training(tmp_path: Path) -> None:
    logs, runs, table = watched()
    validation.draw(logs, runs, table, tmp_path / "v.svg")
    text = svg_text(tmp_path / "v.svg")
    assert all(words in text for words in ("Hippocampus", "U-Net scratch", "U-Net AMAES", "pseudo-Dice x 100 in validation"))
    more = {**runs, next(iter(runs)): {}}  # a training of which run.json says nothing
    validation.draw(logs, more, table, tmp_path / "more.svg")
    drawn = [(tmp_path / name).read_text().count("<use ") for name in ("v.svg", "more.svg")]
    assert drawn[0] == drawn[1] + 1


def test_a_table_without_a_finished_validation_says_so(tmp_path: Path) -> None:
    _, _, table = watched()
    validation.draw({}, {}, table, tmp_path / "v.svg")
    assert "no validation" in svg_text(tmp_path / "v.svg")
