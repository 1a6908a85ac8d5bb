"""Prediction of a whole volume from overlapping patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch


@torch.no_grad()
def sliding_window(
    network: Callable[[torch.Tensor], torch.Tensor],
    image: torch.Tensor,
    patch_size: Sequence[int],
    overlap: float,
    weights: str,
    batch_size: int,
) -> torch.Tensor:
    """Logits of a volume: the weighted mean of all patches that hold a voxel. MONAI does the work.

    A volume smaller than the patch is padded with 0 on both sides, and the padding is cut off again; the last patch of
    an axis ends with the volume.

    Args:
        network: patch (b c x y z) -> logits (b classes x y z).
        image: (1 c x y z).
        patch_size: (x y z).
        overlap: share of a patch that its neighbour sees as well, 0 <= overlap < 1.
        weights: `constant`, or `gaussian` (voxels far from the patch centre count less).
        batch_size: patches per call of the network.

    Returns:
        (1 classes x y z).
    """
    from monai.inferers.utils import sliding_window_inference  # here, since importing MONAI takes seconds

    logits = sliding_window_inference(
        image, tuple(patch_size), batch_size, network, overlap=overlap, mode=weights, padding_mode="constant", cval=0.0
    )
    return cast(torch.Tensor, logits)
