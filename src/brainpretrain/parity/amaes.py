"""The encoders of AMAES with its light decoder, filled by the names of the authors' checkpoints."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn

from brainpretrain import backbones, decoders
from brainpretrain.backbones import mednext, unet
from brainpretrain.decoders import unet as unet_decoder
from brainpretrain.parity import formulas
from brainpretrain.parity.compare import Line, exact, summary

# the fixture is float32, whose rounding instance norms of few voxels amplify; the network here is float64
MOMENTS, VOXELS, OUTPUT = 1e-4, 1e-2, 5e-2


def reads(content: Mapping[str, Any]) -> bool:
    """Whether a fixture is of this kind."""
    return "checkpoint" in content and any(name.startswith("model.encoder.") for name in content.get("tensors", {}))


def check(content: Mapping[str, Any]) -> Iterator[Line]:
    """Lines for names, feature maps and, if the fixture has it, the reconstruction."""
    tensors = content["tensors"]
    module, encoder = _encoder(tensors)
    up, conv = (tensors[f"model.rec_head.{name}.weight"] for name in ("upsample1", "decoder_conv1.conv1.conv"))
    convs = len({name for name in tensors if re.match(r"model\.rec_head\.decoder_conv1\.conv\d+\.conv\.weight", name)})
    decoder = decoders.build("unet", encoder, 1, convs_per_stage=convs, skips=conv[1] > up[1])
    used = _fill(encoder, "model.encoder.", module.reference_name, tensors)
    used |= _fill(decoder, "model.rec_head.", unet_decoder.reference_name, tensors)
    yield exact("names of tensors", sorted(used ^ set(tensors)), [])
    size = [int(re.search(r"(\d+)\^3", content["input"])[1])] * 3  # type: ignore[index]
    formula = re.sub(r"(\d) ([bcijk])\b", r"\1*\2", content["input"])
    image = torch.from_numpy(formulas.image(formula, [1, 1, *size])).double()
    with torch.no_grad():
        features = encoder.double()(image)
        for level, (feature, expected) in enumerate(zip(features, content["features"], strict=True)):
            yield from _map(f"feature map {level}", feature, expected, VOXELS)
        if content.get("output"):
            yield from _map("reconstruction", decoder.double()(features, image), content["output"], OUTPUT)


def _map(name: str, found: torch.Tensor, expected: Mapping[str, Any], voxels: float) -> Iterator[Line]:
    """Mean and deviation on the one hand, single voxels on the other."""
    moments = {key: value for key, value in expected.items() if key in ("shape", "mean", "std")}
    yield summary(f"{name}, mean and deviation", found, moments, MOMENTS)
    yield summary(f"{name}, voxels", found, {key: value for key, value in expected.items() if key != "mean"}, voxels)


def _encoder(tensors: Mapping[str, list[int]]) -> tuple[Any, Any]:
    """Module and network, with the options that the shapes of the tensors give."""
    found = backbones.recognise({name: shape for name, shape in tensors.items() if name.startswith("model.encoder.")})
    if found is None:
        raise ValueError("no encoder of AMAES")
    module = {"mednext": mednext, "unet": unet}[found["architecture"]]
    return module, backbones.build(found["architecture"], 1, **found["options"])


def _fill(network: nn.Module, prefix: str, name_of: Callable[[str], str], tensors: Mapping[str, list[int]]) -> set[str]:
    """Fills a network by the names of the checkpoint, and returns these names."""
    names = {own: prefix + name_of(own) for own in network.state_dict()}
    network.load_state_dict({own: formulas.filling(name, tensors[name]) for own, name in names.items()})
    return set(names.values())
