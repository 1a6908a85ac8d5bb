"""nnU-Net's predictor as a party: its window, its Gaussian, without mirroring. Arguments as in party_windows.py.

It sums logits in half precision. Its predictor gets only what its window needs: no plans, no trainer.
"""

from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from harness import arguments, seconds, serve
from small_unet import network

torch.set_num_threads(1)
GIVEN = arguments()
IMAGE = torch.from_numpy(np.load(GIVEN["volume"]))[None]
PREDICTOR = nnUNetPredictor(
    tile_step_size=1 - GIVEN["overlap"], use_gaussian=True, use_mirroring=False, perform_everything_on_device=False,
    device=torch.device("cpu"), allow_tqdm=False,
)  # fmt: skip
PREDICTOR.configuration_manager = SimpleNamespace(patch_size=[GIVEN["patch"]] * 3)
PREDICTOR.label_manager = SimpleNamespace(num_segmentation_heads=4)
PREDICTOR.allowed_mirroring_axes = None


def _logits(name: str) -> torch.Tensor:
    PREDICTOR.network = network(name)
    return PREDICTOR.predict_sliding_window_return_logits(IMAGE)


def window(name: str) -> float:
    """CPU seconds of the logits of the volume."""
    return seconds(lambda: _logits(name))


def result(name: str) -> None:
    """The logits, left in `out`."""
    np.save(GIVEN["out"], _logits(name).float().numpy())


serve(f"nnU-Net {version('nnunetv2')}", {"window": window, "result": result})
