import pytest
import torch

from brainpretrain.errors import UserError
from brainpretrain.training.modules import check_precision


@pytest.mark.parametrize(
    ("precision", "patch", "stride", "message"),
    [("16-mixed", 128, 16, "needs a GPU"), ("bf16-mixed", 32, 16, "wrong for a coarsest feature map of 2 voxels")],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU computes both")
def test_what_a_cpu_cannot_compute_is_refused(precision, patch, stride, message):
    with pytest.raises(UserError, match=message):
        check_precision(precision, [patch] * 3, stride)
    check_precision("32-true", [patch] * 3, stride)
    check_precision("bf16-mixed", [64] * 3, 16)


@pytest.mark.parametrize("size", [3, 4])
def test_bf16_convolutions_are_right_where_they_are_allowed(size):
    torch.manual_seed(0)
    conv, x = torch.nn.Conv3d(64, 64, 3, padding=1), torch.randn(2, 64, size, size, size)
    gradients = []
    for enabled in (False, True):
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            y = conv(x)
        y.backward(torch.ones_like(y))
        gradients.append(conv.weight.grad.clone())
    assert torch.allclose(*gradients, rtol=0, atol=0.03 * gradients[0].abs().max())
