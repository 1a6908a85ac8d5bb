import numpy as np
import pytest
import torch
import torch.nn.functional as F

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.pretext.swinunetr import Cutout, cut_out, info_nce
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
    corrupted, hidden = cut_out(x, x, range(4), rngs(4), Cutout((0.2, 0.3), (0.0, 0.0), (0.05, 0.25)))
    assert torch.equal(corrupted[~hidden], x[~hidden])
    assert ((corrupted[hidden] >= 0) & (corrupted[hidden] <= 1)).all()
    shares = hidden.float().mean((1, 2, 3, 4))
    assert ((shares > 0.1) & (shares < 0.35)).all()


def test_swapped_boxes_come_from_the_same_place_of_another_sample():
    x = torch.rand(4, 1, 16, 16, 16) + torch.arange(4.0).view(4, 1, 1, 1, 1)
    corrupted, hidden = cut_out(x, x, range(4), rngs(4), Cutout((0.0, 0.0), (0.3, 0.3), (0.25, 0.5)))
    assert hidden.any()
    for sample, mask in zip(corrupted[:, 0], hidden[:, 0], strict=True):
        sources = [torch.equal(sample[mask], other[mask]) for other in x[:, 0]]
        assert not mask.any() or sum(sources) == 1


def test_info_nce_by_hand():
    vectors = F.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    similarity = np.exp((vectors @ vectors.T).numpy() / 0.5)
    partner = [3, 4, 5, 0, 1, 2]
    expected = [-np.log(similarity[i, j] / (similarity[i].sum() - similarity[i, i])) for i, j in enumerate(partner)]
    assert info_nce(2 * vectors, 0.5).item() == pytest.approx(np.mean(expected), rel=1e-5)


def test_views_are_turned_in_the_xy_plane():
    x = torch.rand(4, 1, 16, 16, 8)
    seen = set()
    for seed in range(0, 16, 4):
        found = task(cutout_ratio=[0, 0], swap_ratio=[0, 0]).reconstruct(x, x, list(range(seed, seed + 4)))
        assert not found["hidden"].any()
        for before, after in zip(x, found["target"], strict=True):
            seen.add([torch.equal(torch.rot90(before, k, (1, 2)), after) for k in range(4)].index(True))
    assert seen == {0, 1, 2, 3}


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="not a range of shares"):
        task(cutout_ratio=[0.4, 0.3])
    with pytest.raises(UserError, match="did you mean 'token'"):
        task(pool="tokens")
    with pytest.raises(UserError, match="make x and y equal"):
        task()(torch.rand(1, 1, 16, 8, 8), torch.rand(1, 1, 16, 8, 8), [0])


def test_mean_pooling_runs():
    assert task(pool="mean")(torch.rand(2, 1, 16, 16, 8), torch.rand(2, 1, 16, 16, 8), [0, 1])["loss"].isfinite()
