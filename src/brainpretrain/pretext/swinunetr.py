"""SwinUNETR pretraining: inpainting, rotation and contrast (Tang et al. 2022; the SwinUNETR row of AMAES Table 4).

Two views of every patch are turned by a multiple of 90 degrees and cut out; the network reconstructs the turned patch,
names the turn, and recognises the other view of the same patch among all views of the batch. In training the batch is the
one of all processes together, so their number does not matter.
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
        ratio: range of the share of voxels that boxes replace by noise; overlaps count twice.
        swap_ratio: the same for boxes that are copied from another patch of the batch.
        box: side of a box as a share of the patch side.
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
        swap_ratio: range of the share of voxels replaced by another patch of the batch.
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
        rotation_token, contrast_token = self._tokens(features)
        turn_logits = self.rotation(rotation_token).float()
        losses = {
            "rotation": F.cross_entropy(turn_logits, turns),
            "contrast": info_nce(self._of_all(self.contrast(contrast_token), 2), self.temperature),
            "reconstruction": (self.decoder(features).float() - clean).abs().mean(),
        }
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
        if input.shape[2] != input.shape[3]:
            raise UserError(
                f"patch {list(input.shape[2:])} cannot be turned by 90 degrees", where="patch_size", fix="make x and y equal"
            )
        rngs = [generator(seed, f"swinunetr view {number}") for seed in as_ints(seeds)]
        turns = [int(rng.integers(_TURNS)) for rng in rngs]
        turned, clean = _turn(input, turns), _turn(target, turns)
        pool = self._of_all(turned, 1)
        places = range(len(pool)) if pool is turned else distributed.own(torch.arange(len(pool))).tolist()
        corrupted, hidden = cut_out(turned, pool, places, rngs, self.cutout)
        return View(turned, corrupted, clean, hidden, torch.tensor(turns, device=input.device))

    def _of_all(self, x: torch.Tensor, views: int) -> torch.Tensor:
        """In training, the samples (views b ...) of all processes by view; a validation batch is complete in its process."""
        if not self.training:
            return x
        return torch.cat([distributed.gathered(part) for part in x.chunk(views)]) if distributed.processes() > 1 else x

    def _tokens(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = features.flatten(2)
        if self.pool == "mean":
            return tokens.mean(2), tokens.mean(2)
        return tokens[:, :, 0], tokens[:, :, 1]

    def _cells(self) -> int:
        """Number of cells along an axis for the local mean; a cell is as large as the smallest box."""
        return max(1, round(1 / max(self.cutout.box[0], 1e-3)))


def cut_out(
    x: torch.Tensor, pool: torch.Tensor, places: Sequence[int], rngs: Sequence[np.random.Generator], cutout: Cutout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Replaces boxes by noise in [0, 1], then boxes by the same place of another sample.

    Args:
        x: (b c x y z).
        pool: (n c x y z) samples to copy boxes from.
        places: indices of the samples of x in `pool`.
        rngs: one generator per sample of x.

    Returns:
        Corrupted (b c x y z), hidden bool (b 1 x y z).
    """
    size = x.shape[2:]
    dropped, swapped, partners, noise = [], [], [], []
    for place, rng in zip(places, rngs, strict=True):
        dropped.append(_boxes(rng, size, cutout.ratio, cutout.box))
        partners.append(int(rng.integers(len(pool))))
        other = partners[-1] != place
        swapped.append(_boxes(rng, size, cutout.swap_ratio, cutout.box) if other else np.zeros(size, dtype=bool))
        noise.append(normal(tuple(x.shape[1:]), int(rng.integers(2**63)), x.device))
    drop, swap = (torch.from_numpy(np.stack(masks))[:, None].to(x.device) for masks in (dropped, swapped))
    corrupted = torch.where(drop, _rescaled(torch.stack(noise)).to(x.dtype), x)
    return torch.where(swap, pool[partners], corrupted), drop | swap


def _boxes(rng: np.random.Generator, size: Sequence[int], ratio: tuple[float, float], box: tuple[float, float]) -> np.ndarray:
    """Bool (x y z): boxes until their volumes add up to the drawn share of the patch."""
    mask = np.zeros(tuple(size), dtype=bool)
    target = rng.uniform(*ratio) * mask.size
    covered = 0
    while covered < target:
        sides = [int(rng.integers(max(1, int(box[0] * n)), max(1, int(box[1] * n)) + 1)) for n in size]
        starts = [int(rng.integers(0, n - side + 1)) for n, side in zip(size, sides, strict=True)]
        mask[tuple(slice(start, start + side) for start, side in zip(starts, sides, strict=True))] = True
        covered += math.prod(sides)
    return mask


def _rescaled(noise: torch.Tensor) -> torch.Tensor:
    """Each sample's noise brought to [0, 1]."""
    low, high = noise.flatten(1).aminmax(dim=1)
    shape = (-1, *[1] * (noise.ndim - 1))
    return (noise - low.view(shape)) / (high - low).view(shape)


def _turn(x: torch.Tensor, turns: Sequence[int]) -> torch.Tensor:
    """Each sample turned by its number of quarter turns in the x-y plane."""
    return torch.stack([torch.rot90(sample, turn, dims=(1, 2)) for sample, turn in zip(x, turns, strict=True)])


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
