"""Between dense maps (b c x y z) and packed cells (n c s s s)."""

from __future__ import annotations

from typing import Any

import torch

from brainpretrain.sparse.cells import Cells


def from_dense(dense: torch.Tensor, cells: Cells) -> torch.Tensor:
    """The visible cells of a dense map."""
    return _Pack.apply(dense, cells)


def to_dense(packed: torch.Tensor, token: torch.Tensor | None, cells: Cells) -> torch.Tensor:
    """A dense map with the cells at their places and `token` (1 c 1 1 1), or 0, everywhere else."""
    return _Unpack.apply(packed, token, cells)


def _read(dense: torch.Tensor, cells: Cells) -> torch.Tensor:
    side = cells.side_at(dense.shape[2:])
    size = (len(cells), dense.shape[1], side, side, side)
    packed = torch.empty(size, dtype=dense.dtype, device=dense.device, memory_format=torch.channels_last_3d)
    for number, sample, box in cells.boxes(side):
        packed[number] = dense[(sample, slice(None), *box)]
    return packed


def _write(packed: torch.Tensor, token: torch.Tensor | None, cells: Cells) -> torch.Tensor:
    side = packed.shape[-1]
    size = (cells.samples, packed.shape[1], *(n * side for n in cells.grid))
    dense = packed.new_zeros(size) if token is None else token.to(packed.dtype).expand(size).contiguous()
    for number, sample, box in cells.boxes(side):
        dense[(sample, slice(None), *box)] = packed[number]
    return dense


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: torch.Tensor, cells: Cells) -> torch.Tensor:
        ctx.cells = cells
        return _read(dense, cells)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        return _write(grad, None, ctx.cells), None


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: torch.Tensor, token: torch.Tensor | None, cells: Cells) -> torch.Tensor:
        ctx.cells = cells
        ctx.dtype = None if token is None else token.dtype
        return _write(packed, token, cells)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        packed = _read(grad, ctx.cells)
        if not ctx.needs_input_grad[1]:
            return packed, None, None
        axes = (0, 2, 3, 4)
        token = grad.sum(axes, keepdim=True, dtype=ctx.dtype) - packed.sum(axes, keepdim=True, dtype=ctx.dtype)
        return packed, token, None
