import pytest
import torch

from brainpretrain.inference import sliding_window

WEIGHTS = pytest.mark.parametrize("weights", ["constant", "gaussian"])


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv3d(1, 2, 3, padding=1)


@WEIGHTS
def test_one_patch_is_the_direct_forward(weights):
    image = torch.rand(1, 1, 16, 24, 16)
    with torch.no_grad():
        expected = network()(image)
    torch.testing.assert_close(sliding_window(network(), image, [16, 24, 16], 0.5, weights, 2), expected)


@WEIGHTS
@pytest.mark.parametrize("shape", [(20, 33, 16), (40, 17, 25)])
def test_overlaps_are_normalised(weights, shape):
    """A network that gives its input back gives the volume back, whatever the number of patches per voxel."""
    image = torch.rand(1, 1, *shape)
    found = sliding_window(lambda patch: torch.cat([patch, torch.full_like(patch, 3.0)], 1), image, [16] * 3, 0.5, weights, 3)
    torch.testing.assert_close(found[:, :1], image)
    torch.testing.assert_close(found[:, 1:], torch.full_like(image, 3.0))


def test_smaller_volumes_are_padded_with_zeros():
    seen = []

    def remember(patch: torch.Tensor) -> torch.Tensor:
        seen.append(patch)
        return patch

    image = torch.rand(1, 2, 10, 20, 7) + 1
    found = sliding_window(remember, image, [16, 16, 16], 0.5, "constant", 1)
    torch.testing.assert_close(found, image)
    assert all(patch.shape == (1, 2, 16, 16, 16) for patch in seen)
    assert (seen[0] == 0).any() and (seen[0][seen[0] != 0] >= 1).all()


def test_number_of_windows_of_the_paper():
    """155 x 190 x 150 needs 8 windows of 128 at overlap 0.5 (facts 5); here a quarter of it."""
    calls = []
    sliding_window(lambda patch: calls.append(len(patch)) or patch, torch.rand(1, 1, 39, 48, 38), [32] * 3, 0.5, "constant", 1)
    assert sum(calls) == 8


def test_leaves_no_graph():
    assert not sliding_window(network(), torch.rand(1, 1, 16, 16, 20), [16] * 3, 0.5, "constant", 1).requires_grad
