"""Random numbers that depend on the seed of a sample and on their purpose, and on nothing else."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch


def sample_seed(seed: int, number: int) -> int:
    """Seed of sample `number` of a training with `seed`, for augmentation and masks; of fold `number`, also for its network."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1, np.uint64)[0] >> 1)


def generator(seed: int, purpose: str) -> np.random.Generator:
    """NumPy generator of one sample for one purpose (`mask`, `rotation` ...).

    Two purposes never share a stream, so a change of one transform does not change the draws of the others.

    Args:
        seed: seed of the sample, >= 0.
    """
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])


def fires(seed: int, purpose: str, p: float) -> np.random.Generator | None:
    """The generator of one sample for something that happens with probability p; None if it does not happen."""
    rng = generator(seed, purpose)
    return rng if rng.random() < p else None


def as_ints(seeds: Sequence[int] | torch.Tensor) -> list[int]:
    """Seeds of a batch as plain ints, also from a tensor, as a collate function makes it."""
    return seeds.tolist() if isinstance(seeds, torch.Tensor) else list(seeds)


def uniform(rng: np.random.Generator, bounds: Sequence[float], size: int | tuple[int, ...] | None = None) -> np.ndarray:
    """Uniform draws between the two numbers of `bounds`; a 0-d array if `size` is None."""
    low, high = bounds
    return np.asarray(rng.uniform(low, high, size))


def normal(shape: tuple[int, ...], seed: int, device: torch.device) -> torch.Tensor:
    """Standard normal float32 noise, drawn on `device`: repeatable there, but different on CPU and GPU."""
    if device.type == "meta":  # shapes only, when operations are counted
        return torch.empty(shape, device=device)
    return torch.randn(shape, generator=torch.Generator(device).manual_seed(seed), device=device)
