"""Masked autoencoder of vision transformers (He et al. 2022) in 3D, as in Zhang et al., "Pretrain Once and Finetune Many Times",
for UNETR; with the decoder `primus` the masked autoencoder of Primus in nnssl.

Tokens of the image are hidden, and the encoder attends among the visible ones alone: with 85 % hidden it has a seventh of the
tokens. A light transformer gets mask tokens at the hidden places and gives the voxels of each token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import nn

from brainpretrain import decoders
from brainpretrain.backbones.tokens import TokenEncoder, cubes_of, positions, taken
from brainpretrain.errors import UserError, nearest
from brainpretrain.masking import hidden_blocks, local_mean, spread_blocks
from brainpretrain.pretext.about import About
from brainpretrain.sizes import check_tokens, visible_blocks

ABOUT = About(kinds=("reconstruction",), picture="reconstruction", hides=True, architectures=("primus", "unetr"))
_FLAT = 1e-6  # added to the variance of a token, which may be all air
_TABLES = {"position_axis": [0], "position_plane": [1, 2]}


def build(
    encoder: TokenEncoder,
    in_channels: int,
    *,
    mask_ratio: float,
    decoder: str | None = None,
    decoder_options: Mapping[str, Any] | None = None,
    light_decoder: Mapping[str, Any] | None = None,
    normalize_target: bool = False,
    reversal: bool = True,
) -> ViTMAE:
    """Masked reconstruction by a transformer.

    Args:
        encoder: a backbone of tokens.
        in_channels: channels of the patch.
        mask_ratio: share of tokens that are hidden; tokens * (1 - mask_ratio), rounded down, stay visible.
        decoder: a file of `decoders/` that gives the voxels from a map in which hidden tokens are 0, as nnssl's Primus has it;
            None: a light transformer, the paper's.
        decoder_options: of `decoder`.
        light_decoder: width, depth and num_heads of the light transformer; the paper's are 512, 4 and 16.
        normalize_target: each token of the target has mean 0 and deviation 1; not in the paper.
        reversal: the target is the patch before its intensities were augmented; False: it is what the encoder sees.

    Raises:
        UserError: no or both decoders, an unknown decoder or option, or a bad `mask_ratio`.
    """
    if (decoder is None) == (light_decoder is None):
        raise UserError(
            "give either 'decoder' or 'light_decoder'", where="pretext 'vit_mae'", fix="the paper's is 'light_decoder'"
        )
    how = _How(mask_ratio, normalize_target, reversal)
    if decoder is not None:
        return ViTMAE(encoder, how, decoder=decoders.build(decoder, encoder, in_channels, **(decoder_options or {})))
    return ViTMAE(encoder, how, light=LightDecoder(encoder, in_channels, **_checked(light_decoder or {})))


def _checked(options: Mapping[str, Any]) -> dict[str, int]:
    """The options of the light decoder, all of them."""
    wanted = ["width", "depth", "num_heads"]
    for name in options:
        if name not in wanted:
            raise UserError(f"unknown option '{name}'", where="pretext 'vit_mae': light_decoder", fix=nearest(name, wanted))
    if missing := [name for name in wanted if name not in options]:
        raise UserError(
            f"missing options: {', '.join(missing)}", where="pretext 'vit_mae': light_decoder", fix="the paper has 512, 4 and 16"
        )
    if options["width"] % options["num_heads"]:
        problem = f"{options['num_heads']} heads do not divide width {options['width']}"
        raise UserError(problem, where="pretext 'vit_mae': light_decoder", fix="the paper has 512 and 16")
    return dict(options)


class _How(NamedTuple):
    """The options of `build` that are not networks."""

    mask_ratio: float
    normalize_target: bool
    reversal: bool


class ViTMAE(nn.Module):
    """Hides tokens, and reconstructs their voxels from what the encoder makes of the others."""

    def __init__(
        self, encoder: TokenEncoder, how: _How, decoder: nn.Module | None = None, light: LightDecoder | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.how = encoder, how
        if decoder is not None:  # it is kept for fine-tuning, which has no use for the light one
            self.decoder = decoder
        self.light = light

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """Mean squared errors over hidden tokens: `loss`, and those of guessing 0 and the local mean of the visible voxels."""
        hidden, kept, removed = self._mask(input, seeds)
        wanted, mean, deviation = self.target(target if self.how.reversal else input)
        with torch.no_grad():
            voxels = self._voxels(hidden, input)
            guess = values_of(local_mean(input, voxels, self.encoder.grid_of(input)), self.encoder.token)
            baselines = {
                "loss_zero": taken(wanted, removed).square().mean(),
                "loss_mean": self.error(taken((guess - mean) / deviation, removed), wanted, removed),
            }
        return {"loss": self.error(self.prediction(input, kept, removed), wanted, removed), **baselines}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The reconstruction of a batch, for people; normalised tokens get their true mean and deviation back."""
        target = target if self.how.reversal else input
        hidden, kept, _ = self._mask(input, seeds)
        _, mean, deviation = self.target(target)
        output = volume_of(
            self.prediction(input, kept).float() * deviation + mean, self.encoder.grid_of(input), self.encoder.token
        )
        voxels = self._voxels(hidden, input)
        return {"input": input, "masked": input.masked_fill(voxels, 0), "output": output, "target": target, "hidden": voxels}

    def prediction(self, image: torch.Tensor, kept: torch.Tensor, places: torch.Tensor | None = None) -> torch.Tensor:
        """Voxels of tokens (b n values), in the order of `values_of`, from the tokens (b k) that are kept.

        With `places` (b m), those of these tokens only, (b m values).
        """
        latent = self.encoder.attend(image, kept)[-1]
        grid = self.encoder.grid_of(image)
        if self.light is not None:
            return self.light(latent, kept, grid, places)
        visible = latent[:, self.encoder.prefix :]
        tokens = placed(visible, kept, visible.new_zeros(1, 1, visible.shape[2]), grid)
        output = self.decoder([tokens.transpose(1, 2).unflatten(2, grid)] * len(self.encoder.channels), image)
        values = values_of(output, self.encoder.token)
        return values if places is None else taken(values, places)

    def _mask(self, image: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Hidden tokens bool (b n), and the places (b k) of visible and (b n-k) of hidden ones."""
        blocks = check_tokens(image.shape[2:], self.encoder.token, self.how.mask_ratio, "pretext 'vit_mae'")
        hidden = torch.from_numpy(hidden_blocks(seeds, blocks, self.how.mask_ratio, visible_blocks))
        kept, removed = (mask.nonzero()[:, 1].unflatten(0, (len(mask), -1)).to(image.device) for mask in (~hidden, hidden))
        return hidden, kept, removed

    def _voxels(self, hidden: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
        """Hidden voxels bool (b 1 x y z)."""
        return spread_blocks(hidden.unflatten(1, self.encoder.grid_of(image))[:, None].to(image.device), self.encoder.token)

    def target(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What each token shall be (b n values), and the mean and deviation that were taken out of it."""
        values = values_of(image, self.encoder.token)
        if not self.how.normalize_target:
            return values, values.new_zeros(()), values.new_ones(())
        mean, deviation = values.mean(2, keepdim=True), (values.var(2, keepdim=True) + _FLAT).sqrt()
        return (values - mean) / deviation, mean, deviation

    def error(self, found: torch.Tensor, wanted: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
        """Mean of (b n-k values) against what the hidden tokens shall be; every sample hides as many. Half precision is left."""
        return (found.to(wanted.dtype) - taken(wanted, removed)).square().mean()


class LightDecoder(nn.Module):
    """A narrow transformer over all tokens, with a mask token at hidden places and separable positions of its own."""

    def __init__(self, encoder: TokenEncoder, in_channels: int, width: int, depth: int, num_heads: int) -> None:
        from brainpretrain.backbones.unetr import start_as_masked_autoencoder, transformer_block  # the first imports MONAI

        super().__init__()
        self.grid, self.prefix = encoder.grid, encoder.prefix
        epsilon = encoder.norm.eps
        self.embed = nn.Linear(encoder.channels[-1], width)
        self.mask_token = nn.Parameter(torch.empty(1, 1, width))
        if self.prefix:
            self.class_position = nn.Parameter(torch.empty(1, self.prefix, width))
        for name, axes in _TABLES.items():
            tokens = torch.Size(self.grid[axis] for axis in axes).numel()
            self.register_parameter(name, nn.Parameter(torch.empty(1, tokens, width)))
        self.blocks = nn.ModuleList(transformer_block(width, 4 * width, num_heads, True, epsilon) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=epsilon)
        self.predict = nn.Linear(width, encoder.token**3 * in_channels)
        start_as_masked_autoencoder(self)
        for parameter in self.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.02)

    def forward(
        self, latent: torch.Tensor, kept: torch.Tensor, grid: Sequence[int], places: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Voxels of every token (b n values), or of those at `places`, from the encoder's tokens (b prefix+k width) at `kept`."""
        tokens = self.embed(latent)
        first, visible = tokens[:, : self.prefix], tokens[:, self.prefix :]
        tables = {name: getattr(self, name) for name in _TABLES}
        everything = placed(visible, kept, self.mask_token, grid) + positions(tables, _TABLES, self.grid, grid)
        if self.prefix:
            everything = torch.cat([first + self.class_position, everything], 1)
        for block in self.blocks:
            everything = block(everything)
        everything = everything[:, self.prefix :]
        return self.predict(self.norm(everything if places is None else taken(everything, places)))


def placed(visible: torch.Tensor, kept: torch.Tensor, mask_token: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
    """Visible tokens (b k width) at their places among mask tokens, as (b n width)."""
    everything = mask_token.to(visible.dtype).repeat(len(visible), torch.Size(grid).numel(), 1)
    return everything.scatter(1, kept[:, :, None].expand_as(visible), visible)


def values_of(image: torch.Tensor, side: int) -> torch.Tensor:
    """The values of each token of an image (b c x y z), as (b n side^3*c): x, y, z, and channels innermost."""
    return cubes_of(image, side).movedim(2, -1).flatten(2)


def volume_of(values: torch.Tensor, grid: Sequence[int], side: int) -> torch.Tensor:
    """The image (b c x y z) of the values of its tokens; the inverse of `values_of`."""
    cubes = values.unflatten(2, (side, side, side, -1)).unflatten(1, tuple(grid))
    return cubes.permute(0, 7, 1, 4, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(2, 3)
