"""The geometry of a stored volume: world coordinates of its voxels, and the way back from the stored to the native grid.

Native voxels become RAS voxels by a permutation and flips of the axes; RAS voxels are cropped to a box; the box is resized to the
stored shape, or to another one that is padded or cropped to it. Each step is affine. Oblique volumes are not rotated: their
affine keeps the tilt. A volume in the space of an atlas has the atlas's grid in place of its own, and a `Source`, to which
predictions return.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

import nibabel as nib
import numpy as np

from brainpretrain.files import dump_json
from brainpretrain.preprocess.resampling import LINEAR, NEAREST, affine_resample, resize

OUTSIDE_LOGIT = 20.0  # background minus other classes outside the box; its softmax is 1 to within 1e-8


@dataclass(frozen=True)
class Orientation:
    """RAS axis r is native axis `axes[r]`, read backwards where `flips[r]`."""

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def to_ras(self, array: np.ndarray) -> np.ndarray:
        """A view of `array` (..., native axes) with its last three axes in RAS order."""
        lead = array.ndim - 3
        return array.transpose(*range(lead), *(lead + a for a in self.axes))[self._reversed]

    def from_ras(self, array: np.ndarray) -> np.ndarray:
        """The exact inverse of `to_ras`, a view too."""
        lead = array.ndim - 3
        return array[self._reversed].transpose(*range(lead), *(lead + int(a) for a in np.argsort(self.axes)))

    def voxel_matrix(self, native_shape: tuple[int, ...]) -> np.ndarray:
        """4x4 float64, RAS voxel -> native voxel."""
        matrix = np.zeros((4, 4))
        matrix[3, 3] = 1
        for ras, (native, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            matrix[native, ras] = -1 if flip else 1
            matrix[native, 3] = native_shape[native] - 1 if flip else 0
        return matrix

    @property
    def _reversed(self) -> tuple:
        return (..., *(slice(None, None, -1 if flip else 1) for flip in self.flips))


def to_ras(array: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray, Orientation]:
    """Reorders and flips the axes of a volume so that they are nearest to right, anterior and superior.

    Args:
        array: (i, j, k), any axis order and direction.
        affine: 4x4, voxel -> world in mm.

    Returns:
        A view of `array` (x, y, z), its affine, and the orientation that `from_ras` takes back.
    """
    target = nib.io_orientation(affine)  # per native axis: its RAS axis and direction
    axes = np.argsort(target[:, 0])
    orientation = Orientation(tuple(int(a) for a in axes), tuple(bool(target[a, 1] < 0) for a in axes))
    return orientation.to_ras(array), affine @ orientation.voxel_matrix(array.shape), orientation


def from_ras(array: np.ndarray, orientation: Orientation) -> np.ndarray:
    """The exact inverse of `to_ras`: a view of `array` (..., x, y, z) in native axis order and direction."""
    return orientation.from_ras(array)


@dataclass(frozen=True)
class Source:
    """The grid that predictions are written on, where that is not the grid of the steps.

    Attributes:
        shape: voxels of the file.
        affine: rows of the 4x4 affine, voxel -> world in mm.
        matrix: rows of the 4x4, world of the steps -> world of the file.
    """

    shape: tuple[int, ...]
    affine: tuple[tuple[float, ...], ...]
    matrix: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Geometry:
    """The steps from the native grid of one volume to its stored array. Tables hold them as JSON.

    Attributes:
        native_shape: voxels of the file; or of the atlas, or of the first sequence of the session, if it was brought onto that.
        native_affine: rows of the 4x4 affine, native voxel -> world in mm.
        axes, flips: see `Orientation`.
        box: for each RAS axis, the first voxel that is kept and the one after the last.
        stored_shape: voxels (x, y, z) after resampling, padding and cropping.
        resized_shape: voxels (x, y, z) after resampling alone, if the recipe has a `size`; both have one centre, see `fitted`.
        source: the grid of the file, if the native grid is that of an atlas.
    """

    native_shape: tuple[int, ...]
    native_affine: tuple[tuple[float, ...], ...]
    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    box: tuple[tuple[int, int], ...]
    stored_shape: tuple[int, ...]
    source: Source | None = None
    resized_shape: tuple[int, ...] | None = None

    @property
    def orientation(self) -> Orientation:
        return Orientation(self.axes, self.flips)

    @property
    def box_shape(self) -> tuple[int, ...]:
        return tuple(high - low for low, high in self.box)

    @property
    def stored_spacing_mm(self) -> tuple[float, ...]:
        """Distance of stored voxels: the recipe's spacing up to the rounding of the shape."""
        return tuple(round(float(n), 6) for n in np.linalg.norm(self.stored_affine[:3, :3], axis=0))

    @cached_property
    def stored_affine(self) -> np.ndarray:
        """4x4 float64, stored voxel -> world in mm."""
        box = np.array(self.box, dtype=float)
        resized = self.resized_shape or self.stored_shape
        scale = (box[:, 1] - box[:, 0]) / resized
        stored_to_ras = np.diag([*scale, 1.0])
        before = np.array([fit_offset(n, size) for n, size in zip(resized, self.stored_shape, strict=True)])
        stored_to_ras[:3, 3] = box[:, 0] + (0.5 - before) * scale - 0.5  # outer faces of the edge voxels coincide
        return np.array(self.native_affine) @ self.orientation.voxel_matrix(self.native_shape) @ stored_to_ras

    def stored_to_world(self, ijk: np.ndarray) -> np.ndarray:
        """World coordinates in mm (..., 3) of stored voxel positions (..., 3), fractions allowed."""
        return np.asarray(ijk) @ self.stored_affine[:3, :3].T + self.stored_affine[:3, 3]

    def world_to_stored(self, xyz_mm: np.ndarray) -> np.ndarray:
        """The inverse of `stored_to_world`."""
        return (np.asarray(xyz_mm) - self.stored_affine[:3, 3]) @ np.linalg.inv(self.stored_affine[:3, :3]).T

    def to_native(self, logits: np.ndarray) -> np.ndarray:
        """Logits on the native grid (that of `source`, if there is one), by linear resizing and pasting (AMAES).

        Args:
            logits: (c, x, y, z) on the stored grid; channel 0 is the background, and c is at least 2.

        Returns:
            (c, *shape) float32. Outside the crop box the background wins.
        """
        return np.stack([self._channel_to_native(channel, number) for number, channel in enumerate(logits)])

    def argmax_to_native(self, logits: Iterable[np.ndarray]) -> np.ndarray:
        """`to_native(logits).argmax(0)` as uint16, in memory for two channels however many classes there are.

        Args:
            logits: channels (x, y, z) on the stored grid, each taken once from the iterable; the first is the background.
        """
        best = labels = None
        for number, channel in enumerate(logits):
            value = self._channel_to_native(channel, number) if self.source else self._channel_in_box(channel, number)
            if best is None or labels is None:
                best, labels = value.copy(), np.zeros(value.shape, np.uint16)
                continue
            better = value > best
            np.copyto(best, value, where=better)
            np.copyto(labels, number, where=better)
        assert labels is not None
        return labels if self.source else self._paste(labels)

    def labels_to_native(self, labels: np.ndarray) -> np.ndarray:
        """A label map (x, y, z) of the stored grid on the native grid (nearest voxel); 0 outside the crop box."""
        return self._to_source(self._paste(resize(self._resized(labels, 0), self.box_shape, NEAREST)), NEAREST, 0)

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON values, with `stored_spacing_mm` for people who read the table."""
        content = asdict(self) | {"stored_spacing_mm": self.stored_spacing_mm}
        return {key: value for key, value in content.items() if key not in ("source", "resized_shape") or value is not None}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Geometry:
        """The inverse of `to_dict`."""
        source = content.get("source")
        later = ("source", "resized_shape")
        frozen = {field.name: _frozen(content[field.name]) for field in fields(cls) if field.name not in later}
        frozen["resized_shape"] = _frozen(content.get("resized_shape"))
        return cls(**frozen, source=Source(**{key: _frozen(value) for key, value in source.items()}) if source else None)

    def to_json(self) -> str:
        """Canonical JSON text of `to_dict`."""
        return dump_json(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> Geometry:
        """The inverse of `to_json`."""
        return cls.from_dict(json.loads(text))

    @property
    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(low, high) for low, high in self.box)

    def _paste(self, array: np.ndarray, fill: float = 0) -> np.ndarray:
        ras = np.full(tuple(self.native_shape[a] for a in self.axes), fill, array.dtype)
        ras[self._slices] = array
        return self.orientation.from_ras(ras)

    def _channel_to_native(self, channel: np.ndarray, number: int) -> np.ndarray:
        """One channel of logits, float32; outside the crop box and outside an atlas the background (0) wins."""
        outside = OUTSIDE_LOGIT / 2 if number == 0 else -OUTSIDE_LOGIT / 2
        return self._to_source(self._paste(self._channel_in_box(channel, number), outside), LINEAR, outside)

    def _channel_in_box(self, channel: np.ndarray, number: int) -> np.ndarray:
        """One channel of logits in the crop box; where `size` cut the box, the background (0) wins."""
        outside = OUTSIDE_LOGIT / 2 if number == 0 else -OUTSIDE_LOGIT / 2
        return resize(self._resized(channel, outside), self.box_shape, LINEAR)

    def _resized(self, array: np.ndarray, fill: float) -> np.ndarray:
        """A stored array before padding and cropping."""
        return fitted(array, self.resized_shape, fill) if self.resized_shape else array

    def _to_source(self, array: np.ndarray, order: int, outside: float) -> np.ndarray:
        """An array of the native grid on the grid of `source`, or as it is."""
        if self.source is None:
            return array
        inverse = np.linalg.inv(np.array(self.source.matrix) @ np.array(self.native_affine))
        return affine_resample(array, inverse @ np.array(self.source.affine), self.source.shape, order, outside, antialias=False)


def fit_offset(n: int, size: int) -> int:
    """Voxels before the first of n that are padded (above 0) or cropped (below 0) to `size`; back to n it has the other sign."""
    return (size - n) // 2 if size >= n else -((n - size) // 2)


def fitted(array: np.ndarray, shape: Iterable[int], fill: float = 0) -> np.ndarray:
    """An array (x, y, z) padded with `fill` or cropped at both ends of each axis to `shape`; an odd voxel is at the far end."""
    shape = tuple(shape)
    result = np.full(shape, fill, array.dtype)
    offsets = [fit_offset(n, size) for n, size in zip(array.shape, shape, strict=True)]
    kept = [min(n, size) for n, size in zip(array.shape, shape, strict=True)]
    to = tuple(slice(max(0, o), max(0, o) + n) for o, n in zip(offsets, kept, strict=True))
    of = tuple(slice(max(0, -o), max(0, -o) + n) for o, n in zip(offsets, kept, strict=True))
    result[to] = array[of]
    return result


def _frozen(value: Any) -> Any:
    """Turns lists, as JSON returns them, back into tuples."""
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value
