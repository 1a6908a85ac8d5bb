import pytest

from brainpretrain.errors import UserError
from brainpretrain.sizes import check_size, ratio_range, token_grid


def test_sizes_that_fit_pass():
    check_size([48, 32, 16], 16)


@pytest.mark.parametrize(
    ("size", "message"),
    [([100, 96, 96], "100: 96 or 112"), ([96, 8, 96], "8: 16"), ([72, 72, 72], "72: 64 or 80"), ([16, 16, 16], "size: 32")],
)
def test_sizes_that_do_not_fit(size, message):
    with pytest.raises(UserError, match=message):
        check_size(size, 16)


def test_blocks_along_each_axis():
    assert token_grid([128, 96, 8], 4) == [32, 24, 2]
    with pytest.raises(UserError, match=r"blocks of 5 do not fit[\s\S]*here[\s\S]*valid sizes: \[1, 2, 4, 8\]"):
        token_grid([16, 8, 24], 5, "here")


def test_a_ratio_is_a_share_or_a_range_of_shares():
    assert ratio_range(0.6) == (0.6, 0.6)
    assert ratio_range([0.3, 0.9]) == (0.3, 0.9)
    for wrong in (60, -0.1, [0.9, 0.3], [0.3], [0.3, 1.1], [0.1, 0.2, 0.3]):
        with pytest.raises(UserError, match="is no share and no range of shares"):
            ratio_range(wrong)
