"""A known point keeps its world coordinates through every permutation, flip and tilt, and back."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brainpretrain.preprocess.geometry import Geometry, from_ras, to_ras
from brainpretrain.preprocess.nifti import Volume
from brainpretrain.preprocess.volumes import preprocess

RECIPE = {
    "spacing_mm": [1.0, 1.0, 1.0],
    "upper_quantile": 1.0,
    "crop": "nonzero",
    "antialias": True,
    "min_size": 8,
    "allow_negative": False,
    "max_voxels": 10**7,
    "spacing_range_mm": [0.05, 20],
}
PERMUTATIONS = list(itertools.permutations(range(3)))
FLIPS = list(itertools.product((1, -1), repeat=3))


def affine_of(order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], tilt_deg: float) -> np.ndarray:
    """An affine whose native axis i points along world axis order[i] in the direction signs[i], tilted about an oblique axis."""
    axes = np.zeros((3, 3))
    axes[list(order), range(3)] = np.array(signs) * spacing
    tilt = Rotation.from_rotvec(np.deg2rad(tilt_deg) * np.array([0.6, -0.48, 0.64])).as_matrix()
    affine = np.eye(4)
    affine[:3, :3] = tilt @ axes
    affine[:3, 3] = (-31.0, 17.5, 44.0)
    return affine


def blob_volume(affine: np.ndarray, shape: tuple[int, int, int], at_mm: np.ndarray) -> Volume:
    """A dim cuboid with a bright Gaussian (sigma 2.5 mm) around a world point."""
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    array = 10 * np.exp(-((world - at_mm) ** 2).sum(axis=-1) / (2 * 2.5**2)).astype(np.float32)
    array[2:-3, 1:-2, 3:-1] += 0.1
    array[array < 0.05] = 0
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(array, affine, spacing, Path("blob.nii"), {"notes": []})


def centre_of_mass(array: np.ndarray) -> np.ndarray:
    weights = np.where(array > 0.5 * array.max(), array, 0)
    grid = np.stack(np.meshgrid(*map(np.arange, array.shape), indexing="ij"), axis=-1)
    return (grid * weights[..., None]).sum(axis=(0, 1, 2)) / weights.sum()


@pytest.mark.parametrize("order", PERMUTATIONS)
@pytest.mark.parametrize("signs", FLIPS)
def test_a_known_point_keeps_its_place(order: tuple[int, ...], signs: tuple[int, ...]) -> None:
    affine = affine_of(order, signs, (0.8, 1.3, 2.6), tilt_deg=17)
    shape = (50, 34, 18)
    at_mm = affine[:3, :3] @ (22.3, 15.6, 9.2) + affine[:3, 3]
    volume = blob_volume(affine, shape, at_mm)
    image, _, geometry, _ = preprocess(volume, None, RECIPE)

    stored = centre_of_mass(image)
    assert np.abs(geometry.world_to_stored(at_mm) - stored).max() < 0.5
    assert np.linalg.norm(geometry.stored_to_world(stored) - at_mm) < 0.5 * min(geometry.stored_spacing_mm)

    native = centre_of_mass(geometry.to_native(np.stack([np.zeros_like(image), image]))[1])
    assert np.abs(native - (22.3, 15.6, 9.2)).max() < 0.5
    axes = geometry.stored_affine[:3, :3] / geometry.stored_spacing_mm
    assert np.all(np.diag(axes) > 0.7)  # as near to right, anterior, superior as the tilt allows


def test_without_resampling_stored_voxels_are_native_voxels() -> None:
    affine = affine_of((2, 0, 1), (1, -1, -1), (1.0, 1.0, 1.0), tilt_deg=9)
    volume = blob_volume(affine, (30, 26, 22), affine[:3, :3] @ (12, 14, 9) + affine[:3, 3])
    image, _, geometry, _ = preprocess(volume, None, RECIPE)
    peak = np.unravel_index(image.argmax(), image.shape)
    native = np.linalg.inv(affine) @ [*geometry.stored_to_world(peak), 1]
    np.testing.assert_allclose(native[:3], (12, 14, 9), atol=1e-6)


@pytest.mark.parametrize("order", PERMUTATIONS)
def test_ras_and_back_is_exact(order: tuple[int, ...]) -> None:
    array = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    for signs in FLIPS:
        affine = affine_of(order, signs, (1.0, 2.0, 3.0), tilt_deg=20)
        view, affine_ras, orientation = to_ras(array, affine)
        assert np.shares_memory(view, array)
        np.testing.assert_array_equal(from_ras(view, orientation), array)
        for index in ((0, 0, 0), (3, 1, 2)):  # one voxel, one place in the world
            assert view.shape[0] > 3 or index[0] < view.shape[0]
            native = np.argwhere(array == view[index])[0]
            np.testing.assert_allclose(affine_ras @ [*index, 1], affine @ [*native, 1], atol=1e-9)


def labelled_geometry() -> tuple[Geometry, np.ndarray]:
    """A tilted anisotropic grid with three balls as a label map."""
    affine = affine_of((1, 2, 0), (-1, 1, -1), (0.9, 1.6, 1.2), tilt_deg=23)
    shape = (60, 34, 44)
    volume = blob_volume(affine, shape, affine[:3, :3] @ (30, 17, 22) + affine[:3, 3])
    voxels = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * (0.9, 1.6, 1.2)
    labels = np.zeros(shape, np.uint8)
    for value, centre in ((3, (20, 25, 30)), (7, (38, 30, 20)), (200, (30, 15, 35))):
        labels[((voxels - centre) ** 2).sum(axis=-1) < 8**2] = value
    label = Volume(labels, affine, volume.spacing_mm, Path("label.nii"), {"notes": []})
    _, stored, geometry, facts = preprocess(volume, label, RECIPE)
    assert facts["label_values"] == [0, 3, 7, 200] == np.unique(stored).tolist()
    return geometry, np.stack([labels, geometry.labels_to_native(stored)])


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_labels_come_back() -> None:
    _, (before, after) = labelled_geometry()
    assert after.shape == before.shape
    for value in (3, 7, 200):
        assert dice(before == value, after == value) > 0.9


def test_logits_come_back() -> None:
    geometry, (before, _) = labelled_geometry()
    x, y, z = np.meshgrid(*map(np.arange, geometry.stored_shape), indexing="ij")
    logits = np.stack([np.zeros(geometry.stored_shape), x + 0.5 * y - 40.0, z - 30.0]).astype(np.float32)
    native = geometry.to_native(logits)
    assert native.shape == (3, *before.shape) and native.dtype == np.float32
    np.testing.assert_array_equal(geometry.argmax_to_native(logits), native.argmax(axis=0))
    assert set(np.unique(geometry.argmax_to_native(logits))) == {0, 1, 2}
    assert not geometry.argmax_to_native(np.zeros_like(logits)).any()  # the first of equals, as argmax


def test_outside_the_box_is_background() -> None:
    geometry, _ = labelled_geometry()
    logits = np.stack([np.full(geometry.stored_shape, -9.0), np.full(geometry.stored_shape, 9.0)]).astype(np.float32)
    classes = geometry.to_native(logits).argmax(axis=0)
    assert np.count_nonzero(classes) == np.prod(geometry.box_shape) < classes.size
    np.testing.assert_array_equal(geometry.argmax_to_native(logits), classes)


def test_json_round_trip() -> None:
    geometry, _ = labelled_geometry()
    assert Geometry.from_json(geometry.to_json()) == geometry
    assert Geometry.from_dict(geometry.to_dict()) == geometry
    assert geometry.to_dict()["stored_spacing_mm"] == geometry.stored_spacing_mm


def test_labels_come_back_channel_by_channel_whatever_the_number_of_classes() -> None:
    """The channels are read one after the other, and memory does not grow with their number."""
    affine = affine_of((1, 2, 0), (-1, 1, 1), (0.7, 0.9, 1.2), tilt_deg=5)
    volume = blob_volume(affine, (60, 50, 40), affine[:3, :3] @ (30, 25, 20) + affine[:3, 3])
    geometry = preprocess(volume, None, RECIPE)[2]
    logits = np.random.default_rng(0).normal(size=(12, *geometry.stored_shape)).astype(np.float32)
    assert np.array_equal(geometry.argmax_to_native(iter(logits)), geometry.to_native(logits).argmax(0))

    def peak(n: int) -> int:
        tracemalloc.start()
        geometry.argmax_to_native(channel for channel in logits[:n])
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(12) < 1.05 * peak(3)


@pytest.mark.parametrize("size", [(9, 40, 21), (12, 12, 12), (40, 41, 42), (25, 24, 13)])
def test_a_fixed_size_pads_or_crops_around_the_centre_and_predictions_return(size: tuple[int, int, int]) -> None:
    """A volume of 24 x 23 x 12 voxels in an orientation of its own: stored voxels keep their place in the world, labels theirs."""
    rng = np.random.default_rng(3)
    array = rng.uniform(1, 9, (12, 24, 23)).astype(np.float32)
    label = rng.integers(0, 3, array.shape).astype(np.uint8)
    affine = np.array([[0, -1, 0, 5.0], [0, 0, 1, -7], [1, 0, 0, 3], [0, 0, 0, 1]])
    recipe = RECIPE | {"spacing_mm": [1, 1, 1], "size": list(size)}
    volumes = [Volume(one, affine, (1.0, 1.0, 1.0), Path("x.nii"), {"notes": []}) for one in (array, label)]
    image, stored, geometry, _ = preprocess(*volumes, recipe)
    assert image.shape == stored.shape == geometry.stored_shape == size and geometry.resized_shape == (24, 23, 12)
    assert Geometry.from_json(geometry.to_json()) == geometry
    for place in [np.array(size) // 2, np.array(size) // 2 + [0, 1, -1]]:  # the native voxel at the same place of the world
        native = np.rint(np.linalg.inv(affine) @ [*geometry.stored_to_world(place), 1])[:3].astype(int)
        assert stored[tuple(place)] == label[tuple(native)]
    back = geometry.labels_to_native(stored)
    logits = np.stack([(stored == number).astype(np.float32) * 9 for number in range(3)])
    assert np.array_equal(back, geometry.argmax_to_native(logits)) and np.array_equal(back, geometry.to_native(logits).argmax(0))
    kept = np.prod([min(n, s) for n, s in zip((24, 23, 12), size, strict=True)])
    inside = geometry.labels_to_native(np.ones(size, np.uint8)) == 1
    assert inside.sum() == kept and np.array_equal(back[inside], label[inside]) and not back[~inside].any()
