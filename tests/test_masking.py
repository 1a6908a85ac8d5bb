import pytest
import torch

from brainpretrain.errors import UserError
from brainpretrain.masking import block_mask, hidden_mean, local_mean


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


def test_local_mean_falls_back_to_the_sample():
    image = torch.full((1, 1, 16, 16, 16), 0.5)
    hidden = torch.ones(1, 1, 16, 16, 16, dtype=torch.bool)
    hidden[..., 0, 0, 0] = False
    torch.testing.assert_close(local_mean(image, hidden, [8, 8, 8]), image)


def test_hidden_mean():
    error = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 2, 2, 1, 1)
    hidden = torch.tensor([True, False]).view(1, 1, 2, 1, 1)
    assert hidden_mean(error, hidden) == 2.0
    assert hidden_mean(error, torch.zeros_like(hidden)) == 0.0
