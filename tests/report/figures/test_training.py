from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from brainpretrain.report.figures.training import loss_curves
from figure_fixtures import log, svg_text


def test_loss_curves_of_a_pretraining(tmp_path: Path) -> None:
    loss_curves(log(), tmp_path / "loss.svg", "amaes on ixi")
    text = svg_text(tmp_path / "loss.svg")
    for expected in (
        "amaes on ixi",
        "training loss",
        "validation loss",
        "predicting zero (validation)",
        "predicting the local mean (training)",
        "Learning rate",
        "Patches per second",
        "Time waiting for data (%)",
        "Peak memory (GB)",
    ):
        assert expected in text
    assert "Validation Dice" not in text


def test_the_loss_next_to_the_baselines_is_the_loss_at_hidden_voxels(tmp_path: Path) -> None:
    everywhere = log()[["step", "loss", "val_loss", "loss_zero"]]
    hidden = everywhere.assign(loss_hidden=everywhere["loss"], val_loss_hidden=everywhere["val_loss"])
    loss_curves(everywhere, tmp_path / "everywhere.svg")
    loss_curves(hidden.assign(loss=9.0, val_loss=9.0), tmp_path / "hidden.svg")
    axes_and_words = svg_text(tmp_path / "hidden.svg")
    assert axes_and_words.replace("Loss at hidden voxels", "Loss") == svg_text(tmp_path / "everywhere.svg")


def test_loss_curves_of_a_fine_tuning(tmp_path: Path) -> None:
    loss_curves(log()[["step", "loss", "lr"]].assign(val_dice=0.8), tmp_path / "loss.svg")
    text = svg_text(tmp_path / "loss.svg")
    assert "Validation Dice x 100" in text
    assert "predicting zero" not in text and "mean" not in text
    classes = log()[["step", "loss"]].assign(val_dice=0.7, val_dice_oedema=0.8, val_dice_core=0.6)
    loss_curves(classes, tmp_path / "classes.svg")
    assert all(name in svg_text(tmp_path / "classes.svg") for name in ("oedema", "core", "mean"))
    assert "Patches per second" not in text


def test_every_further_column_of_a_log_has_a_panel(tmp_path: Path) -> None:
    """Of SwinUNETR: the parts of its loss, as in AMAES Figure 3; of another pretext whatever it logs."""
    parts = {"loss_rotation": 1.4, "val_loss_rotation": 1.5, "loss_contrast": 2.0, "val_accuracy": 0.25, "loss_empty": np.nan}
    loss_curves(log().assign(**parts), tmp_path / "loss.svg")
    text = svg_text(tmp_path / "loss.svg")
    assert all(name in text for name in ("loss rotation", "loss contrast", "accuracy", "training loss"))
    assert "loss empty" not in text and "epoch" not in text


@pytest.mark.parametrize("columns", [["step"], ["step", "lr"], ["step", "loss"]])
def test_loss_curves_of_a_short_or_bare_log(columns: list[str], tmp_path: Path) -> None:
    loss_curves(log(1)[columns], tmp_path / "loss.svg")
    assert ("no loss was logged" in svg_text(tmp_path / "loss.svg")) == ("loss" not in columns)


def test_a_log_that_diverged_is_drawn(tmp_path: Path) -> None:
    loss_curves(log().assign(loss=[np.inf] * 10 + [np.nan] * 10), tmp_path / "loss.svg")


def test_a_long_log_stays_a_small_file_and_says_so(tmp_path: Path) -> None:
    loss_curves(log(5000), tmp_path / "loss.svg")
    assert (tmp_path / "loss.svg").stat().st_size < 150_000
    assert "each point is the mean of 13 lines of the log" in svg_text(tmp_path / "loss.svg")
