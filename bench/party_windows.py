"""The sliding window of this project as a party, and the network alone. Arguments: `volume` (.npy), `patch`, `overlap`, `out`."""

import itertools

import numpy as np
import torch

from brainpretrain.evaluation.inference import sliding_window
from harness import arguments, seconds, serve
from small_unet import network

torch.set_num_threads(1)
GIVEN = arguments()
IMAGE = torch.from_numpy(np.load(GIVEN["volume"]))[None, None]
PATCH = [GIVEN["patch"]] * 3


def _logits(name: str) -> torch.Tensor:
    return sliding_window(network(name), IMAGE, PATCH, GIVEN["overlap"], "gaussian", 1, [])


@torch.inference_mode()
def _alone(name: str, windows: int) -> None:
    model, patch = network(name), torch.zeros(1, 1, *PATCH)
    for _ in range(windows):
        model(patch)


def window(name: str) -> float:
    """CPU seconds of the logits of the volume."""
    return seconds(lambda: _logits(name))


def alone(name: str, windows: int) -> float:
    """CPU seconds of the network on as many patches as the window has."""
    return seconds(lambda: _alone(name, windows))


def starts() -> list[list[int]]:
    """Where the windows begin, as the network is shown them (a volume of places instead of an image)."""
    seen = []

    def note(patch: torch.Tensor) -> torch.Tensor:
        seen.extend([int(n) for n in corner] for corner in patch[:, :, 0, 0, 0])
        return patch[:, :1]

    places = torch.from_numpy(np.indices([max(n, p) for n, p in zip(IMAGE.shape[2:], PATCH, strict=True)]).astype(np.float32))[
        None
    ]
    sliding_window(note, places, PATCH, GIVEN["overlap"], "constant", 1, [])
    return [list(start) for start in itertools.islice(seen, None)]


def result(name: str) -> None:
    """The logits, left in `out`."""
    np.save(GIVEN["out"], _logits(name)[0].numpy())


serve("brainpretrain", {"window": window, "alone": alone, "starts": starts, "result": result})
