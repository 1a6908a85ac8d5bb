import math

import numpy as np
import pytest

from brainpretrain.errors import UserError
from brainpretrain.evaluation import metrics

TASK = {"labels": {"core": [7], "rim": [8], "spot": [9]}, "lesions": ["spot"], "nsd_tolerance_mm": 1, "empty_masks": "nan", "hd95_missed_mm": None}  # fmt: skip
IGNORED = 255
SPACING = (1.0, 2.0, 4.0)
DISTANCES = ("dice", "nsd", "hd95_mm", "lesion_f1")


def boxes(*parts, shape=(12, 10, 8)):
    """Classes of boxes given as (class, slices along x, y, z)."""
    array = np.zeros(shape, np.uint8)
    for number, *box in parts:
        array[tuple(slice(*side) for side in box)] = number
    return array


REFERENCE = boxes((1, (2, 6), (2, 6), (2, 6)), (3, (8, 9), (1, 2), (1, 2)), (3, (8, 10), (5, 7), (1, 3)))
PREDICTION = boxes((1, (3, 7), (2, 6), (2, 6)), (2, (10, 11), (8, 9), (1, 2)), (3, (8, 9), (5, 7), (1, 3)))


def scores(reference, prediction, **changes):
    return {row["label"]: row for row in metrics.score(reference, prediction, SPACING, TASK | changes, IGNORED)}


def test_a_label_by_hand():
    row = scores(REFERENCE, PREDICTION)["core"]
    assert list(row) == list(metrics.COLUMNS)
    assert {name: row[name] for name in ("dice", "hd95_mm", "volume_error", "reference_ml", "predicted_ml", "status")} == {
        "dice": 0.75, "hd95_mm": 1.0, "volume_error": 0.0, "reference_ml": 0.512, "predicted_ml": 0.512, "status": "ok"
    }  # fmt: skip
    counts = ("true_positives", "false_positives", "false_negatives", "reference_voxels", "predicted_voxels")
    assert [row[name] for name in counts] == [48, 16, 16, 64, 64]
    assert row["nsd"] == 1
    assert scores(REFERENCE, PREDICTION, nsd_tolerance_mm=0.9)["core"]["nsd"] < 1


def test_lesions_are_counted_for_labels_that_are_lesions():
    found = scores(REFERENCE, PREDICTION)
    names = ("lesions_reference", "lesions_predicted", "lesions_found", "lesions_true")
    assert [found["spot"][name] for name in names] == [2, 1, 1, 1]
    assert found["spot"]["lesion_f1"] == pytest.approx(2 / 3)
    assert found["spot"]["volume_error"] == pytest.approx((4 - 9) / 9)
    assert all(math.isnan(found["core"][name]) for name in (*names, "lesion_f1"))


@pytest.mark.parametrize(
    ("policy", "missed_mm", "expected"),
    [("nan", None, [math.nan] * 4), ("one", 374.0, [1, 1, 0, 1])],
)
def test_masks_that_are_both_empty(policy, missed_mm, expected):
    empty = np.zeros((4, 4, 4), np.uint8)
    row = scores(empty, empty, empty_masks=policy, hd95_missed_mm=missed_mm)["spot"]
    assert row["status"] == "both_empty"
    assert [row[name] for name in DISTANCES] == pytest.approx(expected, nan_ok=True)
    assert math.isnan(row["volume_error"]) and row["reference_ml"] == row["predicted_ml"] == 0
    assert (row["lesions_reference"], row["dice_with_background"]) == (0, 1)


@pytest.mark.parametrize("policy", ["nan", "one"])
@pytest.mark.parametrize(("missed_mm", "expected"), [(None, math.nan), (374.0, 374.0)])
def test_one_empty_mask_is_a_score_of_zero_and_no_distance(policy, missed_mm, expected):
    one, none = boxes((3, (2, 4), (2, 4), (2, 4))), boxes()
    for pair, status, error in (((none, one), "reference_empty", math.nan), ((one, none), "prediction_empty", -1)):
        row = scores(*pair, empty_masks=policy, hd95_missed_mm=missed_mm)["spot"]
        assert row["status"] == status
        assert [row[name] for name in DISTANCES] == pytest.approx([0, 0, expected, 0], nan_ok=True)
        assert row["volume_error"] == pytest.approx(error, nan_ok=True)


