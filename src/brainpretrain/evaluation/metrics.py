"""Agreement of a segmentation with its reference, per case and label. docs/evaluation.md defines every metric."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import ndimage

from brainpretrain.errors import UserError
from brainpretrain.evaluation import lesions, surfaces
from brainpretrain.preprocess.volumes import memory_order

COLUMNS = (
    "label", "dice", "nsd", "hd95_mm", "volume_error", "reference_ml", "predicted_ml", "lesions_reference",
    "lesions_predicted", "lesions_found", "lesions_true", "lesion_f1", "dice_with_background", "true_positives",
    "false_positives", "false_negatives", "reference_voxels", "predicted_voxels", "status",
)  # fmt: skip
_BOTH_EMPTY = {"nan": (math.nan, math.nan), "one": (1.0, 0.0)}  # a score in 0..1, and a distance in mm


def score(
    reference: np.ndarray, prediction: np.ndarray, spacing_mm: Sequence[float], task: Mapping[str, Any], ignored: int
) -> list[dict[str, Any]]:
    """All metrics of one case: for each label of the task a row with the keys of `COLUMNS`.

    Args:
        reference, prediction: classes (x, y, z), integers: 0 is background, n is the n-th label of the task.
        spacing_mm: distance of voxels along x, y, z.
        task: `labels` (their order is that of the classes), `lesions`, `nsd_tolerance_mm`, `empty_masks` and
            `hd95_missed_mm`, as in `config.Task`.
        ignored: voxels where the reference has this value are not counted and belong to no mask.

    Returns:
        `status` is `ok`, `both_empty`, `reference_empty` or `prediction_empty`. An undefined value is NaN; so are the
        five lesion columns of a label that is not in `task["lesions"]`.

    Raises:
        UserError: shapes differ, values are negative or not integers, or `empty_masks` is unknown.
    """
    _check(reference, prediction, task["empty_masks"])
    order = memory_order(reference)  # the order of axes changes the speed, but no metric
    reference, prediction = reference.transpose(order), prediction.transpose(order)
    spacing_mm = [spacing_mm[axis] for axis in order]
    left_out = reference == ignored
    n_ignored = np.count_nonzero(left_out)
    if n_ignored:
        reference, prediction = (np.where(left_out, 0, array) for array in (reference, prediction))
    pairs = _count_pairs(reference, prediction, len(task["labels"]))
    pairs[0, 0] -= n_ignored
    boxes = _boxes(reference, prediction, len(task["labels"]))
    rows = []
    for number, (label, box) in enumerate(zip(task["labels"], boxes, strict=True), start=1):
        masks = reference[box] == number, prediction[box] == number
        row = _volumes(pairs, number, math.prod(spacing_mm) / 1000)
        row |= _overlap(row, masks, spacing_mm, task)
        row |= _lesions(row, masks, task) if label in task["lesions"] else dict.fromkeys(lesions.COLUMNS, math.nan)
        row |= {"label": label, "dice_with_background": _dice_with_background(pairs)}
        rows.append({name: row[name] for name in COLUMNS})
    return rows


def _check(reference: np.ndarray, prediction: np.ndarray, empty_masks: str) -> None:
    if empty_masks not in _BOTH_EMPTY:
        raise UserError(f"unknown policy '{empty_masks}'", where="empty_masks", fix=f"use one of {sorted(_BOTH_EMPTY)}")
    if reference.shape != prediction.shape:
        raise UserError(
            f"reference {reference.shape} and prediction {prediction.shape} differ in shape", fix="bring both to one grid"
        )
    for array, name in ((reference, "reference"), (prediction, "prediction")):
        if array.dtype.kind not in "iu":
            raise UserError(f"the {name} has {array.dtype} values instead of integer labels", fix="round it first")
        if array.dtype.kind == "i" and array.min() < 0:
            raise UserError(f"the {name} has a negative label", fix="map it to a class first")


def _count_pairs(reference: np.ndarray, prediction: np.ndarray, largest: int) -> np.ndarray:
    """Number of voxels for each (reference, prediction) pair of labels; values above `largest` share one row and column."""
    side = largest + 2
    small = np.min_scalar_type(side * side - 1)  # few bytes, since memory traffic takes the time
    pairs = np.minimum(reference, side - 1).astype(small) * small.type(side)
    pairs += np.minimum(prediction, side - 1).astype(small)
    return np.bincount(pairs.ravel(), minlength=side * side).reshape(side, side)


def _boxes(reference: np.ndarray, prediction: np.ndarray, largest: int) -> list[tuple[slice, ...]]:
    """For each label from 1, the smallest box that contains it in both arrays; one voxel if it is in neither array."""
    by_array = [ndimage.find_objects(array, largest) for array in (reference, prediction)]
    boxes = []
    for both in zip(*by_array, strict=True):
        parts = [box for box in both if box] or [(slice(0, 1),) * 3]
        boxes.append(tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*parts, strict=True)))
    return boxes


def _volumes(pairs: np.ndarray, number: int, voxel_ml: float) -> dict[str, Any]:
    """Voxel counts and volumes of a label, and the status of its masks."""
    overlap, reference, prediction = int(pairs[number, number]), int(pairs[number].sum()), int(pairs[:, number].sum())
    empty = {(False, False): "both_empty", (False, True): "reference_empty", (True, False): "prediction_empty"}
    return {
        "true_positives": overlap,
        "false_positives": prediction - overlap,
        "false_negatives": reference - overlap,
        "reference_voxels": reference,
        "predicted_voxels": prediction,
        "reference_ml": reference * voxel_ml,
        "predicted_ml": prediction * voxel_ml,
        "volume_error": (prediction - reference) / reference if reference else math.nan,
        "status": empty.get((reference > 0, prediction > 0), "ok"),
    }


def _overlap(
    row: Mapping[str, Any], masks: tuple[np.ndarray, np.ndarray], spacing_mm: Sequence[float], task: Mapping[str, Any]
) -> dict[str, float]:
    """Dice, NSD and HD95 of a label, including their values for empty masks."""
    if row["status"] == "both_empty":
        value, distance_mm = _BOTH_EMPTY[task["empty_masks"]]
        return {"dice": value, "nsd": value, "hd95_mm": distance_mm}
    if row["status"] != "ok":
        missed_mm = task["hd95_missed_mm"]
        return {"dice": 0.0, "nsd": 0.0, "hd95_mm": math.nan if missed_mm is None else missed_mm}
    return {
        "dice": 2 * row["true_positives"] / (row["reference_voxels"] + row["predicted_voxels"]),
        "nsd": surfaces.nsd(*masks, spacing_mm, task["nsd_tolerance_mm"]),
        "hd95_mm": surfaces.hd95_mm(*masks, spacing_mm),
    }


def _lesions(row: Mapping[str, Any], masks: tuple[np.ndarray, np.ndarray], task: Mapping[str, Any]) -> dict[str, float]:
    counts = lesions.count(*masks)
    return counts | ({"lesion_f1": _BOTH_EMPTY[task["empty_masks"]][0]} if row["status"] == "both_empty" else {})


def _dice_with_background(pairs: np.ndarray) -> float:
    """Mean Dice over the background and the labels that the reference contains (MONAI's DiceMetric with its defaults)."""
    overlap, reference, prediction = (counts[:-1] for counts in (pairs.diagonal(), pairs.sum(1), pairs.sum(0)))
    present = reference > 0
    return float(np.mean(2 * overlap[present] / (reference + prediction)[present])) if present.any() else math.nan
