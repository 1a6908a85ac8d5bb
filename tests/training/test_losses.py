from typing import get_args

import pytest
import torch

from brainpretrain.config.sections import Loss
from brainpretrain.training import losses
from brainpretrain.training.losses import KINDS, deep, dice_ce, squared_dice_ce

IGNORED = 255


def example() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, 6, generator=generator, requires_grad=True)
    return logits, torch.randint(0, 3, (2, 4, 5, 6), generator=generator, dtype=torch.uint8)


def test_equals_monai():
    from monai.losses import DiceCELoss

    logits, label = example()
    label[1] = label[1].clamp(max=1)  # class 2 is absent in one sample
    monai = DiceCELoss(softmax=True, to_onehot_y=True, smooth_nr=1, smooth_dr=1)(logits, label[:, None].long())
    torch.testing.assert_close(dice_ce(logits, label, IGNORED, smooth=1.0), monai)


def test_squared_dice_equals_monai():
    """With what Zhang et al. give MONAI's loss."""
    from monai.losses import DiceCELoss

    logits, label = example()
    label[1] = label[1].clamp(max=1)  # class 2 is absent in one sample
    monai = DiceCELoss(softmax=True, to_onehot_y=True, squared_pred=True, smooth_nr=0, smooth_dr=1e-6)
    found, wanted = squared_dice_ce(logits, label, IGNORED, smooth=1e-6), monai(logits, label[:, None].long())
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(torch.autograd.grad(found, logits), torch.autograd.grad(wanted, logits))


def test_a_recipe_can_name_every_loss_and_gets_that_one():
    assert set(get_args(Loss.model_fields["name"].annotation)) == set(KINDS)
    logits, label = example()
    for name, loss in KINDS.items():
        assert deep(logits, label, IGNORED, name=name, smooth=0.5) == loss(logits, label, IGNORED, smooth=0.5)
    assert dice_ce(logits, label, IGNORED, smooth=0.5) != squared_dice_ce(logits, label, IGNORED, smooth=0.5)


def test_by_hand():
    # two voxels, two classes: probabilities (.5 .5) and (.8 .2), labels 0 and 1
    logits = torch.tensor([[0.5, 0.8], [0.5, 0.2]]).log().view(1, 2, 2, 1, 1)
    label = torch.tensor([0, 1]).view(1, 2, 1, 1)
    dice = ((2 * 0.5 + 1) / (1.3 + 1 + 1) + (2 * 0.2 + 1) / (0.7 + 1 + 1)) / 2
    entropy = -(torch.tensor(0.5).log() + torch.tensor(0.2).log()) / 2
    assert dice_ce(logits, label, IGNORED, smooth=1.0).item() == pytest.approx(1 - dice + entropy.item(), rel=1e-6)


def test_a_perfect_answer_costs_nothing():
    _, label = example()
    logits = 100 * torch.nn.functional.one_hot(label.long(), 3).movedim(-1, 1).float()
    assert dice_ce(logits, label, IGNORED, smooth=1.0).item() == pytest.approx(0, abs=1e-5)


def test_ignored_voxels_count_nowhere():
    logits, label = example()
    label[:, :, 2:] = IGNORED
    found = dice_ce(logits, label, IGNORED, smooth=1.0)
    torch.testing.assert_close(found, dice_ce(logits[:, :, :, :2], label[:, :, :2], IGNORED, smooth=1.0))
    (gradient,) = torch.autograd.grad(found, logits)
    assert (gradient[:, :, :, 2:] == 0).all() and (gradient[:, :, :, :2] != 0).all()


def test_a_patch_without_known_voxels_is_finite():
    logits, label = example()
    assert dice_ce(logits, torch.full_like(label, IGNORED), IGNORED, smooth=1.0).isfinite()


def test_half_precision_logits_give_a_float32_loss():
    logits, label = example()
    assert dice_ce(logits.bfloat16(), label, IGNORED, smooth=1.0).dtype == torch.float32


def test_coarser_outputs_count_half_as_much_each_time():
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(0, 3, (2, 8, 8, 4), generator=generator)
    outputs = [torch.randn(2, 3, 8 // step, 8 // step, 4 // step, generator=generator) for step in (1, 2, 4)]
    terms = [
        dice_ce(x, label[:, ::step, ::step, ::step], IGNORED, smooth=1.0) for x, step in zip(outputs, (1, 2, 4), strict=True)
    ]
    expected = (terms[0] + terms[1] / 2 + terms[2] / 4) / 1.75
    torch.testing.assert_close(deep(outputs, label, IGNORED, name="dice_ce", smooth=1.0), expected)
    assert deep(outputs[0], label, IGNORED, name="dice_ce", smooth=1.0) == terms[0]


def test_heads_without_a_weight_have_a_gradient_of_zero():
    """nnU-Net leaves out the coarsest of several outputs, S3D all but the finest; several processes expect a gradient of each."""
    assert losses.deep_weights(5, "nnunet") == [1, 0.5, 0.25, 0.125, 0] and losses.deep_weights(1, "nnunet") == [1]
    assert losses.deep_weights(3, "finest") == [1, 0, 0] and losses.deep_weights(2, "all") == [1, 0.5]
    outputs = [torch.randn(1, 2, n, n, n, dtype=torch.float64, requires_grad=True) for n in (8, 4, 2)]
    label = torch.randint(0, 2, (1, 8, 8, 8))
    alone = [losses.dice_ce(o, label[:, ::s, ::s, ::s], IGNORED, smooth=1.0) for o, s in zip(outputs, (1, 2, 4), strict=True)]
    found = deep(outputs, label, IGNORED, name="dice_ce", smooth=1.0, supervision="nnunet")
    torch.testing.assert_close(found, (alone[0] + alone[1] / 2) / 1.5)
    found.backward()
    assert outputs[1].grad.abs().sum() > 0 and torch.equal(outputs[2].grad, torch.zeros_like(outputs[2]))
    assert deep(outputs, label, IGNORED, name="dice_ce", smooth=1.0, supervision="finest") == alone[0]
