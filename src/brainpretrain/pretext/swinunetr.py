"""SwinUNETR pretraining: inpainting, rotation and contrast (Tang et al. 2022; the SwinUNETR row of AMAES Table 4).

Two views of every patch are turned by a multiple of 90 degrees and cut out; the network reconstructs the turned patch,
names the turn, and recognises the other view of the same patch among all views of the batch. Views are drawn as the authors'
program draws them (Project-MONAI/research-contributions). In training the batch is the one of all processes together, so
their number does not matter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain import distributed
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, nearest
from brainpretrain.masking import hidden_mean, local_mean
from brainpretrain.pretext.about import About
from brainpretrain.seeds import as_ints, generator, normal

ABOUT = About(kinds=("reconstruction", "views"), picture="reconstruction", hides=True, samples=2)
_TURNS = 4  # 0, 90, 180 and 270 degrees


@dataclass(frozen=True)
class Cutout:
    """Ranges of the boxes that are cut out of a view.

    Attributes:
        ratio: range of the share of voxels that boxes replace by noise; overlaps count twice, and of a box at the border only
            the part inside.
        swap_ratio: the same for boxes that are copied from another patch of the batch.
        box: side of a box as a share of the patch side: from the lower share, rounded down, to one voxel below the upper one.
    """

    ratio: tuple[float, float]
    swap_ratio: tuple[float, float]
    box: tuple[float, float]


@dataclass(frozen=True)
class View:
    """One view of a batch: corrupted and clean (b c x y z), hidden bool (b 1 x y z), turns int (b)."""

    turned: torch.Tensor
    corrupted: torch.Tensor
    clean: torch.Tensor
    hidden: torch.Tensor
    turns: torch.Tensor


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    cutout_ratio: Sequence[float],
    swap_ratio: Sequence[float],
    box_fraction: Sequence[float],
    contrast_dim: int,
    temperature: float,
    pool: str,
    rotation_weight: float,
    contrast_weight: float,
    reconstruction_weight: float,
) -> SwinPretext:
    """Three losses on two views.

    Args:
        encoder: a backbone; only its coarsest feature map is used.
        in_channels: channels of the patch.
        cutout_ratio: range of the share of voxels replaced by noise in [0, 1].
        swap_ratio: range of the share of voxels replaced by another patch of the batch, as it is by then: earlier patches of the
            batch are cut out already.
        box_fraction: range of a box's side as a share of the patch side.
        contrast_dim: length of the vectors that the contrast compares.
        temperature: of the contrast.
        pool: input of the two heads: `token` (one corner token each, as in the original) or the `mean` of all tokens.
        rotation_weight, contrast_weight, reconstruction_weight: of the three losses.

    Raises:
        UserError: unknown `pool`, or a range that is not within 0..1.
    """
    if pool not in ("token", "mean"):
        raise UserError(f"unknown choice '{pool}'", where="pool", fix=nearest(pool, ["token", "mean"]))
    cutout = Cutout(_share_range(cutout_ratio), _share_range(swap_ratio), _share_range(box_fraction))
    weights = {"rotation": rotation_weight, "contrast": contrast_weight, "reconstruction": reconstruction_weight}
    return SwinPretext(encoder, in_channels, cutout, contrast_dim, temperature, pool, weights)


def _share_range(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    if not 0 <= low <= high <= 1:
        raise UserError(
            f"{list(values)} is not a range of shares", where="pretext 'swinunetr'", fix="write [low, high] within 0..1"
        )
    return low, high


class SwinPretext(nn.Module):
    """Heads for rotation and contrast, and a decoder from the coarsest feature map."""

    def __init__(
        self,
        encoder: Encoder,
        in_channels: int,
        cutout: Cutout,
        contrast_dim: int,
        temperature: float,
        pool: str,
        weights: dict[str, float],
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.rotation = nn.Linear(encoder.channels[-1], _TURNS)
        self.contrast = nn.Linear(encoder.channels[-1], contrast_dim)
        self.decoder = _bottleneck_decoder(encoder.channels[-1], encoder.strides[-1], in_channels)
        self.cutout, self.temperature, self.pool, self.weights = cutout, temperature, pool, weights

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """`loss` is the weighted sum of rotation (cross-entropy), contrast (InfoNCE) and reconstruction (L1, all voxels)."""
        views = [self._view(input, target, seeds, number) for number in (1, 2)]
        corrupted, clean, hidden = (torch.cat([getattr(v, n) for v in views]) for n in ("corrupted", "clean", "hidden"))
        turns = torch.cat([view.turns for view in views])
        features = self.encoder(corrupted)[-1]
        rotation_token, contrast_token = self.tokens(features)
        turn_logits = self.rotation(rotation_token).float()
        vectors, output = self._of_all(self.contrast(contrast_token), 2), self.decoder(features).float()
        losses = three_losses(turn_logits, turns, vectors, self.temperature, output, clean)
        loss = torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()
        with torch.no_grad():
            guess = local_mean(corrupted, hidden, [self._cells()] * 3)
            logged = {
                "rotation_accuracy": (turn_logits.argmax(1) == turns).float().mean(),
                "loss_zero": hidden_mean(clean.abs(), hidden),
                "loss_mean": hidden_mean((guess - clean).abs(), hidden),
            }
        return {"loss": loss, **{f"loss_{name}": value.detach() for name, value in losses.items()}, **logged}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The reconstruction of the first view of a batch, for people; all arrays are turned alike."""
        view = self._view(input, target, seeds, 1)
        output = self.decoder(self.encoder(view.corrupted)[-1]).float()
        return {
            "input": view.turned,
            "masked": view.corrupted,
            "output": output,
            "target": view.clean,
            "hidden": view.hidden,
        }

    def _view(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor, number: int) -> View:
        if input.shape[3] != input.shape[4]:
            raise UserError(
                f"patch {list(input.shape[2:])} cannot be turned by 90 degrees", where="patch_size", fix="make y and z equal"
            )
        shared = self.training and distributed.processes() > 1
        if shared:  # boxes are copied from patches that are cut out before or after, so all are cut out in every process
            seeds = distributed.gathered(torch.as_tensor(as_ints(seeds), device=input.device))
            input, target = distributed.gathered(input), distributed.gathered(target)
        rngs = [generator(seed, f"swinunetr view {number}") for seed in as_ints(seeds)]
        turns = [int(rng.integers(_TURNS)) for rng in rngs]
        turned, clean = turn(input, turns), turn(target, turns)
        corrupted, noise, swapped = cut_out(turned, rngs, self.cutout)
        parts = turned, corrupted, clean, noise | swapped, torch.tensor(turns, device=input.device)
        return View(*(distributed.own(part) if shared else part for part in parts))

    def _of_all(self, x: torch.Tensor, views: int) -> torch.Tensor:
        """In training, the samples (views b ...) of all processes by view; a validation batch is complete in its process."""
        if not self.training:
            return x
        return torch.cat([distributed.gathered(part) for part in x.chunk(views)]) if distributed.processes() > 1 else x

    def tokens(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What the heads for rotation and contrast read (b c) of the coarsest feature map."""
        tokens = features.flatten(2)
        if self.pool == "mean":
            return tokens.mean(2), tokens.mean(2)
        return tokens[:, :, 0], tokens[:, :, 1]

    def _cells(self) -> int:
        """Number of cells along an axis for the local mean; a cell is as large as the smallest box."""
        return max(1, round(1 / max(self.cutout.box[0], 1e-3)))


def cut_out(
    x: torch.Tensor, rngs: Sequence[np.random.Generator], cutout: Cutout
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sample by sample, replaces boxes by noise in [0, 1], then boxes by the same place of another sample.

    The noise of each box is scaled by its own minimum and maximum. The other sample is drawn from the whole batch, so there is
    none if the draw is the sample itself, and it is taken as it is by then: cut out if it comes before this one.

    Args:
        x: (b c x y z).
        rngs: one generator per sample.
        cutout: ranges.

    Returns:
        Corrupted (b c x y z), and what is noise and what is from another sample, bool (b 1 x y z), disjoint.
    """
    size = x.shape[2:]
    corrupted = x.clone()
    noise, swapped = (torch.zeros((len(x), 1, *size), dtype=torch.bool, device=x.device) for _ in range(2))
    for place, rng in enumerate(rngs):
        field = normal(tuple(x.shape[1:]), int(rng.integers(2**63)), x.device).to(x.dtype)
        for box in boxes(rng, size, cutout.ratio, cutout.box):
            low, high = field[:, *box].aminmax()
            corrupted[place, :, *box] = (field[:, *box] - low) / (high - low).clamp(min=1e-12)
            noise[place, :, *box] = True
        other = int(rng.integers(len(x)))
        for box in boxes(rng, size, cutout.swap_ratio, cutout.box) if other != place else ():
            corrupted[place, :, *box] = corrupted[other, :, *box]
            swapped[place, :, *box], noise[place, :, *box] = True, False
    return corrupted, noise, swapped


def boxes(
    rng: np.random.Generator, size: Sequence[int], ratio: tuple[float, float], box: tuple[float, float]
) -> list[tuple[slice, slice, slice]]:
    """Boxes until their volumes add up to the drawn share of the patch; those that reach over the border are clipped."""
    found: list[tuple[slice, slice, slice]] = []
    target, covered = rng.uniform(*ratio) * math.prod(size), 0
    least = [int(box[0] * n) for n in size]
    while covered < target:
        starts = [int(rng.integers(0, n - low)) for n, low in zip(size, least, strict=True)]
        # at least a voxel: in small patches the lower bound is 0
        bounds = [(max(1, low), max(2, low + 1, int(box[1] * n))) for n, low in zip(size, least, strict=True)]
        ends = [min(n, start + int(rng.integers(*bound))) for n, start, bound in zip(size, starts, bounds, strict=True)]
        i, j, k = (slice(start, end) for start, end in zip(starts, ends, strict=True))
        found.append((i, j, k))
        covered += math.prod(end - start for start, end in zip(starts, ends, strict=True))
    return found


def turn(x: torch.Tensor, turns: Sequence[int]) -> torch.Tensor:
    """Each sample (c x y z) of a batch turned by its number of quarter turns in the y-z plane, from y to z."""
    return torch.stack([torch.rot90(sample, number, dims=(2, 3)) for sample, number in zip(x, turns, strict=True)])


def three_losses(
    logits: torch.Tensor,
    turns: torch.Tensor,
    vectors: torch.Tensor,
    temperature: float,
    output: torch.Tensor,
    clean: torch.Tensor,
) -> dict[str, torch.Tensor]:
    """Cross-entropy of the turns (2b), InfoNCE of the vectors, and L1 over all voxels of the reconstruction (2b c x y z)."""
    return {
        "rotation": F.cross_entropy(logits, turns),
        "contrast": info_nce(vectors, temperature),
        "reconstruction": (output - clean).abs().mean(),
    }


def info_nce(vectors: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE over 2b vectors (2b d), in which i and i + b are two views of one patch; cosine similarity."""
    vectors = F.normalize(vectors.float(), dim=1)
    similarity = vectors @ vectors.T / temperature
    similarity = similarity.masked_fill(torch.eye(len(vectors), dtype=torch.bool, device=vectors.device), -torch.inf)
    partner = torch.arange(len(vectors), device=vectors.device).roll(len(vectors) // 2)
    return F.cross_entropy(similarity, partner)


def _bottleneck_decoder(channels: int, stride: int, out_channels: int) -> nn.Sequential:
    """Conv 3^3 -> instance norm -> leaky ReLU -> trilinear x2, until full resolution; no skips."""
    layers: list[nn.Module] = []
    width = channels
    for _ in range(int(math.log2(stride))):
        narrow = max(width // 2, channels // 16)
        layers += [
            nn.Conv3d(width, narrow, kernel_size=3, padding=1),
            nn.InstanceNorm3d(narrow),
            nn.LeakyReLU(),
            nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
        ]
        width = narrow
    return nn.Sequential(*layers, nn.Conv3d(width, out_channels, kernel_size=1))
