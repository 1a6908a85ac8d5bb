"""Rules by which a network sees stored intensities: as they are (`unit`), as z-scores of each volume, or as nnU-Net scales CT.

Shards are the same for all rules. A rule gives for each channel (lower, upper, mean, deviation), and the network sees
(clip(x, lower, upper) - mean) / deviation. Padding has the stored value 0 and is scaled with the image, so outside of a volume
there is the value of its background, in training as in prediction.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from brainpretrain.errors import UserError
from brainpretrain.files import read_json

if TYPE_CHECKING:
    import torch

UNIT, ZSCORE, CT = "unit", "zscore", "ct"
QUANTILES = (0.005, 0.995)  # nnU-Net's for CT
_IMAGE = ".b2nd"


@dataclass(frozen=True)
class Rule:
    """A rule of a recipe.

    Attributes:
        name: `unit`, `zscore` or `ct`.
        fixed: with `ct`, (lower, upper, mean, deviation) of each channel, which are the same for all volumes.
    """

    name: str = UNIT
    fixed: tuple[tuple[float, ...], ...] = ()

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> Rule:
        """The rule of an encoder or of a model, from its JSON."""
        name = facts.get("intensity") or facts.get("recipe", {}).get("intensity") or UNIT
        return cls(name, tuple(map(tuple, facts.get("intensity_scale", ()))))

    def of_rows(self, rows: Sequence[Mapping[str, Any]], folder: Path) -> np.ndarray | None:
        """The scale (channels 4), float32, of stored volumes; None where intensities stay as they are.

        Args:
            rows: of a table of stored volumes, one per channel, or of a corpus, which lacks the moments: then the record of
                the volume is read.
            folder: that `file` of a row is relative to.

        Raises:
            UserError: mean or deviation are missing, or there is no contrast.
        """
        if self.name == ZSCORE:
            return self.of_moments([_moments(row, folder) for row in rows])
        return np.array(self.fixed, np.float32) if self.name == CT else None

    def of_moments(self, moments: Sequence[tuple[Any, Any]]) -> np.ndarray | None:
        """As `of_rows`, from mean and deviation of each channel, which are rounded as in tables."""
        if self.name == ZSCORE:
            return np.array([(0, 1, rounded(mean), rounded(std)) for mean, std in moments], np.float32)
        return np.array(self.fixed, np.float32) if self.name == CT else None


def rounded(number: Any) -> float:
    """A mean or a deviation as tables have it, with six digits."""
    return float(f"{float(number):.6g}")


def apply(image: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """What a network sees of stored intensities.

    Args:
        image: (... c x y z).
        scale: (c 4) on the same device, or None.
    """
    if scale is None:
        return image
    lower, upper, mean, deviation = (scale[:, number].view(-1, 1, 1, 1) for number in range(4))
    return (image.float().clamp(lower, upper) - mean) / deviation


def undo(image: torch.Tensor, scale: torch.Tensor | None) -> torch.Tensor:
    """The stored intensities of what a network sees or gives, (... c x y z), for people."""
    return image if scale is None else image * scale[:, 3].view(-1, 1, 1, 1) + scale[:, 2].view(-1, 1, 1, 1)


def of_foreground(images: Iterable[tuple[np.ndarray, np.ndarray]], where: str) -> tuple[tuple[float, ...], ...]:
    """The scale of nnU-Net's rule for CT: percentiles 0.5 and 99.5, mean and deviation of the labelled voxels of all cases.

    Args:
        images: per case the stored image (c x y z) and where it is foreground, bool (x y z).
        where: for the message.

    Returns:
        (lower, upper, mean, deviation) per channel, rounded to six digits.

    Raises:
        UserError: the foreground has no voxel or no contrast.
    """
    parts = [image[:, foreground].astype(np.float32) for image, foreground in images]
    values = np.concatenate(parts, axis=1) if parts else np.zeros((1, 0), np.float32)
    if not values.shape[1]:
        raise UserError("no training case has a labelled voxel", where=where, fix="use 'intensity: zscore', which needs no label")
    scale = []
    for channel in values:
        lower, upper = np.quantile(channel, QUANTILES)
        scale.append(tuple(map(rounded, (lower, upper, channel.mean(dtype=np.float64), channel.std(dtype=np.float64)))))
    if any(channel[3] <= 0 for channel in scale):
        raise UserError("all labelled voxels have one intensity", where=where, fix="use 'intensity: zscore'")
    return tuple(scale)


def _moments(row: Mapping[str, Any], folder: Path) -> tuple[float, float]:
    """Mean and deviation of a stored volume, from its row or from its record."""
    found, path = row, Path(folder) / row["file"]
    if "mean" not in row:
        path = path.with_name(path.name.removesuffix(_IMAGE) + ".json")
        content = read_json(path)
        found = content.get("record", {}) if isinstance(content, dict) else {}
        found = found if found.get("checksum") == row["checksum"] else {}  # of the volume that the corpus means
    try:
        mean, std = float(found["mean"]), float(found["std"])
    except (KeyError, TypeError, ValueError):
        mean, std = math.nan, math.nan
    if not (math.isfinite(mean) and std > 0):
        raise UserError(
            "its mean and deviation are not on record, which 'intensity: zscore' needs",
            where=path,
            fix=f"brainpretrain repair {shlex.quote(str(path.parent.parent))}, or use 'intensity: unit'",
        )
    return mean, std
