"""Sparse encoders: packed cells against the plain way, and both against what they must not see."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.nn.functional as F

from brainpretrain import backbones
from brainpretrain.errors import UserError
from brainpretrain.sparse import Cells, halo, sparse

NETWORKS = {
    "unet": ("unet", {"width": 3, "levels": 3, "convs_per_stage": 2}),
    "mednext": ("mednext", {"width": 3, "kernel_size": 3, "blocks": [1, 1, 1], "expansions": [2, 2, 2]}),
    "mednext5": ("mednext", {"width": 2, "kernel_size": 5, "blocks": [1, 1, 1], "expansions": [2, 2, 2]}),
    "resenc": ("resenc", {"widths": [3, 5, 6], "blocks": [1, 2, 1]}),
}
SIDES = {"blocks of the total stride": 4, "smaller blocks": 2, "larger blocks": 8}


def encoder(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    architecture, options = NETWORKS[name]
    return backbones.build(architecture, 1, **options).double()


def drawn(grid: tuple[int, ...], ratios: list[float]) -> torch.Tensor:
    """bool (b gx gy gz), True = visible."""
    visible = torch.zeros(len(ratios), torch.Size(grid).numel(), dtype=torch.bool)
    for number, (row, ratio) in enumerate(zip(visible, ratios, strict=True)):
        places = torch.randperm(len(row), generator=torch.Generator().manual_seed(number))
        row[places[int(ratio * len(row)) :]] = True
    return visible.view(-1, *grid)


def run(network: torch.nn.Module, image: torch.Tensor, cells: Cells, packed: bool, masked_input: bool) -> list[torch.Tensor]:
    """Features, then gradients of all parameters and of the image, for random cotangents."""
    image = image.clone().requires_grad_()
    network.zero_grad()
    maps = network(sparse(image, cells, packed, masked_input))
    features = [x if isinstance(x, torch.Tensor) else x.dense() for x in maps]
    generator = torch.Generator().manual_seed(1)
    sum((x * torch.rand(x.shape, dtype=x.dtype, generator=generator)).sum() for x in features).backward()
    return [*(x.detach() for x in features), *(p.grad.clone() for p in network.parameters()), image.grad]


def test_the_function_of_torch_that_is_not_known_is_an_error():
    cells = Cells(drawn((2, 2, 2), [0.5]), 4)
    with pytest.raises(NotImplementedError, match="softmax has no sparse form"):
        F.softmax(sparse(torch.rand(1, 1, 8, 8, 8), cells), 1)


@pytest.mark.parametrize("masked_input", [True, False])
@pytest.mark.parametrize("side", SIDES.values(), ids=SIDES)
@pytest.mark.parametrize("name", NETWORKS)
def test_packed_and_masked_give_the_same_features_and_gradients(name, side, masked_input):
    network = encoder(name)
    grid = (2, 3, 4) if side < 8 else (2, 2, 2)
    image = torch.rand(2, 1, *(n * side for n in grid), dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    if side == 2:  # room for the total stride
        grid = (4, 4, 6)
        image = torch.rand(2, 1, 8, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    cells = Cells(drawn(grid, [0.6, 0.75]), side)  # two samples with different numbers of blocks
    masked, packed = (run(network, image, cells, way, masked_input) for way in (False, True))
    scale = max(x.abs().max() for x in masked)
    for one, other in zip(masked, packed, strict=True):
        assert (one - other).abs().max() / scale < 1e-11
    assert scale > 0


@pytest.mark.parametrize("ratio", [0.6, 0.75, 0.9])
def test_at_all_ratios_on_a_grid_of_three(ratio):
    """27 blocks of 16 in four levels; cells of 16, 8, 4 and 2 voxels take every way to gather and to multiply."""
    torch.manual_seed(0)
    network = backbones.build("resenc", 1, widths=[2, 3, 3, 4], blocks=[1, 1, 2, 2]).double()
    image = torch.rand(2, 1, 48, 48, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    cells = Cells(drawn((3, 3, 3), [ratio, ratio]), 16)
    masked, packed = (run(network, image, cells, way, True) for way in (False, True))
    for one, other in zip(masked, packed, strict=True):
        # the bias in front of a norm has a gradient of 0, so its size is no measure
        assert (one - other).abs().max() <= 1e-11 * max(one.abs().max(), max(x.abs().max() for x in masked) * 1e-2)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
def test_hidden_voxels_change_no_feature_at_all(name, packed):
    network, cells = encoder(name), Cells(drawn((2, 3, 3), [0.75]), 4)
    image = torch.rand(1, 1, 8, 12, 12, dtype=torch.float64)
    hidden = cells.mask(image.shape[2:], torch.float64) == 0
    other = torch.where(hidden, 100 * torch.rand_like(image), image)
    with torch.no_grad():
        both = [[x.dense() for x in network(sparse(x, cells, packed))] for x in (image, other)]
    assert all(torch.equal(one, two) for one, two in zip(*both, strict=True))
    assert all((x[hidden.expand_as(x)] == 0).all() for x in both[0][:1])
    with torch.no_grad():  # as the authors' code has it, the first convolution reads the hidden voxels beside a block
        leak = [network(sparse(x, cells, packed, masked_input=False))[0].dense() for x in (image, other)]
    assert torch.equal(*leak) == name.startswith("mednext")  # whose first convolution has one voxel


@pytest.mark.parametrize(("low", "high"), [(1, 1), (1, 0), (2, 2), (2, 1)])
@pytest.mark.parametrize("side", [2, 4])
def test_gathers_are_equal_and_scatter_is_the_adjoint(side, low, high):
    cells = Cells(drawn((3, 3, 3), [0.4, 0.7]), side)
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(len(cells), 3, side, side, side, dtype=torch.float64, generator=generator)
    slices, rows = halo._by_slices(x, cells, low, high), halo._by_rows(x, cells, low, high)
    assert torch.equal(slices, rows)
    grid = [side * n for n in cells.grid]
    dense = torch.zeros(2, 3, *grid, dtype=torch.float64)
    for number, sample, box in cells.boxes(side):
        dense[(sample, slice(None), *box)] = x[number]
    padded = F.pad(dense, (low, high) * 3)
    for number, sample, box in cells.boxes(side):
        window = padded[(sample, slice(None), *(slice(axis.start, axis.stop + low + high) for axis in box))]
        assert torch.equal(slices[number], window)
    other = torch.rand(slices.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close((slices * other).sum(), (x * halo.scatter(other, cells, low, high)).sum())


def test_norms_see_visible_voxels_alone():
    cells = Cells(drawn((2, 2, 2), [0.5, 0.75]), 2)
    image = torch.rand(2, 3, 4, 4, 4, dtype=torch.float64)
    for packed, affine in itertools.product((True, False), repeat=2):
        module = torch.nn.InstanceNorm3d(3, affine=affine).double()
        found = module(sparse(image, cells, packed)).dense()
        for sample in range(2):
            mask = cells.mask(image.shape[2:], torch.bool)[sample, 0]
            voxels = image[sample][:, mask]
            wanted = (voxels - voxels.mean(1, keepdim=True)) / (voxels.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
            torch.testing.assert_close(found[sample][:, mask], wanted)
            assert (found[sample][:, ~mask] == 0).all()


def test_a_single_visible_voxel_cannot_be_normalised():
    cells = Cells(drawn((2, 2, 2), [0.875]), 1)
    with pytest.raises(ValueError, match="two visible voxels"):
        F.instance_norm(sparse(torch.rand(1, 1, 2, 2, 2), cells))
    with pytest.raises(UserError, match="no visible block"):
        Cells(torch.zeros(1, 2, 2, 2, dtype=torch.bool), 4)
