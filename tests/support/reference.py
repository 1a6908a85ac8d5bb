"""Recorded tensor names, shapes, fillings and outputs of reference networks, and files that look as if they came from them."""

from __future__ import annotations

import json
import zlib
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


def assert_matches(found: torch.Tensor, expected: dict) -> None:
    """To 1e-4 relative."""
    assert list(found.shape) == expected["shape"]
    scale = expected["std"]
    assert abs(found.mean().item() - expected["mean"]) < 1e-4 * scale
    assert abs(found.std().item() - expected["std"]) < 1e-4 * scale
    np.testing.assert_allclose(found.flatten()[:8].numpy(), expected["first8"], rtol=1e-4, atol=1e-4 * scale)


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
