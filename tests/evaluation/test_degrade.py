"""What makes images worse: numbers by hand, what must stay, and the refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from brainpretrain.cohorts import splits
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.config.sections import Degradation
from brainpretrain.errors import UserError
from brainpretrain.evaluation import degrade as room
from brainpretrain.evaluation.cohort import predict_cohort
from brainpretrain.evaluation.degrade import degrade
from brainpretrain.files import read_json, read_tsv
from models import WINDOW, labels_of, make_model

SPACING = (1.0, 1.5, 2.0)
RANDOM = {"motion": 4.0, "bias_field": 0.5, "noise": 0.05}


@pytest.fixture(scope="module")
def head() -> np.ndarray:
    """Smooth blobs within air, (x y z) in [0, 0.8]."""
    blobs = ndimage.gaussian_filter(np.random.default_rng(0).random((20, 24, 18)), 2)
    ball = sum(line**2 for line in np.meshgrid(*(np.linspace(-1.2, 1.2, n) for n in blobs.shape), indexing="ij", sparse=True)) < 1
    return np.where(ball, (blobs - blobs.min()) / np.ptp(blobs) * 0.8, 0)


def test_thick_slices_by_hand():
    ramp = np.tile(np.array([0.0, 2, 4, 6, 8]), (2, 3, 1))
    worse = room.thick_slices(ramp, 4.0, (1, 1, 2), 2)  # two voxels a slice: 1, 5 and, with one voxel, 8 at voxels 0.5, 2.5 and 4
    assert worse.shape == ramp.shape
    np.testing.assert_allclose(worse[1, 2], [1, 2, 4, 6, 8])
    np.testing.assert_allclose(room.thick_slices(ramp.swapaxes(0, 2), 4.0, (2, 1, 1), 0)[:, 2, 1], [1, 2, 4, 6, 8])


@pytest.mark.parametrize("thickness", [2.2, 3, 4.5, 6, 36, 90])
def test_thick_slices_keep_what_is_even_and_touch_one_axis(thickness):
    lines = np.random.default_rng(1).random((4, 5, 1)).repeat(18, 2)
    np.testing.assert_allclose(room.thick_slices(lines, thickness, (1, 1, 2), 2), lines, atol=1e-12)


def test_slices_no_thicker_than_voxels_are_refused(head):
    with pytest.raises(UserError, match="slices of 2 mm are no thicker than voxels of 2 mm"):
        degrade(head[None], Degradation(kind="thick_slices", strength=2), SPACING, ["T1w"], "a")


@pytest.mark.parametrize("kind", [*RANDOM, "thick_slices"])
def test_stronger_is_worse_and_every_model_sees_the_same(head, kind):
    strength = RANDOM.get(kind, 4.0)
    image = np.stack([head, head])

    def worse(share: float, case: str = "a") -> np.ndarray:
        return degrade(image, Degradation(kind=kind, strength=share * strength), SPACING, ["T1w", "T2w"], case)

    errors = [float(np.abs(worse(share) - image).mean()) for share in (1, 2, 4)]
    assert 0 < errors[0] < errors[1] < errors[2]
    np.testing.assert_array_equal(worse(1), worse(1))
    assert worse(1).min() >= 0 and worse(1).max() <= 1 and worse(1).dtype == image.dtype
    if kind in RANDOM:
        assert not np.array_equal(worse(1), worse(1, "b")) and not np.array_equal(*worse(1))


def test_a_head_that_hardly_moves_is_the_image_and_movements_are_rigid(head):
    np.testing.assert_allclose(room.motion(head, 1e-9, SPACING, np.random.default_rng(0)), head, atol=1e-6)
    shifted = room._moved(head, np.array([1.0, -3.0, 4.0]), np.zeros(3), SPACING)
    np.testing.assert_allclose(shifted, ndimage.shift(head, (1, -2, 2), order=1), atol=1e-9)
    ball = np.zeros((21, 15, 11))  # 20 mm along each axis
    ball[10, 14, 5] = 1
    turned = room._moved(ball, np.zeros(3), np.array([0, 0, 90.0]), (1, 20 / 14, 2))
    assert sorted(np.argwhere(turned > 0.5)[0][[0, 2]]) in ([0, 5], [5, 20]) and turned.max() == pytest.approx(1)


def test_a_bias_field_is_as_strong_as_stated_and_smooth(head):
    even = np.full((16, 18, 20), 0.5)
    worse = room.bias_field(even, 0.4, SPACING, np.random.default_rng(0))
    log = np.log(worse / even)
    assert worse.max() <= 0.5 + 1e-12
    log -= log.mean()  # the field has the mean 0; the rest is the division by the highest value
    assert np.abs(log).max() == pytest.approx(0.4)
    fourth = np.diff(log, n=4, axis=0)
    assert np.abs(fourth).max() < 1e-9  # a polynomial of degree 3


def test_noise_of_air_is_that_of_rayleigh():
    worse = room.noise(np.zeros((40, 40, 40)), 0.1, SPACING, np.random.default_rng(0))
    assert worse.mean() == pytest.approx(0.1 * np.sqrt(np.pi / 2), rel=0.02)


def test_a_missing_sequence_is_empty_and_the_others_stay(head):
    image = np.stack([head, head / 2])
    worse = degrade(image, Degradation(kind="missing_sequence", sequence="FLAIR"), SPACING, ["T1w", "FLAIR"], "a")
    np.testing.assert_array_equal(worse, np.stack([head, np.zeros_like(head)]))


def test_a_cohort_is_predicted_from_degraded_images(cohort, tmp_path):
    model = make_model(tmp_path)
    cases = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])["s1"]
    how = Degradation(kind="noise", strength=0.5)
    for name, worse in (("as_it_is", None), ("worse", how)):
        predict_cohort(model / "model", cases, cohort.raw, WINDOW, tmp_path / name, worse=worse)
    ours, theirs = (labels_of(tmp_path / name / "s1.nii.gz") for name in ("as_it_is", "worse"))
    assert not np.array_equal(ours, theirs)
    assert read_json(tmp_path / "worse" / "predictions.json")["degrade"] == {"kind": "noise", "strength": 0.5, "axis": "z"}
    assert "degrade" not in read_json(tmp_path / "as_it_is" / "predictions.json")


def test_a_degraded_cohort_has_the_subjects_of_the_test_set():
    subjects = {"dataset": "d", "pool": ["a"], "test": ["b", "c"], "subsets": ["orig"], "patients": {}}
    drawn = splits.ood(None, {"sequences": ["T1w"], "ood": {"of": "test"}}, subjects, "thick")
    assert drawn == {"dataset": "d", "thick": ["b", "c"], "subsets": ["orig"]}
