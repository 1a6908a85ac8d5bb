import math

import numpy as np
import pytest

from brainpretrain.evaluation import lesions


def row(text):
    """A mask (n, 1, 1) drawn as text: `#` is inside."""
    return np.array([c == "#" for c in text])[:, None, None]


@pytest.mark.parametrize(
    ("reference", "prediction", "counts", "f1"),
    [
        ("##..##..##", "##..##..##", (3, 3, 3, 3), 1.0),
        ("##..##..##", ".#........", (3, 1, 1, 1), 2 * (1 / 3) / (1 / 3 + 1)),  # one voxel is enough
        ("##..##....", "........##", (2, 1, 0, 0), 0.0),
        ("##..##....", "######....", (2, 1, 2, 1), 1.0),  # one predicted lesion finds two
        ("######....", "#.#.#...##", (1, 4, 1, 3), 2 * 0.75 / 1.75),  # three are in one
        ("..........", "##..#.....", (0, 2, 0, 0), 0.0),
        ("##..#.....", "..........", (2, 0, 0, 0), 0.0),
        ("..........", "..........", (0, 0, 0, 0), math.nan),
    ],
)
def test_by_hand(reference, prediction, counts, f1):
    found = lesions.count(row(reference), row(prediction))
    assert list(found) == list(lesions.COLUMNS)
    assert tuple(found[name] for name in lesions.COUNTS) == counts
    assert found["lesion_f1"] == pytest.approx(f1, nan_ok=True)


def test_voxels_that_touch_by_a_corner_are_one_lesion_and_one_voxel_is_a_lesion():
    reference = np.zeros((7, 7, 7), bool)
    reference[1, 1, 1] = reference[2, 2, 2] = reference[5, 5, 5] = True
    prediction = np.zeros_like(reference)
    prediction[2, 2, 2] = prediction[3, 3, 3] = True
    found = lesions.count(reference, prediction)
    assert [found[name] for name in lesions.COUNTS] == [2, 1, 1, 1]


def test_equals_a_count_of_lesion_after_lesion():
    from skimage.measure import label

    rng = np.random.default_rng(0)
    reference, prediction = (rng.random((20, 18, 16)) < density for density in (0.03, 0.05))
    ours = lesions.count(reference, prediction)
    parts = [label(mask, connectivity=3) for mask in (reference, prediction)]
    hits = [
        sum(other[part == n].any() for n in range(1, part.max() + 1))
        for part, other in zip(parts, (prediction, reference), strict=True)
    ]
    assert [ours[name] for name in lesions.COUNTS] == [parts[0].max(), parts[1].max(), *hits]
    assert 0 < hits[0] < parts[0].max() and 0 < hits[1] < parts[1].max()
    recall, precision = hits[0] / parts[0].max(), hits[1] / parts[1].max()
    assert ours["lesion_f1"] == pytest.approx(2 / (1 / recall + 1 / precision))
