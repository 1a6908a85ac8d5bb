"""What every file of pretext/ must keep, on a tiny backbone of each architecture that it declares."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from brainpretrain import backbones, config, distributed, pretext
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError
from brainpretrain.pretext import planning
from brainpretrain.pretext.about import KINDS

SEEDS = [11, 12]
METHODS = pretext.names()
PAIRS = [
    (method, f"{architecture}_tiny")
    for method, architecture in itertools.product(METHODS, backbones.names())
    if pretext.about(method).takes(architecture)
]


@functools.cache
def loaded() -> config.Config:
    return config.load(Path(__file__).parents[2] / "config")


def options(method: str) -> dict:
    """Those of the first entry in config/pretext.yaml that uses the method, made to fit a tiny patch."""
    found = next(dict(entry.options) for entry in loaded().pretexts.values() if entry.method == method)
    return found | TINY.get(method, {})


# options that are sizes of published patches, for patches of these tests, by method
TINY: dict = {
    "s3d": {"mask_size": 4, "zscore": False},  # in z-scores, zero is a mean, too
    "voco": {"grid": [2, 2, 1], "hidden": 32},
    "vit_mae": {"mask_ratio": 0.5, "light_decoder": {"width": 32, "depth": 1, "num_heads": 2}},  # the smallest patch has 2 tokens
}


def usual(method: str) -> str:
    """A backbone that the method takes, and that takes a patch of 16^3."""
    return "unet_tiny" if pretext.about(method).takes("unet") else "primus_tiny"


def tiny(backbone: str = "unet_tiny") -> Encoder:
    entry = loaded().backbones[backbone]
    return backbones.build(entry.architecture, 1, **entry.options)


def task(method: str, backbone: str | None = None) -> torch.nn.Module:
    torch.manual_seed(0)
    return pretext.build(method, tiny(backbone or usual(method)), 1, **options(method))


def batch(size: int | list[int] = 16, samples: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth blobs; the input is the target a little darker."""
    coarse = torch.rand(samples, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    target = torch.nn.functional.interpolate(coarse, size=size, mode="trilinear")
    return 0.9 * target, target


def step(module: torch.nn.Module, optimizer: torch.optim.Optimizer, size: int) -> float:
    loss = module(*batch(size), SEEDS)["loss"]
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("method", METHODS)
def test_a_file_declares_its_task_and_returns_finite_scalars(method):
    declared = pretext.about(method)
    assert declared == pretext.named.module("pretext", method).ABOUT  # as read from the source
    losses = task(method)(*batch(), SEEDS)
    assert {"loss"} | declared.baselines <= set(losses)
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    assert losses["loss"].requires_grad
    assert not any(value.requires_grad for name, value in losses.items() if name != "loss")
    if "reconstruction" in declared.kinds:
        assert losses["loss_mean"] > 0 and losses["loss_zero"] > 0
    if declared.hides:
        assert losses["loss_mean"] < losses["loss_zero"]
    if {"voxels", "crops"} & set(declared.kinds):
        assert 0 < losses["accuracy_majority"] <= 1 and 0 <= losses["accuracy"] <= 1
    if "crops" in declared.kinds:
        assert losses["spread"] > 0


@pytest.mark.parametrize("method", METHODS)
def test_learns_one_batch(method):
    module = task(method)
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=3e-3)
    history = [step(module, optimizer, 16) for _ in range(30)]
    assert min(history[-5:]) < 0.7 * history[0]


