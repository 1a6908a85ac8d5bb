import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates, spline_filter

from brainpretrain.augment import kernels, spatial
from brainpretrain.augment.config import Elastic, PolicyConfig, Rotation, Scale
from brainpretrain.augment.spatial import Move
from brainpretrain.seeds import generator


@pytest.fixture(params=["compiled", "torch"])
def way(request, monkeypatch):
    """Both ways to resample: the kernels for CPUs, and torch's operators, which a GPU and small patches use."""
    monkeypatch.setattr(spatial, "_WORTH_COMPILING", 0 if request.param == "compiled" else math.inf)
    return request.param


def move_of(seed: int, size: list[int], shifted: bool) -> Move:
    """A random move that reads beyond the image, too; with a shift per voxel along z and fewer along the others."""
    rng = np.random.default_rng(seed)
    matrix = spatial.rotation_matrix(rng.uniform(-0.5, 0.5, 3)) * rng.uniform(1.6, 1.9)
    shift = rng.normal(size=(3, 4, 3, size[2])).astype(np.float32) if shifted else None
    return Move(matrix, shift, (np.array(size) - 1) / 2 + rng.uniform(-1, 1, 3))


def places(move: Move, size: list[int]) -> np.ndarray:
    """(3 x y z): the formula, in double precision."""
    points = np.indices(size).astype(float)
    if move.shift is not None:
        nodes = [i * (count - 1) / (n - 1) for i, n, count in zip(points, size, move.shift.shape[1:], strict=True)]
        points = points + np.stack([map_coordinates(field.astype(float), nodes, order=1) for field in move.shift])
    points = points - (np.array(size)[:, None, None, None] - 1) / 2
    return np.einsum("dxyz,de->exyz", points, move.matrix) + move.centre[:, None, None, None]


def expected(image: np.ndarray, move: Move, start: list[int], size: list[int], order: int) -> np.ndarray:
    read = places(move, size) - np.array(start)[:, None, None, None]
    values = map_coordinates(image.astype(float), read, order=order, mode="constant", cval=image.min())
    return values.clip(image.min(), image.max())


def moved(image: np.ndarray, move: Move, start: list[int], size: list[int], cubic: bool) -> np.ndarray:
    out = torch.empty(len(image), *size)
    spatial.resample(torch.from_numpy(image), move, start, cubic, out)
    return out.numpy()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("cubic", [True, False])
