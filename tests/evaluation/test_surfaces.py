import numpy as np
import pytest
import torch
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from monai.metrics.utils import get_code_to_measure_table

from brainpretrain.evaluation import surfaces
from helpers import SHARED

pytestmark = pytest.mark.filterwarnings("ignore:.*always_return_as_numpy.*:FutureWarning")  # MONAI's, about itself
SPACINGS = [(1.0, 1.0, 1.0), (3.0, 1.0, 1.0), (0.43, 0.94, 2.6)]


def ball(centre, radius=18, size=64):
    distance = np.linalg.norm(np.indices((size,) * 3).T - centre, axis=-1).T
    return distance < radius


def monai_scores(reference, prediction, spacing, tolerance):
    """NSD and HD95 of MONAI for two masks."""
    batch = [torch.from_numpy(np.stack([~mask, mask]))[None].float() for mask in (prediction, reference)]
    nsd = compute_surface_dice(*batch, class_thresholds=[tolerance], spacing=spacing, use_subvoxels=True)
    return nsd.item(), compute_hausdorff_distance(*batch, percentile=95, spacing=spacing).item()


def assert_equals_monai(reference, prediction, spacing, tolerance):
    nsd, hd95 = monai_scores(reference, prediction, spacing, tolerance)
    assert surfaces.nsd(reference, prediction, spacing, tolerance) == pytest.approx(nsd, abs=1e-6)
    assert surfaces.hd95_mm(reference, prediction, spacing) == pytest.approx(hd95, rel=1e-6)


@pytest.mark.parametrize(("spacing", "expected"), [((1, 1, 1), (0.5101, 0.9578, 1.0)), ((3, 1, 1), (0.5339, 0.9096, 0.9701))])
def test_shifted_sphere(spacing, expected):
    """Values of DeepMind's surface-distance."""
    masks = ball((32, 32, 32)), ball((33, 32, 31))
    assert [round(surfaces.nsd(*masks, spacing, tolerance), 4) for tolerance in (0.5, 1, 2)] == list(expected)


def test_counting_edge_voxels_is_another_quantity():
    batch = [torch.from_numpy(np.stack([~mask, mask]))[None].float() for mask in (ball((33, 32, 31)), ball((32, 32, 32)))]
    assert compute_surface_dice(*batch, class_thresholds=[1]).item() == pytest.approx(0.861, abs=5e-4)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_the_area_of_every_set_of_corners_is_the_published_one(spacing):
    table, kernel = get_code_to_measure_table(spacing, device=torch.device("cpu"))
    weights = kernel.numpy().squeeze().T.ravel().astype(int)  # what corner x + 2 y + 4 z adds to MONAI's code
    theirs = [table[sum(weights[k] for k in range(8) if code >> k & 1)] for code in range(256)]
    assert surfaces.areas_by_code(spacing) == pytest.approx(np.array(theirs), abs=2e-6)


def test_areas_by_hand():
    areas = surfaces.areas_by_code((1.0, 2.0, 3.0))
    assert areas[0] == areas[255] == 0
    assert areas[0b00001111] == 2 and areas[0b01010101] == 6 and areas[0b00110011] == 3  # half a cell: its cross-section
    corner = np.linalg.norm(np.cross((-0.5, 1, 0), (-0.5, 0, 1.5))) / 2
    assert areas[1] == areas[128] == areas[254] == pytest.approx(corner)
    assert areas[0b01101001] == pytest.approx(4 * corner)  # four corners, none beside another


def test_a_sphere_has_about_the_area_of_a_sphere():
    codes = surfaces._codes(np.pad(ball((32, 32, 32)), 1))
    assert surfaces.areas_by_code((1.0, 1.0, 1.0))[codes].sum() == pytest.approx(4 * np.pi * 18**2, rel=0.1)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("densities", [(0.5, 0.5), (0.9, 0.2), (0.02, 0.02)])
@pytest.mark.parametrize("tolerance", [0.5, 2.0])
def test_equals_monai_on_random_masks(spacing, densities, tolerance):
    rng = np.random.default_rng(0)
    assert_equals_monai(*(rng.random((14, 11, 17)) < density for density in densities), spacing, tolerance)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_equals_monai_where_surfaces_are_far_apart(spacing):
    """Beyond the neighbours that are looked up, for most points and for a few, within the tolerance and not."""
    one, other = np.zeros((40, 20, 20), bool), np.zeros((40, 20, 20), bool)
    one[2:8, 2:9, 3:9], other[28:34, 4:9, 3:12] = True, True
    assert surfaces.hd95_mm(one, other, spacing) > surfaces._Search(spacing, np.inf).reach_mm
    for tolerance in (1.0, 15.0, 40.0):
        assert_equals_monai(one, other, spacing, tolerance)
        assert_equals_monai(one, one | other, spacing, tolerance)
    few = one.copy()
    few[38, 18, 18] = True
    assert_equals_monai(one, few, spacing, 1.0)


