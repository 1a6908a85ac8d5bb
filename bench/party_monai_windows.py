"""MONAI's sliding window as a party. Arguments as in party_windows.py."""

from importlib.metadata import version

import numpy as np
import torch
from monai.inferers import SlidingWindowInferer

from harness import arguments, seconds, serve
from small_unet import network

torch.set_num_threads(1)
GIVEN = arguments()
IMAGE = torch.from_numpy(np.load(GIVEN["volume"]))[None, None]


@torch.inference_mode()
def _logits(name: str) -> torch.Tensor:
    return SlidingWindowInferer([GIVEN["patch"]] * 3, 1, GIVEN["overlap"], mode="gaussian")(IMAGE, network(name))


def window(name: str) -> float:
    """CPU seconds of the logits of the volume."""
    return seconds(lambda: _logits(name))


def result(name: str) -> None:
    """The logits, left in `out`."""
    np.save(GIVEN["out"], _logits(name)[0].numpy())


serve(f"MONAI {version('monai')}", {"window": window, "result": result})
