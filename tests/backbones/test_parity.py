"""Our networks, filled through the tensor names of the authors' checkpoints, give the authors' features."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from brainpretrain import backbones, config, decoders
from brainpretrain.backbones import mednext, swinunetr, unet

ENTRIES = config.load(Path(__file__).parents[2] / "config").backbones


def fixture(name: str) -> dict:
    return json.loads((Path(__file__).parent / "parity" / name).read_text())


def reference_tensor(name: str, shape: list[int]) -> torch.Tensor:
    """The deterministic filling that the fixtures describe."""
    n = np.arange(np.prod(shape))
    values = np.cos(n * 0.7548776662466927 + zlib.crc32(name.encode()) % 1000)
    if len(shape) > 1:
        values = values * np.sqrt(2 / np.prod(shape[1:]))
    else:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def fill(network: torch.nn.Module, prefix: str, reference_name, known: dict) -> set[str]:
    """Loads every tensor of `network` from its reference name; returns the names used."""
    names = {own: prefix + reference_name(own) for own in network.state_dict()}
    network.load_state_dict({own: reference_tensor(name, known[name]) for own, name in names.items()}, strict=True)
    return set(names.values())


def wave() -> torch.Tensor:
    i, j, k = np.indices((64, 64, 64))
    return torch.from_numpy((0.5 + 0.5 * np.sin(0.11 * i + 0.23 * j + 0.31 * k)).astype(np.float32))[None, None]


def assert_matches(found: torch.Tensor, expected: dict) -> None:
    assert list(found.shape) == expected["shape"]
    scale = expected["std"]
    assert abs(found.mean().item() - expected["mean"]) < 1e-4 * scale
    assert abs(found.std().item() - expected["std"]) < 1e-4 * scale
    np.testing.assert_allclose(found.flatten()[:8].numpy(), expected["first8"], rtol=1e-4, atol=1e-4 * scale)


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
    used |= fill(decoder, "model.rec_head.", decoders.reference_name, known)
    assert used == set(known)  # every tensor of the checkpoint has its place
    image = wave()
    features = encoder(image)
    for found, wanted in zip(features, expected["features"], strict=True):
        assert_matches(found, wanted)
    if expected["output"]:
        assert_matches(decoder(features, image), expected["output"])


def test_swin_names_are_those_of_monais_release():
    entry = ENTRIES["swinunetr_tiny"]
    names = {swinunetr.reference_name(n) for n in backbones.build("swinunetr", 1, **entry.options).state_dict()}
    assert {"patch_embed.proj.weight", "layers1.0.blocks.0.mlp.fc1.weight", "layers4.0.downsample.norm.bias"} <= names
    assert not any("linear" in name for name in names)
