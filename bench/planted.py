"""Altered copies of a head, as they occur: rescaled, resampled, cropped, stripped, defaced, turned, or brought to a template.

Each kind takes a volume and its brain mask and returns a volume, as if read from another file. Random numbers come from a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from brainpretrain.preprocess.nifti import Volume
from brainpretrain.preprocess.resampling import CUBIC, resize
from brainpretrain.preprocess.synthetic import load_template


@dataclass(frozen=True)
class Head:
    """A volume in RAS, a brain mask on its grid or None, and the seed of its copies."""

    volume: Volume
    brain: np.ndarray | None
    seed: int

    @property
    def array(self) -> np.ndarray:
        return self.volume.array

    @property
    def spacing(self) -> np.ndarray:
        return np.array(self.volume.spacing_mm)

    @property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.seed)


def made(head: Head, array: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    """Other voxels on another grid, as if read from a file."""
    affine = head.volume.affine if affine is None else affine
    spacing = tuple(float(mm) for mm in np.linalg.norm(affine[:3, :3], axis=0))
    array = np.ascontiguousarray(np.maximum(array, 0), dtype=np.float32)
    return Volume(array, affine, spacing, head.volume.path, head.volume.facts)


def resampled(head: Head, factors: tuple[float, float, float]) -> Volume:
    """On a grid with voxels larger by these factors."""
    shape = tuple(max(15, round(n / f)) for n, f in zip(head.array.shape, factors, strict=True))
    grid = np.diag([*(n / m for n, m in zip(head.array.shape, shape, strict=True)), 1])
    return made(head, resize(head.array.astype(np.float32), shape, CUBIC, True), head.volume.affine @ grid)


def pulled(head: Head, linear: np.ndarray, shape: tuple[int, ...] | None = None, spacing: np.ndarray | None = None,
           array: np.ndarray | None = None, warp: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
    """Voxels of a grid whose points, in mm from its centre, are mapped by `linear` to mm from the centre of the head's grid."""
    shape = head.array.shape if shape is None else shape
    spacing = head.spacing if spacing is None else spacing
    array = head.array if array is None else array
    points = (np.indices(shape).reshape(3, -1).T - (np.array(shape) - 1) / 2) * spacing
    if warp is not None:
        points = points + warp
    at = (points @ linear.T) / head.spacing + (np.array(head.array.shape) - 1) / 2
    return ndimage.map_coordinates(array.astype(np.float32), at.T, order=1).reshape(shape)


def turn(head: Head, degrees: float) -> np.ndarray:
    """A rotation by `degrees` about an axis of the head's own."""
    axis = head.rng.normal(size=3)
    return Rotation.from_rotvec(np.radians(degrees) * axis / np.linalg.norm(axis)).as_matrix()


def noisy(head: Head) -> np.ndarray:
    """Noise of 5 % of the bright end everywhere, and a smooth gain between 0.7 and 1.3."""
    array, rng = head.array.astype(np.float32), head.rng
    nodes = resize(rng.uniform(-1, 1, (4, 4, 4)).astype(np.float32), array.shape, CUBIC)
    gain = 1 + 0.3 * nodes / np.abs(nodes).max()
    sd = 0.05 * np.percentile(array[array > 0], 99)
    return np.hypot(array * gain + rng.normal(0, sd, array.shape), rng.normal(0, sd, array.shape))


def powered(head: Head, gamma: float) -> np.ndarray:
    array = head.array.astype(np.float32)
    top = np.percentile(array[array > 0], 99)
    return top * np.minimum(array / top, 1.5) ** gamma


def cut(head: Head, low: tuple[float, float, float], high: tuple[float, float, float]) -> Volume:
    """Without these shares of the box of the foreground at the lower and the upper end of each axis."""
    where = np.argwhere(head.array > 0.1 * np.percentile(head.array, 99))
    box = []
    for a, b, near, far in zip(where.min(axis=0), where.max(axis=0) + 1, low, high, strict=True):
        start = int(a + round(near * (b - a))) if near else 0
        box.append(slice(start, int(b - round(far * (b - a))) if far else None))
    return made(head, head.array[tuple(box)])


def stripped(head: Head) -> np.ndarray:
    return np.where(ndimage.binary_dilation(head.brain), head.array, 0)


def defaced(head: Head) -> np.ndarray:
    """Nothing before a plane from the front of the brain down and back, save 6 mm around the brain."""
    where = np.argwhere(head.brain) * head.spacing
    front, bottom = np.percentile(where[:, 1], 98), where[:, 2].min()
    middle = where[:, 2].mean()
    y, z = (axis * mm for axis, mm in zip(np.indices(head.array.shape)[1:], head.spacing[1:], strict=True))
    slope = (middle - bottom) / (0.45 * (front - where[:, 1].min()))
    face = (y - front) * slope > (z - middle) * 1.0
    face &= z < middle + 10
    far = ndimage.distance_transform_edt(~head.brain.astype(bool), sampling=head.spacing) > 6
    return np.where(face & far, 0, head.array)


