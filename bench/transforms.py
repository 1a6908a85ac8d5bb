"""The task that the parties of other libraries share: a transform alone, with the parameters of yucca's function."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import seconds

Build = Callable[..., Callable[[torch.Tensor], torch.Tensor] | None]


def tasks(builders: Mapping[str, Build], out: Path) -> dict[str, Callable[..., Any]]:
    """Tasks `has` and `one` of a party.

    Args:
        builders: transform -> function of its parameters (those of yucca's function, see `augmentation.pairs`) that returns the
            call to time, on a float32 image (1, D, H, W) that it may change; None if the library has no such transform.
        out: file of the last result.
    """

    def has(transform: str, numbers: dict) -> bool:
        """Whether the library has this transform with such parameters."""
        return transform in builders and builders[transform](**numbers) is not None

    def one(transform: str, source: str, numbers: dict, seed: int) -> float:
        """Seconds of a transform with these numbers, and of the copy that a patch needs before it is changed."""
        image, call = torch.from_numpy(np.load(source))[None], builders[transform](**numbers)
        np.random.seed(seed)
        torch.manual_seed(seed)
        result = []
        taken = seconds(lambda: result.append(call(image if transform == "spatial" else image.clone())))
        np.save(out, result[0][0].numpy())
        return taken

    return {"has": has, "one": one}


def centre(image: torch.Tensor, patch: tuple[int, ...]) -> torch.Tensor:
    """The middle (1, *patch) of an image (1, D, H, W)."""
    starts = [(n - p) // 2 for n, p in zip(image.shape[1:], patch, strict=True)]
    return image[(slice(None), *(slice(s, s + p) for s, p in zip(starts, patch, strict=True)))]


def is_drawn(angles: list[float], factor: float) -> bool:
    """Whether there is anything to rotate or to scale."""
    return any(angles) or factor != 1
