import pytest
import torch

from brainpretrain import backbones
from brainpretrain.backbones import mednext, resenc, unetr
from brainpretrain.errors import UserError


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'unet'"):
        backbones.build("unnet", 1)


def test_names_are_files():
    assert {"mednext", "resenc", "swinunetr", "unet", "unetr"} <= set(backbones.names())


def test_mednext_refuses_levels_that_disagree():
    with pytest.raises(UserError, match="differ in length"):
        mednext.build(1, width=8, kernel_size=3, blocks=[1, 1], expansions=[2])
    with pytest.raises(UserError, match="even"):
        mednext.build(1, width=8, kernel_size=4, blocks=[1], expansions=[2])


def test_mednext_up_block_doubles_the_size_and_leaves_the_low_side_empty():
    torch.manual_seed(0)
    out = mednext.UpBlock(8, expansion=2, kernel_size=3)(torch.rand(1, 8, 4, 3, 2))
    assert out.shape == (1, 4, 8, 6, 4)
    assert (out[:, :, 0] == 0).all()
    assert (out[:, :, 1:, 1:, 1:] != 0).all()


def test_resenc_refuses_levels_that_disagree():
    with pytest.raises(UserError, match="differ in length"):
        resenc.build(1, widths=[8, 16], blocks=[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": [32, 32, 40]}, "40: 32 or 48"),
        ({"num_heads": 5}, "5 heads do not divide width 24"),
        ({"depth": 3}, "4 blocks"),
    ],
)
def test_unetr_refuses_what_cannot_be(change, message):
    options = {"image_size": [32, 32, 32], "width": 24, "depth": 4, "num_heads": 2, "mlp_width": 48}
    with pytest.raises(UserError, match=message):
        unetr.build(1, **options | change)


def test_the_position_embedding_of_another_size_lies_between_the_learned_ones():
    torch.manual_seed(0)
    encoder = unetr.build(1, image_size=[64, 32, 32], width=24, depth=4, num_heads=2, mlp_width=48)
    learned = encoder.position.detach().reshape(4, 2, 2, 24)
    assert torch.equal(encoder.position_at(torch.Size([4, 2, 2])), encoder.position)
    halved = encoder.position_at(torch.Size([2, 2, 2])).reshape(2, 2, 2, 24)
    torch.testing.assert_close(halved, (learned[::2] + learned[1::2]) / 2)
