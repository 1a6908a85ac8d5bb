"""What every file of pretext/ must keep, on a small encoder."""

from pathlib import Path

import pytest
import torch

from brainpretrain import backbones, config, pretext
from brainpretrain.errors import UserError

CONFIG = config.load(Path(__file__).parents[2] / "config")
SEEDS = [11, 12]
pytestmark = pytest.mark.parametrize("method", pretext.names())


def options(method: str) -> dict:
    """Those of the first entry in config/pretext.yaml that uses the method."""
    return next(dict(entry.options) for entry in CONFIG.pretexts.values() if entry.method == method)


def task(method: str, backbone: str = "unet_tiny") -> torch.nn.Module:
    torch.manual_seed(0)
    entry = CONFIG.backbones[backbone]
    return pretext.build(method, backbones.build(entry.architecture, 1, **entry.options), 1, **options(method))


def batch(size: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth blobs; the input is the target a little darker."""
    coarse = torch.rand(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    target = torch.nn.functional.interpolate(coarse, size=[size] * 3, mode="trilinear")
    return 0.9 * target, target


def test_losses_are_finite_scalars_beside_baselines(method):
    losses = task(method)(*batch(), SEEDS)
    assert {"loss", "loss_zero", "loss_mean"} <= set(losses)
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    assert losses["loss"].requires_grad
    assert not any(value.requires_grad for name, value in losses.items() if name != "loss")
    assert 0 < losses["loss_mean"] < losses["loss_zero"]


def test_learns_one_batch(method):
    module = task(method)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    history = []
    for _ in range(30):
        loss = module(*batch(), SEEDS)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert min(history[-5:]) < 0.7 * history[0]


@pytest.mark.parametrize("backbone", [f"{architecture}_tiny" for architecture in backbones.names()])
def test_the_gradient_reaches_every_encoder_parameter(method, backbone):
    module = task(method, backbone)
    module(*batch(2 * module.encoder.divisor), SEEDS)["loss"].backward()
    for name, parameter in module.encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # a bias in front of a norm has no effect, so its gradient is rounding
        assert parameter.ndim == 1 or parameter.grad.abs().max() > 0, name


def test_same_seeds_same_loss(method):
    module = task(method)
    image, target = batch()
    before = image.clone()
    losses = [module(image, target, seeds)["loss"].item() for seeds in (SEEDS, SEEDS, torch.tensor(SEEDS), [1, 2])]
    assert losses[0] == losses[1] == losses[2]
    assert losses[0] != losses[3]
    assert torch.equal(image, before)  # the input is not written into


def test_reconstruct_returns_five_aligned_arrays(method):
    image, target = batch()
    found = task(method).reconstruct(image, target, SEEDS)
    assert set(found) == {"input", "masked", "output", "target", "hidden"}
    assert all(found[name].shape == image.shape for name in ("input", "masked", "output", "target"))
    assert found["hidden"].shape == (2, 1, 16, 16, 16) and found["hidden"].dtype == torch.bool
    assert 0 < found["hidden"].float().mean() < 1
    assert torch.equal(found["masked"][~found["hidden"]], found["input"][~found["hidden"]])
    torch.testing.assert_close(found["input"], 0.9 * found["target"])
    assert not found["output"].requires_grad


def test_works_in_bfloat16(method):
    module = task(method)
    with torch.autocast("cpu", torch.bfloat16):
        losses = module(*batch(), SEEDS)
    losses["loss"].backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_unknown_options_are_named(method):
    encoder = backbones.build("unet", 1, **CONFIG.backbones["unet_tiny"].options)
    with pytest.raises(UserError, match="unknown option 'ratio_of_masks'"):
        pretext.build(method, encoder, 1, **options(method), ratio_of_masks=0.5)
