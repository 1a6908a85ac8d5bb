"""VoCo: the network names the place of a crop by comparing it with the crops of a grid (Wu et al. 2024).

A patch is cut into base crops side by side, and target crops are cut out of it at random. The similarity of a target to each base
shall be the share of the target that lies in this base.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from brainpretrain import distributed
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones.base import Encoder
from brainpretrain.errors import UserError, nearest
from brainpretrain.pretext.about import About
from brainpretrain.seeds import as_ints, fires, generator

ABOUT = About(kinds=("crops",), picture="overlaps")
CHOICES = {
    "norm": ("batch", "instance"),
    "average": ("image", "batch"),
    "negative": ("square", "log"),
    "regularisation": ("plain", "square"),
}


def build(
    encoder: Encoder,
    in_channels: int,
    *,
    grid: Sequence[int],
    targets: int,
    hidden: int,
    norm: str,
    average: str,
    negative: str,
    regularisation: str,
    last_position: bool,
    crop_size: Sequence[int] | None = None,
    teacher: bool = False,
    momentum: float = 0.9,
    drop: float = 0.0,
    augment: Mapping[str, Any] | None = None,
    turn: float = 0.0,
) -> VoCo:
    """Classification of crops by their overlap with base crops.

    Args:
        encoder: a backbone; the means of all its feature maps are used.
        in_channels: channels of the patch.
        grid: base crops along x, y and z; a crop has the side of the patch divided by it.
        targets: target crops of a patch.
        hidden: width of the three layers of the projector.
        norm: of the projector: over all crops of the `batch`, as in the original, or over the features of a crop (`instance`),
            as in nnssl.
        average: sums are divided in each `image` and then averaged (original), or over the `batch` at once (nnssl).
        negative: loss of bases that a target does not touch: s^2 (`square`), or -log(1 - s) (`log`, large-scale version).
        regularisation: mean similarity of two bases: as it is (`plain`, nnssl), or its `square` (original).
        last_position: target crops may begin at the last possible voxel; never in the original.
        crop_size: size to which crops are resampled before the network; null: as they are.
        teacher: compare the network's crops with those of a teacher, which follows it slowly.
        momentum: share of the teacher that stays at each step.
        drop: share of embeddings that are set to zero, each as a whole, in training (large-scale version: 0.2).
        augment: transforms of each crop by itself in training, as an entry of `augmentations` without spatial transforms but
            `mirror`; null: none. The overlaps stay those of the places where the crops were cut.
        turn: probability that a crop is turned by 90, 180 or 270 degrees in a plane of equal sides.

    Raises:
        UserError: an unknown choice, or a share that is none.
    """
    for name, value in (("norm", norm), ("average", average), ("negative", negative), ("regularisation", regularisation)):
        if value not in CHOICES[name]:
            raise UserError(f"unknown choice '{value}'", where=name, fix=nearest(value, list(CHOICES[name])))
    for name, share in (("momentum", momentum), ("drop", drop)):
        if not 0 <= share < 1:
            raise UserError(f"{share} is no share below 1", where=name, fix="give a number from 0 to 1")
    projector = Projector(sum(encoder.channels), hidden, norm)
    if not 0 <= turn <= 1:
        raise UserError(f"{turn} is no probability", where="turn", fix="give a number from 0 to 1")
    policy = Policy(augment or {})
    if policy.config.is_spatial:
        fix = "leave out rotation, scale and elastic; 'turn' and 'mirror' move whole voxels"
        raise UserError("crops are not moved off their grid", where="augment", fix=fix)
    places = Places(list(grid), targets, last_position, list(crop_size) if crop_size else None)
    terms = Terms(average, negative, regularisation == "square", drop)
    return VoCo(encoder, projector, places, terms, momentum if teacher else None, Changes(policy, turn))


@dataclass(frozen=True)
class Places:
    """Where crops are; see `build`."""

    grid: list[int]
    targets: int
    last_position: bool
    crop_size: list[int] | None


@dataclass(frozen=True)
class Terms:
    """How losses are computed; see `build`. `square`: of the regularisation."""

    average: str
    negative: str
    square: bool
    drop: float


class Changes:
    """How crops are changed in training; see `augment` and `turn` of `build`."""

    def __init__(self, policy: Policy, turn: float) -> None:
        self.policy, self.turn = policy, turn
        self.any = bool(turn) or policy.config != Policy({}).config

    def __call__(self, crops: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> torch.Tensor:
        """Crops (b n c x y z), each changed by itself, by draws that depend on the seed of its patch and its number alone.

        Raises:
            UserError: a crop is to be turned, and no two of its sides are equal.
        """
        return torch.stack([self._of_patch(patch, seed) for patch, seed in zip(crops, as_ints(seeds), strict=True)])

    def _of_patch(self, crops: torch.Tensor, seed: int) -> torch.Tensor:
        size = crops.shape[2:]
        own = [int(n) for n in generator(seed, "voco crops").integers(2**62, size=len(crops))]
        turned = [self._turned(crop, number) for crop, number in zip(crops, own, strict=True)]
        draws = [self.policy.draw(number, crops.shape[1], size) for number in own]
        return self.policy.apply(turned, draws)[0].to(crops.dtype)

    def _turned(self, crop: torch.Tensor, seed: int) -> torch.Tensor:
        if not (self.turn and (rng := fires(seed, "voco turn", self.turn))):
            return crop
        planes = [(a, b) for a, b in ((1, 2), (1, 3), (2, 3)) if crop.shape[a] == crop.shape[b]]
        if not planes:
            fix = "set 'turn: 0', or a patch and a grid whose crops have two equal sides"
            raise UserError(f"crops of {list(crop.shape[1:])} cannot be turned by 90 degrees", where="patch_size", fix=fix)
        return torch.rot90(crop, int(rng.integers(1, 4)), planes[int(rng.integers(len(planes)))])


class Projector(nn.Module):
    """Three linear layers; a norm without parameters and a ReLU follow the first two."""

    def __init__(self, channels: int, hidden: int, norm: str) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3 = (nn.Sequential(nn.Linear(width, hidden)) for width in (channels, hidden, hidden))
        self.norm = norm

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Embeddings (n hidden), float32, of all crops of a batch (n channels)."""
        for layer in (self.layer1, self.layer2):
            x = _exact(layer(x))
            x = F.relu(F.batch_norm(x, None, None, training=True) if self.norm == "batch" else F.layer_norm(x, x.shape[1:]))
        return _exact(self.layer3(x))


