"""Densification, and convolutions of maps that are one vector at hidden voxels, against the dense map."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from brainpretrain.sparse import Cells
from brainpretrain.sparse.dense import from_dense
from brainpretrain.sparse.densify import Densify
from brainpretrain.sparse.filled import Filled, Joined
from brainpretrain.sparse.maps import Masked, Packed


def drawn(side: int, seed: int = 0) -> Cells:
    visible = torch.rand(2, 3, 2, 3, generator=torch.Generator().manual_seed(seed)) < 0.2
    visible[:, 0, 0, 0] = visible[:, 2, 1, 1] = True
    return Cells(visible, side)


@pytest.mark.parametrize("token", [True, False])
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("side", [8, 2])
def test_a_convolution_of_a_filled_map_is_that_of_the_dense_map(side, joined, token):
    """With cells of 2 voxels the dense way is taken."""
    cells = drawn(side)
    make = torch.Generator().manual_seed(1)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=make, requires_grad=True)

    value, vector = random(len(cells), 3, side, side, side), random(1, 3, 1, 1, 1)
    first = random(2, 2, 3 * side, 2 * side, 3 * side)
    weight, bias = random(4, 5 if joined else 3, 3, 3, 3), random(4)
    filled = Filled(value, vector if token else None, cells)
    found = []
    for x in (filled, filled.dense()):
        if joined:
            x = torch.cat([first, x], dim=1)
        out = F.conv3d(x, weight, bias, padding=1)
        inputs = [value, weight, bias, *([vector] if token else []), *([first] if joined else [])]
        found.append([out, *torch.autograd.grad((out * torch.sin(torch.arange(out.numel()).view(out.shape))).sum(), inputs)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_other_functions_take_the_dense_map():
    cells = drawn(4)
    filled = Filled(torch.rand(len(cells), 3, 4, 4, 4), torch.rand(1, 3, 1, 1, 1), cells)
    first = torch.rand(filled.shape)
    assert torch.equal(F.relu(filled), F.relu(filled.dense()))
    assert torch.equal(first + filled, first + filled.dense()) and torch.equal(filled + first, first + filled.dense())
    assert isinstance(torch.cat([first, filled], dim=1), Joined)
    assert torch.equal(torch.cat([filled, first], dim=1), torch.cat([filled.dense(), first], dim=1))
    assert torch.equal(F.leaky_relu(torch.cat([first, filled], 1)), F.leaky_relu(torch.cat([first, filled.dense()], 1)))


@pytest.mark.parametrize("convolutions", [True, False])
def test_packed_and_masked_maps_are_densified_alike(convolutions):
    torch.manual_seed(0)
    module = Densify([2, 3, 2], convolutions).double()
    cells = drawn(8)
    found = []
    for packed in (True, False):
        torch.manual_seed(1)
        maps = []
        for channels, side in ((2, 8), (3, 4)):
            dense = torch.rand(2, channels, 3 * side, 2 * side, 3 * side, dtype=torch.float64)
            dense = dense * cells.mask(dense.shape[2:], dense.dtype)
            maps.append(Packed(from_dense(dense, cells), cells) if packed else Masked(dense, cells))
        maps.append(torch.rand(2, 2, 2, 1, 2, dtype=torch.float64))  # a level that is not masked
        dense = [x if isinstance(x, torch.Tensor) else x.dense() for x in module(maps)]
        sum(x.square().sum() for x in dense).backward()
        found.append([*dense, *(p.grad for p in module.parameters())])
        module.zero_grad(set_to_none=True)
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_tokens_are_small_and_fill_hidden_voxels():
    module = Densify([2, 3], convolutions=False)
    assert all(0 < token.abs().max() <= 0.02 for token in module.tokens)
    cells = drawn(2)
    x = Packed(torch.ones(len(cells), 2, 2, 2, 2), cells)
    (dense,) = (module([x, torch.zeros(2, 3, 1, 1, 1)])[0].dense(),)
    visible = cells.mask(dense.shape[2:], torch.bool).expand_as(dense)
    assert (dense[visible] == 1).all()
    assert torch.equal(dense[~visible], module.tokens[0].expand_as(dense)[~visible])
