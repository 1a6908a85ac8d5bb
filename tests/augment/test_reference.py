"""`amaes_reference`: what the published code did, number by number (section 2.5 of the notes on AMAES)."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates
from scipy.special import erf

from brainpretrain import config
from brainpretrain.augment import intensity, spatial
from brainpretrain.augment.policy import Policy
from brainpretrain.seeds import generator

CONFIG = config.load(Path(__file__).parents[2] / "config").augmentations["amaes_reference"]
INTENSITY = [name for name in intensity.TRANSFORMS if getattr(CONFIG, name)]
POLICY = Policy(CONFIG)
SHAPE = (1, 128, 128, 128)


def still(**fires: bool) -> Policy:
    """The reference with spatial draws switched off, or on for sure; no intensity transforms."""
    changes = {
        name: getattr(CONFIG, name).model_copy(update={"p": float(fires.get(name, False))})
        for name in ("rotation", "scale", "elastic")
    }
    return Policy(CONFIG.model_copy(update=changes | dict.fromkeys(INTENSITY)))


def moved(policy: Policy, crop: np.ndarray, patch: int, seed: int = 0) -> np.ndarray:
    """What becomes of a whole crop."""
    drawn = policy.draw(seed, 1, [patch] * 3)
    assert [high - low for low, high in drawn.box] == list(crop.shape)
    return policy.apply([torch.from_numpy(crop)[None]], [drawn])[0][0, 0].numpy()


def draws(name: str, n: int, shape=SHAPE) -> list[dict]:
    fields, transform = getattr(CONFIG, name), intensity.TRANSFORMS[name]
    return [found for seed in range(n) if (found := transform.draw(generator(seed, name), fields, shape)) is not None]


@pytest.fixture(scope="module")
def phantom() -> torch.Tensor:
    """A ball with ball-shaped parts, in [0, 1], zero outside (1 x y z)."""
    size = 128
    points = (np.indices([size] * 3) - (size - 1) / 2) / (size / 2)
    radius = np.sqrt((points**2).sum(0))
    image = 0.6 * (radius < 0.8) + 0.3 * (radius < 0.6) - 0.4 * (np.sqrt(((points - 0.2) ** 2).sum(0)) < 0.15)
    return torch.from_numpy(gaussian_filter(image, 0.8).clip(0, 1).astype(np.float32))[None]


def rms(x: torch.Tensor) -> float:
    return x.double().square().mean().sqrt().item()


# ------------------------------------------------------------------------------------------------ 0. spatial


def test_crops_are_sqrt_2_times_the_patch():
    """181 for 128, 135 for 96, 90 for 64: the diagonal of a face, not of the cube."""
    assert POLICY.crop_size([128, 96, 64]) == [181, 135, 90]


@pytest.mark.parametrize(("patch", "exact"), [(128, False), (96, False), (64, True)])
def test_nothing_drawn_is_still_resampled_between_the_voxels(patch, exact):
    """Odd crop and even patch: half a voxel off on each axis; white noise falls from 0.289 to 0.189. 90 to 64 is exact."""
    (crop,) = POLICY.crop_size([patch])[:1]
    noise = np.random.default_rng(0).random([crop] * 3).astype(np.float32)
    found = moved(still(), noise, patch)
    start = (crop - patch) // 2
    centre = noise[start : start + patch, start : start + patch, start : start + patch]
    assert centre.std() == pytest.approx(0.289, abs=0.001)
    if exact:
        np.testing.assert_allclose(found, centre, atol=1e-5)
    else:
        assert found.std() == pytest.approx(0.189, abs=0.001)


def test_half_a_voxel():
    noise = np.random.default_rng(0).random([45] * 3).astype(np.float32)
    half = map_coordinates(noise, np.indices([32] * 3) + 6.5, order=3).clip(0, 1)
    np.testing.assert_allclose(moved(still(), noise, 32), half, atol=1e-5)


def test_the_published_resampling():
    """Elastic, then rotation, then scale, about the middle of the crop; order 3, the crop's minimum outside, clipped to its range."""
    policy, patch = still(rotation=True, scale=True, elastic=True), 24
    crop = np.random.default_rng(0).random([33] * 3).astype(np.float32) + 0.2
    for seed in range(3):
        drawn = policy.draw(seed, 1, [patch] * 3)
        nodes = drawn.move.shift
        grid = np.indices([patch] * 3).astype(float)
        at = grid * ((np.array(nodes.shape[1:]) - 1) / (patch - 1))[:, None, None, None]
        deformed = grid - (patch - 1) / 2 + np.stack([map_coordinates(one.astype(float), at, order=1) for one in nodes])
        read = np.einsum("dxyz,de->exyz", deformed, drawn.move.matrix) + 33 / 2 - 0.5
        wanted = map_coordinates(crop.astype(float), read, order=3, mode="constant", cval=crop.min()).clip(crop.min(), crop.max())
        np.testing.assert_allclose(moved(policy, crop, patch, seed), wanted, atol=2e-5)


