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
    return torch.rand(*SHAPE, generator=torch.Generator().manual_seed(0))


def draws(draw, fields, n: int = 300, shape=SHAPE) -> list[dict]:
    return [found for seed in range(n) if (found := draw(generator(seed, "test"), fields, shape)) is not None]


def test_noise(x):
    drawn = intensity.draw_noise(generator(0, "noise"), config.Noise(p=1, sigma=[0.1, 0.1]), SHAPE)
    added = intensity.apply_noise(x, **drawn) - x
    assert added.std().item() == pytest.approx(0.1, rel=0.05)
    assert added.mean().abs() < 0.01
    assert (intensity.apply_noise(x, 0.2, 3) - x).std().item() == pytest.approx(0.2, rel=0.05)
    multiplied = (intensity.apply_multiplicative_noise(x, **drawn) - x) / x
    torch.testing.assert_close(multiplied, added, atol=1e-3, rtol=1e-3)
    assert not torch.equal(added[0], added[1])  # channels get noise of their own


@pytest.mark.parametrize("sigma", [[0.05, 0.4], [1.0, 0.0], [0.7, 2.6]])
def test_blur_is_a_gaussian_filter(x, sigma):
    found = intensity.apply_blur(x, np.array(sigma))
    for before, after, s in zip(x.numpy(), found, sigma, strict=True):
        expected = gaussian_filter(before, s, mode="reflect") if s else before
        np.testing.assert_allclose(after, expected, atol=1e-6)


def test_blur_draws_channels():
    fields = config.Blur(p=1, p_channel=0.5, sigma_voxels=[0.5, 1.0])
    found = draws(intensity.draw_blur, fields)
    sigma = np.stack([one["sigma"] for one in found])
    assert len(found) == pytest.approx(225, abs=30)  # at least one of two channels
    assert ((sigma == 0) | ((sigma >= 0.5) & (sigma <= 1))).all()


def by_whole_transform(x: np.ndarray, lines: list[tuple[int, np.ndarray]]) -> np.ndarray:
    """The plain way: all three axes are transformed."""
    kspace = np.fft.fftn(x.astype(float), axes=(-3, -2, -1))
    for axis, gains in lines:
        kspace *= np.expand_dims(gains, [a for a in range(3) if a != axis])
    return np.abs(np.fft.ifftn(kspace, axes=(-3, -2, -1)))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("count", [1, 2, 3])
def test_kspace_equals_the_whole_transform(seed, count):
    rng = np.random.default_rng(seed)
    shape = rng.integers(5, 14, 3).tolist()
    x = rng.random((2, *shape)).astype(np.float32)
    lines = [(axis := int(rng.integers(3)), rng.random(shape[axis])) for _ in range(count)]
    found = intensity.apply_kspace(torch.from_numpy(x), lines)
    np.testing.assert_allclose(found, by_whole_transform(x, lines), atol=1e-5)


@pytest.mark.parametrize(("size", "spacing"), [(12, 3), (15, 7), (10, 2), (7, 6)])
def test_ghosting_scales_every_rth_line_but_not_the_last(size, spacing):
    expected = np.ones(size)
    expected[0:-1:spacing] *= 0.85
    np.testing.assert_array_equal(intensity.ghosting_gains(size, 0.85, spacing), expected)


def test_ghosting_draws():
    fields = config.Ghosting(p=1, alpha=[0.85, 0.95], spacing=[2, 10])
    found = [one["lines"] for one in draws(intensity.draw_ghosting, fields, shape=(1, 41, 43, 47))]
    assert all(len(lines) == 1 for lines in found)
    assert {axis for ((axis, _),) in found} == {0, 1, 2}
    assert all(len(gains) == (41, 43, 47)[axis] and 0.85 <= gains[0] <= 0.95 for ((axis, gains),) in found)
    assert {int(np.flatnonzero(gains < 1)[1]) for ((_, gains),) in found} == set(range(2, 11))


@pytest.mark.parametrize(("size", "lines"), [(12, 12), (12, 9), (15, 10), (15, 1), (10, 7), (9, 4)])
def test_gibbs_keeps_the_lowest_frequencies(size, lines):
    kept = np.flatnonzero(intensity.gibbs_gains(size, lines))
    frequency = np.fft.fftfreq(size, 1 / size)
    assert len(kept) == lines
    assert set(np.abs(frequency[kept])) == {abs(f) for f in sorted(frequency, key=lambda f: (abs(f), f))[:lines]}


def test_gibbs_draws_are_a_share_of_the_patch():
    fields = config.Gibbs(p=1, kept=[0.75, 1.0])
    for side in (64, 96, 112, 128):
        kept = {
            int(gains.sum())
            for ((_, gains),) in (one["lines"] for one in draws(intensity.draw_gibbs, fields, 600, (1, side, side, side)))
        }
        assert kept == set(range(round(0.75 * side), side))  # all lines kept is nothing done


def test_ghosting_and_gibbs_share_a_transform():
    first, second = np.array([0.9, 1, 1]), np.array([1, 0, 0])
    one = {"ghosting": {"lines": [(1, first)]}, "gibbs": {"lines": [(1, second)]}, "gamma": {}}
    intensity.in_one_transform(one)
    assert list(one) == ["ghosting", "gamma"]
    ((axis, gains),) = one["ghosting"]["lines"]
    assert axis == 1 and np.array_equal(gains, [0.9, 0, 0])
    two = {"ghosting": {"lines": [(1, first)]}, "gibbs": {"lines": [(2, second)]}}
    intensity.in_one_transform(two)
    assert [axis for axis, _ in two["ghosting"]["lines"]] == [1, 2]
    alone = {"gibbs": {"lines": [(2, second)]}}
    intensity.in_one_transform(alone)
    assert list(alone) == ["gibbs"]


