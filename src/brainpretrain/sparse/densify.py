"""Densification: sparse feature maps become dense ones, which a decoder reads (Wald et al. 2024; Tian et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.sparse.filled import Filled
from brainpretrain.sparse.maps import Masked, Packed

_DEVIATION = 0.02  # of the mask tokens at first, and the bound that they are cut at


class Densify(nn.Module):
    """Hidden voxels of each level become a mask token of that level.

    With `convolutions`, a map is normalised before, over visible voxels and without weights, and convolved after, at every level
    but the finest.

    Args:
        channels: of the levels, finest first.
        convolutions: see above; without them, tokens alone.
    """

    def __init__(self, channels: Sequence[int], convolutions: bool) -> None:
        super().__init__()
        self.tokens = nn.ParameterList(torch.empty(1, n, 1, 1, 1) for n in channels)
        for token in self.tokens:
            nn.init.trunc_normal_(token, std=_DEVIATION, a=-_DEVIATION, b=_DEVIATION)
        own = [nn.Conv3d(n, n, kernel_size=3, padding=1) for n in channels[1:]] if convolutions else []
        self.convolutions = nn.ModuleList(own)

    def forward(self, features: Sequence[Any]) -> list[Any]:
        """Sparse maps, or tensors where a level is not masked, to dense maps (b c x y z), some of them as `Filled`."""
        dense = []
        for level, (x, token) in enumerate(zip(features, self.tokens, strict=True)):
            if len(self.convolutions):
                x = F.instance_norm(x)
            x = fill(x, token)
            dense.append(self.convolutions[level - 1](x) if level and len(self.convolutions) else x)
        return dense


def fill(x: Any, token: torch.Tensor | None) -> Any:
    """A sparse map with the token, or 0, at hidden voxels; a map that is not masked stays as it is."""
    if isinstance(x, Packed):
        return Filled(x.value, token, x.cells)
    if isinstance(x, Masked):
        return x.value if token is None else x.value + token * (1 - x.cells.mask(x.shape[2:], x.value.dtype))
    return x if token is None else x + 0 * token  # so that the token has a gradient, which several devices wait for
