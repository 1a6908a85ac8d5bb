"""VolumeFusion: two volumes are mixed block by block, and the network names the share of each voxel (Wang et al. 2023).

As the comparison of S3D (Wald et al. 2024) has it: five shares, boxes up to 62.5 % of the patch, Dice and cross-entropy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain import decoders, distributed
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, nearest
from brainpretrain.pretext.about import About
from brainpretrain.seeds import as_ints, generator

ABOUT = About(kinds=("voxels",), picture="classes", samples=2)
SMOOTH = 1e-5  # of the Dice: keeps a class that is not in a patch defined
GRID_FOREGROUND = 0.7  # share of the blocks of `grid` that get a class above 0


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    classes: int,
    layout: str,
    number: Sequence[int],
    sides: Sequence[float],
    decoder: str,
    decoder_options: Mapping[str, Any],
) -> VolumeFusion:
    """Classification of the share of the foreground volume in each voxel.

    Args:
        encoder: a backbone.
        in_channels: channels of the patch.
        classes: number of shares, equidistant from 0 to 1; class k has the share k / (classes - 1).
        layout: `boxes` (any class, so that class 0 erases), `grid` (regular blocks, of which 70 % get a class above 0) or
            `patches` (boxes around any centre, clipped at the border, with classes above 0).
        number: lowest and highest number of boxes, both included; a grid has as many blocks as fit.
        sides: smallest and largest side of a box, both included, in voxels; a number below 1 is a share of the patch. Four
            numbers give a largest side for each axis.
        decoder: a file of `decoders/`.
        decoder_options: its options.

    Raises:
        UserError: an unknown layout, fewer than two classes, or a range that is none; unknown decoder or decoder option.
    """
    if layout not in LAYOUTS:
        raise UserError(f"unknown choice '{layout}'", where="layout", fix=nearest(layout, list(LAYOUTS)))
    if classes < 2:
        raise UserError(f"{classes} classes leave nothing to tell apart", where="classes", fix="use 5")
    if not 1 <= number[0] <= number[1]:
        raise UserError(f"{list(number)} is no range of numbers", where="number", fix="write [low, high], from 1")
    if decoder_options.get("heads", 1) > 1:
        raise UserError("a fused volume has one output", where="decoder_options: heads", fix="leave 'heads' out")
    network = decoders.build(decoder, encoder, classes, **decoder_options)
    return VolumeFusion(encoder, network, classes, layout, (number[0], number[1]), tuple(sides))


class VolumeFusion(nn.Module):
    """Every sample is the foreground once; the next sample of the batch of all processes is its background."""

    def __init__(
        self,
        encoder: Encoder,
        decoder: nn.Module,
        classes: int,
        layout: str,
        number: tuple[int, int],
        sides: tuple[float, ...],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classes, self.layout, self.number, self.sides = classes, layout, number, sides

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """`loss` is Dice plus cross-entropy; `loss_majority` that of giving every voxel the shares of the classes."""
        _, label, logits = self._run(input, seeds)
        dice, entropy = dice_and_entropy(logits, label)
        with torch.no_grad():
            shares = F.one_hot(label.flatten(1), self.classes).float().mean(1)
            logged = {
                "loss_dice": dice.detach(),
                "loss_ce": entropy.detach(),
                "loss_majority": loss_of_shares(shares, label[0].numel()),
                "accuracy": (logits.argmax(1) == label).float().mean(),
                "accuracy_majority": shares.amax(1).mean(),
            }
        return {"loss": dice + entropy, **logged}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Foreground, fused volume, and the predicted and the true share of the foreground, for people."""
        fused, label, logits = self._run(input, seeds)
        label, found = label[:, None], logits.argmax(1, keepdim=True)
        shape = input.shape
        return {
            "input": input,
            "masked": fused,
            "output": (found / (self.classes - 1)).expand(shape),
            "target": (label / (self.classes - 1)).expand(shape),
            "hidden": label > 0,
        }

    def _run(self, input: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        draw = LAYOUTS[self.layout]
        labels = [
            draw(generator(seed, "volume fusion"), input.shape[2:], self.classes, self.number, self.sides)
            for seed in as_ints(seeds)
        ]
        label = torch.from_numpy(np.stack(labels)).to(input.device)
        fused = fuse(input, self.background(input), label, self.classes)
        return fused, label.long(), self.decoder(self.encoder(fused), fused).float()

    def background(self, input: torch.Tensor) -> torch.Tensor:
        """For each sample the next one in the batch of all processes; a lone sample, of a validation, is mirrored."""
        if not self.training or distributed.processes() == 1:
            return input.roll(-1, 0) if len(input) > 1 else input.flip(2, 3, 4)
        everything = distributed.gathered(input)
        places = distributed.own(torch.arange(len(everything)))
        return everything[(places + 1) % len(everything)]


def fuse(foreground: torch.Tensor, background: torch.Tensor, label: torch.Tensor, classes: int) -> torch.Tensor:
    """share * foreground + (1 - share) * background (b c x y z), where the share of class k is k / (classes - 1).

    Args:
        foreground, background: (b c x y z).
        label: classes (b x y z).
        classes: their number.
    """
    share = label[:, None].to(foreground.dtype) / (classes - 1)
    return share * foreground + (1 - share) * background


def dice_and_entropy(logits: torch.Tensor, label: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """1 - mean soft Dice over samples and classes, class 0 included, and the mean cross-entropy over voxels.

    A class without voxels has the Dice 1e-5 / (sum of its probabilities + 1e-5), which is about 0.

    Args:
        logits: (b classes x y z) float.
        label: (b x y z) long.
    """
    probability = logits.softmax(1).flatten(2)
    truth = F.one_hot(label.flatten(1), logits.shape[1]).transpose(1, 2).to(probability.dtype)
    overlap = (probability * truth).sum(2)
    dice = (2 * overlap + SMOOTH) / (probability.sum(2) + truth.sum(2) + SMOOTH)
    return 1 - dice.mean(), F.cross_entropy(logits, label)


def loss_of_shares(shares: torch.Tensor, voxels: int) -> torch.Tensor:
    """The loss of giving every voxel of a sample the shares (b classes) of the classes in it."""
    entropy = -(shares * shares.clamp(min=1e-12).log()).sum(1)
    dice = (2 * shares.square() * voxels + SMOOTH) / (2 * shares * voxels + SMOOTH)
    return 1 - dice.mean() + entropy.mean()


# --- layouts: the class of each voxel, uint8 (x y z), from a generator, the size of the patch and the options of `build`

Boxes = tuple[list[list[int]], np.ndarray]  # (side x, y, z, start x, y, z) of each box, and its class


def side_ranges(size: Sequence[int], sides: Sequence[float], inside: bool = True) -> list[tuple[int, int]]:
    """Smallest and largest side of a box along each axis, in voxels; shares of the patch are rounded down.

    Args:
        size: of the patch.
        sides: as in `build`.
        inside: boxes must fit into the patch; else they are clipped.

    Raises:
        UserError: along some axis no side is in the range, or the range has neither two nor four numbers.
    """
    if len(sides) not in (2, 4):
        raise UserError(f"{list(sides)} is no range", where="sides", fix="write [low, high] or [low, high x, high y, high z]")
    found = []
    for n, largest in zip(size, sides[1:] * 3 if len(sides) == 2 else sides[1:], strict=True):
        low, high = (int(bound * n if bound < 1 else bound) for bound in (sides[0], largest))
        if not 1 <= low <= high or (inside and high > n):
            raise UserError(
                f"boxes with sides from {low} to {high} voxels do not fit into {n} voxels",
                where="sides",
                fix="use a larger patch, or other sides",
            )
        found.append((low, high))
    return found


def boxes(
    rng: np.random.Generator, size: Sequence[int], classes: int, number: Sequence[int], sides: Sequence[float]
) -> np.ndarray:
    """Boxes inside the patch with a class from 0 on; later ones cover earlier ones, and class 0 erases (nnssl)."""
    return painted(size, *draw_boxes(rng, size, classes, number, sides))


def draw_boxes(
    rng: np.random.Generator, size: Sequence[int], classes: int, number: Sequence[int], sides: Sequence[float]
) -> Boxes:
    """The boxes of the layout `boxes`."""
    ranges, drawn = side_ranges(size, sides), []
    for _ in range(int(rng.integers(number[0], number[1] + 1))):
        extent = [int(rng.integers(low, high + 1)) for low, high in ranges]
        drawn.append([*extent, *(int(rng.integers(0, n - side + 1)) for n, side in zip(size, extent, strict=True))])
    return drawn, rng.integers(0, classes, len(drawn))


def patches(
    rng: np.random.Generator, size: Sequence[int], classes: int, number: Sequence[int], sides: Sequence[float]
) -> np.ndarray:
    """Boxes around any voxel, clipped at the border, with a class from 1 on (PyMIC's PatchMix)."""
    ranges, drawn = side_ranges(size, sides, inside=False), []
    for _ in range(int(rng.integers(number[0], number[1] + 1))):
        half = [int(rng.integers(low, high + 1)) // 2 for low, high in ranges]
        centre = [int(rng.integers(0, n + 1)) for n in size]
        start = [max(0, c - h) for c, h in zip(centre, half, strict=True)]
        end = [min(n, c + h) for n, c, h in zip(size, centre, half, strict=True)]
        drawn.append([*(b - a for a, b in zip(start, end, strict=True)), *start])
    return painted(size, drawn, rng.integers(1, classes, len(drawn)))


def grid(
    rng: np.random.Generator, size: Sequence[int], classes: int, number: Sequence[int], sides: Sequence[float]
) -> np.ndarray:
    """Equal blocks side by side from a drawn corner on; 70 % of them, rounded down, get a class from 1 on (PyMIC today)."""
    extent = [int(rng.integers(low, high + 1)) for low, high in side_ranges(size, sides)]
    corner = [int(rng.integers(0, n % side + 1)) for n, side in zip(size, extent, strict=True)]
    counts = [n // side for n, side in zip(size, extent, strict=True)]
    block = np.zeros(int(np.prod(counts)), np.uint8)
    chosen = rng.permutation(len(block))[: int(GRID_FOREGROUND * len(block))]
    block[chosen] = rng.integers(1, classes, len(chosen))
    filled = np.kron(block.reshape(counts), np.ones(extent, np.uint8))
    label = np.zeros(tuple(size), np.uint8)
    label[tuple(slice(start, start + n) for start, n in zip(corner, filled.shape, strict=True))] = filled
    return label


def painted(size: Sequence[int], drawn: Sequence[Sequence[int]], classes: Sequence[int] | np.ndarray) -> np.ndarray:
    """Class of each voxel, uint8 (x y z): boxes (side x, y, z, start x, y, z) in their order, class 0 outside all."""
    label = np.zeros(tuple(size), np.uint8)
    for box, value in zip(drawn, classes, strict=True):
        label[tuple(slice(start, start + side) for side, start in zip(box[:3], box[3:], strict=True))] = value
    return label


LAYOUTS = {"boxes": boxes, "grid": grid, "patches": patches}