def test_elastic_hardly_moves_anything():
    """Alpha 200 to 600, sigma 20 to 30: standard deviation 0.08 to 0.50 voxels, largest shift 0.25 to 1.5."""
    extremes = []
    for alpha, sigma in ((200, 30), (600, 20)):
        fields = CONFIG.elastic.model_copy(update={"alpha": [alpha, alpha], "sigma_voxels": [sigma, sigma]})
        drawn = [spatial.draw_elastic(generator(seed, "elastic"), fields, SHAPE[1:]) for seed in range(40)]
        extremes.append((np.mean([one.std() for one in drawn]), np.mean([np.abs(one).max() for one in drawn])))
        # what smoothed voxel noise gives on average over the patch
        places = np.arange(128)
        share = np.mean([0.5 * (erf((127.5 - x) / sigma) + erf((x + 0.5) / sigma)) for x in places])
        assert extremes[-1][0] == pytest.approx(alpha / math.sqrt(3) * (share / (2 * math.sqrt(math.pi) * sigma)) ** 1.5, rel=0.1)
    assert extremes[0][0] == pytest.approx(0.08, abs=0.01) and extremes[1][0] == pytest.approx(0.50, abs=0.05)
    assert extremes[0][1] == pytest.approx(0.25, abs=0.06) and extremes[1][1] == pytest.approx(1.5, abs=0.3)
    assert CONFIG.elastic.alpha == [200, 600] and CONFIG.elastic.sigma_voxels == [20, 30]


def test_scale_is_inverted():
    """0.9 reads a smaller extent, 114.3 instead of 127 voxels: it zooms in."""
    fields = CONFIG.scale.model_copy(update={"p": 1, "factor": [0.9, 0.9]})
    policy = Policy(still().config.model_copy(update={"scale": fields}))
    corners = np.array([[0, 0, 0], [127, 127, 127]]) - 63.5
    read = corners @ policy.draw(0, 1, SHAPE[1:]).move.matrix
    np.testing.assert_allclose(read[1] - read[0], 114.3)
    assert CONFIG.scale.factor == [0.9, 1.1]


def test_rotation_is_drawn_per_axis():
    """Each axis with probability 0.66, -30 to 30 degrees."""
    fields, turned = CONFIG.rotation, []
    assert (fields.p_axis, fields.angle_deg) == (0.66, [-30, 30])
    for seed in range(600):
        matrix = spatial.draw_rotation(generator(seed, "rotation"), fields)
        matrix = np.eye(3) if matrix is None else matrix
        # Rx Ry Rz: the sine of y stands in the corner, those of x and z in ratios of its column and row
        angles = np.degrees(
            [math.atan2(-matrix[1, 2], matrix[2, 2]), math.asin(matrix[0, 2]), math.atan2(-matrix[0, 1], matrix[0, 0])]
        )
        assert np.abs(angles).max() <= 30 + 1e-9
        turned.append(np.abs(angles) > 1e-9)
    np.testing.assert_allclose(np.mean(turned, axis=0), 0.66, atol=0.06)


# ------------------------------------------------------------------------------------------------ 1. to 3.


