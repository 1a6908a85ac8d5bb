"""The reference pipeline as a party: yucca's transforms with AMAES' probabilities, order and crop; 1.1.7 or later.

Arguments: `volumes` (float32 .npy each), `patch`, `crop`, `out`. As AMAES does it: the volume is opened memory-mapped, cropped to
181 voxels for 128, moved, copied to the target, and the intensity transforms are applied to the input.
"""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

if not version("yucca").startswith("1."):
    import torchvision_names  # noqa: F401 - before what needs torchvision
from yucca.functional import transforms as functional
from yucca.modules.data.augmentation import transforms
from yucca.modules.data.augmentation.transforms.cropping_and_padding import CropPad

import amaes_training
from harness import arguments, seconds, serve

torch.set_num_threads(1)
np.random.seed(0)
GIVEN = arguments()
PATCH, CROP, OUT = (GIVEN["patch"],) * 3, (GIVEN["crop"],) * 3, Path(GIVEN["out"])
VOLUMES = GIVEN["volumes"]
MEMORY = [np.load(path)[None] for path in VOLUMES]
CLIP = {"clip_to_input_range": True}
TURN = (-30.0, 30.0)
TRAINING: list[amaes_training.Training] = []
CUT = CropPad(patch_size=CROP)
PIPELINE = [
    transforms.AddBatchDimension(),
    transforms.Spatial(
        patch_size=PATCH, crop=True, random_crop=False, cval="min", order=3, skip_label=True,
        p_deform_per_sample=0.33, deform_sigma=(20, 30), deform_alpha=(200, 600),
        p_rot_per_sample=0.2, p_rot_per_axis=0.66, x_rot_in_degrees=TURN, y_rot_in_degrees=TURN, z_rot_in_degrees=TURN,
        p_scale_per_sample=0.2, scale_factor=(0.9, 1.1), **CLIP,
    ),
    transforms.CopyImageToLabel(copy=True),
    transforms.AdditiveNoise(p_per_sample=0.2, mean=(0.0, 0.0), sigma=(1e-3, 1e-4), **CLIP),
    transforms.Blur(p_per_sample=0.2, p_per_channel=0.5, sigma=(0.0, 1.0), **CLIP),
    transforms.MultiplicativeNoise(p_per_sample=0.2, mean=(0.0, 0.0), sigma=(1e-3, 1e-4), **CLIP),
    transforms.MotionGhosting(p_per_sample=0.2, alpha=(0.85, 0.95), num_reps=(2, 11), axes=(0, 3), **CLIP),
    transforms.GibbsRinging(p_per_sample=0.2, cut_freq=(96, 129), axes=(0, 3), **CLIP),
    transforms.SimulateLowres(p_per_sample=0.2, p_per_channel=0.5, p_per_axis=0.33, zoom_range=(0.5, 1.0), **CLIP),
    transforms.BiasField(p_per_sample=0.33, **CLIP),
    transforms.Gamma(p_per_sample=0.2, p_invert_image=0.05, gamma_range=(0.5, 2.0), **CLIP),
    transforms.RemoveBatchDimension(),
    transforms.NumpyToTorch(label_dtype=torch.float32),
]  # fmt: skip


def _sample(volume: np.ndarray) -> dict[str, torch.Tensor]:
    sample = CUT({"image": volume}, {"foreground_locations": []})
    for transform in PIPELINE:
        sample = transform(sample)
    return sample


def augmented(first: int, count: int) -> list[float]:
    """Seconds of samples from disk to tensor."""
    paths = [VOLUMES[n % len(VOLUMES)] for n in range(first, first + count)]
    return [seconds(lambda path=path: _sample(np.load(path, mmap_mode="r")[None])) for path in paths]


def augmented_from_memory(first: int, count: int) -> list[float]:
    """Seconds of samples from a volume in memory to tensor."""
    return [seconds(lambda n=n: _sample(MEMORY[n % len(MEMORY)])) for n in range(first, first + count)]


def network(**options: Any) -> int:
    """Begins a training of AMAES' network; returns its parameters."""
    TRAINING.append(amaes_training.Training(**options))
    return TRAINING[-1].parameters()


def trained(first: int, steps: int, batch: int) -> dict[str, float]:
    """Seconds of steps on samples from disk: of making the samples, and of all."""
    made = stepped = 0.0
    for step in range(steps):
        samples: list = []
        numbers = range(first + step * batch, first + (step + 1) * batch)
        paths = [VOLUMES[n % len(VOLUMES)] for n in numbers]
        made += seconds(lambda s=samples, p=paths: s.extend(_sample(np.load(path, mmap_mode="r")[None]) for path in p))
        stepped += seconds(lambda s=samples: TRAINING[-1].step(s))
    return {"samples": made, "all": made + stepped}


def _spatial(x, p_rot, p_scale, p_deform, angles, factor, alpha, sigma):
    return functional.spatial(
        x[None, None], PATCH, p_deform, p_rot, 1.0, p_scale, alpha, sigma, *angles, factor,
        clip_to_input_range=True, do_crop=True, random_crop=False, order=3, cval="min",
    )[0][0, 0]  # fmt: skip


FUNCTIONS = {
    "spatial": _spatial,
    "noise": functional.additive_noise,
    "blur": functional.blur,
    "multiplicative_noise": functional.multiplicative_noise,
    "ghosting": functional.motion_ghosting,
    "gibbs": functional.gibbs_ringing,
    "low_resolution": functional.simulate_lowres,
    "bias_field": functional.bias_field,
    "gamma": functional.augment_gamma,
}


def one(transform: str, source: str, numbers: dict, seed: int) -> float:
    """Seconds of a transform with these numbers; the result is left in `out`. The seed determines yucca's own draws."""
    x = np.load(source)
    x = x.astype(float) if transform == "spatial" else x  # the crop is in double precision, the patch is not
    clip = {} if transform == "spatial" else CLIP
    np.random.seed(seed)
    result = []
    taken = seconds(lambda: result.append(FUNCTIONS[transform](x.copy() if transform != "spatial" else x, **numbers, **clip)))
    np.save(OUT, result[0].astype(np.float32))
    return taken


def has(transform: str, numbers: dict) -> bool:
    """Whether it has this transform."""
    return transform in FUNCTIONS


TASKS = {
    "has": has,
    "augmented": augmented,
    "augmented_from_memory": augmented_from_memory,
    "one": one,
    "network": network,
    "trained": trained,
}
serve(f"yucca {version('yucca')}", TASKS)
