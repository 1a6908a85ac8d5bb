"""The norm of packed maps: mean and variance over the visible voxels of each sample and channel."""

from __future__ import annotations

from typing import Any

import torch

from brainpretrain.sparse.cells import Cells


def norm(x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, cells: Cells) -> torch.Tensor:
    """An instance norm over visible voxels, with biased variance: (n c s s s) -> (n c s s s).

    Sums are taken over each cell and then over the cells of a sample: torch's batch norm, which has the same formula, sums all
    voxels of a map with innermost channels in one go, and loses four digits.

    Raises:
        ValueError: a sample has one visible voxel, so that there is no variance.
    """
    if min(cells.counts) * x.shape[-1] ** 3 < 2:
        raise ValueError(f"a norm needs two visible voxels, got one in a map of {list(x.shape)}")
    return _Norm.apply(x, weight, bias, eps, cells)


def _rows(x: torch.Tensor) -> torch.Tensor:
    """(n c s s s) -> (n s^3 c), in 32 bits at least; no copy if the channels are innermost."""
    rows = x.permute(0, 2, 3, 4, 1).flatten(1, 3)
    return rows if rows.dtype == torch.float64 else rows.float()


class _Norm(torch.autograd.Function):
    """Works through the cells in pieces that stay in the cache of a CPU; on a GPU, all in one piece."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float, cells: Cells
    ) -> torch.Tensor:
        rows, voxels, count = _rows(x), x.shape[-1] ** 3, cells.voxels(x.shape[-1])
        means, squares = torch.empty(2, len(x), x.shape[1], dtype=rows.dtype, device=x.device)
        for piece in _pieces(rows):
            means[piece] = rows[piece].mean(1)
            squares[piece] = (rows[piece] - means[piece, None]).square_().sum(1)
        mean = cells.sums(means) * voxels / count
        inverse = (cells.sums(squares + voxels * (means - mean).square()) / count + eps).rsqrt()
        scale = inverse if weight is None else inverse * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        normed = torch.empty_like(rows, dtype=x.dtype)
        for piece in _pieces(rows):
            normed[piece] = torch.addcmul(_of(shift, piece), rows[piece], _of(scale, piece))
        ctx.save_for_backward(x, weight, mean, inverse)
        ctx.cells = cells
        return _maps(normed, x)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        rows, g, cells, count = _rows(x), _rows(grad), ctx.cells, ctx.cells.voxels(x.shape[-1])
        offset = -mean * inverse
        sums, products = torch.empty(2, len(x), x.shape[1], dtype=rows.dtype, device=x.device)
        for piece in _pieces(rows):
            sums[piece] = g[piece].sum(1)
            products[piece] = torch.addcmul(_of(offset, piece), rows[piece], _of(inverse, piece)).mul_(g[piece]).sum(1)
        scale = inverse if weight is None else inverse * weight
        along = -scale * cells.sums(products) / count
        shift = along * offset - scale * cells.sums(sums) / count
        along = along * inverse
        grad_x = torch.empty_like(rows, dtype=x.dtype)
        for piece in _pieces(rows):
            part = torch.addcmul(_of(shift, piece), g[piece], _of(scale, piece))
            grad_x[piece] = part.addcmul_(rows[piece], _of(along, piece))
        if weight is None:
            return _maps(grad_x, x), None, None, None, None
        return _maps(grad_x, x), products.sum(0).to(weight.dtype), sums.sum(0).to(weight.dtype), None, None


def _pieces(rows: torch.Tensor) -> list[slice]:
    """Slices of the cells, of about 2 MB each."""
    n = len(rows)
    step = n if rows.is_cuda else max(1, 2**19 * n // rows.numel())
    return [slice(start, start + step) for start in range(0, n, step)]


def _of(values: torch.Tensor, piece: slice) -> torch.Tensor:
    """Values of each cell, or of all (1 c), for the rows of a piece."""
    return (values if len(values) == 1 else values[piece])[:, None]


def _maps(rows: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(n s^3 c) -> (n c s s s)."""
    return rows.unflatten(1, x.shape[2:]).permute(0, 4, 1, 2, 3)