@pytest.mark.parametrize("name", ["noise", "multiplicative_noise"])
def test_noise_is_next_to_nothing(name, phantom):
    """Sigma 1e-4 to 1e-3: at most a thousandth of the range."""
    sigmas = [one["sigma"] for one in draws(name, 300)]
    assert 1e-4 <= min(sigmas) < 1.3e-4 and 9.7e-4 < max(sigmas) <= 1e-3
    assert rms(intensity.TRANSFORMS[name].apply(phantom, 1e-3, 1) - phantom) <= 1.01e-3


def test_blur():
    """A tenth of the samples, sigma 0 to 1."""
    assert CONFIG.blur.p * CONFIG.blur.p_channel == pytest.approx(0.1) and CONFIG.blur.sigma_voxels == [0, 1]


# ------------------------------------------------------------------------------------------------ 4. ghosting


def test_ghosting_dims(phantom):
    """A constant image becomes alpha; a phantom changes by about 0.04 of its range (root mean square)."""
    constant = torch.ones(1, 16, 16, 16)
    torch.testing.assert_close(intensity.apply_kspace(constant, [(1, intensity.ghosting_gains(16, 0.9, 5))]), 0.9 * constant)
    found = draws("ghosting", 30)
    change = [rms(intensity.apply_kspace(phantom, one["lines"]) - phantom) for one in found]
    assert np.mean(change) == pytest.approx(0.04, abs=0.015)
    assert CONFIG.ghosting.alpha == [0.85, 0.95] and CONFIG.ghosting.spacing == [2, 10]


# ------------------------------------------------------------------------------------------------ 5. Gibbs ringing


