from pathlib import Path

import numpy as np
import pytest
import torch

from brainpretrain import config
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.augment.intensity import TRANSFORMS
from brainpretrain.augment.policy import Policy
from brainpretrain.errors import UserError

POLICIES = config.load(Path(__file__).parents[2] / "config").augmentations
INTENSITY = list(TRANSFORMS)
SEEDS = list(range(100, 124))


def only(*names: str, policy: str = "amaes") -> Policy:
    """The named transforms of a policy, sure to fire, on every axis and channel."""
    fields = {}
    for name in names:
        fields[name] = getattr(POLICIES[policy], name).model_dump()
        fields[name] |= {key: 1.0 for key in fields[name] if key in ("p", "p_axis", "p_channel")}
    if "gibbs" in fields:
        fields["gibbs"]["kept"] = [0.75, 0.9]  # a draw of all lines does nothing
    return Policy(PolicyConfig.model_validate(fields))


def images(n: int, size: int, channels: int = 1) -> torch.Tensor:
    coarse = torch.rand(n, channels, 5, 5, 5, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, size=[size] * 3, mode="trilinear")


def run(policy: Policy, seeds: list[int], image: torch.Tensor, patch: list[int], **other) -> tuple:
    return policy.apply(image, policy.sample(seeds, image.shape[1:], patch), **other)


def test_crop_size():
    assert Policy(POLICIES["amaes"]).crop_size([128, 96, 64]) == [181, 135, 90]
    for name in ("none", "spatial", "amaes_finetune"):
        assert Policy(POLICIES[name]).crop_size([128, 96, 64]) == [128, 96, 64]
    without = Policy({"crop_factor": 1.5, "rotation": {"p": 0, "p_axis": 1, "angle_deg": [0, 0]}})
    assert without.crop_size([64, 64, 64]) == [64, 64, 64]


@pytest.mark.parametrize("crop", [16, 22, 23])
def test_nothing_fires_nothing_changes(crop):
    image = torch.rand(2, 1, crop, crop, crop)
    label = torch.randint(0, 4, (2, crop, crop, crop), dtype=torch.uint8)
    start = (crop - 16) // 2
    middle = (..., *[slice(start, start + 16)] * 3)
    params = Policy(POLICIES["none"]).sample([1, 2], image.shape[1:], [16, 16, 16])
    assert set(params) == {"size"}
    found, moved = Policy(POLICIES["none"]).apply(image, params, label=label)
    assert torch.equal(found, image[middle]) and torch.equal(moved, label[middle])
    assert moved.dtype == torch.uint8


def test_samples_that_fire_leave_the_others_alone():
    policy = Policy(POLICIES["amaes"])
    image = images(len(SEEDS), 22)
    params = policy.sample(SEEDS, image.shape[1:], [16, 16, 16])
    touched = {place for name, drawn in params.items() if name != "size" for place in drawn["samples"].tolist()}
    moved = {place for name in ("affine", "elastic") for place in params[name]["samples"].tolist()}
    found, target = policy.apply(image, params, target=image)
    middle = image[:, :, 3:19, 3:19, 3:19]
    assert 0 < len(moved) < len(touched) < len(SEEDS)
    for place in range(len(SEEDS)):
        assert torch.equal(found[place], middle[place]) is (place not in touched)
        assert torch.equal(target[place], middle[place]) is (place not in moved)


def test_the_probabilities_of_the_paper():
    drawn = Policy(POLICIES["amaes"]).sample(list(range(1500)), [1, 22, 22, 22], [16, 16, 16])
    share = {name: len(found["samples"]) / 1500 for name, found in drawn.items() if name != "size"}
    expected = {
        "affine": (1 - 0.8 * (1 - 0.2 * (1 - 0.34**3))) * 0.67,
        "elastic": 0.33,
        "noise": 0.2,
        "blur": 0.1,
        "multiplicative_noise": 0.2,
        "ghosting": 0.2,
        "bias_field": 0.33,
        "gamma": 0.2,
    }
    for name, value in expected.items():
        assert share[name] == pytest.approx(value, abs=0.035), name
    assert 0.1 < share["gibbs"] < 0.2  # a draw that keeps every line does nothing
    assert 0.03 < share["low_resolution"] < 0.1


@pytest.mark.parametrize("name", INTENSITY)
def test_intensity_changes_the_input_only_and_stays_in_range(name):
    image = images(3, 16, channels=2) * torch.tensor([1.0, 0.5]).view(1, 2, 1, 1, 1)
    before = image.clone()
    found, target = run(only(name), [1, 2, 3], image, [16] * 3, target=image)
    assert torch.equal(target, before) and torch.equal(image, before)
    assert all(not torch.equal(a, b) for a, b in zip(found, image, strict=True))
    assert (found.amin((2, 3, 4)) >= image.amin((2, 3, 4))).all()
    assert (found.amax((2, 3, 4)) <= image.amax((2, 3, 4))).all()


