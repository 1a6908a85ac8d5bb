"""Our networks, filled through the tensor names of the authors' checkpoints, give the authors' features."""

import copy
import functools
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from brainpretrain import backbones, config, decoders
from brainpretrain.backbones import mednext, resenc, swinunetr, unet
from brainpretrain.decoders import unet as unet_decoder
from reference import ONE_ROUNDED, ROUNDING, assert_matches, deviation, fixture, reference_tensor, wave

ENTRIES = config.load(Path(__file__).parents[2] / "config").backbones
AMAES = {"unet_b": ("amaes_unet_b_lw_dec.json", unet), "mednext_m": ("amaes_mednext_m3_lw_dec.json", mednext)}


def fill(network: torch.nn.Module, prefix: str, reference_name, known: dict) -> set[str]:
    """Loads every tensor of `network` from its reference name; returns the names used."""
    names = {own: prefix + reference_name(own) for own in network.state_dict()}
    network.load_state_dict({own: reference_tensor(name, known[name]) for own, name in names.items()}, strict=True)
    return set(names.values())


@functools.cache
@torch.no_grad()
def amaes(backbone: str) -> tuple[torch.nn.Module, torch.nn.Module, list[torch.Tensor]]:
    """Encoder, decoder and features of the authors' checkpoint in float64, which depend on no processor."""
    file, module = AMAES[backbone]
    known = fixture(file)["tensors"]
    entry = ENTRIES[backbone]
    encoder = backbones.build(entry.architecture, 1, **entry.options)
    decoder = decoders.build("unet", encoder, 1, convs_per_stage=1, skips=False)
    used = fill(encoder, "model.encoder.", module.reference_name, known)
    used |= fill(decoder, "model.rec_head.", unet_decoder.reference_name, known)
    assert used == set(known)  # every tensor of the checkpoint has its place
    encoder.double()
    return encoder, decoder.double(), encoder(wave().double())


@pytest.mark.parametrize("backbone", AMAES)
@torch.no_grad()
def test_features_and_reconstruction(backbone):
    file, _ = AMAES[backbone]
    expected = fixture(file)
    _, decoder, features = amaes(backbone)
    for found, wanted, rounding in zip(features, expected["features"], ROUNDING[file][:5], strict=True):
        assert_matches(found, wanted, rounding)
    if expected["output"]:
        assert_matches(decoder(features, wave().double()), expected["output"], ROUNDING[file][5])


def swap(stage: torch.nn.Sequential) -> None:
    """Swaps two tensors of the same shape between neighbouring layers."""
    one, two = stage[0].norm, stage[1].norm
    one.weight, two.weight = two.weight, one.weight


def take_another_name(stage: torch.nn.Sequential) -> None:
    tensor = reference_tensor("model.encoder.encoder_conv3.conv1.norm.weight", [512])
    stage[0].norm.weight = torch.nn.Parameter(tensor.double())


def forget_an_activation(stage: torch.nn.Sequential) -> None:
    stage[0].activation = torch.nn.Identity()


@pytest.mark.parametrize("mistake", [swap, take_another_name, forget_an_activation], ids=lambda mistake: mistake.__name__)
@torch.no_grad()
def test_a_mistake_is_orders_of_magnitude_beyond_the_rounding(mistake):
    """The mistake is in the deepest stage, where float32 rounds most and the tolerance is therefore widest."""
    file, _ = AMAES["unet_b"]
    expected, rounding = fixture(file)["features"][4], ROUNDING[file][4]
    encoder, _, features = amaes("unet_b")
    read, stage = F.max_pool3d(features[3], 2), copy.deepcopy(encoder.stages[4])
    assert deviation(stage(read), expected, rounding, ONE_ROUNDED) <= 1
    mistake(stage)
    assert deviation(stage(read), expected, rounding, ONE_ROUNDED) > 100


@torch.no_grad()
def test_residual_encoder_of_nnunet():
    """Features and outputs of all levels, decoder with one conv per stage and deep supervision."""
    expected = fixture("nnunet_resenc_small.json")
    encoder = backbones.build("resenc", 1, widths=expected["widths"], blocks=expected["blocks"])
    decoder = decoders.build("unet", encoder, 2, convs_per_stage=1, skips=True, heads=3)
    theirs = {"head": "seg_layers.2", "coarse_heads.0": "seg_layers.1", "coarse_heads.1": "seg_layers.0"}

    def decoder_name(name: str) -> str:
        path, kind = name.rsplit(".", 1)
        path = theirs.get(path, path)
        return f"transpconvs.{path.split('.')[1]}.{kind}" if path.endswith(".up") else f"{path}.{kind}"

    used = fill(encoder, "encoder.", lambda name: resenc.nnunet_names(name)[0], expected["tensors"])
    used |= fill(decoder, "decoder.", decoder_name, expected["tensors"])
    assert used == set(expected["tensors"])
    image = wave(32, 32, 32).double()
    features = encoder.double()(image)
    maps, recorded = [*features, *decoder.double()(features, image)], expected["features"] + expected["outputs"]
    for found, wanted, rounding in zip(maps, recorded, ROUNDING["nnunet_resenc_small.json"], strict=True):
        assert_matches(found, wanted, rounding)


def test_swin_names_are_those_of_monais_release():
    entry = ENTRIES["swinunetr_tiny"]
    names = {swinunetr.reference_name(n) for n in backbones.build("swinunetr", 1, **entry.options).state_dict()}
    assert {"patch_embed.proj.weight", "layers1.0.blocks.0.mlp.fc1.weight", "layers4.0.downsample.norm.bias"} <= names
    assert not any("linear" in name for name in names)
