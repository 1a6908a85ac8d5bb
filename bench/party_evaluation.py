"""This project's metrics as a party. Arguments: `cases` (.npy of classes, spacing), `labels`, `tolerance_mm`."""

import numpy as np

from brainpretrain.evaluation import metrics
from harness import arguments, seconds, serve

GIVEN = arguments()
CASES = [(np.load(case["reference"]), np.load(case["prediction"]), case["spacing_mm"]) for case in GIVEN["cases"]]
TASK = {
    "labels": GIVEN["labels"],
    "lesions": [],
    "nsd_tolerance_mm": GIVEN["tolerance_mm"],
    "empty_masks": "nan",
    "hd95_missed_mm": None,
}


def _rows(case: int) -> list[dict]:
    return metrics.score(*CASES[case], TASK, ignored=255)


def score(case: int, way: str) -> float:
    """CPU seconds of all classes of a case."""
    return seconds(lambda: _rows(case))


def values(case: int, way: str) -> list[list[float]]:
    """Dice, HD95 in mm and NSD of each class."""
    return [[row["dice"], row["hd95_mm"], row["nsd"]] for row in _rows(case)]


serve("brainpretrain", {"score": score, "values": values})
