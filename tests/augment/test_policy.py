import math
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from brainpretrain import config
from brainpretrain.augment import intensity, spatial
from brainpretrain.augment import policy as policy_module
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.augment.intensity import TRANSFORMS
from brainpretrain.augment.policy import Draws, Policy
from brainpretrain.errors import UserError

POLICIES = config.load(Path(__file__).parents[2] / "config").augmentations
INTENSITY = list(TRANSFORMS)
SEEDS = list(range(100, 124))
PATCH = [16, 16, 16]


def only(*names: str, policy: str = "amaes") -> Policy:
    """The named transforms of a policy, sure to fire, on every axis and channel."""
    fields = {"interpolation": POLICIES[policy].interpolation, "crop_factor": POLICIES[policy].crop_factor}
    for name in names:
        fields[name] = (getattr(POLICIES[policy], name) or getattr(POLICIES["nnunet"], name)).model_dump()
        fields[name] |= {key: 1.0 for key in fields[name] if key in ("p", "p_axis", "p_channel")}
    if "gibbs" in fields:
        fields["gibbs"]["kept"] = [0.75, 0.9]  # a draw of all lines does nothing
    return Policy(PolicyConfig.model_validate(fields))


def volume(size: int, channels: int = 1, seed: int = 0) -> torch.Tensor:
    coarse = torch.rand(1, channels, 9, 9, 9, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=[size] * 3, mode="trilinear")[0]


def cut(whole: torch.Tensor, drawn: Draws, start: int = 20) -> torch.Tensor:
    return whole[(..., *(slice(start + low, start + high) for low, high in drawn.box))]


def run(policy: Policy, seeds: list[int], whole: torch.Tensor, patch: list[int], label: torch.Tensor | None = None) -> tuple:
    draws = [policy.draw(seed, whole.shape[0], patch) for seed in seeds]
    labels = None if label is None else [cut(label, drawn) for drawn in draws]
    return policy.apply([cut(whole, drawn) for drawn in draws], draws, labels)


def test_crop_size():
    assert Policy(POLICIES["amaes"]).crop_size([128, 96, 64]) == [181, 135, 90]
    for name in ("none", "spatial", "amaes_finetune"):
        assert Policy(POLICIES[name]).crop_size([128, 96, 64]) == [128, 96, 64]
    without = Policy({"crop_factor": 1.5, "rotation": {"p": 0, "p_axis": 1, "angle_deg": [0, 0]}})
    assert without.crop_size([64, 64, 64]) == [64, 64, 64]


def test_mirrored_samples_swap_left_and_right_classes():
    image, label = torch.rand(2, 8, 9, 10), torch.randint(0, 4, (8, 9, 10), dtype=torch.uint8)
    label[0, 0, 0] = 255  # ignored
    mirror = {"p": 1, "axes": ["x", "z"]}
    policy = Policy({"mirror": mirror}, sides=[(1, 3)])
    drawn = policy.draw(1, 2, [8, 9, 10])
    assert drawn.flips == (0, 2) and drawn.box == ((0, 8), (0, 9), (0, 10))
    found, target = policy.apply([image], [drawn], [label])
    assert torch.equal(found[0], image.flip(1, 3))
    assert torch.equal(target[0], torch.tensor([0, 3, 2, 1] + 251 * [0] + [255])[label.long()].flip(0, 2).to(torch.uint8))
    other = Policy({"mirror": {"p": 1, "axes": ["y"]}}, sides=[(1, 3)])  # along y nothing changes its side
    assert torch.equal(other.apply([image], [other.draw(1, 2, [8, 9, 10])], [label])[1][0], label.flip(1))
    flips = [Policy({"mirror": {"p": 0.5, "axes": ["x", "y", "z"]}}).draw(seed, 1, PATCH).flips for seed in range(400)]
    assert all(abs(sum(axis in drawn for drawn in flips) / 400 - 0.5) < 0.1 for axis in range(3))


def test_moved_and_mirrored_is_moved_first():
    """Image and label stay together: the mirrored sample is the moved one, flipped."""
    whole = volume(56)
    fields = {"interpolation": "linear", "rotation": {"p": 1, "p_axis": 1, "angle_deg": [10, 20]}}
    label = (whole[0] > 0.5).to(torch.uint8)
    plain, target = run(Policy(fields), [3], whole, PATCH, label)
    both, flipped = run(Policy(fields | {"mirror": {"p": 1, "axes": ["x"]}}), [3], whole, PATCH, label)
    assert torch.equal(both, plain.flip(2)) and torch.equal(flipped, target.flip(1))


