"""A policy draws the transforms of a sample on the CPU, and applies them to a batch on its device.

Spatial transforms move image and label alike; intensity transforms change the input only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch

from brainpretrain.augment import intensity, spatial
from brainpretrain.augment.config import PolicyConfig
from brainpretrain.errors import UserError


class Draws(NamedTuple):
    """The transforms of one sample."""

    size: tuple[int, ...]  # of the patch that comes out (x y z)
    box: spatial.Box  # the voxels to read
    move: spatial.Move | None
    intensity: dict[str, intensity.Draws]  # by transform, in the order of application
    flips: tuple[int, ...] = ()  # axes of the patch (0 1 2) along which it is flipped, after it was moved


class Policy:
    """An entry of `augmentations:`, ready to draw and apply.

    Args:
        config: the entry, as a PolicyConfig or a plain mapping.
        sides: pairs of classes (left, right), which change places in the label of a sample that is flipped along x.
    """

    def __init__(self, config: PolicyConfig | Mapping[str, Any], sides: Sequence[tuple[int, int]] = ()) -> None:
        self.config = config if isinstance(config, PolicyConfig) else PolicyConfig.model_validate(config)
        self.sides = tuple(sides)

    def crop_size(self, patch_size: Sequence[int]) -> list[int]:
        """Size of the crop around a patch that spatial transforms may read (181 for 128); outside it they read its minimum."""
        factor = self.config.crop_factor if self.config.is_spatial else 1.0
        return [int(factor * n) for n in patch_size]

    def draw(self, seed: int, channels: int, patch_size: Sequence[int]) -> Draws:
        """The transforms of the sample with this seed, an int >= 0; they depend on nothing else.

        Raises:
            UserError: the patch has an axis of a single voxel, along which nothing can be interpolated.
        """
        size, crop = tuple(int(n) for n in patch_size), self.crop_size(patch_size)
        move = spatial.draw_move(seed, self.config, size, crop)
        if move is not None and min(size) < 2:
            raise UserError(f"spatial transforms cannot move a patch of {list(size)}", fix="use at least 2 voxels per axis")
        box = spatial.box(move, self.config, size, crop)
        flips = spatial.draw_flips(seed, self.config.mirror) if self.config.mirror else ()
        return Draws(size, box, move, intensity.draw(seed, self.config, (channels, *size)), flips)

    @torch.no_grad()
    def apply(
        self, images: Sequence[torch.Tensor], draws: Sequence[Draws], labels: Sequence[torch.Tensor] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Augments a batch on its device, in float32; the result for a sample does not depend on the others.

        Args:
            images: per sample (c x y z) of any float type, the box of its `draws`.
            draws: per sample, from `draw`.
            labels: per sample integers (x y z) of the same box.

        Returns:
            Input (b c x y z) and target: the labels (b x y z), moved by nearest neighbour, with left and right classes swapped
            where the sample is flipped along x; or without labels the image before intensity transforms. A sample without
            transforms is its patch, bit by bit. The two may share memory: do not write into them.

        Raises:
            UserError: an image or label does not have the size of its box.
        """
        _check(images, draws)
        _check(labels or (), draws)
        with _exact(images[0].device):
            moved = _moved_images(images, draws, self.config.interpolation == "cubic")
            target = moved if labels is None else _moved_labels(labels, draws, self.sides)
            if labels is None and any(drawn.intensity for drawn in draws):
                moved = moved.clone()
            for x, drawn in zip(moved, draws, strict=True):
                intensity.change(x, drawn.intensity)
        return moved, target


def _check(arrays: Sequence[torch.Tensor], draws: Sequence[Draws]) -> None:
    for array, drawn in zip(arrays, draws, strict=False):
        size = [high - low for low, high in drawn.box]
        if list(array.shape[-3:]) != size:
            raise UserError(f"{list(array.shape[-3:])} voxels were read, {size} were drawn", fix="read the `box` of the draws")


def _moved_images(images: Sequence[torch.Tensor], draws: Sequence[Draws], cubic: bool) -> torch.Tensor:
    out = torch.empty(len(draws), images[0].shape[0], *draws[0].size, device=images[0].device)
    for image, drawn, result in zip(images, draws, out, strict=True):
        if drawn.move is None:
            result.copy_(image)
        else:
            spatial.resample(image.float(), drawn.move, [low for low, _ in drawn.box], cubic, result)
        if drawn.flips:
            result.copy_(result.flip([1 + axis for axis in drawn.flips]))
    return out


def _moved_labels(labels: Sequence[torch.Tensor], draws: Sequence[Draws], sides: Sequence[tuple[int, int]] = ()) -> torch.Tensor:
    out = torch.empty(len(draws), *draws[0].size, dtype=labels[0].dtype, device=labels[0].device)
    for label, drawn, result in zip(labels, draws, out, strict=True):
        if drawn.move is None:
            result.copy_(label)
        else:
            spatial.resample_label(label, drawn.move, [low for low, _ in drawn.box], result)
        if drawn.flips:
            result.copy_(result.flip(drawn.flips))
        if 0 in drawn.flips:
            for left, right in sides:
                was_left, was_right = result == left, result == right
                result.masked_fill_(was_left, right).masked_fill_(was_right, left)
    return out


@contextmanager
def _exact(device: torch.device) -> Iterator[None]:
    """Full float32, whatever precision the network trains in: no autocast, and no TF32 in matrix products."""
    allowed = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(allowed)
