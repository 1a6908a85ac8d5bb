"""Primus (Wald et al. 2025): a vision transformer of small tokens with rotary positions, the network of OpenMind's transformers.

Blocks are those of EVA-02: gated perceptrons, norms inside attention and perceptron, and learned scales of both branches.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain.backbones import check_size
from brainpretrain.backbones.tokens import TokenEncoder, taken
from brainpretrain.errors import UserError

_SCALE = 0.1  # of the branches of a block, at the start
_BASE = 10000.0  # ratio of the shortest to the longest wave of the rotary positions


def build(
    in_channels: int, *, image_size: list[int], token: int, width: int, depth: int, num_heads: int, mlp_width: int
) -> Primus:
    """Primus; M has width 864, depth 16, 12 heads, mlp_width 2304 and tokens of 8 voxels.

    Args:
        in_channels: input channels.
        image_size: voxels (x y z) that the learned position embedding is made for; it is interpolated for other sizes.
        token: side of a token in voxels, a power of 2.
        width: channels of a token; of each head a multiple of 6, since half of the channels of an axis turn with the other half.
        depth: transformer blocks.
        num_heads: attention heads; they divide `width`.
        mlp_width: channels inside the gated perceptrons, 8/3 of `width` in the published networks.

    Raises:
        UserError: `image_size` is no multiple of the token size, the token no power of 2, or `width` does not fit the heads.
    """
    if token < 2 or token & (token - 1):
        raise UserError(f"a token of {token} voxels", where="backbone 'primus': token", fix="use a power of 2; Primus has 8")
    check_size(image_size, token, where="backbone 'primus': image_size")
    if width % num_heads or width // num_heads % 6:
        fix = f"use a width that is a multiple of {6 * num_heads}; Primus-M has 864 and 12"
        raise UserError(f"width {width} does not fit {num_heads} heads", where="backbone 'primus'", fix=fix)
    return Primus(in_channels, [n // token for n in image_size], token, width, depth, num_heads, mlp_width)


class Primus(TokenEncoder):
    """One feature map, the normalised tokens of the last block at the stride of a token."""

    def __init__(
        self, in_channels: int, grid: list[int], token: int, width: int, depth: int, num_heads: int, mlp_width: int
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.channels, self.strides = [width], [token]
        self.divisor = self.token = token
        self.grid, self.tables = grid, {"position": [0, 1, 2]}
        self.head_width = width // num_heads
        self.embedding = nn.Conv3d(in_channels, width, kernel_size=token, stride=token)
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, math.prod(grid), width), std=0.02))
        self.blocks = nn.ModuleList(_Block(width, num_heads, mlp_width, number) for number in range(depth))
        self.norm = nn.LayerNorm(width)

    def attend(self, image: torch.Tensor, kept: torch.Tensor | None = None) -> list[torch.Tensor]:
        tokens = self.embedded(image, kept)
        waves = rotary(self.grid_of(image), self.head_width, tokens.device)
        if kept is not None:
            waves = taken(waves.expand(len(image), -1, -1, -1), kept)
        for block in self.blocks:
            tokens = block(tokens, waves[:, None])
        return [self.norm(tokens)]


def rotary(grid: Sequence[int], width: int, device: torch.device) -> torch.Tensor:
    """Cosine and sine (1 tokens width 2) of the angles by which tokens are turned; channels 2i and 2i + 1 turn together.

    A third of the channels is for each axis. Angles are the place of the token, counted from 0, times 10000 ** (-i / waves) for
    wave i of `width` / 6.
    """
    waves = width // 6
    frequency = _BASE ** (-torch.arange(waves, device=device, dtype=torch.float32) / waves)
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in grid]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    angles = (places[..., None] * frequency).flatten(0, 2).flatten(1).repeat_interleave(2, 1)
    return torch.stack([angles.cos(), angles.sin()], -1)[None]


class _Block(nn.Module):
    """Attention and a gated perceptron, each behind a layer norm, scaled by a learned vector and added to its input."""

    def __init__(self, width: int, num_heads: int, mlp_width: int, number: int) -> None:
        super().__init__()
        self.gamma_1, self.gamma_2 = (nn.Parameter(torch.full((width,), _SCALE)) for _ in range(2))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = _Attention(width, num_heads)
        self.mlp = _Gated(width, mlp_width)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        with torch.no_grad():  # what is added to a token starts smaller in deeper blocks
            for last in (self.attn.proj, self.mlp.fc2):
                last.weight.div_(math.sqrt(2 * (number + 1)))

    def forward(self, x: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
        x = x + self.gamma_1 * self.attn(self.norm1(x), waves)
        return x + self.gamma_2 * self.mlp(self.norm2(x))


class _Attention(nn.Module):
    """Keys have no bias; queries and keys are turned by their places; a norm is in front of the last layer."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            layer(x).unflatten(2, (self.num_heads, -1)).transpose(1, 2) for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = (_turned(y, waves).to(v.dtype) for y in (q, k))
        return self.proj(self.norm(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))


class _Gated(nn.Module):
    """SwiGLU with a norm in front of the last layer."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(width, hidden), nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.norm(F.silu(self.fc1_g(x)) * self.fc1_x(x)))


def _turned(x: torch.Tensor, waves: torch.Tensor) -> torch.Tensor:
    """Pairs of channels of (b heads n width), turned by their angles."""
    quarter = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(3)
    return x * waves[..., 0] + quarter * waves[..., 1]


_REFERENCE_PARTS = {
    "embedding.weight": "down_projection.proj.weight",
    "embedding.bias": "down_projection.proj.bias",
    "position": "eva.pos_embed",
}


def reference_name(name: str) -> str:
    """Name of our encoder tensor `name` in nnssl's files and in nnU-Net's Primus."""
    return _REFERENCE_PARTS.get(name, f"eva.{name}")


def asparagus_names(name: str) -> list[str]:
    """Name of our encoder tensor `name` in checkpoints of asparagus."""
    return [reference_name(name).replace("down_projection.proj.", "encoder.proj.")]


LAYOUTS = (asparagus_names,)
HEADS = ("mask_token", "up_projection.")  # of the pretraining, beside the encoder under its prefix
_HEADS_OF = {396: 6, 792: 12, 864: 12, 1056: 16}  # number of attention heads of the published networks S, B, M and L, by width
_EMBEDDING = re.compile(r"(?P<prefix>(?:.*\.)?)(?:down_projection|encoder)\.proj\.weight")


def recognise(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any] | None:
    """The options of the encoder whose tensors are among `shapes`, by name; None if there is none.

    No shape says how many attention heads there are, so only the published widths are recognised, with positions of a cube.
    """
    found = [match for name in shapes if (match := _EMBEDDING.fullmatch(name)) and len(shapes[name]) == 5]
    for match in sorted(found, key=lambda match: len(match["prefix"])):
        inside = f"{match['prefix']}eva."
        width, _, token, *_ = shapes[match[0]]
        positions, gate = shapes.get(f"{inside}pos_embed"), shapes.get(f"{inside}blocks.0.mlp.fc1_g.weight")
        if width not in _HEADS_OF or not positions or not gate or len(positions) != 3:
            continue
        side = round(positions[1] ** (1 / 3))
        blocks = {name.removeprefix(f"{inside}blocks.").split(".")[0] for name in shapes if name.startswith(f"{inside}blocks.")}
        if side**3 == positions[1]:
            options = {"width": width, "depth": len(blocks), "num_heads": _HEADS_OF[width], "mlp_width": gate[0]}
            return {"image_size": [side * token] * 3, "token": token, **options}
    return None
