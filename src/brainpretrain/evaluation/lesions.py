"""Lesion-wise detection: connected components of a reference and of a prediction, and which of them overlap."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

COUNTS = ("lesions_reference", "lesions_predicted", "lesions_found", "lesions_true")
COLUMNS = (*COUNTS, "lesion_f1")
_TOUCHING = np.ones((3, 3, 3), bool)  # voxels that share a face, an edge or a corner belong to one lesion


def count(reference: np.ndarray, prediction: np.ndarray) -> dict[str, float]:
    """Lesion counts of both masks and lesion-wise F1, as defined by the WMH Segmentation Challenge (Kuijf et al. 2019).

    A lesion is a 26-connected component of any size. One shared voxel is enough: a reference lesion that contains a
    predicted voxel is found, and a predicted lesion that contains a reference voxel is true. F1 is the harmonic mean of
    found / reference and true / predicted.

    Args:
        reference, prediction: bool (x, y, z), equal shapes.

    Returns:
        The keys of `COLUMNS`: lesions of the reference, lesions of the prediction, reference lesions found, predicted
        lesions that are true, and F1 in 0..1, which is 0 if nothing overlaps and NaN if neither mask has a lesion.
    """
    both = reference & prediction
    n_reference, n_found = _components(reference, both)
    n_predicted, n_true = _components(prediction, both)
    counts = (n_reference, n_predicted, n_found, n_true)
    return dict(zip(COLUMNS, (*counts, _f1(*counts)), strict=True))


def _components(mask: np.ndarray, both: np.ndarray) -> tuple[int, int]:
    """Number of components of a mask, and number of those that contain a voxel of `both`."""
    components, n = ndimage.label(mask, _TOUCHING)
    return n, len(np.unique(components[both]))


def _f1(n_reference: int, n_predicted: int, n_found: int, n_true: int) -> float:
    if not n_reference and not n_predicted:
        return math.nan
    if not n_found:
        return 0.0
    recall, precision = n_found / n_reference, n_true / n_predicted
    return 2 * precision * recall / (precision + recall)
