from pathlib import Path

import numpy as np
import pytest

from brainpretrain import config
from brainpretrain.augment.intensity import TRANSFORMS
from brainpretrain.augment.pictures import pictures

POLICIES = config.load(Path(__file__).parents[2] / "config").augmentations
ALL = [name.replace("_", " ") for name in ("rotation", "scale", "elastic", *TRANSFORMS) if getattr(POLICIES["amaes"], name)]
VOLUME = np.random.default_rng(0).random((50, 48, 46)).astype(np.float32)


def drawn(policy: str, patch: int = 32, seed: int = 5) -> dict:
    return {one.name: one for one in pictures(POLICIES[policy], VOLUME, [patch] * 3, seed)}


def test_each_transform_fires_by_itself():
    found = drawn("amaes")
    assert list(found) == ALL
    for name, one in found.items():
        assert np.array_equal(one.before, VOLUME[9:41, 8:40, 23]), name
        assert one.after.shape == (32, 32) and not np.array_equal(one.after, one.before), name


def test_what_was_drawn_stands_beside_it():
    found = drawn("amaes")
    for name, words in {
        "rotation": "by ", "scale": "times the extent", "elastic": "voxels", "noise": "sigma", "blur": "sigma", "ghosting": "th line times 0.",
        "gibbs": "of 32 lines kept", "low resolution": " x ", "bias field": "%", "gamma": "exponent",
    }.items():  # fmt: skip
        assert words in found[name].words, name


def test_the_reference_is_off_the_grid_even_if_nothing_is_drawn():
    found = drawn("amaes_reference")
    assert list(found) == ["nothing drawn", *ALL]
    assert found["nothing drawn"].words == "0.5 voxels off the grid"
    assert found["nothing drawn"].after.std() < 0.8 * found["nothing drawn"].before.std()
    assert "off the grid" not in found["noise"].words and np.abs(found["noise"].after - found["noise"].before).max() < 0.01


def test_the_transforms_of_nnunet_have_pictures():
    found = drawn("nnunet")
    assert "along" in found["mirror"].words and np.array_equal(found["mirror"].after, VOLUME[9:41, 8:40, 22][::-1, ::-1])
    assert "times " in found["brightness"].words and "times " in found["contrast"].words


def test_a_policy_without_transforms_has_no_pictures():
    assert pictures(POLICIES["none"], VOLUME, [16] * 3, 0) == []


@pytest.mark.parametrize("side", [64])
def test_a_volume_smaller_than_the_patch_is_padded(side):
    one = drawn("spatial", patch=side)["scale"]
    assert one.before.shape == (side, side) and one.before[:7].max() == 0 and one.before[8:56, 9:55].max() > 0
