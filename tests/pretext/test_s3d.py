import pytest
import torch
from torch import nn

from brainpretrain import backbones, pretext
from brainpretrain.errors import UserError
from brainpretrain.masking import block_mask, hidden_blocks
from brainpretrain.pretext import planning
from brainpretrain.sizes import check_visible, unhidden_blocks
from brainpretrain.sparse import Cells
from brainpretrain.training import execution

OPTIONS = {"mask_size": 4, "mask_ratio": 0.75, "decoder": "unet", "decoder_options": {"convs_per_stage": 1, "skips": True}}
STEPS = {
    "dense": {"sparse_encoder": False, "densify": "none"},
    "sparse": {"densify": "none"},
    "tokens": {"densify": "tokens"},
    "s3d": {},
    "s3d_code": {"mask_size": 2, "masked_input": False},
}


def task(**changes) -> nn.Module:
    torch.manual_seed(0)
    encoder = backbones.build("resenc", 1, widths=[3, 4, 6], blocks=[1, 1, 2])
    return pretext.build("s3d", encoder, 1, **OPTIONS | changes)


def image(seed: int = 0, size: int = 16) -> torch.Tensor:
    return torch.rand(2, 1, size, size, size, generator=torch.Generator().manual_seed(seed))


def test_losses_are_the_errors_at_hidden_voxels_of_z_scored_patches_by_hand():
    module, x = task(packed=False), image()
    target = x**2
    hidden, cells = module._mask(x, [1, 2])
    assert hidden.flatten(1).sum(1).tolist() == [48 * 64, 48 * 64]
    visible = [one[~mask] for one, mask in zip(x, hidden, strict=True)]
    mean = torch.stack([v.mean() for v in visible]).view(2, 1, 1, 1, 1)
    deviation = torch.stack([v.std(correction=0) for v in visible]).view(2, 1, 1, 1, 1)
    z, wanted = (x - mean) / deviation, (target - mean) / deviation
    output = module.reconstruction(z, hidden, cells)
    found = module(x, target, [1, 2])
    torch.testing.assert_close(found["loss"], ((output - wanted)[hidden] ** 2).mean(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["loss_zero"], (wanted[hidden] ** 2).mean(), rtol=1e-4, atol=1e-5)
    plain = task(packed=False, zscore=False)
    torch.testing.assert_close(
        plain(x, target, [1, 2])["loss"], ((plain.reconstruction(x, hidden, cells) - target)[hidden] ** 2).mean()
    )


@pytest.mark.parametrize("name", STEPS)
def test_every_step_of_the_method_trains_all_its_parameters_and_packing_changes_nothing(name):
    found = []
    for packed in (True, False):
        module = task(packed=packed, **STEPS[name]).double()
        losses = module(image().double(), image().double() ** 2, [1, 2])
        losses["loss"].backward()
        gradients = {n: p.grad for n, p in module.named_parameters()}
        assert [n for n, grad in gradients.items() if grad is None] == []
        found.append((losses["loss"], gradients))
    (loss, gradients), (other, others) = found
    torch.testing.assert_close(loss, other, rtol=1e-12, atol=0)
    largest = max(grad.abs().max() for grad in gradients.values())
    assert all((grad - others[n]).abs().max() < 1e-11 * largest for n, grad in gradients.items())


def test_the_steps_are_different_networks():
    losses = {name: task(**changes)(image(), image(), [1, 2])["loss"].item() for name, changes in STEPS.items()}
    assert len(set(losses.values())) == len(losses)
    tensors = {name: {n for n, _ in task(**changes).named_parameters()} for name, changes in STEPS.items()}
    assert tensors["dense"] == tensors["sparse"] < tensors["tokens"] < tensors["s3d"] == tensors["s3d_code"]
    assert {n for n in tensors["s3d"] if n.startswith("densify.tokens")} == {f"densify.tokens.{n}" for n in range(3)}


@pytest.mark.parametrize("name", ["s3d", "tokens", "sparse", "dense"])
def test_hidden_voxels_change_no_output_at_all(name):
    module, x = task(**STEPS[name]).eval(), image()
    found = module.reconstruct(x, x, [1, 2])
    other = torch.where(found["hidden"], image(1) * 100, x)
    assert torch.equal(module.reconstruct(other, x, [1, 2])["output"], found["output"])


def test_the_shares_are_those_of_the_paper():
    """Of 125 blocks 75, 93 and 112 are hidden; of the program's 1000, 600, 750 and 900."""
    for blocks, wanted in {125: [50, 32, 13], 1000: [400, 250, 100]}.items():
        counts = [(~hidden_blocks([1, 2], blocks, ratio, unhidden_blocks)).sum(1) for ratio in (0.6, 0.75, 0.9)]
        assert [list(count) for count in counts] == [[n, n] for n in wanted]
    drawn = hidden_blocks(range(40), 125, [0.6, 0.9], unhidden_blocks).mean(1)
    assert 0.59 < drawn.min() < 0.65 and 0.85 < drawn.max() < 0.9
    assert (block_mask([3], [20] * 3, 4, 0.75).float().mean() * 125).round() == 94  # AMAES rounds the visible blocks down


@pytest.mark.filterwarnings("ignore:.*deprecated:DeprecationWarning")  # torch's own, where torch.compile is imported
@pytest.mark.parametrize("choices", [["channels_last"], ["checkpointing"], ["compile"]])
def test_the_ways_to_compute_change_nothing(choices):
    losses = []
    for how in ([], choices):
        module = task()
        execution.apply([module.encoder], how)
        found = module(image(), image(), [1, 2])["loss"]
        found.backward()
        losses.append((found.item(), module.encoder.stages[1][0].conv1.conv.weight.grad.norm().item()))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_masks_that_leave_too_little_are_refused_when_planning():
    """At 64^3 with blocks of 32^3 and a ratio of 0.9, one of 8 blocks is visible: one voxel of the coarsest map."""
    options = {**OPTIONS, "mask_size": 32, "mask_ratio": 0.9}
    with pytest.raises(UserError, match=r"1 of 8 blocks of 32\^3 voxels stay visible .* needs two"):
        planning.check("s3d", options, [64] * 3, 2, ("resenc", 32), "pretexts.x")
    with pytest.raises(UserError, match="1 of 8"):
        planning.check("s3d", options | {"mask_ratio": [0.3, 0.9]}, [64] * 3, 2, ("resenc", 32), "pretexts.x")
    planning.check("s3d", options | {"mask_ratio": 0.75}, [64] * 3, 2, ("resenc", 32), "pretexts.x")
    planning.check("s3d", options, [64] * 3, 2, ("resenc", 16), "pretexts.x")  # eight voxels
    planning.check("s3d", options | {"sparse_encoder": False, "mask_ratio": 0.9}, [64] * 3, 2, ("resenc", 32), "pretexts.x")
    with pytest.raises(UserError, match="cannot be trained on a backbone of architecture 'swinunetr'"):
        planning.check("s3d", options, [64] * 3, 2, ("swinunetr", 32), "pretexts.x")
    with pytest.raises(UserError, match="no block is hidden"):
        check_visible([64] * 3, 32, 0.1, 32, "x")
    with pytest.raises(UserError, match="blocks of 24 voxels cannot be halved"):
        check_visible([96] * 3, 24, 0.5, 32, "x")
    check_visible([96] * 3, 24, 0.5, 8, "x")
    with pytest.raises(UserError, match="needs two"):
        task(mask_ratio=0.99)(image(size=8), image(size=8), [1, 2])


def test_options_that_exclude_each_other_are_refused():
    for changes, problem in (
        ({"densify": "token"}, "did you mean 'tokens'"),
        ({"sparse_encoder": False}, "a dense encoder has no hidden voxels"),
        ({"decoder_options": {"convs_per_stage": 1, "skips": False}}, "levels that no decoder reads"),
        ({"decoder_options": {"convs_per_stage": 1, "skips": True, "heads": 2}}, "one output"),
    ):
        with pytest.raises(UserError, match=problem):
            task(**changes)


def test_cells_of_a_task_follow_its_mask():
    module = task()
    hidden, cells = module._mask(image(), [1, 2])
    assert isinstance(cells, Cells) and cells.side == 4
    assert torch.equal(cells.mask(image().shape[2:], torch.bool), ~hidden)
