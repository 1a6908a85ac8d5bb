import pytest
import torch

from brainpretrain.errors import UserError
from brainpretrain.masking import block_mask, block_moments, hidden_mean, local_mean


@pytest.mark.parametrize(("side", "hidden", "blocks"), [(128, 19_661, 32_768), (96, 8_295, 13_824), (64, 2_458, 4_096)])
def test_exact_count_of_hidden_blocks(side, hidden, blocks):
    mask = block_mask([0, 1], [side] * 3, mask_size=4, mask_ratio=0.6)
    assert mask.shape == (2, 1, side, side, side)
    assert mask.dtype == torch.bool
    tokens = mask[:, 0, ::4, ::4, ::4]
    assert tokens[0].numel() == blocks
    assert tokens.flatten(1).sum(1).tolist() == [hidden, hidden]
    # each block is hidden whole
    assert torch.equal(mask[:, 0], tokens.repeat_interleave(4, 1).repeat_interleave(4, 2).repeat_interleave(4, 3))


@pytest.mark.parametrize(("ratio", "hidden"), [(0.0, 0), (0.9, 900), (1.0, 1000)])
def test_counts_do_not_suffer_from_rounding(ratio, hidden):
    assert block_mask([3], [10, 10, 10], mask_size=1, mask_ratio=ratio).sum() == hidden


@pytest.mark.parametrize(("size", "mask_size"), [([16, 16, 16], 1), ([48, 16, 32], 16), ([30, 20, 10], 5), ([8, 8, 8], 8)])
def test_blocks_of_any_size_that_divides_the_patch(size, mask_size):
    mask = block_mask([3], size, mask_size, 0.5)
    tokens = mask[0, 0, ::mask_size, ::mask_size, ::mask_size]
    blocks = tokens.numel()
    assert tokens.sum() == blocks - blocks // 2 and mask.sum() == tokens.sum() * mask_size**3


def test_a_drawn_ratio_belongs_to_the_sample():
    seeds = list(range(400))
    share = block_mask(seeds, [16, 16, 16], 4, [0.3, 0.9]).float().mean((1, 2, 3, 4))
    assert 0.28 < share.min() < 0.32 and 0.88 < share.max() < 0.92 and abs(share.mean() - 0.6) < 0.02
    assert torch.equal(block_mask([7], [16, 16, 16], 4, [0.3, 0.9])[0], block_mask(seeds, [16, 16, 16], 4, [0.3, 0.9])[7])
    # the order in which blocks are hidden does not depend on how many are
    few, many = (block_mask([7], [16, 16, 16], 4, ratio) for ratio in (0.3, 0.9))
    assert (few <= many).all()


def test_a_mask_depends_on_its_own_seed_alone():
    together = block_mask([5, 6, 7], [16, 8, 8], 4, 0.5)
    assert torch.equal(together[1:2], block_mask([6], [16, 8, 8], 4, 0.5))
    assert torch.equal(together, block_mask(torch.tensor([5, 6, 7]), [16, 8, 8], 4, 0.5))
    assert not torch.equal(together[0], together[1])


def test_every_place_is_hidden_as_often():
    share = block_mask(list(range(2000)), [4, 4, 4], 2, 0.5).float().mean(0)
    assert (share - 0.5).abs().max() < 0.05


def test_bad_sizes_and_ratios_are_refused():
    with pytest.raises(UserError, match=r"valid sizes: \[1, 2, 4, 8\]"):
        block_mask([0], [16, 8, 24], mask_size=5, mask_ratio=0.6)
    with pytest.raises(UserError, match="no share"):
        block_mask([0], [8, 8, 8], mask_size=4, mask_ratio=60)


def test_local_mean_reads_visible_voxels_only():
    image = torch.zeros(1, 1, 12, 12, 12)
    image[:, :, :6] = 0.25
    image[:, :, 6:] = 0.75
    hidden = block_mask([0], [12, 12, 12], mask_size=2, mask_ratio=0.5)
    guess = local_mean(image.masked_fill(hidden, 0), hidden, [6, 6, 6])
    torch.testing.assert_close(guess[:, :, :4], torch.full((1, 1, 4, 12, 12), 0.25))
    torch.testing.assert_close(guess[:, :, 8:], torch.full((1, 1, 4, 12, 12), 0.75))
    assert ((guess[:, :, 4:8] > 0.25) & (guess[:, :, 4:8] < 0.75)).all()
    garbage = torch.where(hidden, torch.full_like(image, 9.0), image)
    torch.testing.assert_close(local_mean(garbage, hidden, [6, 6, 6]), guess)


def test_local_mean_of_few_cells_is_the_mean_of_the_sample():
    image = torch.rand(1, 1, 16, 16, 16)
    hidden = block_mask([0], [16, 16, 16], mask_size=8, mask_ratio=0.5)
    guess = local_mean(image.masked_fill(hidden, 0), hidden, [2, 2, 2])
    torch.testing.assert_close(guess, image[~hidden].mean().expand_as(guess))


def test_local_mean_falls_back_to_the_sample():
    image = torch.full((1, 1, 16, 16, 16), 0.5)
    hidden = torch.ones(1, 1, 16, 16, 16, dtype=torch.bool)
    hidden[..., 0, 0, 0] = False
    torch.testing.assert_close(local_mean(image, hidden, [8, 8, 8]), image)


def test_the_mean_over_hidden_voxels_does_not_depend_on_how_a_batch_is_spread():
    error = torch.rand(4, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 5).view(4, 1, 1, 1, 1)
    hidden = block_mask([0, 1, 2, 3], [16, 16, 16], 4, [0.1, 0.9])
    parts = [hidden_mean(error[i : i + 2], hidden[i : i + 2]) for i in (0, 2)]
    torch.testing.assert_close(sum(parts) / 2, hidden_mean(error, hidden))
    by_hand = [error[i][hidden[i].expand(2, -1, -1, -1)].mean() for i in range(4)]
    torch.testing.assert_close(hidden_mean(error, hidden), torch.stack(by_hand).mean())


def test_moments_of_blocks():
    image = torch.rand(2, 2, 8, 12, 4, generator=torch.Generator().manual_seed(0))
    mean, deviation = block_moments(image, 4)
    assert mean.shape == deviation.shape == image.shape
    block = image[1, 0, 4:8, 8:12, 0:4]
    torch.testing.assert_close(mean[1, 0, 4:8, 8:12, 0:4], block.mean().expand(4, 4, 4))
    torch.testing.assert_close(deviation[1, 0, 5, 9, 2], block.std(correction=0), rtol=1e-4, atol=0)
    _, of_air = block_moments(torch.zeros(1, 1, 4, 4, 4), 4)
    assert of_air.allclose(torch.tensor(1e-3))


def test_hidden_mean():
    error = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 2, 1, 1)
    hidden = torch.tensor([True, False]).view(1, 1, 2, 1, 1)
    assert hidden_mean(error, hidden) == 2.0
    assert hidden_mean(error, torch.zeros_like(hidden)) == 0.0
