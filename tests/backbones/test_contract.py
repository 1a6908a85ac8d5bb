"""What every file of backbones/ must keep, on its `<architecture>_tiny` entry of config/backbones.yaml."""

import functools
from pathlib import Path

import pytest
import torch

from brainpretrain import backbones, config, decoders
from brainpretrain.backbones.base import stem
from brainpretrain.errors import UserError
from brainpretrain.training import execution
from brainpretrain.weights import store as weights

ENTRIES = config.load(Path(__file__).parents[2] / "config").backbones
pytestmark = pytest.mark.parametrize("architecture", backbones.names())


def tiny(architecture: str, in_channels: int = 1) -> torch.nn.Module:
    torch.manual_seed(0)
    return backbones.build(architecture, in_channels, **ENTRIES[f"{architecture}_tiny"].options)


def image_for(encoder: torch.nn.Module, batch: int = 1) -> torch.Tensor:
    d = encoder.divisor
    return torch.rand(batch, encoder.in_channels, 2 * d, d, d, generator=torch.Generator().manual_seed(1))


def test_features_have_the_declared_channels_and_strides(architecture):
    encoder = tiny(architecture)
    image = image_for(encoder, batch=2)
    features = encoder(image)
    assert encoder.strides == sorted(encoder.strides)
    assert encoder.divisor % encoder.strides[-1] == 0
    for feature, channels, stride in zip(features, encoder.channels, encoder.strides, strict=True):
        assert feature.shape == (2, channels, *(n // stride for n in image.shape[2:]))
        assert feature.isfinite().all()


def test_published_or_declared_counts_are_there_to_compare_with(architecture):
    known = [entry.expected for entry in ENTRIES.values() if entry.architecture == architecture]
    assert any(network.parameters for networks in known for network in networks), (
        f"state the parameters of a {architecture} under 'expected:' in config/backbones.yaml; tests/training/test_counts.py compares"
    )


def test_the_dry_run_knows_the_divisor(architecture):
    entries = [entry for entry in ENTRIES.values() if entry.architecture == architecture]
    for entry in entries:
        with torch.device("meta"):
            encoder = backbones.build(architecture, 1, **entry.options)
        assert backbones.divisor(architecture, entry.options) == encoder.divisor, "add a case to backbones.divisor"


@functools.cache
def run(architecture: str, *how: str) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Logits, gradients and bytes that autograd keeps, of the tiny segmentation network in float64."""
    entry = ENTRIES[f"{architecture}_tiny"]
    encoder = tiny(architecture)
    network = decoders.Segmenter(encoder, decoders.build(entry.decoder, encoder, 2, **entry.decoder_options)).double()
    execution.apply([network.encoder, network.decoder], how)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if not isinstance(tensor, torch.nn.Parameter):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(image_for(encoder, batch=1).double())
        held = sum(kept.values())
    logits.square().mean().backward()
    return logits.detach(), [parameter.grad for parameter in network.parameters()], held


@pytest.mark.parametrize("how", ["checkpointing", "channels_last"])
def test_another_execution_gives_the_same_logits_and_gradients(architecture, how):
    logits, gradients, kept = run(architecture)
    other_logits, other_gradients, other_kept = run(architecture, how)
    torch.testing.assert_close(other_logits, logits)
    torch.testing.assert_close(other_gradients, gradients)
    if how == "checkpointing":
        assert other_kept < 0.7 * kept


def test_several_input_channels(architecture):
    encoder = tiny(architecture, in_channels=3)
    assert encoder.in_channels == 3
    assert [f.shape[1] for f in encoder(image_for(encoder))] == encoder.channels


@pytest.mark.parametrize("channels", [2, 3])
def test_a_stem_repeated_and_divided_sees_equal_channels_as_one(architecture, channels):
    one, several = (
        tiny(architecture).double(),
        tiny(architecture, channels).double(),
    )  # or norms of few voxels round alike to 1e-4
    for parameter in several.parameters():
        torch.nn.init.normal_(parameter)  # so that nothing is equal by the seed
    report = weights.load_encoder(several, one.state_dict(), stem="divide")
    (name,) = (name for name, parameter in several.named_parameters() if parameter is stem(several).weight)
    changed = {row["tensor"]: row["status"] for row in report if row["status"] != "loaded"}
    assert changed == {name: f"repeated, divided by {channels}"}  # the stem is what reads the image, and nothing else is
    image = image_for(one).double()
    with torch.no_grad():
        found, wanted = several(image.expand(-1, channels, -1, -1, -1)), one(image)
    for feature, expected in zip(found, wanted, strict=True):
        torch.testing.assert_close(feature, expected, rtol=1e-5, atol=1e-5)


def test_a_stem_may_be_repeated_as_it_is(architecture):
    one, several = tiny(architecture), tiny(architecture, 3)
    report = weights.load_encoder(several, one.state_dict(), stem="repeat")
    assert [row["status"] for row in report if row["status"] != "loaded"] == ["repeated"]
    assert all(torch.equal(stem(several).weight[:, channel], stem(one).weight[:, 0]) for channel in range(3))


def test_a_stem_may_start_at_random(architecture):
    one, several = tiny(architecture), tiny(architecture, 3)
    before = stem(several).weight.clone()
    report = weights.load_encoder(several, one.state_dict(), stem="random")
    assert [row["status"] for row in report if row["status"] != "loaded"] == ["random"]
    assert torch.equal(stem(several).weight, before)
    same = tiny(architecture)
    assert {row["status"] for row in weights.load_encoder(same, one.state_dict(), stem="random")} == {"loaded"}


def test_a_step_of_backward_changes_the_features(architecture):
    encoder = tiny(architecture)
    image = image_for(encoder)
    before = encoder(image)
    sum((f - 1).square().mean() for f in before).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    torch.optim.SGD(encoder.parameters(), lr=0.1).step()
    assert not torch.equal(encoder(image)[-1], before[-1])


@pytest.mark.parametrize("factor", [1, 2.5])
def test_wrong_sizes_are_refused_with_the_nearest_valid_ones(architecture, factor):
    encoder = tiny(architecture)
    n = int(factor * encoder.divisor)
    with pytest.raises(UserError, match=f"{2 * encoder.divisor}") as caught:
        encoder(torch.rand(1, 1, n, n, n))
    assert "nearest valid size" in str(caught.value)


def test_works_in_bfloat16(architecture):
    encoder = tiny(architecture)
    with torch.autocast("cpu", torch.bfloat16):
        features = encoder(image_for(encoder))
    assert all(f.isfinite().all() for f in features)


def test_nothing_works_in_place(architecture):
    encoder = tiny(architecture)
    inplace = [name for name, module in encoder.named_modules() if getattr(module, "inplace", False)]
    assert inplace == []


def test_unknown_and_missing_options_are_named(architecture):
    options = ENTRIES[f"{architecture}_tiny"].options
    first = next(iter(options))
    with pytest.raises(UserError, match=f"unknown option '{first}s'") as caught:
        backbones.build(architecture, 1, **options, **{f"{first}s": 1})
    assert f"did you mean '{first}'?" in str(caught.value)
    with pytest.raises(UserError, match=f"missing options: {first}"):
        backbones.build(architecture, 1, **{k: v for k, v in options.items() if k != first})
