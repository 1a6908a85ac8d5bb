"""Our networks, filled through the tensor names of the authors' checkpoints, give the authors' features."""

from pathlib import Path

import pytest
import torch

from brainpretrain import backbones, config, decoders
from brainpretrain.backbones import mednext, resenc, swinunetr, unet
from brainpretrain.decoders import unet as unet_decoder
from reference import assert_matches, fixture, reference_tensor, wave

ENTRIES = config.load(Path(__file__).parents[2] / "config").backbones


def fill(network: torch.nn.Module, prefix: str, reference_name, known: dict) -> set[str]:
    """Loads every tensor of `network` from its reference name; returns the names used."""
    names = {own: prefix + reference_name(own) for own in network.state_dict()}
    network.load_state_dict({own: reference_tensor(name, known[name]) for own, name in names.items()}, strict=True)
    return set(names.values())


@pytest.mark.parametrize(
    ("backbone", "file", "module"),
    [("unet_b", "amaes_unet_b_lw_dec.json", unet), ("mednext_m", "amaes_mednext_m3_lw_dec.json", mednext)],
)
@torch.no_grad()
def test_features_and_reconstruction(backbone, file, module):
    expected = fixture(file)
    known = expected["tensors"]
    entry = ENTRIES[backbone]
    encoder = backbones.build(entry.architecture, 1, **entry.options)
    decoder = decoders.build("unet", encoder, 1, convs_per_stage=1, skips=False)
    used = fill(encoder, "model.encoder.", module.reference_name, known)
    used |= fill(decoder, "model.rec_head.", unet_decoder.reference_name, known)
    assert used == set(known)  # every tensor of the checkpoint has its place
    image = wave()
    features = encoder(image)
    for found, wanted in zip(features, expected["features"], strict=True):
        assert_matches(found, wanted)
    if expected["output"]:
        assert_matches(decoder(features, image), expected["output"])


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
    features = encoder(wave(32, 32, 32))
    for found, wanted in zip(features, expected["features"], strict=True):
        assert_matches(found, wanted)
    for found, wanted in zip(decoder(features, wave(32, 32, 32)), expected["outputs"], strict=True):
        assert_matches(found, wanted)


def test_swin_names_are_those_of_monais_release():
    entry = ENTRIES["swinunetr_tiny"]
    names = {swinunetr.reference_name(n) for n in backbones.build("swinunetr", 1, **entry.options).state_dict()}
    assert {"patch_embed.proj.weight", "layers1.0.blocks.0.mlp.fc1.weight", "layers4.0.downsample.norm.bias"} <= names
    assert not any("linear" in name for name in names)
