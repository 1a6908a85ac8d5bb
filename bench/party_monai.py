"""MONAI's transforms as a party, one at a time. Arguments: `patch`, `out`."""

from importlib.metadata import version
from pathlib import Path

import monai.transforms as monai
import torch

from harness import arguments, serve
from transforms import is_drawn, tasks

torch.set_num_threads(1)
GIVEN = arguments()
PATCH = (GIVEN["patch"],) * 3
SIGMA = 5  # of its elastic deformation, in voxels: with yucca's 25 one call takes 19 GB of memory (docs/benchmarks.md)


def _fixed(value):
    return (value, value)


def _spatial(p_deform, angles, factor, alpha, **others):
    common = {"spatial_size": PATCH, "mode": "bilinear", "padding_mode": "zeros"}
    if p_deform:
        return monai.Rand3DElastic(_fixed(SIGMA), _fixed(alpha), prob=1, **common)
    moves = {"rotate_range": [*map(_fixed, angles)], "scale_range": [_fixed(factor - 1)] * 3}
    return monai.RandAffine(prob=float(is_drawn(angles, factor)), **moves, **common)


def _low_resolution(target_shape):
    zooms = {n / side for n, side in zip(target_shape, PATCH, strict=True)}
    # it has one zoom for all axes
    return monai.RandSimulateLowResolution(prob=1, zoom_range=_fixed(zooms.pop())) if len(zooms) == 1 else None


BUILDERS = {
    "spatial": _spatial,
    "noise": lambda mean, sigma: monai.RandGaussianNoise(prob=1, mean=mean, std=sigma, sample_std=False),
    "blur": lambda sigma: monai.GaussianSmooth(sigma),
    "gibbs": lambda num_sample, axis: monai.GibbsNoise(1 - num_sample / PATCH[axis]),
    "low_resolution": _low_resolution,
    "bias_field": lambda: monai.RandBiasField(prob=1),
    "gamma": lambda gamma_range, epsilon: monai.AdjustContrast(sum(gamma_range) / 2),
}
serve(f"MONAI {version('monai')}", tasks(BUILDERS, Path(GIVEN["out"])))
