import itertools

import nibabel as nib
import numpy as np
import pytest
import torch

import tiny
from brainpretrain import backbones, cli
from brainpretrain.errors import UserError
from brainpretrain.evaluation.inference import features, read_image, sliding_window
from brainpretrain.preprocess import nifti, volumes
from brainpretrain.weights import store as weights

WEIGHTS = pytest.mark.parametrize("weights", ["constant", "gaussian"])


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Conv3d(1, 2, 3, padding=1)


@WEIGHTS
def test_one_patch_is_the_direct_forward(weights):
    image = torch.rand(1, 1, 16, 24, 16)
    with torch.no_grad():
        expected = network()(image)
    torch.testing.assert_close(sliding_window(network(), image, [16, 24, 16], 0.5, weights, 2, []), expected)


@WEIGHTS
@pytest.mark.parametrize("shape", [(20, 33, 16), (40, 17, 25)])
def test_overlaps_are_normalised(weights, shape):
    """A network that gives its input back gives the volume back, whatever the number of patches per voxel."""
    image = torch.rand(1, 1, *shape)
    found = sliding_window(lambda patch: torch.cat([patch, torch.full_like(patch, 3.0)], 1), image, [16] * 3, 0.5, weights, 3, [])
    torch.testing.assert_close(found[:, :1], image)
    torch.testing.assert_close(found[:, 1:], torch.full_like(image, 3.0))


def test_smaller_volumes_are_padded_with_zeros():
    seen = []

    def remember(patch: torch.Tensor) -> torch.Tensor:
        seen.append(patch)
        return patch

    image = torch.rand(1, 2, 10, 20, 7) + 1
    found = sliding_window(remember, image, [16, 16, 16], 0.5, "constant", 1, [])
    torch.testing.assert_close(found, image)
    assert all(patch.shape == (1, 2, 16, 16, 16) for patch in seen)
    assert (seen[0] == 0).any() and (seen[0][seen[0] != 0] >= 1).all()


def test_number_of_windows_of_the_paper():
    """155 x 190 x 150 needs 8 windows of 128 at overlap 0.5 (facts 5); here a quarter of it."""
    calls = []
    sliding_window(
        lambda patch: calls.append(len(patch)) or patch, torch.rand(1, 1, 39, 48, 38), [32] * 3, 0.5, "constant", 1, []
    )
    assert sum(calls) == 8


def test_leaves_no_graph():
    assert not sliding_window(network(), torch.rand(1, 1, 16, 16, 20), [16] * 3, 0.5, "constant", 1, []).requires_grad


@pytest.mark.parametrize("mirror", [["x"], ["y", "z"], ["x", "y", "z"]])
def test_mirroring_is_the_mean_over_all_flips(mirror):
    net, image = network(), torch.rand(1, 1, 16, 12, 20)
    axes = [2 + "xyz".index(axis) for axis in mirror]
    with torch.no_grad():
        every = [
            net(image.flip([a for a, on in zip(axes, chosen, strict=True) if on])).flip(
                [a for a, on in zip(axes, chosen, strict=True) if on]
            )
            for chosen in itertools.product((False, True), repeat=len(axes))
        ]
    found = sliding_window(net, image, [16, 12, 20], 0.5, "constant", 1, mirror)
    assert len(every) == 2 ** len(mirror)
    torch.testing.assert_close(found, torch.stack(every).mean(0))
    assert not torch.allclose(found, every[0], atol=1e-3)


@WEIGHTS
def test_a_mirrored_volume_gives_the_mirrored_logits(weights):
    """A volume of one and a half patches: its windows lie symmetrically."""
    image = torch.rand(1, 1, 24, 16, 16)
    found = sliding_window(network(), image, [16] * 3, 0.5, weights, 2, ["x", "y", "z"])
    turned = sliding_window(network(), image.flip(2, 4), [16] * 3, 0.5, weights, 2, ["x", "y", "z"])
    torch.testing.assert_close(turned.flip(2, 4), found)


def test_half_precision_ends_at_the_network():
    """Gaussian weights span three orders of magnitude; sums of weighted halves would be off in the third digit."""
    image = torch.rand(1, 1, 20, 20, 20)
    found = sliding_window(lambda patch: patch.half(), image, [16] * 3, 0.5, "gaussian", 2, [])
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, image.half().float())


# ------------------------------------------------------------------------------------ features

FACTS = {"in_channels": 1, "preprocess": tiny.PREPROCESS}


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    return backbones.build("unet", 1, **tiny.BACKBONE["options"]).eval()


def test_features_of_a_size_that_fits_are_the_encoders(encoder):
    image = torch.rand(1, 1, 16, 8, 12)
    with torch.no_grad():
        for found, wanted in zip(features(encoder, image), encoder(image), strict=True):
            assert torch.equal(found, wanted)


