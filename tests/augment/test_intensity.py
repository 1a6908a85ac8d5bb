import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from skimage.transform import resize

from brainpretrain.augment import config, intensity
from brainpretrain.seeds import generator

SHAPE = (2, 12, 15, 10)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))


def draws(draw, fields, n: int = 300, shape=SHAPE) -> list[dict]:
    return [found for seed in range(n) if (found := draw(generator(seed, "test"), fields, shape)) is not None]


def test_noise(x):
    drawn = intensity.draw_noise(generator(0, "noise"), config.Noise(p=1, sigma=[0.1, 0.1]), SHAPE)
    sigma, seed = torch.tensor([0.1, 0.2]), torch.tensor([drawn["seed"], 3])
    added = intensity.apply_noise(x, sigma, seed) - x
    assert added[0].std().item() == pytest.approx(0.1, rel=0.05)
    assert added[1].std().item() == pytest.approx(0.2, rel=0.05)
    assert added.mean().abs() < 0.01
    multiplied = (intensity.apply_multiplicative_noise(x, sigma, seed) - x) / x
    torch.testing.assert_close(multiplied, added, atol=1e-3, rtol=1e-3)
    assert not torch.equal(added[0, 0], added[0, 1])  # channels get noise of their own


def test_blur_is_a_gaussian_filter(x):
    sigma = torch.tensor([[0.4, 1.0], [0.0, 0.7]])
    found = intensity.apply_blur(x, sigma)
    for sample in range(2):
        for channel in range(2):
            s = sigma[sample, channel].item()
            expected = gaussian_filter(x[sample, channel].numpy(), s, mode="reflect") if s else x[sample, channel].numpy()
            np.testing.assert_allclose(found[sample, channel], expected, atol=1e-6)


def test_blur_draws_channels():
    fields = config.Blur(p=1, p_channel=0.5, sigma_voxels=[0.5, 1.0])
    found = draws(intensity.draw_blur, fields)
    sigma = np.stack([one["sigma"] for one in found])
    assert len(found) == pytest.approx(225, abs=30)  # at least one of two channels
    assert ((sigma == 0) | ((sigma >= 0.5) & (sigma <= 1))).all()


def test_ghosting_scales_every_rth_line(x):
    found = intensity.apply_ghosting(x, torch.tensor([0, 1]), torch.tensor([0.85, 0.9]), torch.tensor([3, 7]))
    for sample, (axis, alpha, spacing) in enumerate([(0, 0.85, 3), (1, 0.9, 7)]):
        for channel in range(2):
            kspace = np.moveaxis(np.fft.fftn(x[sample, channel].numpy()), axis, 0).copy()
            kspace[0 : len(kspace) - 1 : spacing] *= alpha
            expected = np.abs(np.fft.ifftn(np.moveaxis(kspace, 0, axis)))
            np.testing.assert_allclose(found[sample, channel], expected, atol=1e-5)


def test_ghosting_dims_a_constant_image():
    found = intensity.apply_ghosting(torch.ones(1, 1, 8, 8, 8), torch.tensor([1]), torch.tensor([0.9]), torch.tensor([5]))
    torch.testing.assert_close(found, torch.full((1, 1, 8, 8, 8), 0.9))


def test_ghosting_draws():
    found = draws(intensity.draw_ghosting, config.Ghosting(p=1, alpha=[0.85, 0.95], spacing=[2, 10]))
    assert {one["axis"] for one in found} == {0, 1, 2}
    assert {one["spacing"] for one in found} == set(range(2, 11))
    assert all(0.85 <= one["alpha"] <= 0.95 for one in found)


