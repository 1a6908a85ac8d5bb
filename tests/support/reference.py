"""Recorded tensor names, shapes, fillings and outputs of reference networks, and files that look as if they came from them."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from helpers import ROOT

FIXTURES = ROOT / "tests" / "backbones" / "parity"


def fixture(name: str) -> dict:
    return json.loads((FIXTURES / name).read_text())


def reference_tensor(name: str, shape: list[int]) -> torch.Tensor:
    """The deterministic filling that the fixtures describe."""
    n = np.arange(np.prod(shape))
    values = np.cos(n * 0.7548776662466927 + zlib.crc32(name.encode()) % 1000)
    if len(shape) > 1:
        values = values * np.sqrt(2 / np.prod(shape[1:]))
    else:
        values = 1 + 0.1 * values if name.endswith("weight") else 0.1 * values
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def wave(*shape: int) -> torch.Tensor:
    i, j, k = np.indices(shape or (64, 64, 64))
    return torch.from_numpy((0.5 + 0.5 * np.sin(0.11 * i + 0.23 * j + 0.31 * k)).astype(np.float32))[None, None]


@dataclass(frozen=True)
class Rounding:
    """Error of a map in float32, divided by the standard deviation of the map: of its mean and deviation, and of its worst voxel."""

    moments: float
    voxel: float


# These values were measured: the same network on the same input in float32 and in float64, for the maps of the encoder, finest first,
# and then the outputs of the decoder. Each value is the worst of several settings of torch 2.13 on an AMD EPYC (Zen 3): one and two
# threads; oneDNN with AVX2 (the default), with SSE41, and switched off; ATen with AVX2 and without vector instructions. Instance norms
# amplify the rounding of the convolutions where they see few voxels. The recorded moments are float32, so no value is below its epsilon.
EPS = float(np.finfo(np.float32).eps)
ROUNDING = {
    "amaes_unet_b_lw_dec.json": [
        Rounding(EPS, 2.1e-5), Rounding(EPS, 2.1e-4), Rounding(1.4e-7, 2.8e-4), Rounding(2.7e-6, 9.6e-4), Rounding(6.3e-6, 2.6e-3),
        Rounding(1.1e-6, 1.3e-2),
    ],
    "amaes_mednext_m3_lw_dec.json": [
        Rounding(EPS, 5.9e-6), Rounding(EPS, 2.2e-6), Rounding(EPS, 2.1e-6), Rounding(EPS, 1.5e-6), Rounding(EPS, 1.3e-6),
    ],
    "nnunet_resenc_small.json": [
        Rounding(EPS, 1.1e-5), Rounding(EPS, 8.4e-6), Rounding(EPS, 1.2e-5), Rounding(4.6e-7, 1.2e-5),
        Rounding(EPS, 1.6e-5), Rounding(EPS, 7.8e-6), Rounding(EPS, 6.3e-6),
    ],
}  # fmt: skip
# For fixtures that were recorded in float64, where 2e-12 was measured. Input and weights are sines and cosines of numpy, rounded to
# float32. The last digits of numpy's functions differ between processors, so single values may round the other way, by 6e-8.
DOUBLE = Rounding(1e-6, 1e-6)
# For a network in float64 and a fixture in float32. The network depends on no processor. The fixture was rounded on an unknown one, so
# it may be three times as far off as the values above.
ONE_ROUNDED = 3
# For a network in float32 and a fixture in float32: both were rounded, each on its own processor.
BOTH_ROUNDED = 10


def deviation(found: torch.Tensor, expected: dict, rounding: Rounding, margin: float) -> float:
    """Distance of a map from the recorded one, divided by the tolerance, so that 1 is the limit."""
    assert list(found.shape) == expected["shape"]
    found, first = found.double(), torch.tensor(expected["first8"], dtype=torch.float64)
    moments = max(abs(found.mean().item() - expected["mean"]), abs(found.std().item() - expected["std"]))
    voxel = (found.flatten()[:8] - first).abs().max().item()
    return max(moments / rounding.moments, voxel / rounding.voxel) / (margin * expected["std"])


def assert_matches(found: torch.Tensor, expected: dict, rounding: Rounding, margin: float = ONE_ROUNDED) -> None:
    assert deviation(found, expected, rounding, margin) <= 1


def stand_in(path: Path, tensors: dict[str, list[int]]) -> Path:
    """A file as the authors' code leaves it after training with torch.compile: a plain state dict, `model._orig_mod.` first."""
    content = {name.replace("model.", "model._orig_mod.", 1): reference_tensor(name, shape) for name, shape in tensors.items()}
    torch.save(content, path)
    return path


def filled(network: torch.nn.Module) -> torch.nn.Module:
    """A network with every tensor filled by its own name."""
    network.load_state_dict({name: reference_tensor(name, list(t.shape)) for name, t in network.state_dict().items()})
    return network


def checksum(tensor: torch.Tensor) -> float:
    """A number that depends on values and their order."""
    flat = tensor.detach().double().flatten()
    return float((flat * torch.linspace(0, 1, len(flat), dtype=torch.float64)).mean())
