"""Encoders of tokens: cubes of voxels that attend to each other, of which a pretraining may show a part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.base import Encoder

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


class TokenEncoder(Encoder):
    """A transformer over cubes of an image, all at one stride.

    Tokens are in C order of their grid. `attend` is the network; a pretext that hides tokens calls it for the visible ones,
    and a segmentation network calls the encoder, which shows all.

    Attributes:
        token: side of a cube in voxels.
        grid: tokens along x, y and z that the learned positions are made for; they are interpolated for other grids.
        prefix: number of tokens in front of those of the image, such as a class token.
        embedding: the convolution from cubes to tokens.
        tables: learned positions, by name of the parameter (1 n width): which axes of the grid it has.
    """

    token: int
    grid: list[int]
    prefix: int = 0
    embedding: nn.Conv3d
    tables: dict[str, list[int]]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Input (b c x y z) -> feature maps (b width x/token y/token z/token), shallow to deep."""
        check_size(x.shape[2:], self.divisor)
        grid = self.grid_of(x)
        features = [tokens[:, self.prefix :] for tokens in self.attend(x)]
        return [feature.transpose(1, 2).unflatten(2, grid) for feature in features]

    def attend(self, image: torch.Tensor, kept: torch.Tensor | None = None) -> list[torch.Tensor]:
        """Tokens of some depths, the normalised last ones at the end.

        Args:
            image: (b c x y z).
            kept: places (b k) of the tokens that the network sees, in any order; by default all in C order. Voxels of other
                tokens are not read.

        Returns:
            Tensors (b prefix+k width).
        """
        raise NotImplementedError

    def grid_of(self, image: torch.Tensor) -> list[int]:
        """Tokens of an image (b c x y z) along its axes."""
        return [n // self.token for n in image.shape[2:]]

    def embedded(self, image: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Tokens (b k width) of an image, with their positions."""
        position = self.position_at(self.grid_of(image))
        if kept is None:
            return self.embedding(image).flatten(2).transpose(1, 2) + position
        cubes = taken(cubes_of(image, self.token), kept)
        tokens = self.embedding(cubes.flatten(0, 1)).flatten(1).unflatten(0, kept.shape)
        return tokens + taken(position.expand(len(image), -1, -1), kept)

    def position_at(self, grid: Sequence[int]) -> torch.Tensor:
        """Positions (1 tokens width) on a grid, between the learned ones if it is another. Several tables are added."""
        return positions({name: getattr(self, name) for name in self.tables}, self.tables, self.grid, grid)

    def resampled(self, name: str, table: torch.Tensor) -> tuple[torch.Tensor, str] | None:
        """A table of another grid on the grid of this encoder, and words for the transfer report.

        The other grid is a cube or a square, or has one axis; else, or where `name` is no table, the answer is None.
        """
        own = [self.grid[axis] for axis in self.tables.get(name, [])]
        side = round(table.shape[1] ** (1 / len(own))) if own and table.ndim == 3 else 0
        if not side or side ** len(own) != table.shape[1]:
            return None
        return resample(table, [side] * len(own), own), resampling([side] * len(own), own)

    def resampling_for(self, size: Sequence[int]) -> dict[str, str]:
        """Tables that are resampled in every step on patches of `size` voxels, in words for the transfer report."""
        grids = {
            name: ([self.grid[axis] for axis in axes], [size[axis] // self.token for axis in axes])
            for name, axes in self.tables.items()
        }
        return {name: resampling(own, wanted) for name, (own, wanted) in grids.items() if own != wanted}


def positions(
    tables: dict[str, torch.Tensor], axes: dict[str, list[int]], own: Sequence[int], grid: Sequence[int]
) -> torch.Tensor:
    """The sum of tables (1 n width) over a grid, as (1 tokens width); each is interpolated along the axes that it has.

    Args:
        tables: learned positions by name.
        axes: the axes of each table.
        own: the grid that they are made for.
        grid: the grid that is wanted.
    """
    whole: torch.Tensor | None = None
    for name, table in tables.items():
        sides = [grid[axis] for axis in axes[name]]
        part = resample(table, [own[axis] for axis in axes[name]], sides)
        if len(sides) == 3:
            return part
        shape = [1, *(n if axis in axes[name] else 1 for axis, n in enumerate(grid)), table.shape[2]]
        part = part.reshape(shape)
        whole = part if whole is None else whole + part
    assert whole is not None
    return whole.expand(1, *grid, -1).flatten(1, 3)


def resample(table: torch.Tensor, own: Sequence[int], grid: Sequence[int]) -> torch.Tensor:
    """A table (1 n width) of one to three axes, linearly interpolated onto another grid; the table itself if they are equal."""
    if list(own) == list(grid):
        return table
    maps = table.transpose(1, 2).unflatten(2, list(own))
    return F.interpolate(maps, size=tuple(grid), mode=_MODES[len(own)]).flatten(2).transpose(1, 2)


def resampling(own: Sequence[int], grid: Sequence[int]) -> str:
    """A resampling in words."""
    return f"resampled from {'x'.join(map(str, own))} to {'x'.join(map(str, grid))} tokens"


def cubes_of(image: torch.Tensor, side: int) -> torch.Tensor:
    """The cubes (b n c side side side) of an image (b c x y z), as a view where memory allows it."""
    b, c, *size = image.shape
    x, y, z = (n // side for n in size)
    return image.reshape(b, c, x, side, y, side, z, side).permute(0, 2, 4, 6, 1, 3, 5, 7).reshape(b, -1, c, side, side, side)


def taken(tokens: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Of each sample of (b n ...) the tokens at `places` (b k), as (b k ...)."""
    return tokens[torch.arange(len(tokens), device=places.device)[:, None], places]