@pytest.mark.parametrize(("method", "backbone"), PAIRS)
def test_the_gradient_reaches_every_parameter_and_the_loss_falls(method, backbone):
    module = task(method, backbone)
    least, twice = (max(16, times * module.encoder.divisor) for times in (1, 2))
    # a crop is a half along x and y, and more than a voxel of the coarsest map; other tasks turn patches in the y-z plane
    size = [twice] * 3 if "crops" in pretext.about(method).kinds else [twice, least, least]
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    assert len(names) == len({id(p) for p in module.parameters()}) == len(set(names))  # one tensor per parameter
    first = module(*batch(size), SEEDS)["loss"]
    first.backward()
    for name, parameter in module.encoder.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # a bias in front of a norm has no effect, so its gradient is rounding
        assert parameter.ndim == 1 or parameter.grad.abs().max() > 0, name
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    assert [name for name, p in trained.items() if p.grad is None] == []  # which would stop several devices
    with torch.no_grad():  # a step against the gradient that should take a hundredth of the loss away
        slope = sum(p.grad.square().sum() for p in trained.values())
        for p in trained.values():
            p -= 0.01 * first.abs() / slope * p.grad
    assert module(*batch(size), SEEDS)["loss"] < first


@pytest.mark.parametrize("method", METHODS)
def test_same_seeds_same_loss(method):
    image, target = batch()
    before = image.clone()
    losses = [task(method)(image, target, seeds)["loss"].item() for seeds in (SEEDS, SEEDS, torch.tensor(SEEDS), [1, 2])]
    assert losses[0] == losses[1] == losses[2]
    assert losses[0] != losses[3]
    assert torch.equal(image, before)  # the input is not written into


@pytest.mark.parametrize("method", METHODS)
def test_reconstruct_returns_five_aligned_arrays(method):
    image, target = batch()
    found = task(method).eval().reconstruct(image, target, SEEDS)
    assert set(found) == {"input", "masked", "output", "target", "hidden"}
    assert all(found[name].shape == image.shape for name in ("input", "masked", "output", "target"))
    assert found["hidden"].shape == (2, 1, 16, 16, 16) and found["hidden"].dtype == torch.bool
    assert 0 < found["hidden"].float().mean() < 1
    assert not found["output"].requires_grad
    if pretext.about(method).picture == "reconstruction":
        assert torch.equal(found["masked"][~found["hidden"]], found["input"][~found["hidden"]])
        torch.testing.assert_close(found["input"], 0.9 * found["target"])


@pytest.mark.parametrize("method", [method for method in METHODS if pretext.about(method).hides])
def test_no_output_depends_on_a_hidden_voxel(method):
    """The input numbers its voxels, so that the hidden ones are known also where the task turns the patch."""
    module = task(method).eval()
    numbers = torch.arange(16.0**3).view(1, 1, 16, 16, 16) / 16**3
    found = module.reconstruct(numbers, numbers, SEEDS[:1])
    hidden = torch.zeros_like(numbers, dtype=torch.bool)
    hidden.view(-1)[(found["input"][found["hidden"]] * 16**3).long()] = True
    assert 0 < hidden.float().mean() < 1
    changed = module.reconstruct(torch.where(hidden, 1 - numbers, numbers), numbers, SEEDS[:1])
    assert torch.equal(changed["output"], found["output"])
    seen = module.reconstruct(torch.where(hidden, numbers, 1 - numbers), numbers, SEEDS[:1])
    assert not torch.equal(seen["output"], found["output"])


@pytest.mark.parametrize("method", METHODS)
def test_works_in_bfloat16(method):
    module = task(method)
    with torch.autocast("cpu", torch.bfloat16):
        losses = module(*batch(), SEEDS)
    losses["loss"].backward()
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


