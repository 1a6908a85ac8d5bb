"""The cases that the report shows: worst, median and best by Dice, with image, reference and prediction on one grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.report import results


@dataclass(frozen=True)
class Overlay:
    """A case to show: image, reference and prediction (x y z) on one RAS grid, labels as integers, 0 = background.

    `pick` is the case's entry of `pick_cases`.
    """

    pick: Mapping[str, Any]
    image: np.ndarray
    reference: np.ndarray
    prediction: np.ndarray
    spacing_mm: Sequence[float]


def pick_cases(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Worst, median and best case by mean Dice over labels, of the runs in `scores`.

    Returns:
        up to three of {rank, task, cohort, backbone, init, recipe, n_train, fold, volume, dice}, worst first; cases
        without a defined Dice are left out; of an even number the median is the lower one.
    """
    cases = results.case_scores(results.check(scores), "dice").dropna(subset="dice").round({"dice": 6})
    cases = cases.sort_values(["dice", "volume", "fold"], ignore_index=True)
    last = len(cases) - 1
    places = {"worst": 0, "median": last // 2, "best": last}
    picked: dict[int, dict[str, Any]] = {}
    for rank in ("worst", "best", "median"):
        if last >= 0 and places[rank] not in picked:
            picked[places[rank]] = {"rank": rank} | cases.iloc[places[rank]].to_dict()
    return [picked[place] for place in sorted(picked)]
