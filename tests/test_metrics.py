import math

import numpy as np
import pytest

from brainpretrain.errors import UserError
from brainpretrain.metrics import dice_per_label

REFERENCE = np.array([[0, 1, 1, 1], [2, 2, 0, 0]], dtype=np.uint8)
PREDICTION = np.array([[0, 1, 1, 0], [2, 0, 0, 3]], dtype=np.int16)


def test_by_hand():
    rows = dice_per_label(REFERENCE, PREDICTION, [1, 2, 3, 4])
    assert rows[0] == {
        "label": 1, "dice": 0.8, "tp": 2, "fp": 0, "fn": 1, "reference_voxels": 3, "prediction_voxels": 2, "status": "ok"
    }  # fmt: skip
    assert rows[1]["dice"] == pytest.approx(2 / 3)
    assert (rows[2]["dice"], rows[2]["status"], rows[2]["fp"]) == (0.0, "reference_empty", 1)
    assert math.isnan(rows[3]["dice"]) and rows[3]["status"] == "both_empty"


def test_prediction_empty():
    row = dice_per_label(REFERENCE, np.zeros_like(REFERENCE), [1])[0]
    assert (row["dice"], row["status"], row["fn"]) == (0.0, "prediction_empty", 3)


def test_the_empty_policy_is_the_callers():
    empty = np.zeros((2, 2), dtype=np.uint8)
    assert dice_per_label(empty, empty, [1], empty="one")[0]["dice"] == 1.0
    with pytest.raises(UserError, match="unknown policy"):
        dice_per_label(empty, empty, [1], empty="zero")


def test_background_can_be_scored():
    assert dice_per_label(REFERENCE, PREDICTION, [0])[0]["dice"] == pytest.approx(2 * 2 / (3 + 4))


def test_labels_beyond_those_asked_for_do_no_harm():
    other = np.where(REFERENCE == 2, 60000, REFERENCE).astype(np.uint16)
    assert dice_per_label(other, PREDICTION, [1]) == dice_per_label(REFERENCE, PREDICTION, [1])
    assert dice_per_label(other, other, [0, 1])[1]["dice"] == 1.0


def test_equals_monai():
    import torch
    from monai.metrics import DiceMetric

    rng = np.random.default_rng(0)
    reference, prediction = (rng.integers(0, 4, (9, 8, 7)) for _ in range(2))
    one_hot = [torch.nn.functional.one_hot(torch.from_numpy(a), 4).movedim(-1, 0)[None] for a in (prediction, reference)]
    expected = DiceMetric(include_background=False)(*one_hot)[0].tolist()
    found = [row["dice"] for row in dice_per_label(reference, prediction, [1, 2, 3])]
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("prediction", "message"),
    [
        (PREDICTION[:, :3], "differ in shape"),
        (PREDICTION.astype(np.float32), "no integer labels"),
        (PREDICTION - 1, "negative label"),
    ],
)
def test_bad_arrays_are_refused(prediction, message):
    with pytest.raises(UserError, match=message):
        dice_per_label(REFERENCE, prediction, [1])
