"""Slices of one volume before and after each transform of a policy, for people to look at."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from brainpretrain.augment import intensity
from brainpretrain.augment.boxes import crop_box
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.augment.policy import Draws, Policy

SPATIAL = ("rotation", "scale", "elastic", "mirror")


class Picture(NamedTuple):
    """The middle axial slice of a patch (x y), before and after."""

    name: str
    words: str  # the drawn numbers
    before: np.ndarray
    after: np.ndarray


def pictures(config: PolicyConfig, volume: np.ndarray, patch_size: Sequence[int], seed: int) -> list[Picture]:
    """Each transform of a policy alone, with probability 1, on the patch in the middle of a volume (x y z) in [0, 1]."""
    names = [name for name in (*SPATIAL, *intensity.TRANSFORMS) if getattr(config, name)]
    plain = [_picture("nothing drawn", _only(config), volume, patch_size, seed)] if config.resample_always else []
    return plain + [_picture(name.replace("_", " "), _only(config, name), volume, patch_size, seed) for name in names]


def _only(config: PolicyConfig, name: str = "") -> Policy:
    """The policy with one of its transforms; an intensity transform comes without the resampling of `resample_always`."""
    changes: dict[str, Any] = dict.fromkeys((*SPATIAL, *intensity.TRANSFORMS))
    if name:
        sure = dict.fromkeys({"p", "p_axis", "p_channel"} & type(getattr(config, name)).model_fields.keys(), 1.0)
        changes[name] = getattr(config, name).model_copy(update=sure)
    if name in intensity.TRANSFORMS:
        changes["resample_always"] = False
    return Policy(config.model_copy(update=changes))


def _picture(name: str, policy: Policy, volume: np.ndarray, patch_size: Sequence[int], seed: int) -> Picture:
    drawn = policy.draw(seed, 1, patch_size)
    start = [(n - p) // 2 for n, p in zip(volume.shape, patch_size, strict=True)]
    patch, read = (_read(volume, start, box) for box in (tuple((0, n) for n in patch_size), drawn.box))
    after = policy.apply([torch.from_numpy(read)[None]], [drawn])[0][0, 0].numpy()
    middle = patch_size[2] // 2
    return Picture(name, _words(drawn), patch[..., middle], after[..., middle])


def _read(volume: np.ndarray, start: Sequence[int], ranges: Sequence[tuple[int, int]]) -> np.ndarray:
    box, padding = crop_box(start, ranges, volume.shape)
    return np.pad(volume[box], padding)


def _words(drawn: Draws) -> str:
    """The drawn numbers in a few words."""
    words = []
    if drawn.move:
        matrix, shift, centre = drawn.move
        factor = np.cbrt(np.linalg.det(matrix))
        turned = math.degrees(math.acos(min(1.0, (np.trace(matrix / factor) - 1) / 2)))
        off = float(np.abs(centre - (np.array(drawn.size) - 1) / 2).max())
        words += [f"by {turned:.0f}°"] if turned > 0.1 else []
        words += [f"reads {factor:.2f} times the extent"] if abs(factor - 1) > 1e-6 else []
        words += [f"shifts up to {np.abs(shift).max():.2f} voxels"] if shift is not None else []
        words += [f"{off:g} voxels off the grid"] if off else []
    words += ["along " + " ".join("xyz"[axis] for axis in drawn.flips)] if drawn.flips else []
    words += [_SAYS[name](numbers) for name, numbers in drawn.intensity.items()]
    return ", ".join(words) or "nothing to do"


def _kspace(numbers: dict[str, Any]) -> str:
    ((axis, gains),) = numbers["lines"]
    along = f"along {'xyz'[axis]}"
    if gains.min() > 0:
        return f"{along}, every {np.flatnonzero(gains < 1)[1]}th line times {gains.min():.2f}"
    return f"{along}, {int(gains.sum())} of {len(gains)} lines kept"


_SAYS: dict[str, Callable[[dict[str, Any]], str]] = {
    "noise": lambda d: f"sigma {d['sigma']:.1e}",
    "blur": lambda d: f"sigma {d['sigma'][0]:.2f} voxels",
    "multiplicative_noise": lambda d: f"sigma {d['sigma']:.1e}",
    "brightness": lambda d: f"times {d['factor']:.2f}",
    "contrast": lambda d: f"times {d['factor']:.2f}",
    "ghosting": _kspace,
    "gibbs": _kspace,
    "low_resolution": lambda d: "voxels " + " x ".join(map(str, d["voxels"][0])),
    "bias_field": lambda d: "centre at " + ", ".join(f"{share:.0%}" for share in d["centre"]),
    "gamma": lambda d: f"exponent {d['gamma']:.2f}" + (", inverted" if d["invert"] else ""),
}