def test_brightness_and_contrast_by_hand():
    x = torch.tensor([0.2, 0.4, 0.6]).view(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
    torch.testing.assert_close(intensity.apply_brightness(x, 0.5), x / 2)
    torch.testing.assert_close(intensity.apply_contrast(x, 1.5)[0, :, 0, 0], torch.tensor([0.1, 0.4, 0.7]))
    drawn = Policy({"contrast": {"p": 1, "factor": [1.5, 1.5]}}).draw(0, 1, [3, 2, 2]).intensity
    intensity.change(x, drawn)
    assert (x.min().item(), x.max().item()) == pytest.approx((0.2, 0.6))  # clipped to the range that it found


def test_nothing_fires_nothing_changes():
    image, label = torch.rand(2, 16, 16, 16), torch.randint(0, 4, (16, 16, 16), dtype=torch.uint8)
    policy = Policy(POLICIES["none"])
    drawn = policy.draw(1, 2, PATCH)
    assert drawn == ((16, 16, 16), ((0, 16),) * 3, None, {}, ())
    found, target = policy.apply([image], [drawn])
    assert torch.equal(found[0], image) and torch.equal(target[0], image)
    found, moved = policy.apply([image], [drawn], [label])
    assert torch.equal(found[0], image) and torch.equal(moved[0], label) and moved.dtype == torch.uint8


def test_samples_that_fire_leave_the_others_alone():
    """No half-voxel blur, and nothing else either, where nothing is drawn (Table 5 as meant)."""
    policy, whole = Policy(POLICIES["amaes"]), volume(60)
    draws = [policy.draw(seed, 1, PATCH) for seed in SEEDS]
    found, target = policy.apply([cut(whole, drawn) for drawn in draws], draws)
    patch = whole[:, 20:36, 20:36, 20:36]
    assert 0 < sum(drawn.move is None for drawn in draws) < len(SEEDS)
    assert any(drawn.move is None and not drawn.intensity for drawn in draws)
    for drawn, one, other in zip(draws, found, target, strict=True):
        assert torch.equal(other, patch) is (drawn.move is None)
        assert torch.equal(one, other) is (not drawn.intensity)


def test_the_probabilities_of_the_paper():
    """Table 5: blur and low resolution fire for a tenth, being 0.2 per sample times 0.5 per channel."""
    n = 2000
    drawn = [Policy(POLICIES["amaes"]).draw(seed, 1, PATCH) for seed in range(n)]
    fired = [
        set(one.intensity) | ({"gibbs"} if len(one.intensity.get("ghosting", {"lines": []})["lines"]) == 2 else set())
        for one in drawn
    ]
    expected = {"noise": 0.2, "blur": 0.1, "multiplicative_noise": 0.2, "ghosting": 0.2, "bias_field": 0.33, "gamma": 0.2}
    for name, share in expected.items():
        assert np.mean([name in names for names in fired]) == pytest.approx(share, abs=0.03), name
    moves = [one.move for one in drawn]
    turned = 1 - 0.8 * (1 - 0.2 * (1 - 0.34**3))  # of at least one axis, or scaled
    assert np.mean([move is not None for move in moves]) == pytest.approx(1 - (1 - turned) * 0.67, abs=0.03)
    assert np.mean([move is not None and move.shift is not None for move in moves]) == pytest.approx(0.33, abs=0.03)
    # a zoom that rounds to the patch itself and Gibbs ringing that keeps all lines do nothing
    assert 0.04 < np.mean(["low_resolution" in names for names in fired]) < 0.1
    assert np.mean([not names for names in fired]) == pytest.approx(0.8**5 * 0.9**2 * 0.67, abs=0.04)


@pytest.mark.parametrize("name", INTENSITY)
def test_intensity_changes_the_input_only_and_stays_in_range(name):
    whole = volume(60, channels=2) * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    before = whole.clone()
    found, target = run(only(name), [1, 2, 3], whole, PATCH)
    patch = whole[:, 20:36, 20:36, 20:36]
    assert torch.equal(whole, before) and all(torch.equal(one, patch) for one in target)
    assert not any(torch.equal(one, patch) for one in found)
    assert (found.amin((2, 3, 4)) >= patch.amin((1, 2, 3))).all() and (found.amax((2, 3, 4)) <= patch.amax((1, 2, 3))).all()


@pytest.mark.parametrize("names", [("rotation",), ("scale",), ("elastic",), ("rotation", "scale", "elastic")])
@pytest.mark.parametrize("policy", ["amaes", "amaes_linear"])
def test_spatial_moves_image_target_and_label_alike(names, policy):
    policy, whole, patch = only(*names, policy=policy), volume(70), [32] * 3
    found, target = run(policy, [1, 2, 3], whole, patch)
    assert torch.equal(found, target)
    label = (whole[0] > 0.5).to(torch.uint8)
    same, moved = run(policy, [1, 2, 3], whole, patch, label)
    assert torch.equal(same, found)
    still = label[20:52, 20:52, 20:52]
    # smooth images: thresholding before and after differs in few voxels at the threshold
    wrong = ((found[:, 0] > 0.5) != moved.bool()).float().mean()
    assert wrong < 0.05
    assert "rotation" not in names or wrong < 0.5 * ((found[:, 0] > 0.5) != still.bool()).float().mean()


def test_a_label_follows_its_blob():
    i, j, k = torch.meshgrid(*[torch.arange(70.0)] * 3, indexing="ij")
    blob = torch.exp(-((i - 40) ** 2 + (j - 31) ** 2 + (k - 37) ** 2) / 12)
    policy = only("rotation", "scale")
    draws = [policy.draw(seed, 1, [32] * 3) for seed in (1, 2, 3, 4)]
    found, moved = policy.apply([cut(blob[None], d) for d in draws], draws, [cut((blob > 0.4).long(), d) for d in draws])
    index = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")).flatten(1)
    for drawn, image, label in zip(draws, found, moved, strict=True):
        weight = image.flatten()
        by_image = (index * weight).sum(1) / weight.sum()
        by_label = index[:, label.flatten().bool()].mean(1)
        assert (by_image - by_label).abs().max() < 0.15
        # output voxel g reads at g R s, so the blob, at c from the middle of the patch, lands at c (R s)^-1
        expected = (np.array([20, 11, 17]) - 15.5) @ np.linalg.inv(drawn.move.matrix) + 15.5
        np.testing.assert_allclose(by_image, expected, atol=0.15)
        assert np.abs(expected - [20, 11, 17]).max() > 0.5


@pytest.mark.parametrize("policy", ["amaes", "amaes_linear", "amaes_reference", "amaes_finetune", "spatial"])
def test_a_sample_does_not_depend_on_its_batch(policy):
    policy, whole = Policy(POLICIES[policy]), volume(60, channels=2)
    together = run(policy, SEEDS, whole, PATCH)
    for place, seed in enumerate(SEEDS[:8]):
        for one, all_of_them in zip(run(policy, [seed], whole, PATCH), together, strict=True):
            assert torch.equal(one[0], all_of_them[place])


def test_another_seed_gives_another_batch():
    policy, whole = Policy(POLICIES["amaes"]), volume(60)
    assert not torch.equal(run(policy, SEEDS, whole, PATCH)[0], run(policy, [s + 1000 for s in SEEDS], whole, PATCH)[0])


def test_a_transform_does_not_change_the_draws_of_another():
    part = Policy({"bias_field": POLICIES["amaes"].bias_field})
    for seed in SEEDS:
        whole = Policy(POLICIES["amaes"]).draw(seed, 1, PATCH).intensity.get("bias_field")
        alone = part.draw(seed, 1, PATCH).intensity.get("bias_field")
        assert (whole is None and alone is None) or np.array_equal(whole["centre"], alone["centre"])


def test_half_precision_and_autocast_do_not_coarsen_it():
    policy, whole = only("rotation", "low_resolution", "ghosting", "gamma"), volume(60).half()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")  # as a training may set it for its network
    try:
        with torch.autocast("cpu", torch.bfloat16):
            found = run(policy, [1, 2], whole, PATCH)[0]
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.dtype == torch.float32
    assert torch.equal(found, run(policy, [1, 2], whole.float(), PATCH)[0])


def test_both_ways_to_resample_give_the_same_augmentation(monkeypatch):
    """Which one runs depends on device and patch size, not on the sample."""
    policy, whole = Policy(POLICIES["amaes"]), volume(60)
    results = []
    for limit in (0, math.inf):
        monkeypatch.setattr(spatial, "_WORTH_COMPILING", limit)
        results.append(run(policy, SEEDS, whole, PATCH))
    for compiled, plain in zip(*results, strict=True):
        torch.testing.assert_close(compiled, plain, atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["amaes", "amaes_linear", "amaes_reference", "nnunet"])
def test_all_of_it_stays_on_the_device_of_the_batch(name, monkeypatch):
    """With shapes alone, on torch's `meta` device, where an operation with a tensor of the CPU fails."""
    monkeypatch.setattr(policy_module, "_exact", lambda device: nullcontext())
    monkeypatch.setattr(intensity, "normal", lambda shape, seed, device: torch.empty(shape, device=device))
    with pytest.raises(RuntimeError):
        torch.ones(3, device="meta") + torch.ones(3)
    policy, fired = Policy(POLICIES[name], sides=[(1, 2)]), set()
    for seed in range(60):
        drawn = policy.draw(seed, 2, [64] * 3)
        fired |= set(drawn.intensity) | {f"moved {drawn.move is not None}"}
        sides = [high - low for low, high in drawn.box]
        image, label = torch.empty(2, *sides, device="meta"), torch.empty(sides, device="meta", dtype=torch.uint8)
        found, target = policy.apply([image], [drawn])
        assert found.device == target.device == image.device and found.shape == target.shape == (1, 2, 64, 64, 64)
        assert policy.apply([image], [drawn], [label])[1].dtype == torch.uint8
    assert {transform for transform in INTENSITY if getattr(POLICIES[name], transform)} | {"moved True"} <= fired


def test_an_image_that_is_not_the_box_is_refused():
    policy = only("rotation")
    drawn = policy.draw(1, 1, PATCH)
    with pytest.raises(UserError, match=r"\[16, 16, 16\] voxels were read"):
        policy.apply([torch.rand(1, 16, 16, 16)], [drawn])
    with pytest.raises(UserError, match=r"cannot move a patch of \[1, 16, 16\]"):
        policy.draw(1, 1, [1, 16, 16])