class VoCo(nn.Module):
    """Encoder, projector, and, if there is one, a teacher of both, which starts from other random weights, as in the original."""

    def __init__(
        self,
        encoder: Encoder,
        projector: Projector,
        places: Places,
        terms: Terms,
        momentum: float | None,
        changes: Changes | None = None,
    ) -> None:
        super().__init__()
        self.changes = changes
        self.encoder = encoder
        self.projector = projector
        self.places, self.terms, self.momentum = places, terms, momentum
        self.targets = places.targets
        self.teacher: nn.ModuleList | None = None
        if momentum is not None:
            self.teacher = copy.deepcopy(nn.ModuleList([encoder, projector]))
            for module in self.teacher.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()
            self.teacher.requires_grad_(False)

    def forward(self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> dict[str, torch.Tensor]:
        """`loss` is that of overlaps and of the similarity of bases; `spread` is 0 when all crops have one embedding."""
        crops, labels = self._crops(input, seeds)
        embedded, similarity, labels = self._similarity(crops, labels, seeds)
        positive, negative = prediction(similarity, labels, self.terms.average, self.terms.negative)
        bases = embedded[:, self.targets :]
        alike = likeness(bases, self.terms.square, first_only=self.teacher is not None)
        with torch.no_grad():
            nearest_base = labels.argmax(2)
            counts = F.one_hot(nearest_base.flatten(), labels.shape[2]).sum(0)
            logged = {
                "loss_positive": positive.detach(),
                "loss_negative": negative.detach(),
                "loss_regularisation": alike.detach(),
                "accuracy": (similarity.argmax(2) == nearest_base).float().mean(),
                "accuracy_majority": counts.max() / counts.sum(),
                "spread": spread(embedded),
            }
        return {"loss": positive + negative + alike, **logged}

    @torch.no_grad()
    def reconstruct(
        self, input: torch.Tensor, target: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """The first target crop of each patch, and its predicted and true overlap with each base crop, for people."""
        crops, labels = self._crops(input, seeds)
        _, similarity, labels = self._similarity(crops, labels, seeds)
        crop = self._crop(input.shape[2:])
        hidden = torch.ones((len(input), 1, *input.shape[2:]), dtype=torch.bool, device=input.device)
        for sample, seed in enumerate(as_ints(seeds)):
            box = [slice(start, start + n) for start, n in zip(self.starts(seed, input.shape[2:])[0], crop, strict=True)]
            hidden[sample, :, *box] = False
        maps = [self._spread_out(x[:, 0], crop).expand(input.shape) for x in (similarity, labels)]
        return {
            "input": input,
            "masked": input.masked_fill(hidden, 0),
            "output": maps[0],
            "target": maps[1],
            "hidden": hidden,
        }

    def _spread_out(self, values: torch.Tensor, crop: Sequence[int]) -> torch.Tensor:
        """One value per base crop (b bases) at all its voxels (b 1 x y z)."""
        volume = values.float().view(len(values), 1, *self.places.grid)
        for axis, n in enumerate(crop):
            volume = volume.repeat_interleave(n, dim=axis + 2)
        return volume

    def _crop(self, size: Sequence[int]) -> list[int]:
        if any(n % parts for n, parts in zip(size, self.places.grid, strict=True)):
            raise UserError(
                f"a patch of {list(size)} cannot be cut into {self.places.grid} crops",
                where="patch_size",
                fix="make each side a multiple of the crops along it",
            )
        return [n // parts for n, parts in zip(size, self.places.grid, strict=True)]

    def starts(self, seed: int, size: Sequence[int]) -> np.ndarray:
        """First voxels (targets 3) of the target crops of a sample."""
        rng, room = generator(seed, "voco"), np.array(size) - self._crop(size)
        return rng.integers(0, np.maximum(room + self.places.last_position, 1), (self.targets, 3))

    def _crops(self, input: torch.Tensor, seeds: Sequence[int] | torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Crops (b targets+bases c x y z), targets first, and overlaps of the targets (b targets bases)."""
        size = input.shape[2:]
        crop = self._crop(size)
        corners = [
            [n * place for n, place in zip(crop, cell, strict=True)] for cell in itertools.product(*map(range, self.places.grid))
        ]
        starts = [self.starts(seed, size) for seed in as_ints(seeds)]
        cut = [
            torch.stack([patch[:, *(slice(a, a + n) for a, n in zip(start, crop, strict=True))] for start in [*own, *corners]])
            for patch, own in zip(input, starts, strict=True)
        ]
        labels = np.stack([overlaps(own, crop, self.places.grid) for own in starts])
        crops = torch.stack(cut)
        if self.training and self.changes and self.changes.any:
            crops = self.changes(crops, seeds)
        return crops, torch.from_numpy(labels).float().to(input.device)

    def _similarity(
        self, crops: torch.Tensor, labels: torch.Tensor, seeds: Sequence[int] | torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Embeddings (b crops f), similarities and overlaps (b targets bases) of the batch of all processes."""
        flat = crops.flatten(0, 1)
        if self.places.crop_size:
            flat = F.interpolate(flat, size=self.places.crop_size, mode="trilinear")
        kept = self._kept(seeds, crops.shape[1]).to(crops.device)
        embedded, labels, kept = (
            self._embedded(self.encoder, self.projector, flat, crops.shape[:2]),
            self._all(labels),
            self._all(kept),
        )
        embedded = embedded * kept[..., None]
        if self.teacher is None or self.momentum is None:
            return embedded, similarity(embedded[:, : self.targets], embedded[:, self.targets :].detach()), labels
        if self.training:
            update(self.teacher, nn.ModuleList([self.encoder, self.projector]), self.momentum)
        with torch.no_grad():
            taught = self._embedded(self.teacher[0], self.teacher[1], flat, crops.shape[:2])
        return embedded, both_ways(embedded, taught, self.targets), labels

    def _embedded(self, encoder: nn.Module, projector: nn.Module, crops: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
        pooled = torch.cat([_exact(feature).mean((2, 3, 4)) for feature in encoder(crops)], dim=1)
        pooled = self._all(pooled.unflatten(0, tuple(shape)))
        return projector(pooled.flatten(0, 1)).unflatten(0, pooled.shape[:2])

    def _kept(self, seeds: Sequence[int] | torch.Tensor, crops: int) -> torch.Tensor:
        """0 for embeddings that are dropped, else 1 (b crops)."""
        if not (self.terms.drop and self.training):
            return torch.ones(len(seeds), crops)
        return torch.stack([kept(generator(seed, "voco drop"), crops, self.terms.drop) for seed in as_ints(seeds)])

    def _all(self, x: torch.Tensor) -> torch.Tensor:
        """In training, the samples of all processes; a validation batch is complete in its process."""
        return distributed.gathered(x) if self.training else x


def _exact(x: torch.Tensor) -> torch.Tensor:
    """float32, or float64 as it is."""
    return x if x.dtype == torch.float64 else x.float()


def overlaps(starts: np.ndarray, crop: Sequence[int], grid: Sequence[int]) -> np.ndarray:
    """Share of each window that lies in each base crop, (n bases), bases in C order of the grid.

    A row is less than 1 in sum where a window reaches over the grid.

    Args:
        starts: first voxels (n, 3) of windows of the size of a crop.
        crop: voxels of a crop.
        grid: base crops along each axis.
    """
    shares = [
        np.clip(1 - np.abs(starts[:, axis, None] - n * np.arange(parts)) / n, 0, None)
        for axis, (n, parts) in enumerate(zip(crop, grid, strict=True))
    ]
    return np.einsum("ni,nj,nk->nijk", *shares).reshape(len(starts), -1)


def similarity(targets: torch.Tensor, bases: torch.Tensor) -> torch.Tensor:
    """Cosine of each target (b t f) and each base (b m f) of a patch, negative ones as 0: (b t m), never in 16 bits."""
    with torch.autocast(targets.device.type, enabled=False):
        return F.relu(F.normalize(targets, dim=-1) @ F.normalize(bases, dim=-1).transpose(1, 2))


def both_ways(student: torch.Tensor, teacher: torch.Tensor, targets: int) -> torch.Tensor:
    """Mean similarity of the student's targets to the teacher's bases, and of the teacher's targets to the student's bases."""
    first = similarity(student[:, :targets], teacher[:, targets:])
    return (first + similarity(teacher[:, :targets], student[:, targets:])) / 2


def prediction(similarity: torch.Tensor, labels: torch.Tensor, average: str, negative: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss of bases that a target overlaps, -log(1 - |y - s|) weighted by the overlap y, and of those that it does not touch."""
    apart = labels == 0
    close = -(1 - (labels - similarity).abs() + 1e-6).log() * labels
    far = (similarity.square() if negative == "square" else -(1 - similarity + 1e-6).log()) * apart
    axes = (1, 2) if average == "image" else (0, 1, 2)
    found = [
        (part.sum(axes) / weight.sum(axes).clamp(min=1e-12)).mean()
        for part, weight in ((close, labels), (far, apart.to(labels.dtype)))
    ]
    return found[0], found[1]


def likeness(bases: torch.Tensor, square: bool, first_only: bool) -> torch.Tensor:
    """Mean similarity of two different base crops (b m f) of a patch, or of its square.

    Args:
        first_only: the gradient goes through the first of each pair alone, as in the original.
    """
    found = similarity(bases, bases.detach() if first_only else bases)
    other = ~torch.eye(bases.shape[1], dtype=torch.bool, device=bases.device)
    return (found.square() if square else found)[:, other].mean()


@torch.no_grad()
def update(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher = momentum * teacher + (1 - momentum) * student, parameters alone."""
    for own, new in zip(teacher.parameters(), student.parameters(), strict=True):
        own.mul_(momentum).add_(new.detach(), alpha=1 - momentum)


def kept(rng: np.random.Generator, crops: int, drop: float) -> torch.Tensor:
    """0 with the probability `drop`, else 1 / (1 - drop), for each embedding as a whole."""
    return torch.from_numpy((rng.random(crops) >= drop) / (1 - drop)).float()


def spread(embedded: torch.Tensor) -> torch.Tensor:
    """1 - |mean of the normalised embeddings|^2: 0 when all crops have one embedding, near 1 when they point everywhere."""
    directions = F.normalize(embedded.flatten(0, 1), dim=1)
    return 1 - directions.mean(0).square().sum()