def test_resampling_equals_scipy(way, cubic, shifted, seed):
    rng = np.random.default_rng(seed)
    shape, size = rng.integers(14, 24, 3), rng.integers(9, 15, 3).tolist()
    image = rng.random((2, *shape)).astype(np.float32) - 0.3
    start = [int(n) for n in (np.array(size) - shape) // 2]
    move = move_of(seed, size, shifted)
    found = moved(image, move, start, size, cubic)
    for channel, result in zip(image, found, strict=True):
        wanted = expected(channel, move, start, size, order=3 if cubic else 1)
        assert (wanted == channel.min()).any()  # some of it lies outside
        np.testing.assert_allclose(result, wanted, atol=3e-5)


@pytest.mark.parametrize("cubic", [True, False])
def test_thin_images(way, cubic):
    image = np.random.default_rng(0).random((1, 2, 3, 40)).astype(np.float32)
    move = Move(np.eye(3), None, np.array([0.4, 0.9, 20.3]))
    found = moved(image, move, [0, 0, 0], [2, 2, 12], cubic)
    np.testing.assert_allclose(found[0], expected(image[0], move, [0, 0, 0], [2, 2, 12], 3 if cubic else 1), atol=1e-5)


def test_a_move_by_nothing_reads_the_patch_itself(way):
    image = np.random.default_rng(0).random((1, 20, 19, 18)).astype(np.float32)
    for cubic in (True, False):
        found = moved(image, Move(np.eye(3), None, np.array([5.5] * 3)), [-4, -3, -2], [12] * 3, cubic)
        np.testing.assert_allclose(found, image[:, 4:16, 3:15, 2:14], atol=1e-5)


@pytest.mark.parametrize("shape", [(2, 3, 2), (7, 5, 9), (16, 17, 33), (40, 30, 35)])
def test_spline_coefficients_equal_scipy(shape):
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    wanted = np.pad(spline_filter(image.astype(float), 3, mode="mirror"), [(1, 2)] * 3, mode="reflect")
    np.testing.assert_allclose(kernels.coefficients(image), wanted, atol=1e-5)
    found = torch.from_numpy(image)
    for axis, n in enumerate(shape):
        found = torch.tensordot(spatial._spline_matrix(n), found, dims=([1], [axis])).movedim(0, axis)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_labels_are_the_nearest_and_0_outside():
    size, shape = [13, 14, 15], (17, 15, 16)
    label = np.random.default_rng(0).integers(1, 255, shape).astype(np.uint8)
    for seed, shifted in ((0, False), (1, True)):
        move, start = move_of(seed, size, shifted), [-2, -1, 0]
        out = torch.empty(size, dtype=torch.uint8)
        spatial.resample_label(torch.from_numpy(label), move, start, out)
        read = places(move, size) - np.array(start)[:, None, None, None]
        wanted = map_coordinates(label, read, order=0, mode="constant", cval=0)
        ties = np.abs(read - np.floor(read) - 0.5).min(0) < 1e-4
        ties |= (np.abs(read) < 0.5 + 1e-4).any(0) | (np.abs(read - np.array(shape)[:, None, None, None] + 1) < 0.5 + 1e-4).any(0)
        assert ties.mean() < 0.4 and (wanted == 0).any() and (wanted > 0).any()
        assert np.array_equal(out.numpy()[~ties], wanted[~ties])


# ------------------------------------------------------------------------------------------------ what is read


def policy(interpolation: str, **transforms) -> PolicyConfig:
    return PolicyConfig.model_validate({"interpolation": interpolation, **transforms})


TURN = {"rotation": {"p": 1, "p_axis": 1, "angle_deg": [-30, 30]}, "scale": {"p": 1, "factor": [0.9, 1.1]}}
BEND = {"elastic": {"p": 1, "alpha": [200, 600], "sigma_voxels": [6, 8]}}


@pytest.mark.parametrize("transforms", [TURN, BEND, TURN | BEND])
@pytest.mark.parametrize("interpolation", ["cubic", "linear"])
def test_the_box_is_all_that_is_needed_of_the_crop(way, interpolation, transforms):
    config, size, crop = policy(interpolation, **transforms), [24, 20, 28], [72, 60, 84]
    volume = np.random.default_rng(0).random([100] * 3).astype(np.float32)
    volume[50, 50, 50:52] = -1, 2  # so that both have the same range
    for seed in range(8):
        move = spatial.draw_move(seed, config, size, crop)
        results, boxes = [], (spatial.box(move, config, size, crop), spatial.crop_box(crop, size))
        for box in boxes:
            image = volume[tuple(slice(38 + low, 38 + high) for low, high in box)]
            results.append(moved(image[None], move, [low for low, _ in box], size, interpolation == "cubic"))
        np.testing.assert_allclose(results[0], results[1], atol=1e-4)
        assert all(low > least and high < most for (low, high), (least, most) in zip(*boxes, strict=True))


def test_what_does_not_move_reads_its_patch():
    config = policy("cubic", rotation={"p": 0, "p_axis": 1, "angle_deg": [0, 9]}, scale={"p": 0.5, "factor": [0.9, 1.1]})
    boxes = [spatial.box(spatial.draw_move(seed, config, [9] * 3, [13] * 3), config, [9] * 3, [13] * 3) for seed in range(40)]
    alone = [box == ((0, 9),) * 3 for box in boxes]
    assert 10 < sum(alone) < 30
    assert all(low < 0 or same for same, ((low, _), *_) in zip(alone, boxes, strict=True))


def test_a_box_stays_in_the_crop():
    config = policy("cubic", **TURN)
    for seed in range(20):
        move = spatial.draw_move(seed, config, [16] * 3, [23] * 3)
        box = spatial.box(move, config, [16] * 3, [23] * 3)
        assert all(-3 <= low < high <= 20 for low, high in box)


# ------------------------------------------------------------------------------------------------ what is drawn


def test_rotation_matrix_is_the_product_of_the_axes():
    angles = [0.3, -0.2, 0.5]
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    np.testing.assert_allclose(spatial.rotation_matrix(angles), x @ y @ z, atol=1e-12)


def test_drawn_ranges():
    rotation = Rotation(p=1, p_axis=1, angle_deg=[10, 20])
    scale = Scale(p=1, factor=[0.9, 1.1])
    factors = []
    for seed in range(50):
        # the trace of Rx Ry Rz of angles in 10..20 degrees
        rng = generator(seed, "test")
        matrix = spatial.draw_rotation(rng, rotation)
        turn = math.degrees(math.acos((np.trace(matrix) - 1) / 2))
        assert 10 < turn < 20 * math.sqrt(3)
        factors.append(spatial.draw_scale(rng, scale))
    assert 0.9 <= min(factors) < 0.92 and 1.08 < max(factors) <= 1.1
    assert spatial.draw_rotation(rng, Rotation(p=1, p_axis=0, angle_deg=[10, 20])) is None


def test_elastic_shifts_are_smoothed_voxel_noise():
    """Their strength in the middle, at a face and at a corner: noise of variance 1/3 per voxel, none outside the patch."""
    fields = Elastic(p=1, alpha=[300, 300], sigma_voxels=[8, 8])
    size = [48, 40, 44]
    drawn = np.stack([spatial.draw_elastic(generator(seed, "elastic"), fields, size) for seed in range(400)])

    def strength(*places: int) -> float:
        kernels = [
            np.exp(-0.5 * ((np.arange(n) - at) / 8) ** 2) / (math.sqrt(2 * math.pi) * 8)
            for n, at in zip(size, places, strict=True)
        ]
        return 300 * math.sqrt(math.prod((kernel**2).sum() for kernel in kernels) / 3)

    count = drawn.shape[2:]
    middle = [n // 2 for n in count]
    at = [round(i * (n - 1) / (c - 1)) for i, n, c in zip(middle, size, count, strict=True)]
    assert drawn[:, :, *middle].std() == pytest.approx(strength(*at), rel=0.06)
    assert drawn[:, :, 0, middle[1], middle[2]].std() == pytest.approx(strength(0, *at[1:]), rel=0.06)
    assert drawn[:, :, 0, -1, 0].std() == pytest.approx(strength(0, size[1] - 1, 0), rel=0.06)
    noise = np.random.default_rng(0).uniform(-1, 1, (20, *size))
    full = 300 * np.stack([gaussian_filter(one, 8, mode="constant") for one in noise])
    assert drawn[..., ::2, ::2, ::2].std() == pytest.approx(full.std(), rel=0.1)


def test_elastic_shifts_are_contiguous():
    assert spatial.draw_elastic(generator(0, "x"), Elastic(p=1, alpha=[1, 1], sigma_voxels=[3, 4]), [9, 9, 9]).flags.c_contiguous
