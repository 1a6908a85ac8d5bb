import pytest
import torch

from brainpretrain import backbones
from brainpretrain.backbones import check_size, mednext
from brainpretrain.errors import UserError


def test_an_unknown_architecture_names_the_nearest():
    with pytest.raises(UserError, match="did you mean 'unet'"):
        backbones.build("unnet", 1)


def test_names_are_files():
    assert {"mednext", "swinunetr", "unet"} <= set(backbones.names())


def test_sizes_that_fit_pass():
    check_size([48, 32, 16], 16)


@pytest.mark.parametrize(
    ("size", "message"),
    [([100, 96, 96], "100: 96 or 112"), ([96, 8, 96], "8: 16"), ([72, 72, 72], "72: 64 or 80"), ([16, 16, 16], "size: 32")],
)
def test_sizes_that_do_not_fit(size, message):
    with pytest.raises(UserError, match=message):
        check_size(size, 16)


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
