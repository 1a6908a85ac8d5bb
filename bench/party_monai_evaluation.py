"""MONAI's metrics as a party. Arguments as in party_evaluation.py.

`way`: "subvoxels" is the NSD on sub-voxel surfaces, weighted by area, as here; "default" that of MONAI, which counts edge voxels.
"""

from importlib.metadata import version

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance, compute_surface_dice
from monai.networks.utils import one_hot

from harness import arguments, seconds, serve

torch.set_num_threads(1)
GIVEN = arguments()
CASES = [(np.load(case["reference"]), np.load(case["prediction"]), case["spacing_mm"]) for case in GIVEN["cases"]]
CLASSES = len(GIVEN["labels"]) + 1


def _scores(case: int, way: str) -> list[list[float]]:
    reference, prediction = (
        one_hot(torch.from_numpy(array)[None, None], CLASSES, dtype=torch.uint8) for array in CASES[case][:2]
    )
    spacing_mm, tolerances_mm = CASES[case][2], [GIVEN["tolerance_mm"]] * (CLASSES - 1)
    dice = compute_dice(prediction, reference, include_background=False)
    hd95 = compute_hausdorff_distance(prediction, reference, percentile=95, spacing=spacing_mm)
    nsd = compute_surface_dice(prediction, reference, tolerances_mm, spacing=spacing_mm, use_subvoxels=way == "subvoxels")
    return torch.stack([dice[0], hd95[0], nsd[0]], 1).double().tolist()


def score(case: int, way: str) -> float:
    """CPU seconds of all classes of a case."""
    return seconds(lambda: _scores(case, way))


def values(case: int, way: str) -> list[list[float]]:
    """Dice, HD95 in mm and NSD of each class."""
    return _scores(case, way)


serve(f"MONAI {version('monai')}", {"score": score, "values": values})
