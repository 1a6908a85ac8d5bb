"""The visible cells of a batch: which blocks of voxels a sparse network computes, and which of them touch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch

from brainpretrain.errors import UserError

Offset = tuple[int, int, int]
OFFSETS: list[Offset] = [offset for offset in itertools.product((-1, 0, 1), repeat=3) if any(offset)]


class Cells:
    """Blocks of `side`^3 voxels, of which some are visible; the others are hidden.

    Args:
        visible: bool (b gx gy gz), True = visible; made on the CPU from the seeds, so that no step waits for the device.
        side: of a cell, in voxels of the image.
        device: of the maps.

    Attributes:
        grid: cells along x, y and z.
        places: int (n 4), sample and place of each of the n visible cells of the batch, sample by sample.
        counts: visible cells of each sample.
        device: of the maps.

    Raises:
        UserError: a sample has no visible cell.
    """

    def __init__(self, visible: torch.Tensor, side: int, device: torch.device | str = "cpu") -> None:
        self.visible, self.side, self.device = visible.cpu(), side, torch.device(device)
        self.samples, *self.grid = visible.shape
        self.places = self.visible.nonzero()
        self.counts: list[int] = self.visible.flatten(1).sum(1).tolist()
        if 0 in self.counts:
            raise UserError(
                "a sample has no visible block", where="mask_ratio", fix="hide a smaller share, or use smaller blocks"
            )
        self._numbers = torch.full((self.samples, *(n + 2 for n in self.grid)), -1)
        self._numbers[:, 1:-1, 1:-1, 1:-1][self.visible] = torch.arange(len(self.places))
        self._kept: dict[object, torch.Tensor | None] = {}

    def __len__(self) -> int:
        return len(self.places)

    def neighbour(self, offset: Offset) -> torch.Tensor:
        """int (n) on the CPU: the number of the cell at `offset` from each cell; -1 where it is hidden or outside the patch."""
        b, x, y, z = self.places.unbind(1)
        return self._numbers[b, x + 1 + offset[0], y + 1 + offset[1], z + 1 + offset[2]]

    def sums(self, of_cells: torch.Tensor) -> torch.Tensor:
        """Sums over the cells of each sample, for each of its cells: (n c) -> (n c)."""
        if self.samples == 1:
            return of_cells.sum(0, keepdim=True)
        if "samples" not in self._kept:
            self._kept["samples"] = self.places[:, 0].to(self.device, non_blocking=True)
        sample = self._kept["samples"]
        return of_cells.new_zeros(self.samples, of_cells.shape[1]).index_add_(0, sample, of_cells)[sample]

    def voxels(self, side: int) -> torch.Tensor:
        """Visible voxels of the sample of each cell, in a map whose cells have `side` voxels: (n 1), or (1 1) for one sample."""
        key = ("voxels", side)
        if key not in self._kept:
            counts = torch.tensor(self.counts)[self.places[:, 0] if self.samples > 1 else slice(None)]
            self._kept[key] = (counts[:, None] * side**3).to(self.device, non_blocking=True)
        return self._kept[key]

    def pairs(self, offset: Offset) -> tuple[torch.Tensor, torch.Tensor] | None:
        """The cells that have a visible cell at `offset`, and these cells; None if there are none."""
        kept = self._kept.get(offset, False)
        if kept is False:
            neighbour = self.neighbour(offset)
            found = torch.stack([torch.arange(len(self))[neighbour >= 0], neighbour[neighbour >= 0]])
            kept = self._kept[offset] = found.to(self.device, non_blocking=True) if found.numel() else None
        return None if kept is None else (kept[0], kept[1])

    def side_at(self, size: Sequence[int]) -> int:
        """Side of a cell in a map of `size` voxels; 0 if the map is smaller than the grid, and so not masked."""
        return int(size[0]) // self.grid[0]

    def mask(self, size: Sequence[int], dtype: torch.dtype) -> torch.Tensor | None:
        """The visible voxels of a map of `size` voxels as 1 and the others as 0 (b 1 x y z); None if it is not masked."""
        key = (tuple(size), dtype)
        if key not in self._kept:
            side = self.side_at(size)
            mask = self.visible[:, None].to(dtype)
            for axis in (2, 3, 4) if side else ():
                mask = mask.repeat_interleave(side, dim=axis)
            self._kept[key] = mask.to(self.device, non_blocking=True) if side else None
        return self._kept[key]

    def rows(self, side: int, low: int, high: int) -> torch.Tensor:
        """int (n (side + low + high)^3): for each voxel of each padded cell its row among the n side^3 voxels of the cells.

        A voxel that is hidden, or outside the patch, has the row n side^3, which holds zeros.
        """
        key = ("rows", side, low, high)
        if key not in self._kept:
            voxels = torch.arange(-low, side + high)
            step, inside = voxels.div(side, rounding_mode="floor"), voxels % side
            local = (inside[:, None, None] * side + inside[None, :, None]) * side + inside[None, None, :]
            cell = torch.stack([self.neighbour(offset) for offset in itertools.product((-1, 0, 1), repeat=3)], dim=1)
            which = (step[:, None, None] + 1) * 9 + (step[None, :, None] + 1) * 3 + (step[None, None, :] + 1)
            cell = cell[:, which]
            rows = torch.where(cell >= 0, cell * side**3 + local, len(self) * side**3)
            self._kept[key] = rows.flatten().to(self.device, non_blocking=True)
        return self._kept[key]

    def neighbours27(self, side: int) -> torch.Tensor:
        """int (n side^3 27): the rows of the 27 voxels around each voxel, as in `rows`."""
        key = ("27", side)
        if key not in self._kept:
            padded = self.rows(side, 1, 1).view(len(self), side + 2, side + 2, side + 2)
            windows = padded.unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
            self._kept[key] = windows.reshape(-1)
        return self._kept[key]

    def boxes(self, side: int) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
        """Number, sample and place of each cell in a dense map whose cells have `side` voxels."""
        for number, (sample, *place) in enumerate(self.places.tolist()):
            x, y, z = (slice(n * side, (n + 1) * side) for n in place)
            yield number, sample, (x, y, z)
