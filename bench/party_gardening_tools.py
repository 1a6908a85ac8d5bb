"""gardening_tools' transforms on tensors as a party: one at a time, and with AMAES' probabilities, order and crop.

Arguments: `volumes`, `patch`, `crop`, `out`. They are yucca's transforms on torch, trilinear instead of cubic. The numbers of its
elastic deformation mean something else (the kernel is cut at 9 voxels), so it keeps its own.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchvision_names  # noqa: F401 - before what needs torchvision

# isort: split
from gardening_tools.functional.transforms.sampling import torch_simulate_lowres
from gardening_tools.modules.transforms.bias_field import Torch_BiasField
from gardening_tools.modules.transforms.blur import Torch_Blur
from gardening_tools.modules.transforms.copy_image_to_label import Torch_CopyImageToLabel
from gardening_tools.modules.transforms.cropping_and_padding import Torch_CropPad
from gardening_tools.modules.transforms.gamma import Torch_Gamma
from gardening_tools.modules.transforms.motion_ghosting import Torch_MotionGhosting
from gardening_tools.modules.transforms.noise import Torch_AdditiveNoise, Torch_MultiplicativeNoise
from gardening_tools.modules.transforms.ringing import Torch_GibbsRinging
from gardening_tools.modules.transforms.sampling import Torch_SimulateLowres
from gardening_tools.modules.transforms.spatial import Torch_Spatial

from harness import arguments, seconds, serve
from transforms import tasks

torch.set_num_threads(1)
torch.manual_seed(0)
np.random.seed(0)
GIVEN = arguments()
PATCH, CROP = (GIVEN["patch"],) * 3, (GIVEN["crop"],) * 3
MEMORY = [torch.from_numpy(np.load(path))[None] for path in GIVEN["volumes"]]
CLIP = {"clip_to_input_range": True}
ONE = {"batched": False, **CLIP}
TURN = (-30.0, 30.0)
PIPELINE = [
    Torch_CropPad(patch_size=CROP),
    Torch_Spatial(
        patch_size=PATCH, crop=True, random_crop=False, skip_label=True, p_deform_all_channel=0.33,
        p_rot_all_channel=0.2, p_rot_per_axis=0.66, x_rot_in_degrees=TURN, y_rot_in_degrees=TURN, z_rot_in_degrees=TURN,
        p_scale_all_channel=0.2, scale_factor=(0.9, 1.1), **CLIP,
    ),
    Torch_CopyImageToLabel(copy=True),
    Torch_AdditiveNoise(p_per_channel=0.2, mean=(0.0, 0.0), sigma=(1e-3, 1e-4), **ONE),
    Torch_Blur(p_per_channel=0.1, sigma=(0.0, 1.0), **ONE),
    Torch_MultiplicativeNoise(p_per_channel=0.2, mean=(0.0, 0.0), sigma=(1e-3, 1e-4), **ONE),
    Torch_MotionGhosting(p_per_channel=0.2, alpha=(0.85, 0.95), num_reps=(2, 11), axes=(0, 3), **ONE),
    Torch_GibbsRinging(p_per_channel=0.2, cut_freq=(96, 129), axes=(0, 3), **ONE),
    Torch_SimulateLowres(p_per_channel=0.1, p_per_axis=0.33, zoom_range=(0.5, 1.0), **ONE),
    Torch_BiasField(p_per_channel=0.33, **ONE),
    Torch_Gamma(p_all_channel=0.2, p_invert_image=0.05, gamma_range=(0.5, 2.0), **ONE),
]  # fmt: skip


def _sample(volume: torch.Tensor) -> dict[str, Any]:
    sample = {"image": volume}
    for transform in PIPELINE:
        sample = transform(sample)
    return sample


def augmented_from_memory(first: int, count: int) -> list[float]:
    """Seconds of samples from a volume in memory to tensor."""
    return [seconds(lambda n=n: _sample(MEMORY[n % len(MEMORY)])) for n in range(first, first + count)]


def _run(transform):
    return lambda image: transform({"image": image})["image"]


def _fixed(value):
    return (value, value)


def _only(number):
    return (number, number + 1)


def _spatial(p_rot, p_scale, p_deform, angles, factor, **others):
    turns = {f"{axis}_rot_in_degrees": _fixed(angle) for axis, angle in zip("xyz", np.degrees(angles), strict=True)}
    return _run(
        Torch_Spatial(
            patch_size=PATCH, crop=True, random_crop=False, p_deform_all_channel=p_deform, p_rot_all_channel=p_rot,
            p_scale_all_channel=p_scale, scale_factor=_fixed(factor), **turns, **CLIP,
        )
    )  # fmt: skip


BUILDERS = {
    "spatial": _spatial,
    "noise": lambda mean, sigma: _run(Torch_AdditiveNoise(p_per_channel=1, mean=_fixed(mean), sigma=_fixed(sigma), **ONE)),
    "blur": lambda sigma: _run(Torch_Blur(p_per_channel=1, sigma=_fixed(sigma), **ONE)),
    "multiplicative_noise": lambda mean, sigma: _run(
        Torch_MultiplicativeNoise(p_per_channel=1, mean=_fixed(mean), sigma=_fixed(sigma), **ONE)
    ),
    "ghosting": lambda alpha, num_reps, axis: _run(
        Torch_MotionGhosting(p_per_channel=1, alpha=_fixed(alpha), num_reps=_only(num_reps), axes=_only(axis), **ONE)
    ),
    "gibbs": lambda num_sample, axis: _run(
        Torch_GibbsRinging(p_per_channel=1, cut_freq=_only(num_sample), axes=_only(axis), **ONE)
    ),
    "low_resolution": lambda target_shape: lambda image: torch_simulate_lowres(image[0], target_shape, **CLIP)[None],
    "bias_field": lambda: _run(Torch_BiasField(p_per_channel=1, **ONE)),
    "gamma": lambda gamma_range, epsilon: _run(
        Torch_Gamma(p_all_channel=1, p_invert_image=0, gamma_range=tuple(gamma_range), **ONE)
    ),
}
TASKS = {"augmented_from_memory": augmented_from_memory, **tasks(BUILDERS, Path(GIVEN["out"]))}
serve(f"gardening_tools {version('gardening_tools')}", TASKS)