@pytest.mark.parametrize("seed", range(8))
def test_low_resolution_is_nearest_down_and_cubic_up(seed):
    rng = np.random.default_rng(seed)
    shape = rng.integers(6, 21, 3)
    small = np.maximum(2, np.round(shape * rng.uniform(0.5, 1, 3))).astype(int)
    image = rng.random(shape).astype(np.float32)
    down = resize(image.astype(float), small, order=0, mode="edge", anti_aliasing=False)
    expected = resize(down, shape, order=3, mode="edge", anti_aliasing=False)
    found = intensity.apply_low_resolution(torch.from_numpy(image)[None], small[None])
    np.testing.assert_allclose(found[0], expected, atol=2e-6)


def test_nearest_picks_the_voxels_of_skimage():
    for size in (96, 97, 128):
        line = np.arange(size, dtype=float)[:, None]
        for small in range(size // 2, size):
            down = resize(line, (small, 1), order=0, mode="edge", anti_aliasing=False)[:, 0]
            found = intensity.nearest(small, size)
            border = (2 * np.arange(small) + 1) * size % (2 * small) == 0  # on the border of two voxels either is right
            np.testing.assert_array_equal(down[~border], found[~border], f"{size} -> {small}")
            assert (np.abs(down - found)[border] <= 1).all()


def test_low_resolution_touches_the_drawn_axes_only(x):
    before = x.clone()
    found = intensity.apply_low_resolution(x, np.array([[12, 15, 10], [12, 8, 10]]))
    assert torch.equal(x, before)
    assert torch.equal(found[0], x[0]) and not torch.equal(found[1], x[1])
    alike = torch.ones(2, 12, 1, 10) * x[:, :, :1]
    torch.testing.assert_close(
        intensity.apply_low_resolution(alike.expand(SHAPE), np.array([[12, 9, 10], [12, 8, 10]])), alike.expand(SHAPE)
    )


def test_low_resolution_draws():
    found = draws(intensity.draw_low_resolution, config.LowResolution(p=1, p_channel=0.5, p_axis=0.33, zoom=[0.5, 1.0]))
    for one in found:
        assert one["voxels"].shape == (2, 3)
        assert ((one["voxels"] >= np.array(SHAPE[1:]) // 2) & (one["voxels"] <= SHAPE[1:])).all()
        assert (one["voxels"] < SHAPE[1:]).any()


@pytest.mark.parametrize("centre", [[0.5, 0.2, 0.9], [0.0, 1.0, 0.3]])
def test_bias_field_formula(x, centre):
    i, j, k = np.indices(SHAPE[1:])
    a, b, c = centre
    field = 1 - (i / 12 - a) ** 2 - (j / 15 - b) ** 2 - (k / 10 - c) ** 2
    np.testing.assert_allclose(intensity.apply_bias_field(x, centre), x.numpy() * field, atol=1e-6)


def test_bias_field_is_centred_on_a_voxel():
    found = np.stack([one["centre"] for one in draws(intensity.draw_bias_field, config.BiasField(p=1))])
    voxels = found * SHAPE[1:]
    np.testing.assert_allclose(voxels, np.round(voxels), atol=1e-9)
    assert [set(np.round(line).astype(int)) for line in voxels.T] == [set(range(n)) for n in SHAPE[1:]]


def test_gamma_keeps_the_range_and_is_a_true_gamma(x):
    x = 0.2 + 0.6 * x
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    unit = (x - low) / (high - low)
    found = intensity.apply_gamma(x, 0.5, invert=False, epsilon=1e-7)
    torch.testing.assert_close(found, unit**0.5 * (high - low) + low)
    torch.testing.assert_close(found.amin((1, 2, 3)), x.amin((1, 2, 3)))
    torch.testing.assert_close(found.amax((1, 2, 3)), x.amax((1, 2, 3)))
    inverted = intensity.apply_gamma(x, 2.0, invert=True, epsilon=1e-7)
    torch.testing.assert_close(inverted, (1 - (1 - unit) ** 2) * (high - low) + low)


def test_gamma_of_a_constant_patch_is_that_patch():
    x = torch.full((1, 4, 4, 4), 0.3)
    assert torch.equal(intensity.apply_gamma(x, 0.5, invert=False, epsilon=1e-7), x)


def test_gamma_draws():
    fields = config.Gamma(p=1, below=[0.5, 1], above=[1, 2], p_above=0.5, p_invert=0.05, epsilon=1e-7)
    found = draws(intensity.draw_gamma, fields, n=1000)
    gammas = np.array([one["gamma"] for one in found])
    assert gammas.min() >= 0.5 and gammas.max() <= 2
    assert (gammas > 1).mean() == pytest.approx(0.5, abs=0.05)
    assert np.mean([one["invert"] for one in found]) == pytest.approx(0.05, abs=0.02)


def test_each_transform_is_clipped_to_the_range_it_found(x):
    x = x * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1)
    low, high = x.amin((1, 2, 3)), x.amax((1, 2, 3))
    intensity.change(x, {"noise": {"sigma": 0.5, "seed": 1}})
    assert torch.equal(x.amin((1, 2, 3)), low) and torch.equal(x.amax((1, 2, 3)), high)
