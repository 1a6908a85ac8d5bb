"""Yucca's evaluation as a party: the confusion matrix of scikit-learn and yucca's copy of the surface metrics.

Arguments as in party_evaluation.py. Yucca scores surfaces label by label on whole masks, at a tolerance of 1 mm. It does
not report HD95: here it is computed from the distances of its surface Dice, at almost no cost.
"""

from importlib.metadata import version

import numpy as np
import torch
from sklearn.metrics import confusion_matrix

from harness import arguments, seconds, serve

# an index may bring a torchvision whose compiled operators do not fit this torch; none is used, but all must be declared
OPERATORS = torch.library.Library("torchvision", "FRAGMENT")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor boxes, Tensor scores, float iou_threshold) -> Tensor")

from yucca.functional.evaluation.deepmind_surface_distance import metrics  # noqa: E402

GIVEN = arguments()
CASES = [(np.load(case["reference"]), np.load(case["prediction"]), case["spacing_mm"]) for case in GIVEN["cases"]]
CLASSES = len(GIVEN["labels"]) + 1


def _scores(case: int) -> list[list[float]]:
    reference, prediction, spacing_mm = CASES[case]
    pairs = confusion_matrix(reference.ravel(), prediction.ravel(), labels=list(range(CLASSES)))
    found = []
    for label in range(1, CLASSES):
        hit, missed, false = pairs[label, label], pairs[label].sum(), pairs[:, label].sum()
        distances = metrics.compute_surface_distances(
            mask_gt=np.where(reference == label, 1, 0).astype(bool),
            mask_pred=np.where(prediction == label, 1, 0).astype(bool),
            spacing_mm=spacing_mm,
        )
        nsd = metrics.compute_surface_dice_at_tolerance(surface_distances=distances, tolerance_mm=GIVEN["tolerance_mm"])
        found.append([2 * hit / (missed + false), metrics.compute_robust_hausdorff(distances, 95), nsd])
    return [[float(value) for value in row] for row in found]


def score(case: int, way: str) -> float:
    """CPU seconds of all classes of a case."""
    return seconds(lambda: _scores(case))


def values(case: int, way: str) -> list[list[float]]:
    """Dice, HD95 in mm and NSD of each class."""
    return _scores(case)


serve(f"yucca {version('yucca')}", {"score": score, "values": values})