@pytest.mark.parametrize("n", [1, 2, 3, 20, 21, 22, 41])
def test_the_percentile_lies_between_two_distances(n):
    line, other = np.zeros((60, 1, 1), bool), np.zeros((60, 1, 1), bool)
    line[:n], other[0] = True, True
    assert surfaces.hd95_mm(line, other, (1.5, 1, 1)) == pytest.approx(1.5 * np.quantile(np.arange(n), 0.95))


def test_what_is_beyond_the_array_is_outside():
    whole = np.ones((6, 7, 8), bool)
    hollow = np.pad(whole, 5)
    smaller = whole.copy()
    smaller[0] = False
    assert surfaces.nsd(whole, whole, (1, 1, 1), 0.5) == 1 and surfaces.hd95_mm(whole, whole, (1, 1, 1)) == 0
    assert surfaces.hd95_mm(whole, smaller, (2, 1, 1)) == surfaces.hd95_mm(hollow, np.pad(smaller, 5), (2, 1, 1)) == 2
    assert_equals_monai(whole, smaller, (2.0, 1.0, 1.0), 1.0)


def test_a_distance_equal_to_the_tolerance_is_within_it():
    one, other = np.zeros((12, 8, 8), bool), np.zeros((12, 8, 8), bool)
    one[2, 2:6, 2:6], other[5, 2:6, 2:6] = True, True
    assert 3 * 0.1 > 0.3  # in floating point
    assert surfaces.nsd(one, other, (0.1, 1, 1), 0.3) == 1
    assert surfaces.nsd(one, other, (0.1, 1, 1), 0.29) < 1


def test_neither_order_of_masks_nor_of_axes_matters():
    rng = np.random.default_rng(3)
    one, other = (rng.random((9, 12, 7)) < 0.3 for _ in range(2))
    spacing, order = (0.7, 1.1, 2.0), (2, 0, 1)
    turned = [mask.transpose(order)[:, ::-1] for mask in (one, other)]
    for found in (
        (surfaces.nsd(other, one, spacing, 1.2), surfaces.hd95_mm(other, one, spacing)),
        (surfaces.nsd(*turned, (2.0, 0.7, 1.1), 1.2), surfaces.hd95_mm(*turned, (2.0, 0.7, 1.1))),
    ):
        assert found == pytest.approx((surfaces.nsd(one, other, spacing, 1.2), surfaces.hd95_mm(one, other, spacing)))


REAL = {
    "msd_task04_hippocampus/labelsTr/hippocampus_001.nii.gz": [(1,), (2,)],
    "oasis_trt20_mindboggle/OASIS-TRT-20-01/labels_DKT31_aseg.nii.gz": [(4, 43), (17, 53), (16,)],
}


@pytest.mark.skipif(not (SHARED / "manifest.csv").exists(), reason=f"no shared volumes at {SHARED}")
@pytest.mark.parametrize(("file", "labels"), REAL.items())
def test_equals_monai_on_real_labels(file, labels):
    """Against the same labels bent by about a voxel."""
    from scipy import ndimage

    from brainpretrain.preprocess.nifti import read_volume

    volume = read_volume(SHARED / file)
    rng = np.random.default_rng(0)
    for values in labels:
        mask = np.isin(volume.array, values)
        mask = np.pad(mask[ndimage.find_objects(mask.astype(np.uint8))[0]], 6)
        bend = [ndimage.gaussian_filter(rng.standard_normal(mask.shape), 4) for _ in range(3)]
        places = [at + 1.5 * shift / shift.std() for at, shift in zip(np.indices(mask.shape), bend, strict=True)]
        bent = ndimage.map_coordinates(mask.astype(np.uint8), places, order=0) > 0
        for tolerance in (1.0, 2.0):
            assert_equals_monai(mask, bent, volume.spacing_mm, tolerance)
            assert 0.05 < surfaces.nsd(mask, bent, volume.spacing_mm, tolerance) < 1
