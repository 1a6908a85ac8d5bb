"""Lesions found, missed and made up: connected components of a reference and of a prediction, and which of them overlap."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

COUNTS = ("lesions_reference", "lesions_predicted", "lesions_found", "lesions_true")
COLUMNS = (*COUNTS, "lesion_f1")
_TOUCHING = np.ones((3, 3, 3), bool)  # voxels with a face, an edge or a corner in common are one lesion


def count(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Lesions of both masks, and lesion-wise F1, as the WMH Segmentation Challenge defines them (Kuijf et al. 2019).

    A lesion is a component of voxels that have a face, an edge or a corner in common (26 neighbours), of any size. One
    voxel in common is enough: a reference lesion with a predicted voxel is found, a predicted one with a reference
    voxel is true. F1 is the harmonic mean of found / reference and true / predicted.

    Args:
        reference, prediction: bool (x, y, z), equal shapes.

    Returns:
        By the names of `COLUMNS`: how many the reference has, the prediction has, of the former are found, of the latter
        are true; and F1 in 0..1, which is 0 where nothing overlaps and NaN where neither mask has a lesion.
    """
    both = reference & prediction
    n_reference, n_found = _components(reference, both)
    n_predicted, n_true = _components(prediction, both)
    counts = (n_reference, n_predicted, n_found, n_true)
    return dict(zip(COLUMNS, (*counts, _f1(*counts)), strict=True))


def _components(mask: np.ndarray, both: np.ndarray) -> tuple[int, int]:
    """How many components a mask has, and how many of them hold a voxel of `both`."""
    components, n = ndimage.label(mask, _TOUCHING)
    return n, len(np.unique(components[both]))


def _f1(n_reference: int, n_predicted: int, n_found: int, n_true: int) -> float:
    if not n_reference and not n_predicted:
        return math.nan
    if not n_found:
        return 0.0
    recall, precision = n_found / n_reference, n_true / n_predicted
    return 2 * precision * recall / (precision + recall)
