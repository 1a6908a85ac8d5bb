"""Preprocessing, compared with its definition in plain numpy and scikit-image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.transform import resize as skimage_resize

from brainpretrain.preprocess.geometry import to_ras
from brainpretrain.preprocess.nifti import BadVolume, Volume, read_volume
from brainpretrain.preprocess.volumes import (
    foreground_box,
    integer_labels,
    label_values,
    normalise,
    preprocess,
    require_same_grid,
    to_float16,
    windowed,
)
from helpers import SHARED

RECIPE: dict[str, Any] = {
    "spacing_mm": [1.0, 1.0, 1.0],
    "upper_quantile": 0.99,
    "crop": "nonzero",
    "antialias": True,
    "min_size": 15,
    "allow_negative": True,
    "max_voxels": 40_000_000,
    "spacing_range_mm": [0.05, 20],
}
LAYOUTS = [lambda a: a, np.asfortranarray, lambda a: np.ascontiguousarray(a.transpose(1, 0, 2)).transpose(1, 0, 2)[::-1]]


def head(dtype: type = np.int16, shape: tuple[int, int, int] = (24, 20, 17)) -> np.ndarray:
    """Air of zeros around voxels of 50..2000."""
    array = np.zeros(shape)
    array[4:-3, 2:-5, 3:-1] = np.random.default_rng(0).gamma(4, 120, (shape[0] - 7, shape[1] - 7, shape[2] - 4)) + 50
    return array.astype(dtype)


def volume_of(array: np.ndarray, affine: np.ndarray | None = None) -> Volume:
    affine = np.diag([1.0, 1.0, 1.0, 1.0]) if affine is None else affine
    spacing = tuple(float(s) for s in np.linalg.norm(affine[:3, :3], axis=0))
    return Volume(np.asfortranarray(array), affine, spacing, Path("some/volume.nii.gz"), {"notes": []})


def normalised(array: np.ndarray, upper_quantile: float) -> np.ndarray:
    """The definition."""
    array = array.astype(np.float64)
    q = np.quantile(array[array != array.min()], upper_quantile)
    return (np.minimum(array, q) - array.min()) / (q - array.min())


# ------------------------------------------------------------------------------------------------ parts


@pytest.mark.parametrize("layout", LAYOUTS)
def test_box_is_tight(layout: Any) -> None:
    array = layout(head())
    where = np.argwhere(array > 0)
    expected = tuple(slice(a, b + 1) for a, b in zip(where.min(axis=0), where.max(axis=0), strict=True))
    assert foreground_box(array) == expected


def test_box_of_a_voxel_and_of_nothing() -> None:
    array = np.zeros((5, 6, 7), np.float32)
    array[0] = -1
    assert foreground_box(array) is None
    array[4, 0, 6] = 1e-3
    assert foreground_box(array) == (slice(4, 5), slice(0, 1), slice(6, 7))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("quantile", [0.5, 0.99, 0.999, 1.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32])
def test_normalise_is_its_definition(dtype: type, quantile: float, layout: Any) -> None:
    array = layout(head(dtype))
    result = normalise(array, quantile)
    assert result.dtype == np.float32 and result.min() == 0 and result.max() == 1
    np.testing.assert_allclose(result, normalised(array, quantile), atol=2e-7)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("quantiles", [(0.01, 0.99), (0.25, 0.5), (0.005, 1.0)])
def test_a_lower_quantile_clips_below(layout: Any, quantiles: tuple[float, float]) -> None:
    array = layout(head(np.float32) - 30)
    above = array[array > array.min()].astype(np.float64)
    low, high = np.quantile(above, quantiles)
    wanted = (array.astype(np.float64).clip(low, high) - low) / (high - low)
    result = normalise(array, quantiles[1], quantiles[0])
    assert result is not None and (result[array == array.min()] == 0).all()
    np.testing.assert_allclose(result, wanted, atol=2e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_window_is_the_same_in_every_volume(layout: Any) -> None:
    array = layout(head(np.int16) - 1024)
    image = windowed(array, -900, 600)
    assert image is not None
    np.testing.assert_allclose(image, (array.astype(np.float64).clip(-900, 600) + 900) / 1500, atol=1e-6)
    assert windowed(array, 5000, 6000) is None and windowed(array, -3000, -2000) is None


def test_a_recipe_with_a_window_stores_it_and_refuses_what_is_outside_of_it() -> None:
    array = (head(np.int16) - 1024).astype(np.int16)
    recipe = RECIPE | {"crop": "none", "upper_quantile": 1, "window": [-1000, 200], "allow_negative": True}
    image, _, _, facts = preprocess(volume_of(array), None, recipe)
    np.testing.assert_allclose(image, (array.astype(np.float64).clip(-1000, 200) + 1000) / 1200, atol=1e-6)
    assert facts["mean"] == pytest.approx(image.mean(dtype=np.float64), abs=1e-6)
    assert facts["std"] == pytest.approx(image.std(dtype=np.float64), abs=1e-6)
    with pytest.raises(BadVolume, match="no contrast within the window 5000 to 6000") as error:
        preprocess(volume_of(array), None, recipe | {"window": [5000, 6000]})
    assert error.value.reason == "constant"


@pytest.mark.parametrize("scale", [1, -700, 3_000_000])  # below zero; more values than the histogram has bins
def test_normalise_of_other_ranges(scale: int) -> None:
    array = head(np.int32) * np.int32(scale) - 5
    np.testing.assert_allclose(normalise(array, 0.99), normalised(array, 0.99), atol=2e-7)
    array = array.astype(np.float32)
    np.testing.assert_allclose(normalise(array, 0.99), normalised(array, 0.99), atol=2e-7)


def test_normalise_when_the_sample_misleads() -> None:
    """The highest one percent of the values is missing from the coarse sample of the quantile."""
    array = np.zeros((64, 64, 64), np.float32)
    flat = array.reshape(-1)
    flat[:] = np.random.default_rng(0).random(flat.size, dtype=np.float32) + 1
    step = flat.size // 8192
    flat[::step] += 100
    np.testing.assert_allclose(normalise(array, 0.5), normalised(array, 0.5), atol=2e-7)
    flat[:] = np.arange(flat.size)
    np.testing.assert_allclose(normalise(array, 0.99), normalised(array, 0.99), atol=2e-7)


def test_no_contrast() -> None:
    array = np.zeros((8, 8, 8), np.int16)
    array[2:5] = 7
    assert normalise(array, 0.99) is None
    assert normalise(array.astype(np.float32), 0.99) is None
    array[2, 2, 2] = 8
    assert normalise(array, 1.0) is not None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_float16_is_numpy_to_the_bit(layout: Any) -> None:
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            rng.random(60_000, dtype=np.float32),
            (10.0 ** rng.uniform(-12, 4.8, 60_000)).astype(np.float32),
            np.arange(4096, dtype=np.float32) * np.float32(2.0**-26),  # ties among the subnormal halves
            1 + np.arange(4096, dtype=np.float32) * np.float32(2.0**-12),  # ties among the normal ones
            np.nextafter(np.float32(2.0**-14), np.array([0, 1], np.float32)),
            np.array([0, 1, 2.0**-14, 65504], np.float32),
        ]
    )
    image = layout(np.resize(values, (16, 80, 101)))
    result = to_float16(image)
    assert result.dtype == np.float16 and result.flags.c_contiguous
    np.testing.assert_array_equal(result.view(np.uint16), image.astype(np.float16).view(np.uint16))


def test_label_values() -> None:
    label = np.zeros((6, 6, 6), np.uint16)
    label[1:3] = 1022
    label[4] = 3
    assert label_values(label) == [0, 3, 1022]
    assert label_values(label.astype(np.uint32) * 1000) == [0, 3000, 1022000]
    assert label_values(label[:, :, 3]) == [0, 3, 1022]


# ------------------------------------------------------------------------------------------------ the whole


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_preprocess_is_its_definition(dtype: type) -> None:
    affine = np.array([[0, 0, 2.5, 0], [-0.7, 0, 0, 0], [0, 1.4, 0, 0], [0, 0, 0, 1.0]])
    volume = volume_of(head(dtype, (40, 30, 20)), affine)
    image, label, geometry, facts = preprocess(volume, None, RECIPE)
    ras = to_ras(volume.array, affine)[0]
    expected = normalised(ras[foreground_box(ras)], 0.99)
    assert geometry.stored_shape == image.shape == (round(16 * 2.5), round(33 * 0.7), round(23 * 1.4))
    expected = skimage_resize(expected.astype(np.float32), image.shape, order=3, mode="reflect", clip=True)
    assert np.abs(image - expected).max() <= 1e-5
    assert label is None and facts["label_values"] == [] and facts["notes"] == []
    np.testing.assert_allclose([facts["mean"], facts["std"]], [image.mean(dtype=float), image.std(dtype=float)], rtol=1e-4)
    assert facts["native_spacing_mm"] == volume.spacing_mm


def test_crop_none_keeps_the_field_of_view() -> None:
    volume = volume_of(head())
    image, _, geometry, _ = preprocess(volume, None, RECIPE | {"crop": "none"})
    assert image.shape == volume.array.shape and geometry.box == tuple((0, n) for n in image.shape)


def test_labels_are_cropped_and_lost_voxels_are_noted() -> None:
    array = head()
    labels = np.zeros(array.shape, np.float32)
    labels[6:9, 6:9, 6:9] = 2.0004
    labels[0, 0, :2] = 999
    _, stored, geometry, facts = preprocess(volume_of(array), volume_of(labels), RECIPE)
    assert stored.dtype == np.uint16 and facts["label_values"] == [0, 2]
    assert facts["notes"] == ["2 labelled voxels are outside the crop box"]
    np.testing.assert_array_equal(geometry.labels_to_native(stored), np.where(labels < 900, np.rint(labels), 0))
    facts = preprocess(volume_of(array), volume_of(np.zeros(array.shape, np.uint8)), RECIPE)[3]
    assert facts["label_values"] == [0] and facts["notes"] == ["the label is empty"]


def negative() -> np.ndarray:
    array = head()
    array[0, 0, 0] = -3
    return array


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize(("share", "refused"), [(-0.9e-3, False), (-1.1e-3, True)])
def test_rounding_below_0_is_a_share_of_the_upper_quantile(dtype: type, share: float, refused: bool) -> None:
    array = (head(np.float32) * 4).astype(dtype)
    array[5, 5, 5] *= 100 if dtype == np.float32 else 1  # one bright voxel is no reason to accept more
    lowest = share * np.quantile(array[array > 0], RECIPE["upper_quantile"])
    array[0, 0, 0] = lowest = dtype(np.floor(lowest)) if dtype == np.int16 and refused else dtype(lowest)
    recipe = RECIPE | {"allow_negative": False}
    if refused:
        with pytest.raises(BadVolume, match="negative voxels down to") as caught:
            preprocess(volume_of(array), None, recipe)
        assert caught.value.reason == "negative" and "allow_negative: true" in caught.value.fix
        return
    image, *_, facts = preprocess(volume_of(array), None, recipe)
    assert facts["notes"][0].startswith(f"1 voxels down to {lowest:g} are rounding (above -")
    np.testing.assert_array_equal(image, preprocess(volume_of(np.maximum(array, 0)), None, recipe)[0])
    assert array[0, 0, 0] == lowest  # the volume itself is as it was


@pytest.mark.parametrize(
    ("array", "few"),
    [
        (head(), False),
        (head(np.float32) * 1e-9, False),
        (np.where(head() > 0, head(), -32768).astype(np.int16), True),  # padding
        (np.where(np.random.default_rng(1).random((24, 20, 17)) < 0.012, 60000, head(np.int32)), True),  # bright dots
        (np.where(head() > 400, 1000, head() > 0), False),
    ],
)
def test_few_grey_levels_are_remarked(array: np.ndarray, few: bool) -> None:
    notes = preprocess(volume_of(array), None, RECIPE | {"crop": "none"})[-1]["notes"]
    assert [note.startswith("few grey levels: 90 %") for note in notes] == [True] * few, notes


@pytest.mark.parametrize(
    ("array", "recipe", "reason"),
    [
        (head(shape=(24, 20, 14)), {}, "too_small"),
        (negative(), {"allow_negative": False}, "negative"),
        (np.zeros((20, 20, 20), np.int16), {}, "constant"),
        (np.full((20, 20, 20), 7.5, np.float32), {}, "constant"),
        ((head() > 0).astype(np.uint8), {"crop": "none"}, "constant"),
        (np.minimum(negative(), 0), {}, "empty"),
        (head(), {"spacing_mm": [0.1, 0.1, 0.1], "max_voxels": 10**6}, "too_large"),
    ],
)
def test_unusable_volumes(array: np.ndarray, recipe: dict[str, Any], reason: str) -> None:
    with pytest.raises(BadVolume) as caught:
        preprocess(volume_of(array), None, RECIPE | recipe)
    assert caught.value.reason == reason and "some/volume.nii.gz" in str(caught.value)


def moved(**shift_mm: float) -> np.ndarray:
    affine = np.eye(4)
    affine[0, 3] = shift_mm.get("x", 0)
    return affine


@pytest.mark.parametrize(
    ("label", "reason"),
    [
        (volume_of(head()[1:]), "label_grid"),
        (volume_of(head(), moved(x=20)), "label_grid"),
        (volume_of(head(), moved(x=0.06)), "label_grid"),
        (volume_of(head(), np.diag([-1.0, 1, 1, 1])), "label_grid"),
        (volume_of(head(), np.diag([1.01, 1, 1, 1])), "label_grid"),
        (volume_of(head(np.float32) + np.float32(0.5)), "label_value"),
        (volume_of(head(np.float32) + np.float32(0.01)), "label_value"),
        (volume_of(negative()), "label_value"),
    ],
)
def test_unusable_labels(label: Volume, reason: str) -> None:
    with pytest.raises(BadVolume) as caught:
        preprocess(volume_of(head()), label, RECIPE)
    assert caught.value.reason == reason


def test_small_differences_of_grids_and_labels_are_accepted() -> None:
    require_same_grid(volume_of(head()), volume_of(head(), moved(x=0.04)), "label.nii.gz")
    labels = integer_labels(volume_of(np.array([[[0.0004, 0.9996, 254.9995, -0.0002]]], np.float32)))
    assert labels.dtype == np.uint8 and labels.ravel().tolist() == [0, 1, 255, 0]


# ------------------------------------------------------------------------------------------------ real volumes


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
@pytest.mark.parametrize(
    ("image_name", "label_name"),
    [
        ("oasis_trt20_mindboggle/OASIS-TRT-20-01/T1_brain", "oasis_trt20_mindboggle/OASIS-TRT-20-01/labels_DKT31_aseg"),
        ("ixi_2mm/IXI012-HH-1211/T1", "ixi_2mm/IXI012-HH-1211/dlmuse"),
        ("ljubljana_ms_cross_mni/patient07/FLAIR", "ljubljana_ms_cross_mni/patient07/lesion_gt"),
        ("isles22/sub-strokecase0009/DWI", "isles22/sub-strokecase0009/lesion_msk"),
        ("msd_task04_hippocampus/imagesTr/hippocampus_001", "msd_task04_hippocampus/labelsTr/hippocampus_001"),
    ],
)
def test_real_volumes_and_their_labels(image_name: str, label_name: str) -> None:
    volume, label = read_volume(SHARED / f"{image_name}.nii.gz"), read_volume(SHARED / f"{label_name}.nii.gz")
    image, stored, geometry, facts = preprocess(volume, label, RECIPE)
    assert image.min() == 0 and image.max() == 1 and image.shape == geometry.stored_shape
    np.testing.assert_allclose(geometry.stored_spacing_mm, 1, atol=0.02)
    assert facts["label_values"] == np.unique(label.array).tolist()
    np.testing.assert_array_equal(geometry.labels_to_native(stored), label.array)  # 1 mm and finer loses nothing


def test_a_crop_box_of_one_value_is_constant() -> None:
    """A mask in place of an image: the crop box contains only ones."""
    array = np.zeros((20, 20, 20), np.int16)
    array[4:16, 4:16, 4:16] = 1
    for dtype in (np.int16, np.float32):
        assert normalise(array.astype(dtype)[4:16, 4:16, 4:16], 0.99) is None
