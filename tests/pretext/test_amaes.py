import pytest
import torch

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.masking import block_mask

OPTIONS = {"mask_size": 4, "mask_ratio": 0.6, "decoder": "unet", "decoder_options": {"convs_per_stage": 1, "skips": False}}


def task(loss_on: str, in_channels: int = 1, **changes) -> torch.nn.Module:
    torch.manual_seed(0)
    encoder = backbones.build("unet", in_channels, width=4, levels=3, convs_per_stage=1)
    return pretext.build("amaes", encoder, in_channels, loss_on=loss_on, **OPTIONS | changes)


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


def test_without_reversal_the_target_is_the_input():
    """Intensity augmentation on input and target alike: what the target was before is not used at all."""
    image = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    control, with_reversal = task("all", reversal=False), task("all")
    for name, value in control(image, image**2, [1, 2]).items():
        torch.testing.assert_close(value, with_reversal(image, image, [1, 2])[name], rtol=0, atol=0)
    assert control(image, image**2, [1, 2])["loss"] != with_reversal(image, image**2, [1, 2])["loss"]
    assert torch.equal(control.reconstruct(image, image**2, [1, 2])["target"], image)


def test_every_sample_weighs_the_same_where_ratios_are_drawn():
    image = torch.rand(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 3.0]).view(
        2, 1, 1, 1, 1
    )
    module = task("hidden", mask_ratio=[0.1, 0.9])
    image, module = image.double(), module.double()  # kernels for one sample and for two round differently
    alone = [module(image[i : i + 1], image[i : i + 1], [seed])["loss"] for i, seed in enumerate((1, 2))]
    shares = [block_mask([seed], [16] * 3, 4, [0.1, 0.9]).float().mean() for seed in (1, 2)]
    assert abs(shares[0] - shares[1]) > 0.1
    torch.testing.assert_close(module(image, image, [1, 2])["loss"], sum(alone) / 2)


def test_normalised_targets_by_hand():
    image = torch.rand(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    target = image**2
    module = task("hidden", normalize_target=True)
    hidden = block_mask([1], [16] * 3, 4, 0.6)
    masked = image.masked_fill(hidden, 0)
    output = module.decoder(module.encoder(masked), masked)
    blocks = [b.unfold(2, 4, 4).unfold(3, 4, 4).unfold(4, 4, 4) for b in (output, target, hidden)]
    out, wanted, at = (b.flatten(5).flatten(2, 4)[0, 0] for b in blocks)  # (blocks, voxels of a block)
    wanted = (wanted - wanted.mean(1, keepdim=True)) / (wanted.var(1, correction=0, keepdim=True) + 1e-6).sqrt()
    found = module(image, target, [1])
    torch.testing.assert_close(found["loss"], ((out - wanted)[at] ** 2).mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["loss_zero"], (wanted[at] ** 2).mean(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found["loss_mean"], found["loss_zero"], rtol=1e-4, atol=1e-6)  # the block's mean, either way
    # to look at: a right answer looks like the target
    module.decoder = torch.nn.Module()
    module.decoder.forward = lambda features, masked: module._normalized(target)
    torch.testing.assert_close(module.reconstruct(image, target, [1])["output"], target, rtol=1e-4, atol=1e-5)


def test_hidden_voxels_of_the_input_are_not_seen():
    image = torch.rand(1, 1, 16, 16, 16)
    hidden = block_mask([1], [16] * 3, 4, 0.6)
    module = task("all")
    other = torch.where(hidden, torch.rand_like(image), image)
    outputs = [module.reconstruct(x, image, [1])["output"] for x in (image, other)]
    assert torch.equal(*outputs)


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="did you mean 'hidden'"):
        task("hiden")
    with pytest.raises(UserError, match="no share and no range"):
        task("all", mask_ratio=[0.9, 0.3])
    with pytest.raises(UserError, match="one output"):
        task("all", decoder_options={"convs_per_stage": 1, "skips": False, "heads": 2})
