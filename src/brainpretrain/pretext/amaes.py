"""AMAES: a masked autoencoder on dense 3D networks (Munk et al. 2024, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from brainpretrain import decoders
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, nearest
from brainpretrain.masking import block_mask, block_moments, hidden_mean, local_mean
from brainpretrain.pretext.about import About
from brainpretrain.sizes import ratio_range, token_grid

ABOUT = About(kinds=("reconstruction",), picture="reconstruction", hides=True)


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    mask_size: int,
    mask_ratio: float | list[float],
    loss_on: str,
    decoder: str,
    decoder_options: Mapping[str, Any],
    normalize_target: bool = False,
    reversal: bool = True,
) -> AMAES:
    """Masked reconstruction.

    Args:
        encoder: a backbone.
        in_channels: channels of the patch.
        mask_size: side of a hidden block in voxels.
        mask_ratio: share of blocks that are hidden, 0..1, or [low, high] to draw it for every sample.
        loss_on: `all` voxels, or the `hidden` ones only.
        decoder: a file of `decoders/`.
        decoder_options: its options; the paper's light decoder is {convs_per_stage: 1, skips: false}.
        normalize_target: reconstruct blocks with their mean subtracted and divided by their standard deviation
            (He et al. 2022); not in AMAES.
        reversal: the target is the patch before its intensities were augmented, so that the network learns to undo that; False is
            the control that isolates this part of the method: the target is the input, intensity augmentation included.

    Raises:
        UserError: unknown `loss_on`, decoder or decoder option, or a bad `mask_ratio`.
    """
    if loss_on not in ("all", "hidden"):
        raise UserError(f"unknown choice '{loss_on}'", where="loss_on", fix=nearest(loss_on, ["all", "hidden"]))
    if decoder_options.get("heads", 1) > 1:
        raise UserError("a reconstruction has one output", where="decoder_options: heads", fix="leave 'heads' out")
    ratio_range(mask_ratio)
    network = decoders.build(decoder, encoder, in_channels, **decoder_options)
    return AMAES(encoder, network, mask_size, mask_ratio, loss_on, normalize_target, reversal)


class AMAES(nn.Module):
    """Replaces blocks of the input by 0 and reconstructs the target from the rest."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        mask_size: int,
        mask_ratio: float | Sequence[float],
        loss_on: str,
        normalize_target: bool,
        reversal: bool = True,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.mask_size, self.mask_ratio = mask_size, mask_ratio
        self.loss_on, self.normalize_target, self.reversal = loss_on, normalize_target, reversal

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared errors: `loss` over all or hidden voxels, the others over hidden voxels.

        With normalised targets, both trivial guesses are guesses of 0, the mean of each block.
        """
        target = target if self.reversal else input
        hidden, masked, output = self._run(input, seeds)
        with torch.no_grad():
            guess = local_mean(masked, hidden, token_grid(input.shape[2:], self.mask_size))
        if self.normalize_target:
            target, guess = self._normalized(target), self._normalized(guess)
        error = (output.float() - target).square()
        loss_hidden = hidden_mean(error, hidden)
        baselines = {
            "loss_zero": hidden_mean(target.square(), hidden),
            "loss_mean": hidden_mean((guess - target).square(), hidden),
        }
        loss = error.mean() if self.loss_on == "all" else loss_hidden
        return {"loss": loss, "loss_hidden": loss_hidden.detach(), **baselines}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The reconstruction of a batch, for people; with normalised targets, blocks get their true mean and deviation back."""
        target = target if self.reversal else input
        hidden, masked, output = self._run(input, seeds)
        output = output.float()
        if self.normalize_target:
            mean, deviation = block_moments(target, self.mask_size)
            output = output * deviation + mean
        return {"input": input, "masked": masked, "output": output, "target": target, "hidden": hidden}

    def _normalized(self, image: torch.Tensor) -> torch.Tensor:
        mean, deviation = block_moments(image, self.mask_size)
        return (image - mean) / deviation

    def _run(self, input: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = block_mask(seeds, input.shape[2:], self.mask_size, self.mask_ratio, input.device)
        masked = input.masked_fill(hidden, 0)
        return hidden, masked, self.decoder(self.encoder(masked), masked)
