"""Agreement of a segmentation with the reference, per case and label."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from brainpretrain.errors import UserError

_BOTH_EMPTY = {"nan": math.nan, "one": 1.0}


def dice_per_label(
    reference: np.ndarray, prediction: np.ndarray, labels: Sequence[int], empty: str = "nan"
) -> list[dict[str, Any]]:
    """Dice = 2 tp / (2 tp + fp + fn) in 0..1 of each label, from one pass over the voxels.

    Args:
        reference: integer labels, any shape.
        prediction: integer labels, the same shape.
        labels: label values to score; others take part as 'not this label'.
        empty: Dice where neither array holds the label: `nan` leaves such a case out of means, `one` calls it right.

    Returns:
        One row per label: label, dice, tp, fp, fn, reference_voxels, prediction_voxels and status: `ok`, `both_empty`,
        `reference_empty` (Dice 0: all predicted voxels are wrong) or `prediction_empty` (Dice 0).

    Raises:
        UserError: shapes differ, labels are negative or no integers, or `empty` is unknown.
    """
    if empty not in _BOTH_EMPTY:
        raise UserError(f"unknown policy '{empty}'", where="empty", fix=f"use one of {sorted(_BOTH_EMPTY)}")
    if reference.shape != prediction.shape:
        raise UserError(
            f"reference {reference.shape} and prediction {prediction.shape} differ in shape", fix="bring both to one grid"
        )
    pairs = _count_pairs(_integers(reference, "reference"), _integers(prediction, "prediction"), max(labels, default=0))
    in_reference, in_prediction = pairs.sum(1), pairs.sum(0)
    return [_row(label, int(pairs[label, label]), int(in_reference[label]), int(in_prediction[label]), empty) for label in labels]


def _integers(array: np.ndarray, name: str) -> np.ndarray:
    if array.dtype.kind not in "iub":
        raise UserError(f"the {name} holds {array.dtype}, no integer labels", fix="round it first")
    if array.size and array.min() < 0:
        raise UserError(f"the {name} holds a negative label", fix="map it to a class first")
    return array.ravel()


def _count_pairs(reference: np.ndarray, prediction: np.ndarray, largest: int) -> np.ndarray:
    """How often each (reference, prediction) pair of labels occurs, by one bincount; values above `largest` are pooled."""
    side = largest + 2
    small = np.min_scalar_type(side * side - 1)  # few bytes, since this is all memory traffic
    pairs = np.minimum(reference, side - 1).astype(small) * small.type(side)
    pairs += np.minimum(prediction, side - 1).astype(small)
    return np.bincount(pairs, minlength=side * side).reshape(side, side)


def _row(label: int, overlap: int, reference: int, prediction: int, empty: str) -> dict[str, Any]:
    if reference == 0 and prediction == 0:
        status, dice = "both_empty", _BOTH_EMPTY[empty]
    else:
        status = "reference_empty" if reference == 0 else "prediction_empty" if prediction == 0 else "ok"
        dice = 2 * overlap / (reference + prediction)
    return {
        "label": label,
        "dice": dice,
        "tp": overlap,
        "fp": prediction - overlap,
        "fn": reference - overlap,
        "reference_voxels": reference,
        "prediction_voxels": prediction,
        "status": status,
    }
