import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from brainpretrain.augment import spatial
from brainpretrain.augment.config import Elastic, Rotation, Scale
from brainpretrain.seeds import generator


def grid_of(matrix: np.ndarray, crop: list[int], size: list[int], shift: torch.Tensor | None = None) -> torch.Tensor:
    return spatial.sampling_grid(torch.from_numpy(matrix.astype(np.float32))[None], shift, crop, size)


def test_rotation_matrix_is_the_product_of_the_axes():
    angles = [0.3, -0.2, 0.5]
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    np.testing.assert_allclose(spatial.rotation_matrix(angles), x @ y @ z, atol=1e-12)


@pytest.mark.parametrize(("crop", "size"), [([9, 12, 11], [6, 6, 6]), ([8, 8, 8], [8, 8, 8])])
def test_the_identity_reads_the_centre_crop(crop, size):
    image = torch.rand(1, 2, *crop)
    found = spatial.sample_image(image, grid_of(np.eye(3), crop, size))
    torch.testing.assert_close(found, spatial.centre_crop(image, size), atol=1e-5, rtol=0)


@pytest.mark.parametrize("elastic", [False, True])
def test_one_resampling_equals_the_formula(elastic):
    crop, size = [21, 19, 23], [14, 12, 15]
    image = np.random.default_rng(0).random(crop).astype(np.float32)
    matrix = spatial.rotation_matrix([0.1, -0.3, 0.2]) * 1.1
    start = spatial.centre_start(crop, size)
    centre = np.array(start) + (np.array(size) - 1) / 2
    points = np.moveaxis(np.indices(size), 0, -1) - (np.array(size) - 1) / 2
    shift = None
    if elastic:
        nodes = np.random.default_rng(1).normal(size=(3, *size)).astype(np.float32)  # one node per voxel
        shift, points = torch.from_numpy(nodes)[None], points + np.moveaxis(nodes, 0, -1)
    read = np.moveaxis(points @ matrix + centre, -1, 0)
    expected = map_coordinates(image, read, order=1, mode="grid-constant", cval=image.min())
    found = spatial.sample_image(torch.from_numpy(image)[None, None], grid_of(matrix, crop, size, shift))
    np.testing.assert_allclose(found[0, 0], expected, atol=2e-5)


def test_outside_lies_the_minimum_of_the_image_and_label_0():
    image = torch.rand(1, 2, 8, 8, 8) + torch.tensor([0.5, -3.0]).view(1, 2, 1, 1, 1)
    grid = grid_of(np.eye(3) * 10, [8, 8, 8], [8, 8, 8])
    assert torch.equal(spatial.sample_image(image, grid)[0, :, 0, 0, 0], image.amin((0, 2, 3, 4)))
    assert spatial.sample_label(torch.full((1, 1, 8, 8, 8), 7), grid)[0, 0, 0, 0, 0] == 0


def test_labels_stay_labels():
    label = torch.randint(0, 3, (1, 1, 12, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8) * 100
    found = spatial.sample_label(label, grid_of(spatial.rotation_matrix([0.4, 0.1, 0.3]), [12] * 3, [12] * 3))
    assert found.dtype == torch.uint8
    assert set(found.unique().tolist()) == {0, 100, 200}


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
        factors.append(spatial.draw_scale(rng, scale)[0, 0])
    assert 0.9 <= min(factors) < 0.92 and 1.08 < max(factors) <= 1.1
    assert spatial.draw_rotation(rng, Rotation(p=1, p_axis=0, angle_deg=[10, 20])) is None


def test_elastic_shifts_are_as_strong_as_smoothed_voxel_noise():
    fields = Elastic(p=1, alpha=[300, 300], sigma_voxels=[8, 8])
    size = [48, 40, 44]
    drawn = np.stack([spatial.draw_elastic(generator(seed, "elastic"), fields, size) for seed in range(150)])
    n = drawn.shape[2:]
    centre = drawn[:, :, n[0] // 2, n[1] // 2, n[2] // 2].std()
    assert centre == pytest.approx(300 * math.sqrt(1 / 3) / (2 * math.sqrt(math.pi) * 8) ** 1.5, rel=0.1)
    noise = np.random.default_rng(0).uniform(-1, 1, (60, *size))
    full = 300 * np.stack([gaussian_filter(one, 8, mode="constant") for one in noise])
    assert drawn.std() == pytest.approx(full.std(), rel=0.1)


def test_elastic_strength_of_the_paper():
    """Standard deviation 0.08 to 0.50 voxels at 128^3 (facts 2.5)."""
    fields = Elastic(p=1, alpha=[200, 600], sigma_voxels=[20, 30])
    for seed in range(20):
        nodes = spatial.draw_elastic(generator(seed, "elastic"), fields, [128] * 3)
        assert nodes.shape == (3, 17, 17, 17)
        assert 0.05 < nodes.std() < 0.6