@pytest.mark.parametrize("method", METHODS)
def test_a_task_goes_on_from_its_saved_state(method):
    """Everything that a step changes is in the state dict."""
    first, second = task(method), task(method)
    optimizer = torch.optim.SGD([p for p in first.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(2):
        step(first, optimizer, 16)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    assert first(*batch(), SEEDS)["loss"] == second(*batch(), SEEDS)["loss"]


@pytest.mark.parametrize("method", METHODS)
def test_unknown_options_are_named(method):
    with pytest.raises(UserError, match="unknown option 'ratio_of_masks'"):
        pretext.build(method, tiny(usual(method)), 1, **options(method), ratio_of_masks=0.5)


# --- several processes


def gradients(method: str, share: slice) -> dict[str, torch.Tensor]:
    """Loss and gradients of a share of a batch of 4, in float64: rounding cannot hide a difference."""
    module = task(method).double()
    image, target = batch(samples=4)
    losses = module(image.double()[share], target.double()[share], list(range(4))[share])
    losses["loss"].backward()
    found = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    return found | {name: value.detach() for name, value in losses.items() if "loss" in name}


def one_of_two(rank: int, folder: str) -> None:
    """A process of two: the means over both processes, as several devices take them."""
    torch.set_num_threads(1)
    store = torch.distributed.FileStore(f"{folder}/store", 2)
    torch.distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    for method in METHODS:
        found = gradients(method, slice(rank, None, 2))
        for tensor in found.values():
            torch.distributed.all_reduce(tensor)
        if rank == 0:
            save_file({name: (tensor / 2).contiguous() for name, tensor in found.items()}, f"{folder}/{method}.safetensors")
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    context = multiprocessing.get_context("spawn")
    both = [context.Process(target=one_of_two, args=(rank, str(folder))) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_two_processes_have_the_loss_and_the_gradients_of_one(method, two_processes):
    assert distributed.processes() == 1
    alone, together = gradients(method, slice(None)), load_file(two_processes / f"{method}.safetensors")
    assert set(alone) == set(together)
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-6, atol=1e-9, msg=lambda text, n=name: f"{n}: {text}")


# --- planning


def test_what_a_task_does_not_take_is_refused_when_planning():
    assert all(set(KINDS) >= set(pretext.about(method).kinds) for method in METHODS)
    swin = options("swinunetr")
    with pytest.raises(UserError, match="compares samples of a batch, and the batch has 1"):
        planning.check("swinunetr", swin, [32, 32, 32], 1, ("unet", 8), "pretexts.x")
    with pytest.raises(UserError, match="has one token, and the heads read two"):
        planning.check("swinunetr", swin, [32, 32, 32], 2, ("swinunetr", 32), "pretexts.x")
    with pytest.raises(UserError, match="boxes with sides from 8 to 7 voxels do not fit into 12 voxels"):
        planning.check("volume_fusion", options("volume_fusion"), [32, 32, 12], 2, ("unet", 4), "pretexts.x")
    with pytest.raises(UserError, match="too small for this pretext"):
        planning.check("models_genesis", options("models_genesis"), [32, 32, 12], 2, ("unet", 4), "pretexts.x")
    with pytest.raises(UserError, match="cannot be cut into"):
        planning.check("voco", options("voco"), [32, 31, 16], 1, ("unet", 4), "pretexts.x")
    with pytest.raises(UserError, match="size \\[8, 8, 8\\] is too small"):
        planning.check("voco", options("voco"), [16, 16, 8], 1, ("unet", 8), "pretexts.x")
    vit = options("vit_mae")
    with pytest.raises(UserError, match="cannot be trained on a backbone of architecture 'unet'"):
        planning.check("vit_mae", vit, [32, 32, 32], 1, ("unet", 8), "pretexts.x")
    with pytest.raises(UserError, match=r"0 of 8 tokens of 16\^3 voxels stay visible"):
        planning.check("vit_mae", vit | {"mask_ratio": 0.9}, [32, 32, 32], 1, ("unetr", 16), "pretexts.x")
    with pytest.raises(UserError, match="hide a larger share"):
        planning.check("vit_mae", vit | {"mask_ratio": 0.0}, [32, 32, 32], 1, ("unetr", 16), "pretexts.x")
    with pytest.raises(UserError, match="a drawn mask_ratio"):
        planning.check("vit_mae", vit | {"mask_ratio": [0.5, 0.9]}, [32, 32, 32], 1, ("unetr", 16), "pretexts.x")
    planning.check("swinunetr", swin | {"pool": "mean"}, [32, 32, 32], 2, ("swinunetr", 32), "pretexts.x")
