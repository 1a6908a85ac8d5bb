"""Dense maps that are one vector wherever the image is hidden, and convolutions that save the work there.

Such a map is token + (value - token) at visible cells. A convolution of the first part is a constant but for the border of the
patch; that of the second is 0 but for the visible cells and one voxel around them. So a decoder computes its skip connections
for a part of the voxels, with the same result.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from brainpretrain.sparse.cells import Cells
from brainpretrain.sparse.dense import to_dense

_WORTH = 0.8  # share of the voxels up to which the sparse way is taken


class Filled:
    """Stands for a dense map (b c x y z): cells where the image is visible, and a token, or 0, where it is hidden.

    Any function of torch takes it as the dense map; convolutions of 3^3 that keep the size save work.

    Args:
        value: the visible cells (n c s s s).
        token: (1 c 1 1 1); None for 0.
        cells: what is visible.
    """

    def __init__(self, value: torch.Tensor, token: torch.Tensor | None, cells: Cells) -> None:
        self.value, self.token, self.cells = value, token, cells

    @property
    def shape(self) -> torch.Size:
        _, channels, side = self.value.shape[:3]
        return torch.Size([self.cells.samples, channels, *(number * side for number in self.cells.grid)])

    def dense(self) -> torch.Tensor:
        """The dense map."""
        return to_dense(self.value, self.token, self.cells)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.cat and kwargs.get("dim", args[1] if len(args) > 1 else 0) == 1 and len(args[0]) == 2:
            first, second = args[0]
            if isinstance(first, torch.Tensor) and isinstance(second, Filled):
                return Joined(first, second)
        if function is F.conv3d and isinstance(args[0], Filled | Joined):
            return _convolved(args[0], *args[1:], **kwargs)
        return function(*map(_plain, args), **{name: _plain(value) for name, value in kwargs.items()})

    def __add__(self, other: Any) -> torch.Tensor:
        return self.dense() + _plain(other)

    __radd__ = __add__


class Joined(Filled):
    """The channels of a dense map and of a filled one, one after the other."""

    def __init__(self, first: torch.Tensor, second: Filled) -> None:
        super().__init__(second.value, second.token, second.cells)
        self.first = first

    @property
    def shape(self) -> torch.Size:
        b, channels, *size = self.first.shape
        return torch.Size([b, channels + self.value.shape[1], *size])

    def dense(self) -> torch.Tensor:
        return torch.cat([self.first, super().dense()], dim=1)


def _plain(value: Any) -> Any:
    """The value with dense maps in place of filled ones."""
    if isinstance(value, Filled):
        return value.dense()
    return type(value)(map(_plain, value)) if isinstance(value, list | tuple) else value


def _convolved(
    x: Filled,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> torch.Tensor:
    """The convolution of a filled map: (b c' x y z)."""
    side, size = x.value.shape[-1], x.shape[2:]
    share = len(x.cells) / (x.cells.samples * math.prod(x.cells.grid)) * (1 + 2 / side) ** 3
    same = tuple(weight.shape[2:]) == (3, 3, 3) and _all(stride, 1) and _all(padding, 1) and _all(dilation, 1) and groups == 1
    if not same or share > _WORTH or min(size) < 2:
        return F.conv3d(x.dense(), weight, bias, stride, padding, dilation, groups)
    first = x.first if isinstance(x, Joined) else None
    start = 0 if first is None else first.shape[1]
    own = weight[:, start:]
    value, border = x.value, None
    if x.token is not None:
        value = value - x.token
        field = F.conv3d(x.token.expand(1, -1, 3, 3, 3), own, padding=1)  # by place: first, inner and last voxel of each axis
        inner = field[:, :, 1:2, 1:2, 1:2]
        border = (field - inner)[0]
        bias = inner.flatten() if bias is None else bias + inner.flatten()
    spread = F.conv3d(value, own, padding=2)
    if first is not None:
        base = F.conv3d(first, weight[:, :start], bias, padding=1)
    else:
        bias = spread.new_zeros(len(own)) if bias is None else bias
        base = bias.to(spread.dtype).view(1, -1, 1, 1, 1).expand(x.cells.samples, -1, *size).contiguous()
    return _Add.apply(base, spread, border, x.cells)


def _all(value: Any, number: int) -> bool:
    return all(n == number for n in (value if isinstance(value, Sequence) else [value]))


class _Add(torch.autograd.Function):
    """Adds to a dense map, in place, the cells with one voxel around each, and the field along the border of the patch."""

    @staticmethod
    def forward(ctx: Any, base: torch.Tensor, spread: torch.Tensor, border: torch.Tensor | None, cells: Cells) -> torch.Tensor:
        ctx.cells, ctx.side = cells, spread.shape[-1]
        ctx.border = None if border is None else border.dtype
        for number, dense, inside in _windows(cells, spread.shape[-1]):
            base[dense] += spread[(number, *inside)]
        if border is not None:
            for place, region in _regions(base.shape[2:]):
                base[region] += border[(slice(None), *place)][None, :, None, None, None]
        ctx.mark_dirty(base)
        return base

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        shape = (len(ctx.cells), *[ctx.side] * 3, grad.shape[1])
        spread = grad.new_zeros(shape).permute(0, 4, 1, 2, 3)  # channels innermost, as in all packed maps
        for number, dense, inside in _windows(ctx.cells, ctx.side):
            spread[(number, *inside)] = grad[dense]
        border = None
        if ctx.border is not None:
            border = grad.new_zeros(grad.shape[1], 3, 3, 3, dtype=ctx.border)
            for place, region in _regions(grad.shape[2:]):
                border[(slice(None), *place)] = grad[region].sum((0, 2, 3, 4), dtype=ctx.border)
        return grad, spread, border, None


def _windows(cells: Cells, wide: int) -> Iterator[tuple[int, tuple[Any, ...], tuple[Any, ...]]]:
    """Number of each cell, where it and one voxel around it are in the dense map, and which part of it is inside the patch."""
    side = wide - 2
    for number, sample, box in cells.boxes(side):
        dense: list[slice] = []
        inside: list[slice] = []
        for axis, count in zip(box, cells.grid, strict=True):
            low, high = max(axis.start - 1, 0), min(axis.stop + 1, count * side)
            dense.append(slice(low, high))
            inside.append(slice(low - axis.start + 1, high - axis.start + 1))
        yield number, (sample, slice(None), *dense), (slice(None), *inside)


def _regions(size: Sequence[int]) -> Iterator[tuple[tuple[int, int, int], tuple[Any, ...]]]:
    """The places 0 (first voxel), 1 (inner) and 2 (last) along each axis, but for the inside, and where they are."""
    for place in itertools.product(range(3), repeat=3):
        if place != (1, 1, 1):
            parts = [(slice(0, 1), slice(1, n - 1), slice(n - 1, n))[which] for which, n in zip(place, size, strict=True)]
            yield (place[0], place[1], place[2]), (slice(None), slice(None), *parts)
