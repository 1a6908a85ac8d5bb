import numpy as np
import pytest
import torch
import torch.nn.functional as F

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.pretext.swinunetr import Cutout, boxes, cut_out, info_nce
from brainpretrain.seeds import generator

OPTIONS = {
    "cutout_ratio": [0.0, 0.3],
    "swap_ratio": [0.0, 0.3],
    "box_fraction": [0.05, 0.25],
    "contrast_dim": 512,
    "temperature": 0.5,
    "pool": "token",
    "rotation_weight": 1.0,
    "contrast_weight": 1.0,
    "reconstruction_weight": 1.0,
}


def task(**changes) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = backbones.build("unet", 1, width=4, levels=3, convs_per_stage=1)
    return pretext.build("swinunetr", encoder, 1, **OPTIONS | changes)


def test_parameters_of_the_original_heads():
    encoder = backbones.build("swinunetr", 1, feature_size=48, depths=[2] * 4, num_heads=[3, 6, 12, 24], window_size=7)
    module = pretext.build("swinunetr", encoder, 1, **OPTIONS)
    counts = {name: sum(p.numel() for p in child.parameters()) for name, child in module.named_children()}
    assert counts == {"encoder": 8_062_002, "rotation": 3_076, "contrast": 393_728, "decoder": 10_638_385}


def rngs(n: int) -> list[np.random.Generator]:
    return [generator(seed, "test") for seed in range(n)]


def test_cut_out_replaces_only_what_it_reports():
    x = torch.rand(4, 1, 32, 32, 32) + torch.arange(4.0).view(4, 1, 1, 1, 1)
    corrupted, noise, swapped = cut_out(x, rngs(4), Cutout((0.2, 0.3), (0.0, 0.0), (0.05, 0.25)))
    assert not swapped.any() and torch.equal(corrupted[~noise], x[~noise])
    assert ((corrupted[noise] >= 0) & (corrupted[noise] <= 1)).all()
    shares = noise.float().mean((1, 2, 3, 4))
    assert ((shares > 0.1) & (shares < 0.35)).all()


def test_swapped_boxes_come_from_the_batch_as_it_is_by_then():
    """Of samples before this one the corrupted state is taken, of samples after it the clean one."""
    x = torch.rand(4, 1, 16, 16, 16) + torch.arange(4.0).view(4, 1, 1, 1, 1)
    before_and_after = set()
    for start in range(0, 40, 4):
        draws = [generator(start + number, "test") for number in range(4)]
        corrupted, _, swapped = cut_out(x, draws, Cutout((0.5, 0.5), (0.3, 0.3), (0.25, 0.5)))
        for place in range(4):
            at = swapped[place, 0]
            sources = [
                other
                for other in range(4)
                if torch.equal(corrupted[place, 0][at], (corrupted if other < place else x)[other, 0][at])
            ]
            assert not at.any() or len(sources) == 1
            before_and_after |= {source < place for source in sources if at.any()}
    assert before_and_after == {True, False}


def test_boxes_reach_over_every_border():
    size = (20, 24, 28)
    found = [box for rng in rngs(40) for box in boxes(rng, size, (0.3, 0.3), (0.1, 0.25))]
    sides = np.array([[s.stop - s.start for s in box] for box in found])
    assert all({box[axis].stop == size[axis] for box in found} == {True, False} for axis in range(3))
    assert list(sides.min(0)) == [2, 2, 2] and list(sides.max(0)) == [4, 5, 6]  # from a tenth to below a quarter of each side


def test_info_nce_by_hand():
    vectors = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    similarity = np.exp((vectors @ vectors.T).numpy() / 0.5)
    partner = [3, 4, 5, 0, 1, 2]
    expected = [-np.log(similarity[i, j] / (similarity[i].sum() - similarity[i, i])) for i, j in enumerate(partner)]
    assert info_nce(2 * vectors, 0.5).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_views_are_turned_in_the_yz_plane():
    x = torch.rand(4, 1, 8, 16, 16)
    seen = set()
    for seed in range(0, 16, 4):
        found = task(cutout_ratio=[0, 0], swap_ratio=[0, 0]).reconstruct(x, x, list(range(seed, seed + 4)))
        assert not found["hidden"].any()
        for before, after in zip(x, found["target"], strict=True):
            seen.add([torch.equal(torch.rot90(before, k, (2, 3)), after) for k in range(4)].index(True))
    assert seen == {0, 1, 2, 3}


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="not a range of shares"):
        task(cutout_ratio=[0.4, 0.3])
    with pytest.raises(UserError, match="did you mean 'token'"):
        task(pool="tokens")
    with pytest.raises(UserError, match="make y and z equal"):
        task()(torch.rand(1, 1, 8, 8, 16), torch.rand(1, 1, 8, 8, 16), [0])


def test_mean_pooling_runs():
    assert task(pool="mean")(torch.rand(2, 1, 8, 16, 16), torch.rand(2, 1, 8, 16, 16), [0, 1])["loss"].isfinite()
