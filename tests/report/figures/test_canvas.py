"""What holds for every figure: size, the same bytes for the same input, and a style that the user cannot change."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from brainpretrain.errors import UserError
from brainpretrain.report.costs import arms
from brainpretrain.report.figures import budgets, cases, composition, costs, overlays, robustness, slices, validation
from brainpretrain.report.figures.training import loss_curves
from brainpretrain.report.robustness import curves
from figure_fixtures import augmented, corpus_and_tables, cube, curves_and_matches, log, npz, overlay, size_px, watched
from helpers import ROOT
from report_fixtures import budget_spec, degraded_scores, degraded_spec, runs, spec, two_arms

FIGURES: dict[str, Callable[[Path, Path], None]] = {
    "augmentations.png": lambda path, tmp: slices.augmentations(augmented(12), path, "amaes", "CC BY"),
    "loss.svg": lambda path, tmp: loss_curves(log(), path, "amaes on ixi"),
    "reconstructions.png": lambda path, tmp: slices.reconstructions(npz(tmp / "r.npz"), path),
    "overlays.png": lambda path, tmp: overlays.draw(
        [overlay(cube(8, 14), cube(9, 15), r) for r in ("worst", "median", "best")], path
    ),
    "composition.svg": lambda path, tmp: composition.draw(*corpus_and_tables(), path),
    "composition.png": lambda path, tmp: composition.draw(*corpus_and_tables(), path),
    "paired.svg": lambda path, tmp: cases.draw(two_arms(), spec(), path),
    "paired.png": lambda path, tmp: cases.draw(two_arms(), spec(), path),
    "costs.svg": lambda path, tmp: costs.draw(arms(two_arms(), spec(), runs()), spec(), path),
    "costs.png": lambda path, tmp: costs.draw(arms(two_arms(), spec(), runs()), spec(), path),
    "budgets.svg": lambda path, tmp: budgets.draw(*curves_and_matches(), budget_spec(), path),
    "robustness.svg": lambda path, tmp: robustness.draw(curves(degraded_scores(), degraded_spec()), degraded_spec(), path),
    "validation.svg": lambda path, tmp: validation.draw(*watched(), path),
    "budgets.png": lambda path, tmp: budgets.draw(*curves_and_matches(), budget_spec(), path),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_small_and_repeatable(name: str, tmp_path: Path) -> None:
    again = tmp_path / "again"
    again.mkdir()
    FIGURES[name](tmp_path / name, tmp_path)
    FIGURES[name](again / name, tmp_path)
    assert (tmp_path / name).read_bytes() == (again / name).read_bytes()
    assert (tmp_path / name).stat().st_size < 150_000
    width, height = size_px(tmp_path / name)
    assert 400 <= width <= 1600
    assert 300 <= height <= 900


def test_matplotlib_is_imported_late_and_pyplot_never(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; import pandas as pd; from brainpretrain.report.figures.training import loss_curves;"
        "assert 'matplotlib' not in sys.modules;"
        "loss_curves(pd.DataFrame({'step': [1, 2], 'loss': [1.0, 0.5]}), Path(sys.argv[1]));"
        "assert 'matplotlib.pyplot' not in sys.modules and 'torch' not in sys.modules"
    )
    source = str(ROOT / "src")
    command = [sys.executable, "-c", code, "loss.svg"]
    done = subprocess.run(command, env={"PYTHONPATH": source, "HOME": str(tmp_path)}, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_the_users_style_is_neither_used_nor_changed(tmp_path: Path) -> None:
    import matplotlib

    loss_curves(log(), tmp_path / "a.svg")
    with matplotlib.rc_context({"lines.linewidth": 9, "font.size": 30}):
        loss_curves(log(), tmp_path / "b.svg")
        assert matplotlib.rcParams["font.size"] == 30
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="pdf"):
        loss_curves(log(), tmp_path / "loss.pdf")
    assert not list(tmp_path.iterdir())
