"""Feature maps that know their visible voxels. Encoders need no code for them: torch's functions call `__torch_function__`.

An encoder that is given such a map in place of an image computes sparsely, by the same modules and parameters: convolutions give
0 at hidden voxels, and norms take mean and variance over visible voxels. `Masked` is the plain way, a dense map that is
multiplied by the mask after every operation; `Packed` computes the visible cells alone. Both give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from brainpretrain.sparse import halo
from brainpretrain.sparse.cells import Cells
from brainpretrain.sparse.dense import from_dense, to_dense
from brainpretrain.sparse.norm import norm

POINTWISE: set[Any] = {F.leaky_relu, F.relu, F.silu, F.gelu}  # functions that keep 0 at 0
POOLS: set[Any] = {F.avg_pool3d, F.max_pool3d}
NORMS: set[Any] = {F.instance_norm, F.group_norm}


class SparseMap:
    """Stands for a dense map (b c x y z) whose hidden voxels are 0.

    Attributes:
        value: what is stored of it.
        cells: the visible cells.
    """

    def __init__(self, value: torch.Tensor, cells: Cells) -> None:
        self.value, self.cells = value, cells

    @property
    def shape(self) -> torch.Size:
        """Of the dense map."""
        raise NotImplementedError

    def dim(self) -> int:
        return len(self.shape)

    def size(self, axis: int) -> int:
        return self.shape[axis]

    def dense(self) -> torch.Tensor:
        """The dense map (b c x y z)."""
        raise NotImplementedError

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.add and len(args) == 2 and not kwargs:
            return args[0] + args[1]
        first, *others = args
        if isinstance(first, cls) and not any(isinstance(other, SparseMap) for other in (*others, *kwargs.values())):
            if function in POINTWISE:
                return first._like(function(first.value, *others, **kwargs))
            if function is F.conv3d:
                return first._convolved(*_convolution(*others, **kwargs))
            if function in POOLS:
                return first._pooled(function, *_pool(function, *others, **kwargs))
            if function in NORMS:
                return first._like(first._normed(*_norm(function, first.shape[1], *others, **kwargs)))
        name = getattr(function, "__name__", function)
        raise NotImplementedError(f"torch's {name} has no sparse form here; add it to {__name__}")

    def __add__(self, other: SparseMap) -> SparseMap:
        if type(other) is not type(self) or other.shape != self.shape:
            raise NotImplementedError("a sum of different kinds of maps has no sparse form here")
        return self._like(self.value + other.value)

    def _like(self, value: torch.Tensor) -> SparseMap:
        return type(self)(value, self.cells)

    def _convolved(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, groups: int) -> Any:
        raise NotImplementedError

    def _pooled(self, function: Callable[..., torch.Tensor], size: int) -> Any:
        raise NotImplementedError

    def _normed(self, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
        raise NotImplementedError


class Masked(SparseMap):
    """A dense map that is multiplied by the mask after every operation: the reference."""

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    def dense(self) -> torch.Tensor:
        return self.value

    def _masked(self, dense: torch.Tensor) -> Any:
        """The result of an operation: masked, or a plain tensor where the map is smaller than the grid."""
        mask = self.cells.mask(dense.shape[2:], dense.dtype)
        return dense if mask is None else Masked(dense * mask, self.cells)

    def _convolved(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, groups: int) -> Any:
        return self._masked(F.conv3d(self.value, weight, bias, stride, padding, 1, groups))

    def _pooled(self, function: Callable[..., torch.Tensor], size: int) -> Any:
        return self._masked(function(self.value, size))

    def _normed(self, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
        mask = self.cells.mask(self.shape[2:], self.value.dtype)
        axes = (2, 3, 4)
        count = mask.sum(axes, keepdim=True)
        mean = self.value.sum(axes, keepdim=True) / count  # hidden voxels are 0
        centred = (self.value - mean) * mask
        normed = centred * (centred.square().sum(axes, keepdim=True) / count + eps).rsqrt()
        if weight is None:
            return normed
        return normed * _spread(weight) + _spread(bias) * mask


class Packed(SparseMap):
    """The visible cells alone, (n c s s s)."""

    @property
    def shape(self) -> torch.Size:
        _, channels, side = self.value.shape[:3]
        return torch.Size([self.cells.samples, channels, *(cells * side for cells in self.cells.grid)])

    def dense(self) -> torch.Tensor:
        return to_dense(self.value, None, self.cells)

    def _convolved(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, groups: int) -> Any:
        side = self.value.shape[-1]
        if halo.fits(side, weight.shape[-1], stride, padding):
            return self._like(halo.convolve(self.value, weight, bias, stride, padding, groups, self.cells))
        return self._repacked(F.conv3d(self.dense(), weight, bias, stride, padding, 1, groups))

    def _pooled(self, function: Callable[..., torch.Tensor], size: int) -> Any:
        if self.value.shape[-1] % size == 0:
            return self._like(function(self.value, size))
        return self._repacked(function(self.dense(), size))

    def _repacked(self, dense: torch.Tensor) -> Any:
        """The visible cells of a dense result; the result itself where it is smaller than the grid."""
        return self._like(from_dense(dense, self.cells)) if self.cells.side_at(dense.shape[2:]) else dense

    def _normed(self, weight: torch.Tensor | None, bias: torch.Tensor | None, eps: float) -> torch.Tensor:
        return norm(self.value, weight, bias, eps, self.cells)


class Whole(SparseMap):
    """An image whose hidden voxels are not 0, although its features are sparse: the first convolution sees their border."""

    @property
    def shape(self) -> torch.Size:
        return self.value.shape

    def dense(self) -> torch.Tensor:
        return self.value

    def _convolved(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int, padding: int, groups: int) -> Any:
        side, reach = self.cells.side, weight.shape[-1] - 1
        if side % stride:
            raise NotImplementedError("a first convolution whose stride is no divisor of the blocks has no sparse form here")
        padded = F.pad(self.value, [padding, max(0, reach - padding)] * 3)
        windows = [
            padded[sample, :, x.start : x.stop + reach, y.start : y.stop + reach, z.start : z.stop + reach]
            for _, sample, (x, y, z) in self.cells.boxes(side)
        ]
        return Packed(F.conv3d(torch.stack(windows), weight, bias, stride, 0, 1, groups), self.cells)


def sparse(image: torch.Tensor, cells: Cells, packed: bool = True, masked_input: bool = True) -> SparseMap:
    """The image (b c x y z) as a map that makes an encoder sparse.

    Args:
        image: with any values at hidden voxels.
        cells: what is visible.
        packed: compute the visible cells alone; else the plain way, with equal results.
        masked_input: hidden voxels count as 0. If not, the first convolution sees those next to a visible cell.
    """
    if not masked_input:
        return Whole(image, cells) if packed else Masked(image, cells)
    if packed:
        return Packed(from_dense(image, cells), cells)
    return Masked(image * cells.mask(image.shape[2:], image.dtype), cells)


def _spread(values: torch.Tensor) -> torch.Tensor:
    return values.view(1, -1, 1, 1, 1)


def _single(value: Any) -> int:
    """The number that counts for all three axes."""
    numbers = {int(number) for number in (value if isinstance(value, Sequence) else [value])}
    if len(numbers) != 1:
        raise NotImplementedError(f"{value}: sparse maps take one number for all three axes")
    return numbers.pop()


def _convolution(
    weight: torch.Tensor, bias: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
) -> tuple[Any, ...]:
    if _single(dilation) != 1 or len(set(weight.shape[2:])) != 1:
        raise NotImplementedError("sparse maps take cubic kernels without dilation")
    return weight, bias, _single(stride), _single(padding), groups


def _pool(function: Any, size: Any, stride: Any = None, padding: Any = 0, *rest: Any, **options: Any) -> tuple[int]:
    size = _single(size)
    if (stride not in (None, []) and _single(stride) != size) or _single(padding) != 0 or options.get("return_indices"):
        raise NotImplementedError("sparse maps are pooled in boxes that do not overlap")
    return (size,)


def _norm(function: Any, channels: int, *args: Any, **options: Any) -> tuple[Any, ...]:
    """Weight, bias and eps of a norm of each channel by itself."""
    if function is F.group_norm and (args[0] if args else options["num_groups"]) != channels:
        raise NotImplementedError("sparse maps are normalised channel by channel")
    return options.get("weight"), options.get("bias"), options.get("eps", 1e-5)
