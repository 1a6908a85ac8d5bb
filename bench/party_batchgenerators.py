"""batchgeneratorsv2's transforms as a party, one at a time. Arguments: `patch`, `out`."""

from importlib.metadata import version
from pathlib import Path

import torch
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform

from harness import arguments, serve
from transforms import is_drawn, tasks

torch.set_num_threads(1)
GIVEN = arguments()
PATCH = (GIVEN["patch"],) * 3
VOXELS = 0.5  # largest displacement: its magnitude is in voxels, yucca's is not


def _run(transform):
    return lambda image: transform(image=image)["image"]


def _spatial(p_deform, angles, factor, sigma, **others):
    moved = float(is_drawn(angles, factor))
    return _run(
        SpatialTransform(
            PATCH, 0, random_crop=False, p_elastic_deform=p_deform, elastic_deform_scale=sigma / PATCH[0],
            elastic_deform_magnitude=VOXELS, p_synchronize_def_scale_across_axes=1,
            p_rotation=moved, rotation=lambda image, dim: angles[dim], p_scaling=moved, scaling=factor,
            p_synchronize_scaling_across_axes=1,
        )
    )  # fmt: skip


def _low_resolution(target_shape):
    scales = [n / side for n, side in zip(target_shape, PATCH, strict=True)]
    return _run(SimulateLowResolutionTransform(lambda image, channel, dim: scales[dim], True, False, None))


BUILDERS = {
    "spatial": _spatial,
    "noise": lambda mean, sigma: _run(GaussianNoiseTransform(sigma)),
    "blur": lambda sigma: _run(GaussianBlurTransform(sigma)),
    "low_resolution": _low_resolution,
    "gamma": lambda gamma_range, epsilon: _run(GammaTransform(tuple(gamma_range), 0, False, 1, 0)),
}
serve(f"batchgeneratorsv2 {version('batchgeneratorsv2')}", tasks(BUILDERS, Path(GIVEN["out"])))
