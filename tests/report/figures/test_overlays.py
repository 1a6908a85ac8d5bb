from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainpretrain.report.figures import overlays
from figure_fixtures import cube, overlay, svg_text


def test_the_slice_with_most_of_the_reference() -> None:
    reference, prediction = cube(5, 8), cube(15, 18)
    reference[5:10, 5:10, 6] = 1
    assert overlays.busiest_slice(reference, prediction) == 6
    assert overlays.busiest_slice(np.zeros_like(reference), prediction) == 15
    assert overlays.busiest_slice(np.zeros_like(reference), np.zeros_like(reference)) == 10


def test_the_detail_is_square_in_mm_and_holds_everything() -> None:
    mask = np.zeros((100, 50), bool)
    mask[40:60, 20:24] = True
    x, y = overlays.detail_box(mask, (1.0, 2.0, 1.0))
    assert (x.stop - x.start) * 1.0 == pytest.approx((y.stop - y.start) * 2.0, abs=2)
    assert x.start < 40 and x.stop > 60 and y.start < 20 and y.stop > 24
    assert overlays.detail_box(np.zeros((6, 8), bool), (1.0, 1.0, 1.0)) == (slice(0, 6), slice(0, 8))


def test_outlines_follow_the_voxel_edges() -> None:
    from matplotlib.figure import Figure

    labels = np.zeros((6, 6), int)
    labels[2:4, 2:5] = 1
    labels[3, 2:5] = 2
    axes = Figure().subplots()
    overlays.draw_outline(axes, labels, "red", 1)
    segments = {tuple(map(tuple, segment)) for segment in axes.collections[0].get_segments()}
    border = {((x, y), (x, y + 1)) for x in (1.5, 2.5, 3.5) for y in (1.5, 2.5, 3.5)}  # left, between the labels, right
    border |= {((x, y), (x + 1, y)) for x in (1.5, 2.5) for y in (1.5, 4.5)}
    assert segments == border


def test_overlays_say_what_they_show(tmp_path: Path) -> None:
    overlays.draw([overlay(cube(8, 14), cube(9, 15))], tmp_path / "o.svg")
    text = svg_text(tmp_path / "o.svg")
    assert all(
        word in text for word in ("reference", "prediction", "worst", "sub-01_ses-1_T1w", "fold 2", "Dice 61.25", "slice 9 of 20")
    )


def test_overlays_without_foreground_or_without_cases(tmp_path: Path) -> None:
    nothing = np.zeros((30, 40, 20), np.uint8)
    overlays.draw([overlay(nothing, nothing)], tmp_path / "empty.png")
    overlays.draw([], tmp_path / "none.svg")
    assert "no case with a defined Dice" in svg_text(tmp_path / "none.svg")
