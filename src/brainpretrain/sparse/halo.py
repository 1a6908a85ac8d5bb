"""Convolutions of packed cells: each cell gathers the border voxels of the visible cells around it.

A packed map is (n c s s s): n visible cells of the whole batch, s voxels a side, with the channels innermost in memory. Where a
neighbour is hidden or outside the patch, the border is 0, as it is in a dense map whose hidden voxels are 0. Corners need all 26
neighbours: with hidden cells between them, edges and corners cannot travel through a cell that shares a face.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F

from brainpretrain.sparse.cells import OFFSETS, Cells

_PRODUCT_SIDE = 2  # cells up to this side: a matrix product of the 27 neighbours is faster than a convolution of padded cells
_SLICE_SIDE = 16  # cells from this side: on a CPU, one copy per direction is faster than one gather of rows


def gather(x: torch.Tensor, cells: Cells, low: int, high: int) -> torch.Tensor:
    """The cells (n c s s s) with `low` and `high` further voxels before and behind each axis; neither is above s.

    One gather of rows, or one copy per direction; both give the same bits.
    """
    if not low and not high:
        return x
    slices = x.shape[-1] >= _SLICE_SIDE and not x.is_cuda
    return _by_slices(x, cells, low, high) if slices else _by_rows(x, cells, low, high)


def _by_slices(x: torch.Tensor, cells: Cells, low: int, high: int) -> torch.Tensor:
    n, channels, side = x.shape[:3]
    wide = side + low + high
    padded = x.new_empty(n, wide, wide, wide, channels).permute(0, 4, 1, 2, 3)
    for axis in (2, 3, 4):
        padded.narrow(axis, 0, low).zero_()
        padded.narrow(axis, low + side, high).zero_()
    inner = slice(low, low + side)
    padded[:, :, inner, inner, inner] = x
    for (targets, sources), into, out_of in _directions(x.shape[-1], cells, low, high):
        padded[into].index_copy_(0, targets, x[out_of].index_select(0, sources))
    return padded


def _by_rows(x: torch.Tensor, cells: Cells, low: int, high: int) -> torch.Tensor:
    n, channels, side = x.shape[:3]
    wide = side + low + high
    padded = _rows_of(x).index_select(0, cells.rows(side, low, high))
    return padded.view(n, wide, wide, wide, channels).permute(0, 4, 1, 2, 3)


def _rows_of(x: torch.Tensor) -> torch.Tensor:
    """(n c s s s) -> (n s^3 + 1, c), with a last row of zeros."""
    return F.pad(x.permute(0, 2, 3, 4, 1).reshape(-1, x.shape[1]), (0, 0, 0, 1))


def scatter(padded: torch.Tensor, cells: Cells, low: int, high: int) -> torch.Tensor:
    """The adjoint of `gather`: every voxel gets the sum of what its copies have."""
    side = padded.shape[-1] - low - high
    inner = slice(low, low + side)
    x = padded[:, :, inner, inner, inner].contiguous(memory_format=torch.channels_last_3d)
    for (targets, sources), into, out_of in _directions(side, cells, low, high):
        x[out_of].index_add_(0, sources, padded[into].index_select(0, targets))
    return x


def _directions(side: int, cells: Cells, low: int, high: int) -> Iterator[tuple[Any, Any, Any]]:
    """For each direction with neighbours: the pairs of cells, and where the border is in the padded and in the other cell."""
    into = {-1: slice(0, low), 0: slice(low, low + side), 1: slice(low + side, low + side + high)}
    out_of = {-1: slice(side - low, side), 0: slice(0, side), 1: slice(0, high)}
    everything = (slice(None), slice(None))
    for offset in OFFSETS:
        reaches = (low or -1 not in offset) and (high or 1 not in offset)
        if reaches and (pairs := cells.pairs(offset)):
            yield pairs, everything + tuple(into[step] for step in offset), everything + tuple(out_of[step] for step in offset)


def fits(side: int, kernel: int, stride: int, padding: int) -> bool:
    """True if `convolve` can compute it: cells stay whole, and a cell reaches no further than its neighbours."""
    return side % stride == 0 and max(padding, kernel - padding - stride) <= side


def convolve(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, groups: int, cells: Cells
) -> torch.Tensor:
    """The convolution of a dense map with hidden voxels at 0, at its visible voxels: (n c s s s) -> (n c' s/stride ...)."""
    if torch.amp.is_autocast_available(x.device.type) and torch.is_autocast_enabled(x.device.type):
        dtype = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = x.to(dtype), weight.to(dtype), None if bias is None else bias.to(dtype)
    kernel, side = weight.shape[-1], x.shape[-1]
    high = max(0, kernel - padding - stride)
    if kernel == 1:
        return F.conv3d(x, weight, bias, stride, 0, 1, groups)
    if stride == 1 and kernel == 3 and padding == 1 and groups == 1 and side <= _PRODUCT_SIDE:
        return _Product.apply(x, weight, bias, cells)
    if stride == 1 and padding == high:
        return _Same.apply(x, weight, bias, padding, groups, cells)
    return F.conv3d(_Gather.apply(x, cells, padding, high), weight, bias, stride, 0, 1, groups)


class _Gather(torch.autograd.Function):
    """`gather`, whose gradient is `scatter`."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cells: Cells, low: int, high: int) -> torch.Tensor:
        ctx.how = cells, low, high
        return gather(x, cells, low, high)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        return scatter(grad, *ctx.how), None, None, None


class _Same(torch.autograd.Function):
    """A convolution that keeps the size.

    The gradient of its input is again such a convolution, of the gradient and with the kernel turned round. So nothing is
    added up over the borders, and no voxel of a border is computed. The padded copy is kept only where it is hardly larger.
    """

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, width: int, groups: int, cells: Cells
    ) -> torch.Tensor:
        padded = gather(x, cells, width, width)
        ctx.save_for_backward(padded if x.shape[-1] >= _SLICE_SIDE else x, weight)
        ctx.how = width, groups, cells, bias is not None
        return F.conv3d(padded, weight, bias, groups=groups)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        padded, weight = ctx.saved_tensors
        width, groups, cells, biased = ctx.how
        if padded.shape[-1] == grad.shape[-1]:
            padded = gather(padded, cells, width, width)
        grad_x = None
        if ctx.needs_input_grad[0]:
            turned = weight.flip(2, 3, 4).unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
            grad_x = F.conv3d(gather(grad, cells, width, width), turned, groups=groups)
        grad_weight = grad_bias = None
        if ctx.needs_input_grad[1]:
            _, grad_weight, grad_bias = torch.ops.aten.convolution_backward(
                grad, padded, weight, [len(weight)] if biased else None,
                [1] * 3, [0] * 3, [1] * 3, False, [0] * 3, groups, [False, True, biased],
            )  # fmt: skip
        return grad_x, grad_weight, grad_bias, None, None, None


class _Product(torch.autograd.Function):
    """A convolution of 3^3 that keeps the size, as a product of the 27 neighbours of each voxel with the weights.

    The weights, which are larger than such maps, are never copied.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, cells: Cells) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.how = cells, bias is not None
        columns, matrix = _columns(x, cells), weight.reshape(len(weight), -1).T
        return _cells_of(columns @ matrix if bias is None else torch.addmm(bias, columns, matrix), x.shape[-1])

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        cells, biased = ctx.how
        rows = grad.permute(0, 2, 3, 4, 1).reshape(-1, len(weight))
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            # a voxel gets, from each neighbour, what that has for it: the neighbour before it has it as the voxel behind
            columns = (rows @ weight.reshape(len(weight), -1)).view(len(rows), x.shape[1], 27).transpose(1, 2)
            columns = F.pad(columns.reshape(-1, x.shape[1]), (0, 0, 0, 27))
            places = cells.neighbours27(x.shape[-1]).view(-1, 27).flip(1) * 27 + torch.arange(27, device=x.device)
            grad_x = _cells_of(columns.index_select(0, places.flatten()).view(len(rows), 27, -1).sum(1), x.shape[-1])
        if ctx.needs_input_grad[1]:
            grad_weight = (rows.T @ _columns(x, cells)).view_as(weight)
            grad_bias = rows.sum(0) if biased else None
        return grad_x, grad_weight, grad_bias, None


def _columns(x: torch.Tensor, cells: Cells) -> torch.Tensor:
    """(n c s s s) -> (n s^3, c 27): the 27 voxels around each voxel, in the order of a kernel."""
    columns = _rows_of(x).index_select(0, cells.neighbours27(x.shape[-1])).view(-1, 27, x.shape[1])
    return columns.transpose(1, 2).flatten(1)


def _cells_of(rows: torch.Tensor, side: int) -> torch.Tensor:
    """(n s^3, c) -> (n c s s s)."""
    return rows.view(-1, side, side, side, rows.shape[1]).permute(0, 4, 1, 2, 3)