def at_template(head: Head) -> Volume:
    """On the grid of the ICBM152 template at 2 mm, the box of the brain stretched to the template's."""
    template = load_template(2)
    where = np.argwhere(head.brain) * head.spacing
    low, high = where.min(axis=0), where.max(axis=0)
    scale = (high - low) / template.extent_mm
    linear = np.diag(scale) @ (np.eye(3) + 0.04 * np.triu(head.rng.uniform(-1, 1, (3, 3)), 1))
    middle = (low + high) / 2 - (np.array(head.array.shape) - 1) / 2 * head.spacing
    shape, spacing = template.grey.shape, np.full(3, 2.0)
    origin = template.affine[:3, 3] + (np.array(shape) - 1)  # the centre of the grid, voxels are 2 mm
    warp = np.tile(-(template.centre_mm - origin) + np.linalg.solve(linear, middle), (int(np.prod(shape)), 1))
    return made(head, pulled(head, linear, shape, spacing, warp=warp), template.affine)


def second_session(head: Head) -> Volume:
    """Turned by 5 degrees and shifted, on larger voxels, with another gain, noise and contrast, and distorted by about 1 mm."""
    rng = np.random.default_rng(head.seed + 1)
    spacing = head.spacing * 1.1
    shape = tuple(int(np.ceil(n / 1.1)) for n in head.array.shape)
    field = np.stack([resize(rng.normal(0, 1.0, (6, 6, 6)).astype(np.float32), shape, CUBIC) for _ in range(3)], axis=-1)
    warp = field.reshape(-1, 3) + rng.uniform(-6, 6, 3)
    array = pulled(head, turn(head, 5), shape, spacing, warp=warp)
    grid = head.volume.affine @ np.diag([1.1, 1.1, 1.1, 1])
    other = Head(made(head, array, grid), head.brain, head.seed + 2)
    array = noisy(other) * 0.5 + 0.5 * array
    return made(head, powered(Head(made(head, array, grid), head.brain, 0), 0.85), grid)


def oblique(head: Head) -> Volume:
    """The same head on a grid that is turned by 10 degrees, and says so in its header."""
    linear = turn(head, 10)
    affine = head.volume.affine.copy()
    centre = affine @ np.append((np.array(head.array.shape) - 1) / 2, 1)
    affine[:3, :3] = (linear @ np.diag(head.spacing)) * np.sign(np.diag(head.volume.affine)[:3])
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ ((np.array(head.array.shape) - 1) / 2)
    return made(head, pulled(head, linear), affine)


KINDS: dict[str, Callable[[Head], Volume]] = {
    "exact": lambda h: made(h, h.array),
    "intensities x 2.7": lambda h: made(h, 2.7 * h.array),
    "left-right flip": lambda h: made(h, h.array[::-1]),
    "voxels x 0.75": lambda h: resampled(h, (0.75, 0.75, 0.75)),
    "voxels x 1.5": lambda h: resampled(h, (1.5, 1.5, 1.5)),
    "noise 5 %, bias 30 %": lambda h: made(h, noisy(h)),
    "gamma 1.5": lambda h: made(h, powered(h, 1.5)),
    "gamma 0.7": lambda h: made(h, powered(h, 0.7)),
    "slices 3 times as thick": lambda h: resampled(h, (1, 1, 3)),
    "cropped by 2 %": lambda h: cut(h, (0.02,) * 3, (0.02,) * 3),
    "turned by 3 degrees": lambda h: made(h, pulled(h, turn(h, 3))),
    "skull-stripped": lambda h: made(h, stripped(h)),
    "neck cut by 25 %": lambda h: cut(h, (0, 0, 0.25), (0, 0, 0)),
    "neck cut by 10 %": lambda h: cut(h, (0, 0, 0.1), (0, 0, 0)),
    "turned by 15 degrees": lambda h: made(h, pulled(h, turn(h, 15))),
    "turned by 8 degrees": lambda h: made(h, pulled(h, turn(h, 8))),
    "oblique grid, 10 degrees": oblique,
    "affine to a template": at_template,
    "defaced": lambda h: made(h, defaced(h)),
    "cropped by 5 %": lambda h: cut(h, (0.05,) * 3, (0.05,) * 3),
    "simulated second session": second_session,
}  # fmt: skip
NEED_BRAIN = {"skull-stripped", "affine to a template", "defaced"}
