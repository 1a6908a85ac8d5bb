from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from brainpretrain.report import trainings
from report_fixtures import PRETRAINED, spec

PLACE = "finetune/hippocampus/unet_b"


def log(losses: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})


def test_the_last_fifth_is_compared_with_the_whole_fall() -> None:
    found = trainings.last_fall([log([1.0, 1.0, 0.6, 0.5, 0.4, 0.4, 0.3, 0.3, 0.2, 0.2])])
    assert (found["first"], found["before_last"], found["last"]) == pytest.approx((1.0, 0.3, 0.2))
    assert found["left"] == pytest.approx(0.1 / 0.8)
    both = trainings.last_fall([log([2, 1, 1, 1, 0]), log([4, 1, 1, 1, 2])])
    assert (both["first"], both["last"]) == (3, 1)
    assert math.isnan(trainings.last_fall([log([1, 1, 1, 1, 2])])["left"])  # it did not fall
    assert math.isnan(trainings.last_fall([log([2, 1])])["left"])  # too short to say


def test_each_arm_says_whether_it_converged_and_which_rate_it_got() -> None:
    slow, fast = log(list(np.linspace(1, 0, 10))), log([1, 0.5, *[0.2] * 8])
    logs = {f"{PLACE}/scratch/amaes/n20/fold{fold}": slow for fold in (0, 1)}
    logs |= {f"{PLACE}/{PRETRAINED}/amaes/n20/fold0": fast}
    rates = {f"hippocampus/unet_b/scratch/amaes/n20/fold{f}": {"lr": lr, "at_edge": f == 1} for f, lr in ((0, 3e-4), (1, 1e-3))}
    grids = {"amaes": [1e-4, 3e-4, 1e-3]}
    lines = trainings.build(spec(), logs, rates, grids)
    assert lines["converged"].tolist() == ["no", "yes"] and lines["trainings"].tolist() == [2, 1]
    assert lines["rates"].tolist() == ["0.0003 in 1 fold, 0.001 in 1 fold", ""] and lines["at_edge"].tolist() == [1, 0]
    grid = trainings.grid(lines, spec(), grids)
    notes = " ".join(grid.notes)
    assert "may change with more" in notes and "of 0.0001, 0.0003, 0.001" in notes and "In 1 fold it is at the edge" in notes
    nothing = trainings.build(spec(), {}, {}, {})
    assert nothing["converged"].tolist() == ["not known"] * 2
    assert [cell.text for cell in trainings.grid(nothing, spec(), {}).rows[0][2:]] == [
        "0",
        "–",
        "–",
        "not known",
        "of the recipe",
    ]


def test_files_are_recognised_by_their_places() -> None:
    assert trainings.key_of_log("results/x/finetune/t/b/i/r/n20/fold0-seed1/log.csv") == "finetune/t/b/i/r/n20/fold0-seed1"
    assert trainings.key_of_rate("results/x/learning_rates/t/b/i/r/n20/fold0.json") == "t/b/i/r/n20/fold0"


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        (
            {"val_loss_hidden": [0.05, 0.02], "val_loss_mean": [0.03, 0.03]},
            "voxels 0.0200, of the mean of the visible voxels around 0.0300.",
        ),
        ({"val_loss_hidden": [0.05, 0.0366], "val_loss_mean": [0.03, 0.0311]}, "It is no better, so its arms say little"),
        ({"val_loss_hidden": [0.05, np.nan], "val_loss_mean": [0.03, np.nan]}, "hidden voxels 0.0500"),
        ({"val_loss": [0.05, 0.02]}, "was not compared with the local mean"),
        ({"val_loss": [0.9, 0.7], "val_loss_mean": [1.1, 1.1]}, "error of the reconstruction 0.7000, of the mean of the visible"),
        (
            {"val_loss": [9.0, 8.0], "val_loss_reconstruction": [0.05, 0.04], "val_loss_mean": [0.03, 0.03]},
            "reconstruction 0.0400, of the mean of the visible voxels around 0.0300. It is no better",
        ),
    ],
)
def test_a_pretraining_is_compared_with_the_local_mean(columns: dict[str, list[float]], words: str) -> None:
    said = trainings.sanity("ixi/amaes/unet", pd.DataFrame({"step": [1, 2], **columns}))
    assert said.startswith("Pretraining ixi/amaes/unet: ") and words in said
    grid = trainings.grid(trainings.build(spec(), {}, {}, {}), spec(), {}, [said])
    assert said in (grid.warnings if "no better" in said else grid.notes)