@pytest.mark.parametrize(("axis", "lines"), [(0, 12), (0, 9), (1, 10), (1, 1), (2, 7)])
def test_gibbs_keeps_the_central_lines(x, axis, lines):
    found = intensity.apply_gibbs(x, torch.tensor([axis, axis]), torch.tensor([lines, lines]))
    size = SHAPE[1 + axis]
    kspace = np.moveaxis(np.fft.fftshift(np.fft.fft(x.numpy(), axis=2 + axis), axes=2 + axis), 2 + axis, 0).copy()
    first = size // 2 - lines // 2
    kept = np.zeros(size, dtype=bool)
    kept[first : first + lines] = True
    kspace[~kept] = 0
    expected = np.abs(np.fft.ifft(np.fft.ifftshift(np.moveaxis(kspace, 0, 2 + axis), axes=2 + axis), axis=2 + axis))
    assert kept.sum() == lines
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("side", [64, 96, 112, 128])
def test_gibbs_is_harmless_at_every_patch_size(side):
    """The published code keeps 96 to 128 lines whatever the patch and wipes out smaller patches (facts 2.5)."""
    found = draws(intensity.draw_gibbs, config.Gibbs(p=1, kept=[0.75, 1.0]), shape=(1, side, side, side))
    lines = {one["lines"] for one in found}
    assert min(lines) == 0.75 * side and max(lines) == side - 1
    ramp = torch.linspace(0, 1, side).view(1, 1, side, 1, 1).expand(1, 1, side, 4, 4)
    out = intensity.apply_gibbs(ramp, torch.tensor([0]), torch.tensor([min(lines)]))
    assert (out - ramp)[:, :, side // 8 : -side // 8].abs().max() < 0.1


@pytest.mark.parametrize("small", [5, 8, 11])
def test_low_resolution_is_nearest_down_and_cubic_up(small):
    line = np.random.default_rng(0).random((12, 3, 4))
    down = resize(line, (small, 3, 4), order=0, mode="edge", anti_aliasing=False)
    expected = resize(down, (12, 3, 4), order=3, mode="edge", anti_aliasing=False, clip=False)
    x = torch.from_numpy(line.astype(np.float32))[None, None]
    found = intensity.apply_low_resolution(x, torch.tensor([[[small, 3, 4]]]))
    np.testing.assert_allclose(found[0, 0], expected, atol=2e-6)


def test_low_resolution_touches_the_drawn_axes_only(x):
    voxels = torch.tensor([[[12, 15, 10], [12, 8, 10]], [[12, 15, 10], [12, 15, 10]]])
    before = x.clone()
    found = intensity.apply_low_resolution(x, voxels)
    assert torch.equal(x, before)
    assert torch.equal(found[0, 0], x[0, 0]) and torch.equal(found[1], x[1])
    assert not torch.equal(found[0, 1], x[0, 1])
    permuted = intensity.apply_low_resolution(x[:, :, :, torch.randperm(15)], voxels)  # along axis 1 only
    assert not torch.equal(permuted, found)


def test_low_resolution_draws():
    found = draws(intensity.draw_low_resolution, config.LowResolution(p=1, p_channel=0.5, p_axis=0.33, zoom=[0.5, 1.0]))
    for one in found:
        assert one["voxels"].shape == (2, 3)
        assert ((one["voxels"] >= np.array(SHAPE[1:]) // 2) & (one["voxels"] <= SHAPE[1:])).all()
        assert (one["voxels"] < SHAPE[1:]).any()


def test_bias_field_formula(x):
    centre = torch.tensor([[0.5, 0.2, 0.9], [0.0, 1.0, 0.3]])
    i, j, k = np.indices(SHAPE[1:])
    for sample, (a, b, c) in enumerate(centre.tolist()):
        field = 1 - (i / 12 - a) ** 2 - (j / 15 - b) ** 2 - (k / 10 - c) ** 2
        found = intensity.apply_bias_field(x, centre)[sample, 0]
        np.testing.assert_allclose(found, x[sample, 0].numpy() * field, atol=1e-6)


def test_bias_field_of_the_paper():
    """Factors in [-2, 1], 0.50 on average (facts 2.5)."""
    found = draws(intensity.draw_bias_field, config.BiasField(p=1), n=200)
    centre = torch.tensor(np.stack([one["centre"] for one in found]), dtype=torch.float32)
    field = intensity.apply_bias_field(torch.ones(200, 1, 16, 16, 16), centre)
    assert field.min() >= -2 and field.max() <= 1
    assert field.mean().item() == pytest.approx(0.5, abs=0.05)


def test_gamma_keeps_the_range_and_is_a_true_gamma(x):
    x = 0.2 + 0.6 * x
    found = intensity.apply_gamma(x, torch.tensor([0.5, 2.0]), torch.tensor([False, True]))
    low, high = x.amin((2, 3, 4), keepdim=True), x.amax((2, 3, 4), keepdim=True)
    unit = (x - low) / (high - low)
    torch.testing.assert_close(found[0], (unit[0] ** 0.5) * (high - low)[0] + low[0])
    torch.testing.assert_close(found[1], (1 - (1 - unit[1]) ** 2) * (high - low)[1] + low[1])
    torch.testing.assert_close(found.amin((2, 3, 4)), x.amin((2, 3, 4)))
    torch.testing.assert_close(found.amax((2, 3, 4)), x.amax((2, 3, 4)))


def test_gamma_of_a_constant_patch_is_that_patch():
    x = torch.full((1, 1, 4, 4, 4), 0.3)
    assert torch.equal(intensity.apply_gamma(x, torch.tensor([0.5]), torch.tensor([False])), x)


def test_gamma_draws():
    found = draws(intensity.draw_gamma, config.Gamma(p=1, below=[0.5, 1], above=[1, 2], p_above=0.5, p_invert=0.05), n=1000)
    gammas = np.array([one["gamma"] for one in found])
    assert gammas.min() >= 0.5 and gammas.max() <= 2
    assert (gammas > 1).mean() == pytest.approx(0.5, abs=0.05)
    assert np.mean([one["invert"] for one in found]) == pytest.approx(0.05, abs=0.02)
