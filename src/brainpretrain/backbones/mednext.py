"""The MedNeXt encoder (Roy et al. 2023) as AMAES uses it, M and L by `blocks` and `expansions`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError


def build(in_channels: int, *, width: int, kernel_size: int, blocks: list[int], expansions: list[int]) -> MedNeXt:
    """MedNeXt encoder.

    Args:
        in_channels: input channels.
        width: channels of the finest level; they double from level to level.
        kernel_size: side of the depthwise kernels, odd.
        blocks: residual blocks per level, finest first; their number is the number of levels.
        expansions: widening inside the blocks of each level.

    Raises:
        UserError: `blocks` and `expansions` differ in length, or the kernel is even.
    """
    if len(blocks) != len(expansions):
        raise UserError(
            f"blocks {blocks} and expansions {expansions} differ in length",
            where="backbone 'mednext'",
            fix="one number per level",
        )
    if kernel_size % 2 == 0:
        raise UserError(f"kernel_size {kernel_size} is even", where="backbone 'mednext'", fix="use 3, 5 or 7")
    return MedNeXt(in_channels, width, kernel_size, blocks, expansions)


class Block(nn.Module):
    """Depthwise conv -> norm of each channel -> 1^3 conv that widens -> GELU -> 1^3 conv; added to the input."""

    def __init__(self, in_channels: int, out_channels: int, expansion: int, depthwise: nn.Module) -> None:
        super().__init__()
        self.depthwise = depthwise
        self.norm = nn.GroupNorm(in_channels, in_channels)
        self.expand = nn.Conv3d(in_channels, expansion * in_channels, kernel_size=1)
        self.compress = nn.Conv3d(expansion * in_channels, out_channels, kernel_size=1)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        return self.compress(F.gelu(self.expand(self.norm(self.depthwise(x)))))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.transform(x)


class FlatBlock(Block):
    """Block that keeps size and channels."""

    def __init__(self, channels: int, expansion: int, kernel_size: int) -> None:
        depthwise = nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        super().__init__(channels, channels, expansion, depthwise)


class DownBlock(Block):
    """Block that halves the size and doubles the channels."""

    def __init__(self, channels: int, expansion: int, kernel_size: int) -> None:
        depthwise = nn.Conv3d(channels, channels, kernel_size, stride=2, padding=kernel_size // 2, groups=channels)
        super().__init__(channels, 2 * channels, expansion, depthwise)
        self.residual = nn.Conv3d(channels, 2 * channels, kernel_size=1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.residual(x) + self.transform(x)


class UpBlock(Block):
    """Block that doubles the size and halves the channels."""

    def __init__(self, channels: int, expansion: int, kernel_size: int) -> None:
        depthwise = nn.ConvTranspose3d(channels, channels, kernel_size, stride=2, padding=kernel_size // 2, groups=channels)
        super().__init__(channels, channels // 2, expansion, depthwise)
        self.residual = nn.ConvTranspose3d(channels, channels // 2, kernel_size=1, stride=2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # Both branches give 2n - 1 voxels; the missing one is a zero at the low side, as in the original.
        return F.pad(self.residual(x) + self.transform(x), (1, 0, 1, 0, 1, 0))


class MedNeXt(Encoder):
    """Levels of flat blocks joined by down blocks; the last level is the bottleneck."""

    def __init__(self, in_channels: int, width: int, kernel_size: int, blocks: list[int], expansions: list[int]) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels = [width * 2**level for level in range(len(blocks))]
        self.strides = [2**level for level in range(len(blocks))]
        self.divisor = self.strides[-1]
        self.kernel_size, self.blocks, self.expansions = kernel_size, list(blocks), list(expansions)
        self.stem = nn.Conv3d(in_channels, width, kernel_size=1)
        self.stages = nn.ModuleList(
            nn.Sequential(*(FlatBlock(channels, expansion, kernel_size) for _ in range(count)))
            for channels, expansion, count in zip(self.channels, expansions, blocks, strict=True)
        )
        # A down block uses the expansion of the level it enters.
        self.downs = nn.ModuleList(
            DownBlock(channels, expansion, kernel_size)
            for channels, expansion in zip(self.channels[:-1], expansions[1:], strict=True)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Input (b c x y z) -> features (b channels[i] x/strides[i] ...), finest first."""
        check_size(x.shape[2:], self.divisor)
        features = [self.stages[0](self.stem(x))]
        for down, stage in zip(self.downs, self.stages[1:], strict=True):
            features.append(stage(down(features[-1])))
        return features


_REFERENCE_PARTS = {"depthwise": "conv1", "norm": "norm", "expand": "conv2", "compress": "conv3", "residual": "res_conv"}


def reference_name(name: str) -> str:
    """Name of our encoder tensor `name` in the encoder of the AMAES checkpoints (five levels)."""
    if name.startswith("stem."):
        return name
    where, level, *block, part, kind = name.split(".")
    stage = "bottleneck" if level == "4" else f"enc_block_{level}"
    prefix = f"down_{level}" if where == "downs" else ".".join([stage, *block])
    return f"{prefix}.{_REFERENCE_PARTS[part]}.{kind}"


def recognise(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """The options of the encoder whose tensors are among `shapes`, by the names of AMAES; None if there is none."""
    first = "enc_block_0.0.conv1.weight"
    prefix = min((name.removesuffix(first) for name in shapes if name.endswith(first)), key=len, default=None)
    if prefix is None or f"{prefix}stem.weight" not in shapes:
        return None
    every = [*(f"enc_block_{level}" for level in range(4)), "bottleneck"]
    stages = [stage for stage in every if f"{prefix}{stage}.0.conv2.weight" in shapes]
    inside = [name.removeprefix(prefix) for name in shapes if name.startswith(prefix)]
    wide = [shapes[f"{prefix}{stage}.0.conv2.weight"] for stage in stages]
    return {
        "width": shapes[f"{prefix}stem.weight"][0],
        "kernel_size": shapes[prefix + first][2],
        "blocks": [len({name.split(".")[1] for name in inside if name.startswith(f"{stage}.")}) for stage in stages],
        "expansions": [shape[0] // shape[1] for shape in wide],
    }