def test_other_sizes_are_padded_with_background_at_the_far_side(encoder):
    image = torch.rand(1, 1, 13, 9, 12)
    padded = torch.zeros(1, 1, 16, 12, 12)
    padded[:, :, :13, :9] = image
    found = features(encoder, image)
    assert [list(f.shape[2:]) for f in found] == [[13, 9, 12], [7, 5, 6], [4, 3, 3]]
    with torch.no_grad():
        for mine, whole in zip(found, encoder(padded), strict=True):
            x, y, z = mine.shape[2:]
            assert torch.equal(mine, whole[:, :, :x, :y, :z])


def test_a_volume_of_one_coarsest_voxel_is_refused(encoder):
    with pytest.raises(UserError, match="nearest valid size: 8"):
        features(encoder, torch.rand(1, 1, 3, 4, 4))


@pytest.mark.parametrize("shape", [(4, 5, 6), (1, 4, 5, 6), (2, 1, 4, 5, 6)])
def test_an_array_is_taken_as_it_is(tmp_path, shape):
    array = np.random.default_rng(0).normal(size=shape)
    np.save(tmp_path / "x.npy", array)
    found, _ = read_image(tmp_path / "x.npy", FACTS, raw=True)
    assert found.shape == (*(1,) * (5 - len(shape)), *shape) and np.array_equal(
        found.numpy().squeeze(), array.squeeze().astype(np.float32)
    )


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 4)), "2 axes"),
        (np.zeros((2, 4, 4, 4)), r"shape \[2, 4, 4, 4\], but the encoder takes 1 channel"),
        (np.full((4, 4, 4), np.inf), "channel.s. of finite values"),
        (np.array([[["a"]]]), "axes of <U1"),
        (np.array([[[{}]]]), "no readable array"),
    ],
    ids=["2-D", "channels", "infinite", "text", "objects"],
)
def test_an_array_that_does_not_fit_is_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(UserError, match=message) as caught:
        read_image(tmp_path / "x.npy", FACTS, raw=True)
    assert caught.value.where.endswith("x.npy")


def test_an_array_cannot_be_prepared(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((4, 4, 4)))
    with pytest.raises(UserError, match=r"neither spacing nor orientation[\s\S]*--raw"):
        read_image(tmp_path / "x.npy", FACTS, raw=False)


def test_a_nifti_is_prepared_as_the_corpus_was_or_taken_as_it_is(tmp_path):
    array = np.random.default_rng(0).integers(1, 200, (12, 11, 10)).astype(np.int16)
    nib.save(nib.Nifti1Image(array, np.diag([-2.0, 2, 2, 1])), tmp_path / "x.nii.gz")
    assert np.array_equal(read_image(tmp_path / "x.nii.gz", FACTS, raw=True)[0][0, 0].numpy(), array)
    found, scale = read_image(tmp_path / "x.nii.gz", FACTS, raw=False)
    wanted = volumes.preprocess(nifti.read_volume(tmp_path / "x.nii.gz"), None, tiny.PREPROCESS)[0]
    assert found.shape == (1, 1, 24, 22, 20) and np.array_equal(found[0, 0].numpy(), wanted) and scale is None
    with pytest.raises(UserError, match="does not say how its volumes were prepared"):
        read_image(tmp_path / "x.nii.gz", FACTS | {"preprocess": None}, raw=False)


def test_the_command_writes_an_array_per_level(tmp_path, encoder, capsys):
    weights.save(tmp_path / "encoder", encoder.state_dict(), FACTS | {"backbone": tiny.BACKBONE})
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((13, 9, 12)))
    line = ["features", str(tmp_path / "x.npy"), "--encoder", str(tmp_path), "--raw", "--out", str(tmp_path / "f.npz")]
    assert cli.main(line) == 0 and "level2 1x16x4x3x3" in capsys.readouterr().out
    with np.load(tmp_path / "f.npz") as maps:
        assert [maps[f"level{n}"].shape[1:] for n in range(3)] == [(4, 13, 9, 12), (8, 7, 5, 6), (16, 4, 3, 3)]


def test_mirrored_logits_swap_the_classes_of_left_and_right():
    """A network that finds its left class at low x, whatever the image: flipped, what it calls left is right."""

    def sided(patch: torch.Tensor) -> torch.Tensor:
        place = torch.linspace(0, 1, patch.shape[2]).view(1, 1, -1, 1, 1).expand_as(patch)
        return torch.cat([torch.zeros_like(patch), 1 - place, place, torch.ones_like(patch)], 1)

    image = torch.rand(1, 1, 8, 8, 8)
    once = sided(image)
    for mirror in (["x"], ["x", "y", "z"], ["y"]):
        torch.testing.assert_close(sliding_window(sided, image, [8] * 3, 0.5, "constant", 1, mirror, [(1, 2)]), once)
    mixed = sliding_window(sided, image, [8] * 3, 0.5, "constant", 1, ["x"])  # without the pair both sides are the same
    torch.testing.assert_close(mixed[:, 1:3], torch.full((1, 2, 8, 8, 8), 0.5))
