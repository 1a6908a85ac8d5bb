"""The figure of volumes that were brought onto the grid of another one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import pairs
from brainpretrain import cli
from brainpretrain.files import read_tsv
from brainpretrain.report.figures.alignments import checkered, draw
from figure_fixtures import svg_text


def test_the_tiles_are_of_both_images_in_turn() -> None:
    board = checkered(np.zeros((16, 24)), np.ones((16, 24)))
    assert board.mean() == 0.5 and board[0, 0] == 0 and board[3, 0] == 1 and board[3, 3] == 0


def test_the_figure_shows_those_that_cover_least(tmp_path: Path) -> None:
    rows = [row for n in range(2) for row in pairs.write(tmp_path / "raw", f"s{n}", pairs.moved((0, 0, 0), (4 * n, 0, 0)))]
    recipe = pairs.RECIPE | {"session": ["DWI", "FLAIR"], "align": "header", "min_covered": 0.1}
    table = pairs.store(tmp_path / "raw", rows, tmp_path, recipe)
    assert cli.main(["plot-alignments", "--volumes", str(table), "--out", str(tmp_path / "a.svg")]) == 0
    text = svg_text(tmp_path / "a.svg")
    covered = read_tsv(table).set_index("volume")["covered"]
    assert float(covered["s1_FLAIR"]) < float(covered["s0_FLAIR"])
    assert text.index("s1_FLAIR") < text.index("s0_FLAIR") and "covers 100.0 %" in text
    assert "header, onto s1_DWI.nii.gz" in text
    assert (tmp_path / "a.svg").read_text().count("<image") == 6
    draw(read_tsv(table).drop(columns="aligned_to"), table.parent, tmp_path / "none.svg")
    assert "no volume was brought onto the grid" in svg_text(tmp_path / "none.svg")
