"""S3D: a sparse masked autoencoder on dense 3D networks (Wald et al. 2024, 'Revisiting MAE pre-training for 3D medical image
segmentation'; the way of Tian et al. 2023, SparK).

Blocks of the image are hidden, and the encoder computes as if only the visible ones existed. Its feature maps are made dense by
mask tokens, and an ordinary decoder with skip connections reconstructs the hidden voxels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from brainpretrain import decoders
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, nearest
from brainpretrain.masking import hidden_blocks, hidden_mean, local_mean, spread_blocks
from brainpretrain.pretext.about import About
from brainpretrain.sizes import check_visible, token_grid, unhidden_blocks
from brainpretrain.sparse import Cells, sparse
from brainpretrain.sparse.densify import Densify, fill

ABOUT = About(kinds=("reconstruction",), picture="reconstruction", hides=True, architectures=("mednext", "resenc", "unet"))
_DENSIFY = ("none", "tokens", "convolutions")
_FLAT = 1e-6  # added to the variance of the visible voxels, which may all be air


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    mask_size: int,
    mask_ratio: float | list[float],
    decoder: str,
    decoder_options: Mapping[str, Any],
    sparse_encoder: bool = True,
    densify: str = "convolutions",
    masked_input: bool = True,
    zscore: bool = True,
    packed: bool = True,
) -> S3D:
    """Sparse masked reconstruction.

    Args:
        encoder: a backbone of convolutions, with norms of each channel by itself.
        in_channels: channels of the patch.
        mask_size: side of a hidden block in voxels; the paper's is the stride of the coarsest feature map (32).
        mask_ratio: share of blocks that are hidden, rounded down to whole blocks, or [low, high] to draw it for every sample.
        decoder: a file of `decoders/`.
        decoder_options: its options; the paper's is the decoder of ResEnc-L, {convs_per_stage: 1, skips: true}.
        sparse_encoder: convolutions and norms see visible voxels only (Table 2(a), first step); without it the encoder is an
            ordinary one on the masked image, the dense MAE of Table 2.
        densify: what the decoder gets at hidden voxels: `none` (0), `tokens` (a mask token of each level; second step), or
            `convolutions` (the same between a norm and a convolution; third step, the paper's method).
        masked_input: hidden voxels are 0 in the input too; the authors' code leaves them, and its first convolution reads
            those next to a visible block.
        zscore: image and target have mean 0 and deviation 1 over the visible voxels of the patch.
        packed: compute visible blocks alone; else whole maps that are multiplied by the mask, with equal results.

    Raises:
        UserError: unknown `densify`, decoder or decoder option, options that exclude each other, or a bad `mask_ratio`.
    """
    if densify not in _DENSIFY:
        raise UserError(f"unknown choice '{densify}'", where="densify", fix=nearest(densify, list(_DENSIFY)))
    if not sparse_encoder and (densify != "none" or not masked_input):
        raise UserError(
            "a dense encoder has no hidden voxels that could be made dense",
            where="sparse_encoder",
            fix="set 'densify: none' and 'masked_input: true' as well",
        )
    if decoder_options.get("heads", 1) > 1:
        raise UserError("a reconstruction has one output", where="decoder_options: heads", fix="leave 'heads' out")
    if densify != "none" and not decoder_options.get("skips", True):
        raise UserError("mask tokens of levels that no decoder reads", where="decoder_options: skips", fix="set 'skips: true'")
    network = decoders.build(decoder, encoder, in_channels, **decoder_options)
    how = _How(mask_size, mask_ratio, sparse_encoder, masked_input, zscore, packed)
    return S3D(encoder, network, None if densify == "none" else Densify(encoder.channels, densify == "convolutions"), how)


class _How(NamedTuple):
    """The options of `build` that are not networks."""

    mask_size: int
    mask_ratio: float | Sequence[float]
    sparse_encoder: bool
    masked_input: bool
    zscore: bool
    packed: bool


class S3D(nn.Module):
    """Hides blocks, and reconstructs them from what a sparse encoder makes of the others."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, densify: Densify | None, how: _How) -> None:
        super().__init__()
        self.encoder, self.decoder, self.densify, self.how = encoder, decoder, densify, how

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared errors over hidden voxels: `loss`, and those of guessing 0 and the local mean of the visible voxels."""
        hidden, cells = self._mask(input, seeds)
        mean, deviation = self._moments(input, hidden)
        image, target = (input - mean) / deviation, (target - mean) / deviation
        output = self.reconstruction(image, hidden, cells)
        with torch.no_grad():
            guess = local_mean(image, hidden, token_grid(input.shape[2:], self.how.mask_size))
            baselines = {
                "loss_zero": hidden_mean(target.square(), hidden),
                "loss_mean": hidden_mean((guess - target).square(), hidden),
            }
        return {"loss": hidden_mean((output.float() - target).square(), hidden), **baselines}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The reconstruction of a batch in the intensities of the image, for people."""
        hidden, cells = self._mask(input, seeds)
        mean, deviation = self._moments(input, hidden)
        output = self.reconstruction((input - mean) / deviation, hidden, cells).float() * deviation + mean
        return {"input": input, "masked": input.masked_fill(hidden, 0), "output": output, "target": target, "hidden": hidden}

    def features(self, image: torch.Tensor, cells: Cells) -> list[Any]:
        """Sparse feature maps (`sparse.SparseMap`, or a tensor where a level is not masked), finest first."""
        map_of = sparse(image, cells, self.how.packed, self.how.masked_input)
        return self.encoder.forward(map_of)  # not by call: compiled graphs are of dense maps

    def densified(self, features: Sequence[Any]) -> list[Any]:
        """Dense maps of the features, for the decoder."""
        return [fill(x, None) for x in features] if self.densify is None else self.densify(features)

    def reconstruction(self, image: torch.Tensor, hidden: torch.Tensor, cells: Cells) -> torch.Tensor:
        """The output of the network, (b c x y z) as the image."""
        masked = image.masked_fill(hidden, 0)
        if not self.how.sparse_encoder:
            return self.decoder(self.encoder(masked), masked)
        return self.decoder(self.densified(self.features(image, cells)), masked)

    def _mask(self, image: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, Cells]:
        size, side = image.shape[2:], self.how.mask_size
        if self.how.sparse_encoder:
            check_visible(size, side, self.how.mask_ratio, self.encoder.strides[-1], "pretext 's3d'")
        grid = token_grid(size, side)
        blocks = hidden_blocks(seeds, math.prod(grid), self.how.mask_ratio, unhidden_blocks).reshape(len(seeds), *grid)
        hidden = torch.from_numpy(blocks)
        return spread_blocks(hidden[:, None].to(image.device), side), Cells(~hidden, side, image.device)

    def _moments(self, image: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and deviation of the visible voxels of each sample and channel; 0 and 1 without `zscore`."""
        if not self.how.zscore:
            return image.new_zeros(()), image.new_ones(())
        axes = (2, 3, 4)
        visible = (~hidden).to(image.dtype)
        count = visible.sum(axes, keepdim=True)
        mean = (image * visible).sum(axes, keepdim=True) / count
        variance = ((image - mean) * visible).square().sum(axes, keepdim=True) / count
        return mean, (variance + _FLAT).sqrt()