@pytest.mark.parametrize(("lines", "kept"), [(97, 98), (96, 96), (127, 128), (128, 128)])
def test_gibbs_keeps_one_more_of_an_odd_number(lines, kept):
    gains = intensity.published_gibbs_gains(128, lines)
    assert gains.sum() == kept
    assert set(np.fft.fftfreq(128, 1 / 128)[gains > 0]) == set(range(-kept // 2, kept // 2))


def test_gibbs_changes_a_patch_of_128_little(phantom):
    """At most 0.02 of the range; all 128 lines are the patch itself."""
    worst = intensity.apply_kspace(phantom, [(0, intensity.published_gibbs_gains(128, 96))])
    assert 0 < rms(worst - phantom) <= 0.02
    assert intensity.published_gibbs_gains(128, 128).all()


@pytest.mark.parametrize(("patch", "wiped"), [(96, 32), (112, 16), (64, 31), (128, 0)])
def test_gibbs_wipes_out_smaller_patches(patch, wiped):
    """More lines than the patch has: at 96, 32 of 33 draws leave 0.001 of a mean of 0.56, uncorrelated with the patch."""
    x = torch.from_numpy(0.26 + gaussian_filter(np.random.default_rng(0).random([patch] * 3), 1.5) * 0.6).float()[None]
    lost = 0
    for lines in range(96, 129):
        gains = intensity.published_gibbs_gains(patch, lines)
        if not gains[0]:  # the mean is gone
            lost += 1
            found = intensity.apply_kspace(x, [(2, gains)])
            assert found.mean() < 0.02 * x.mean()
            assert abs(np.corrcoef(found.flatten(), x.flatten())[0, 1]) < 0.1
    drawn = draws("gibbs", 300, (1, patch, patch, patch))
    assert np.mean(
        [not gains[0] for ((_, gains),) in (one["lines"] for one in drawn)] + [0] * (300 - len(drawn))
    ) == pytest.approx(wiped / 33, abs=0.08)
    assert lost == wiped  # at 64, the last two draws are so far beyond the patch that its lower half stays


@pytest.mark.parametrize("side", [64, 96, 112, 128])
def test_gibbs_as_meant_is_harmless_at_every_patch_size(side):
    ramp = torch.linspace(0, 1, side).view(1, side, 1, 1).expand(1, side, 4, 4)
    out = intensity.apply_kspace(ramp, [(0, intensity.gibbs_gains(side, round(0.75 * side)))])
    assert (out - ramp)[:, side // 8 : -side // 8].abs().max() < 0.1


def test_ghosting_and_gibbs_each_take_a_magnitude():
    """Where both fire; as meant they share one transform."""
    both = [drawn for seed in range(300) if {"ghosting", "gibbs"} <= (drawn := POLICY.draw(seed, 1, [128] * 3).intensity).keys()]
    assert 3 < len(both) < 30
    meant = Policy(CONFIG.model_copy(update={"separate_kspace": False}))
    assert not any({"ghosting", "gibbs"} <= meant.draw(seed, 1, [128] * 3).intensity.keys() for seed in range(300))


# ------------------------------------------------------------------------------------------------ 6. to 8.


def test_low_resolution():
    """A tenth of the samples; one zoom of 0.5 to 1 for the chosen axes, each with probability 0.33."""
    fields = CONFIG.low_resolution
    assert fields.p * fields.p_channel == pytest.approx(0.1) and fields.zoom == [0.5, 1] and fields.p_axis == 0.33
    voxels = np.concatenate([one["voxels"] for one in draws("low_resolution", 400)])
    assert all(len(set(row[row < 128])) == 1 for row in voxels)
    assert voxels.min() >= 64


def test_bias_field_is_strong():
    """Factors in [-2, 1], 0.50 on average, in the mean 9 % and at most 41 % of voxels below 0, which are clipped to 0."""
    means, negative, lowest = [], [], 0.0
    for one in draws("bias_field", 400, (1, 32, 32, 32)):
        field = intensity.apply_bias_field(torch.ones(1, 32, 32, 32), one["centre"])
        means.append(field.mean().item())
        negative.append((field < 0).float().mean().item())
        lowest = min(lowest, field.min().item())
    assert -2 <= lowest < -1.6
    assert np.mean(means) == pytest.approx(0.50, abs=0.02)
    assert np.mean(negative) == pytest.approx(0.09, abs=0.015) and max(negative) == pytest.approx(0.41, abs=0.08)
    x = torch.rand(1, 32, 32, 32)
    x[0, 0, 0, 0] = 0
    intensity.change(x, {"bias_field": {"centre": [0.0, 0.0, 0.0]}})
    assert x.min() == 0 and (x == 0).float().mean() > 0.2
    assert CONFIG.bias_field.p == 0.33


def test_gamma_darkens():
    """(x / 2)^gamma for x in [0, 1]: the maximum becomes 0.25 to 0.71; inverted, the minimum becomes 0.3 to 0.75."""
    x = torch.rand(1, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    x[0, 0, 0, :2] = torch.tensor([0.0, 1.0])
    found = draws("gamma", 300)
    assert {one["epsilon"] for one in found} == {1.0}
    highest, lowest = [], []
    for one in found:
        numbers = one | {"invert": False}
        y = intensity.apply_gamma(x, **numbers)
        torch.testing.assert_close(y, (x / 2) ** one["gamma"])
        highest.append(y.max().item())
        inverted = x.clone()
        intensity.change(inverted, {"gamma": one | {"invert": True}})
        lowest.append(inverted.min().item())
    assert min(highest) == pytest.approx(0.25, abs=0.01) and max(highest) == pytest.approx(0.71, abs=0.02)
    assert min(lowest) == pytest.approx(0.29, abs=0.02) and max(lowest) == pytest.approx(0.75, abs=0.01)
    for invert, gamma, expected in ((False, 0.5, 0.5**0.5), (True, 2.0, 1 - 0.25)):
        negated = intensity.apply_gamma(x, gamma, invert, 1.0)
        assert (negated.min() if invert else negated.max()).item() == pytest.approx(expected, abs=1e-6)
    assert (CONFIG.gamma.p, CONFIG.gamma.p_above, CONFIG.gamma.p_invert) == (0.2, 0.5, 0.05)


def test_18_percent_keep_their_intensities():
    none = [not POLICY.draw(seed, 1, [128] * 3).intensity for seed in range(1500)]
    assert np.mean(none) == pytest.approx(0.18, abs=0.03)


def test_probabilities():
    expected = {"rotation": 0.2, "scale": 0.2, "elastic": 0.33, "bias_field": 0.33}
    for name in ("rotation", "scale", "elastic", *INTENSITY):
        assert getattr(CONFIG, name).p == expected.get(name, 0.2), name
