import numpy as np
import pytest
import torch
import torch.nn.functional as F

from brainpretrain.errors import UserError
from brainpretrain.pretext import volume_fusion
from brainpretrain.seeds import generator


def test_later_boxes_cover_earlier_ones_and_class_0_erases():
    label = volume_fusion.painted([4, 4, 4], [[4, 4, 2, 0, 0, 0], [2, 4, 2, 0, 0, 0], [1, 1, 1, 0, 0, 0]], [3, 0, 4])
    assert label[0, 0, 0] == 4 and (label[1, :, :2] == 0).all() and (label[2:, :, :2] == 3).all() and not label[:, :, 2:].any()


def test_shares_of_two_volumes():
    label = torch.arange(5).view(1, 5, 1, 1)
    fused = volume_fusion.fuse(torch.full((1, 1, 5, 1, 1), 8.0), torch.zeros(1, 1, 5, 1, 1), label, 5)
    assert fused.flatten().tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize(("layout", "sides"), [("boxes", [8, 0.625]), ("grid", [4, 8]), ("patches", [4, 10, 12, 16])])
def test_layouts_draw_all_classes_of_their_own(layout, sides):
    draw = volume_fusion.LAYOUTS[layout]
    labels = [draw(generator(seed, "test"), [16, 24, 32], 5, [3, 9], sides) for seed in range(30)]
    assert all(label.shape == (16, 24, 32) and label.dtype == np.uint8 for label in labels)
    assert set(np.unique(labels[0])) <= set(range(5)) == set(np.unique(np.stack(labels)))


def test_the_loss_of_a_constant_guess_is_that_of_the_shares():
    """`loss_majority` against the loss of logits that say the shares of the classes everywhere."""
    label = torch.from_numpy(volume_fusion.boxes(generator(0, "test"), [16] * 3, 5, [10, 40], [8, 0.625]))[None].long()
    shares = F.one_hot(label.flatten(1), 5).float().mean(1)
    logits = shares.log().clamp(min=-30)[:, :, None, None, None].expand(1, 5, 16, 16, 16)
    wanted = sum(volume_fusion.dice_and_entropy(logits, label))
    torch.testing.assert_close(volume_fusion.loss_of_shares(shares, label[0].numel()), wanted, rtol=1e-4, atol=1e-5)


def test_a_lone_sample_is_fused_with_its_mirror_image():
    task = volume_fusion.VolumeFusion(torch.nn.Identity(), torch.nn.Identity(), 5, "boxes", (10, 40), (8, 0.625)).eval()
    image = torch.rand(1, 1, 8, 8, 8)
    assert torch.equal(task.background(image), image.flip(2, 3, 4))
    assert torch.equal(task.background(image.repeat(2, 1, 1, 1, 1) + torch.arange(2.0).view(2, 1, 1, 1, 1))[0], image[0] + 1)


def test_a_range_without_a_side_is_refused():
    with pytest.raises(UserError, match="boxes with sides from 8 to 5 voxels"):
        volume_fusion.side_ranges([16, 16, 8], [8, 0.625])
    with pytest.raises(UserError, match="is no range"):
        volume_fusion.side_ranges([16, 16, 8], [8, 16, 16])
