"""torchio's transforms as a party: one at a time, and those it has with AMAES' probabilities.

Arguments: `volumes`, `patch`, `out`. Its rotation, scaling and deformation keep the grid of their input, so they run on the
patch; what comes from beyond it is filled. It has no multiplicative noise and no Gibbs ringing.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import SimpleITK
import torch
import torchio as tio

from harness import arguments, patch_box, seconds, serve
from transforms import centre, is_drawn, tasks

torch.set_num_threads(1)
torch.manual_seed(0)
SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
GIVEN = arguments()
PATCH = (GIVEN["patch"],) * 3
LOG2 = float(np.log(2))
MEMORY = [torch.from_numpy(np.pad(np.load(path), GIVEN["patch"] // 2))[None] for path in GIVEN["volumes"]]
SPATIAL = tio.Compose(
    [
        tio.RandomElasticDeformation(p=0.33),
        tio.RandomAffine(scales=0, degrees=30, p=0.2),
        tio.RandomAffine(scales=0.1, degrees=0, isotropic=True, p=0.2),
    ]
)
INTENSITY = tio.Compose(
    [
        tio.RandomNoise(std=(1e-4, 1e-3), p=0.2),
        tio.RandomBlur(std=(0, 1), p=0.1),
        tio.RandomGhosting(num_ghosts=(2, 10), intensity=(0.05, 0.15), p=0.2),
        tio.RandomAnisotropy(downsampling=(1, 2), p=0.1),
        tio.RandomBiasField(p=0.33),
        tio.RandomGamma(log_gamma=(-LOG2, LOG2), p=0.2),
    ]
)


def _sample(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Image and target: the target only takes part in spatial transforms."""
    volume = MEMORY[number % len(MEMORY)]
    patch = volume[(slice(None), *patch_box(number, volume.shape[1:], PATCH))].clone()
    moved = SPATIAL(patch)
    return INTENSITY(moved), moved


def augmented_from_memory(first: int, count: int) -> list[float]:
    """Seconds of samples from a volume in memory to tensor."""
    return [seconds(lambda n=n: _sample(n)) for n in range(first, first + count)]


def _spatial(p_deform, angles, factor, **others):
    if p_deform:
        move = tio.RandomElasticDeformation(p=1)
    else:
        degrees = [float(angle) for angle in np.degrees(angles)]
        move = tio.RandomAffine(
            scales=[1 / factor] * 6, degrees=[angle for angle in degrees for _ in range(2)], p=float(is_drawn(angles, factor))
        )
    return lambda image: move(centre(image, PATCH))


def _low_resolution(target_shape):
    axes = [axis for axis, (n, side) in enumerate(zip(target_shape, PATCH, strict=True)) if n < side]
    factor = PATCH[0] / min(target_shape)
    return tio.RandomAnisotropy(axes=tuple(axes), downsampling=(factor, factor)) if len(axes) == 1 else None


BUILDERS = {
    "spatial": _spatial,
    "noise": lambda mean, sigma: tio.RandomNoise(mean=(mean, mean), std=(sigma, sigma)),
    "blur": lambda sigma: tio.RandomBlur(std=(sigma, sigma)),
    "ghosting": lambda alpha, num_reps, axis: tio.RandomGhosting(
        num_ghosts=(num_reps, num_reps), axes=(axis,), intensity=(1 - alpha, 1 - alpha)
    ),
    "low_resolution": _low_resolution,
    "bias_field": lambda: tio.RandomBiasField(),
    "gamma": lambda gamma_range, epsilon: tio.RandomGamma(log_gamma=(float(np.log(sum(gamma_range) / 2)),) * 2),
}
TASKS = {"augmented_from_memory": augmented_from_memory, **tasks(BUILDERS, Path(GIVEN["out"]))}
serve(f"torchio {version('torchio')}", TASKS)