def test_an_unknown_policy_is_refused():
    with pytest.raises(UserError, match="unknown policy 'zero'"):
        scores(REFERENCE, PREDICTION, empty_masks="zero")


def test_ignored_voxels_count_nowhere():
    """Scores are those of two volumes in which the ignored region is background, and the background is smaller by it."""
    region = np.zeros(REFERENCE.shape, bool)
    region[5:9, 3:6] = True
    ignoring = np.where(region, IGNORED, REFERENCE).astype(np.uint8)
    cleared = [np.where(region, 0, array).astype(np.uint8) for array in (REFERENCE, PREDICTION)]
    found, expected = scores(ignoring, PREDICTION), scores(*cleared)
    for label, row in expected.items():
        kept = {name: value for name, value in row.items() if name != "dice_with_background"}
        assert {name: found[label][name] for name in kept} == pytest.approx(kept, nan_ok=True)
    other = np.where(region, 3, PREDICTION).astype(np.uint8)
    assert scores(ignoring, other)["spot"] == pytest.approx(found["spot"])
    assert found["core"]["dice_with_background"] != pytest.approx(expected["core"]["dice_with_background"], abs=1e-6)


def one_hot(array, n):
    import torch

    return torch.nn.functional.one_hot(torch.from_numpy(array.astype(np.int64)), n).movedim(-1, 0)[None]


def test_dice_equals_monai_and_so_does_the_one_with_background():
    from monai.metrics import DiceMetric

    rng = np.random.default_rng(0)
    reference, prediction = (rng.integers(0, 4, (9, 8, 7)).astype(np.uint8) for _ in range(2))
    reference[reference == 2] = 0  # predicted, but not there: MONAI leaves it out of its mean
    pair = one_hot(prediction, 4), one_hot(reference, 4)
    found = scores(reference, prediction)
    per_label = DiceMetric(include_background=False)(*pair)[0].tolist()
    assert [found["core"]["dice"], found["spot"]["dice"]] == pytest.approx([per_label[0], per_label[2]], rel=1e-6)
    assert math.isnan(per_label[1]) and found["rim"]["dice"] == 0
    metric = DiceMetric(include_background=True)
    metric(*pair)
    assert len({row["dice_with_background"] for row in found.values()}) == 1
    assert found["rim"]["dice_with_background"] == pytest.approx(metric.aggregate().item(), rel=1e-6)


def test_dice_with_background_ignores_as_monai_does():
    from monai.metrics import DiceMetric

    rng = np.random.default_rng(1)
    reference, prediction = (rng.integers(0, 4, (9, 8, 7)).astype(np.uint8) for _ in range(2))
    metric = DiceMetric(include_background=True, ignore_index=4)
    left_out = rng.random(reference.shape) < 0.2
    pair = [one_hot(np.where(left_out, 4, array), 5)[:, :4] for array in (prediction, reference)]
    metric(*pair)
    ignoring = np.where(left_out, IGNORED, reference).astype(np.uint8)
    assert scores(ignoring, prediction)["core"]["dice_with_background"] == pytest.approx(metric.aggregate().item(), rel=1e-6)


def test_surfaces_are_measured_on_the_spacing_of_each_axis_in_any_memory_order():
    expected = scores(REFERENCE, PREDICTION)
    turned = [np.asfortranarray(array) for array in (REFERENCE, PREDICTION)]
    assert not turned[0].flags.c_contiguous
    found = scores(*turned)
    for label, row in expected.items():
        assert found[label] == pytest.approx(row, nan_ok=True)
    far = boxes((1, (2, 6), (2, 6), (3, 7)))
    assert scores(REFERENCE, far)["core"]["hd95_mm"] == 4


def test_a_label_at_the_end_of_the_volume_and_values_beyond_the_classes():
    whole = np.ones((4, 4, 4), np.uint16)
    other = whole.copy()
    other[0, 0, 0] = 60000
    row = scores(whole, other)["core"]
    assert (row["true_positives"], row["false_negatives"]) == (63, 1) and 0.9 < row["nsd"] <= 1


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (PREDICTION[:, :3], "differ in shape"),
        (PREDICTION.astype(np.float32), "instead of integer labels"),
        (PREDICTION.astype(np.int16) - 1, "negative label"),
    ],
)
def test_bad_arrays_are_refused(prediction, message):
    with pytest.raises(UserError, match=message):
        scores(REFERENCE, prediction)