@pytest.mark.parametrize("names", [("rotation",), ("scale",), ("elastic",), ("rotation", "scale", "elastic")])
def test_spatial_moves_image_target_and_label_alike(names):
    policy = only(*names)
    image = images(3, 44)
    params = policy.sample([1, 2, 3], image.shape[1:], [32] * 3)
    found, target = policy.apply(image, params, target=image)
    assert torch.equal(found, target)
    assert torch.equal(target, policy.apply(image, params, target=image.clone())[1])
    label = (image[:, 0] > 0.5).to(torch.uint8)
    _, moved = policy.apply(image, params, label=label)
    # smooth images: thresholding before and after differs in few voxels at the threshold
    middle = (..., *[slice(6, 38)] * 3)
    wrong = ((found[:, 0] > 0.5) != moved.bool()).float().mean()
    assert wrong < 0.03
    assert "rotation" not in names or wrong < 0.5 * ((found[:, 0] > 0.5) != label[middle].bool()).float().mean()
    assert not torch.equal(found, image[middle])


def test_a_label_follows_its_blob():
    i, j, k = torch.meshgrid(*[torch.arange(40.0)] * 3, indexing="ij")
    blob = torch.exp(-((i - 25) ** 2 + (j - 16) ** 2 + (k - 22) ** 2) / 12)
    image, label = blob[None, None].repeat(4, 1, 1, 1, 1), (blob > 0.4).long()[None].repeat(4, 1, 1, 1)
    policy = only("rotation", "scale")
    params = policy.sample([1, 2, 3, 4], image.shape[1:], [32] * 3)
    found, moved = policy.apply(image, params, label=label)
    index = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")).flatten(1)
    for place in range(4):
        weight = found[place].flatten()
        by_image = (index * weight).sum(1) / weight.sum()
        by_label = index[:, moved[place].flatten().bool()].mean(1)
        assert (by_image - by_label).abs().max() < 0.15
        # output voxel g reads the crop at g R s, so the blob, at c in the crop, lands at c (R s)^-1
        matrix = params["affine"]["matrix"][place].numpy()
        expected = (np.array([25, 16, 22]) - 19.5) @ np.linalg.inv(matrix) + 15.5
        np.testing.assert_allclose(by_image, expected, atol=0.15)
        assert np.abs(expected - [21, 12, 18]).max() > 0.5


def test_a_sample_does_not_depend_on_its_batch():
    policy = Policy(POLICIES["amaes"])
    image = images(len(SEEDS), 22, channels=2)
    together = run(policy, SEEDS, image, [16] * 3, target=image)
    for place, seed in enumerate(SEEDS):
        alone = run(policy, [seed], image[place : place + 1], [16] * 3, target=image[place : place + 1])
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], all_of_them[place], atol=1e-6, rtol=0)


def test_the_same_seeds_give_the_same_batch():
    policy, image = Policy(POLICIES["amaes"]), images(len(SEEDS), 22)
    first, again = (run(policy, seeds, image, [16] * 3)[0] for seeds in (SEEDS, torch.tensor(SEEDS)))
    assert torch.equal(first, again)
    assert not torch.equal(first, run(policy, [s + 1000 for s in SEEDS], image, [16] * 3)[0])


def test_a_transform_does_not_change_the_draws_of_another():
    whole = Policy(POLICIES["amaes"]).sample(SEEDS, [1, 22, 22, 22], [16] * 3)
    part = Policy({"bias_field": POLICIES["amaes"].bias_field}).sample(SEEDS, [1, 22, 22, 22], [16] * 3)
    assert all(torch.equal(part["bias_field"][key], whole["bias_field"][key]) for key in part["bias_field"])


def test_half_precision_input_and_autocast_do_not_coarsen_it():
    policy, image = only("rotation", "low_resolution", "ghosting"), images(2, 22).half()
    with torch.autocast("cpu", torch.bfloat16):
        found = run(policy, [1, 2], image, [16] * 3)[0]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, run(policy, [1, 2], image.float(), [16] * 3)[0])


def test_a_crop_smaller_than_the_patch_is_refused():
    with pytest.raises(UserError, match="holds no patch"):
        Policy(POLICIES["none"]).sample([1], [1, 15, 16, 16], [16, 16, 16])
