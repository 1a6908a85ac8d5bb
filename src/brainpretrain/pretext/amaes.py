"""AMAES: a masked autoencoder on dense 3D networks (Munk et al. 2024, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from brainpretrain import decoders
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, nearest
from brainpretrain.masking import block_mask, hidden_mean, local_mean, token_grid


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    mask_size: int,
    mask_ratio: float,
    loss_on: str,
    decoder: str,
    decoder_options: Mapping[str, Any],
) -> AMAES:
    """Masked reconstruction.

    Args:
        encoder: a backbone.
        in_channels: channels of the patch.
        mask_size: side of a hidden block in voxels.
        mask_ratio: share of blocks that are hidden, 0..1.
        loss_on: `all` voxels, or the `hidden` ones only.
        decoder: kind of decoder, see `decoders.build`.
        decoder_options: its options; the paper's light decoder is {convs_per_stage: 1, skips: false}.

    Raises:
        UserError: unknown `loss_on`, decoder or decoder option.
    """
    if loss_on not in ("all", "hidden"):
        raise UserError(f"unknown choice '{loss_on}'", where="loss_on", fix=nearest(loss_on, ["all", "hidden"]))
    return AMAES(encoder, decoders.build(decoder, encoder, in_channels, **decoder_options), mask_size, mask_ratio, loss_on)


class AMAES(nn.Module):
    """Hides blocks of the input by 0 and reconstructs the target from the rest."""

    def __init__(self, encoder: Encoder, decoder: nn.Module, mask_size: int, mask_ratio: float, loss_on: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.mask_size, self.mask_ratio, self.loss_on = mask_size, mask_ratio, loss_on

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared errors: `loss` over all or hidden voxels, the others over hidden voxels."""
        hidden, masked, output = self._run(input, seeds)
        error = (output.float() - target).square()
        loss_hidden = hidden_mean(error, hidden)
        with torch.no_grad():
            guess = local_mean(masked, hidden, token_grid(input.shape[2:], self.mask_size))
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
        """What the network makes of a batch, to look at."""
        hidden, masked, output = self._run(input, seeds)
        return {"input": input, "masked": masked, "output": output.float(), "target": target, "hidden": hidden}

    def _run(self, input: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        hidden = block_mask(seeds, input.shape[2:], self.mask_size, self.mask_ratio, input.device)
        masked = input.masked_fill(hidden, 0)
        return hidden, masked, self.decoder(self.encoder(masked), masked)
