"""Curves of degradation by hand, and their figure."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainpretrain.report import robustness
from brainpretrain.report.figures import robustness as figures
from figure_fixtures import svg_text, tooltips
from report_fixtures import degraded_scores, degraded_spec


def test_curves_begin_at_the_images_as_they_are_and_ascend():
    points = robustness.curves(degraded_scores(), degraded_spec())
    moved = points[points["kind"] == "motion"]
    assert moved["strength"].tolist() == [0, 3, 9, 0, 3, 9] and moved["row"].nunique() == 2
    assert moved["cohort"].tolist()[:3] == ["test", "moved_3", "moved_9"]
    assert moved["mean"].tolist()[:2] == pytest.approx([0.675, 0.475]) and moved["mean"].isna().tolist()[2]
    assert moved["fall"].tolist()[1::3] == pytest.approx([0.2, 0.1])
    assert moved["sd"].iloc[0] == pytest.approx(0.0353553, abs=1e-6)
    assert moved["fall_sd"].iloc[1] == pytest.approx(0, abs=1e-9)
    blind = points[points["sequence"] == "FLAIR"]
    assert blind["strength"].tolist() == [0, 1, 0, 1] and blind["curve"].iloc[0].endswith("missing sequence FLAIR")


def test_the_figure_has_a_panel_for_each_degradation(tmp_path: Path):
    figures.draw(robustness.curves(degraded_scores(), degraded_spec()), degraded_spec(), tmp_path / "r.svg")
    text = svg_text(tmp_path / "r.svg")
    assert all(part in text for part in ("U-Net scratch", "U-Net AMAES", "largest movement", "without FLAIR", "motion"))
    assert "U-Net scratch\nhippocampus, test: motion, 3\n47.50 ± 3.54" in tooltips(tmp_path / "r.svg")


def test_the_figure_without_runs(tmp_path: Path):
    figures.draw(robustness.curves(degraded_scores().head(0), degraded_spec()), degraded_spec(), tmp_path / "r.svg")
    assert "runs missing" in svg_text(tmp_path / "r.svg")
