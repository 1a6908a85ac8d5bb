"""Resampling by matrices, compared with scikit-image, which only the tests use."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.transform import resize as skimage_resize

from brainpretrain.preprocess.nifti import read_volume
from brainpretrain.preprocess.resampling import CUBIC, LINEAR, NEAREST, apply, cubic_operator, resample, resize, target_shape
from helpers import SHARED

SHAPES = [
    ((20, 31, 12), (27, 31, 40)),  # up, unchanged, far up
    ((40, 33, 50), (17, 29, 49)),  # down: with anti-aliasing
    ((64, 9, 70), (33, 45, 70)),  # mixed
    ((1, 2, 3), (5, 7, 2)),  # mirrored more than once
    ((90, 16, 16), (12, 16, 16)),  # a wide prefilter
]


def noise(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def cubic_by_skimage(array: np.ndarray, shape: tuple[int, ...], **options: bool) -> np.ndarray:
    return skimage_resize(array, shape, order=3, mode="reflect", clip=True, **options)


@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_cubic_equals_skimage(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    array = noise(before)
    result = resize(array, after, CUBIC)
    assert result.dtype == np.float32
    assert np.abs(result - cubic_by_skimage(array, after)).max() <= 1e-5


def test_antialias_can_be_left_out() -> None:
    array = noise((40, 30, 20))
    plain = resize(array, (15, 30, 20), CUBIC, antialias=False)
    assert np.abs(plain - cubic_by_skimage(array, (15, 30, 20), anti_aliasing=False)).max() <= 1e-5
    assert np.abs(plain - resize(array, (15, 30, 20), CUBIC)).max() > 0.05


@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_linear_equals_skimage(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    array = noise(before)
    expected = skimage_resize(array, after, order=1, mode="edge", anti_aliasing=False)
    assert np.abs(resize(array, after, LINEAR) - expected).max() <= 1e-5


@pytest.mark.parametrize(("before", "after"), SHAPES)
def test_nearest_takes_the_voxel_under_the_centre(before: tuple[int, ...], after: tuple[int, ...]) -> None:
    array = np.random.default_rng(1).integers(0, 200, before).astype(np.uint8)
    result = resize(array, after, NEAREST)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, skimage_resize(array, after, order=0, anti_aliasing=False, preserve_range=True))


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_memory_layout_does_not_matter(order: tuple[int, ...]) -> None:
    array = noise((19, 23, 14))
    twisted = np.ascontiguousarray(array.transpose(order)).transpose(np.argsort(order))
    for view in (twisted, twisted[::-1, :, ::-1][::-1, :, ::-1], np.pad(twisted, 2)[2:-2, 2:-2, 2:-2]):
        np.testing.assert_allclose(resize(view, (30, 11, 21), CUBIC), resize(array, (30, 11, 21), CUBIC), atol=2e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_apply_is_the_dense_product(axis: int) -> None:
    array = noise((21, 22, 23))
    operator = cubic_operator(array.shape[axis], 75, True)
    dense = np.zeros((75, array.shape[axis]), np.float32)
    for rows, columns, weights in operator.blocks:
        dense[rows, columns] = weights
    expected = np.moveaxis(np.tensordot(dense, array, (1, axis)), 0, axis)
    np.testing.assert_allclose(apply(operator, array, axis), expected, atol=1e-5)


def test_a_cubic_result_stays_in_the_range() -> None:
    step = np.zeros((16, 16, 16), np.float32)
    step[8:] = 1
    result = resize(step, (40, 16, 16), CUBIC)
    assert result.min() == 0 and result.max() == 1  # a spline overshoots at a step


def test_an_array_of_the_target_shape_is_returned() -> None:
    array = noise((5, 6, 7))
    assert resize(array, (5, 6, 7), CUBIC) is array


def test_target_shape_rounds_and_keeps_a_voxel() -> None:
    assert target_shape((181, 10, 3), (1.0, 1.25, 0.1), (2.0, 1.0, 1.0)) == (90, 12, 1)  # 90.5 and 12.5 to even
    assert resample(noise((10, 10, 10)), (2, 1, 1), (1, 1, 1), CUBIC).shape == (20, 10, 10)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
@pytest.mark.parametrize(
    ("name", "spacing"),
    [
        ("ixi_2mm/IXI012-HH-1211/T1.nii.gz", (1.0, 1.0, 1.0)),  # up
        ("isles22/docker_case_A/FLAIR.nii.gz", (1.0, 1.0, 1.0)),  # down in the plane, six times up across
        ("msd_task04_hippocampus/imagesTr/hippocampus_001.nii.gz", (1.7, 2.0, 1.3)),  # down
    ],
)
def test_cubic_equals_skimage_on_real_volumes(name: str, spacing: tuple[float, ...]) -> None:
    volume = read_volume(SHARED / name)
    array = volume.array.astype(np.float32)[10:84, 10:84] / np.float32(volume.array.max())
    result = resample(array, volume.spacing_mm, spacing, CUBIC)
    assert np.abs(result - cubic_by_skimage(array, result.shape)).max() <= 1e-5
