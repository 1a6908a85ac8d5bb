import pytest
import torch

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.masking import block_mask

OPTIONS = {"mask_size": 4, "mask_ratio": 0.6, "decoder": "unet", "decoder_options": {"convs_per_stage": 1, "skips": False}}


def task(loss_on: str, in_channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = backbones.build("unet", in_channels, width=4, levels=3, convs_per_stage=1)
    return pretext.build("amaes", encoder, in_channels, loss_on=loss_on, **OPTIONS)


@pytest.mark.parametrize("in_channels", [1, 2])
def test_losses_are_the_mean_squared_errors_by_hand(in_channels):
    image = torch.rand(2, in_channels, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    target = image**2
    module = task("hidden", in_channels)
    hidden = block_mask([1, 2], [16] * 3, 4, 0.6)
    masked = image.clone()
    masked[hidden.expand_as(image)] = 0
    output = module.decoder(module.encoder(masked), masked)
    at = hidden.expand_as(image)
    found = module(image, target, [1, 2])
    torch.testing.assert_close(found["loss"], ((output - target)[at] ** 2).mean())
    torch.testing.assert_close(found["loss_hidden"], found["loss"].detach())
    torch.testing.assert_close(found["loss_zero"], (target[at] ** 2).mean())
    torch.testing.assert_close(task("all", in_channels)(image, target, [1, 2])["loss"], ((output - target) ** 2).mean())


def test_hidden_voxels_of_the_input_are_not_seen():
    image = torch.rand(1, 1, 16, 16, 16)
    hidden = block_mask([1], [16] * 3, 4, 0.6)
    module = task("all")
    other = torch.where(hidden, torch.rand_like(image), image)
    outputs = [module.reconstruct(x, image, [1])["output"] for x in (image, other)]
    assert torch.equal(*outputs)


def test_an_unknown_loss_is_refused():
    with pytest.raises(UserError, match="did you mean 'hidden'"):
        task("hiden")
