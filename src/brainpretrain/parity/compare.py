"""Comparison of tensors and of draws with the figures of a fixture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Line:
    """The worst deviation of a group of figures, and how far it may be off.

    Attributes:
        group: what was compared.
        deviation: worst difference; of draws, the worst difference in units of what chance allows.
        tolerance: largest deviation that passes.
        figures: how many were compared.
    """

    group: str
    deviation: float
    tolerance: float
    figures: int = 1

    @property
    def passes(self) -> bool:
        """False also for a deviation that is no number."""
        return self.deviation <= self.tolerance

    @property
    def drawn(self) -> bool:
        """True if the figures were drawn, so that chance may put them off."""
        return self.tolerance == CHANCE

    @property
    def name(self) -> str:
        """The group without the member of it that is worst."""
        return self.group.partition(" (worst: ")[0]


# float32 arithmetic in another order, relative to the size of the figures; fixtures have nine digits
FLOAT = 1e-5
# what chance allows is 1, see `share`, `mean` and `distribution`
CHANCE = 1.0


def figures(group: str, found: Any, expected: Any, tolerance: float = FLOAT) -> Line:
    """Numbers, or nested lists of them: the worst difference, relative to the largest expected figure above 1."""
    found, expected = (np.asarray(x, dtype=np.float64) for x in (found, expected))
    if found.shape != expected.shape:
        return Line(f"{group}: shape {list(found.shape)}, not {list(expected.shape)}", math.nan, 0)
    if not expected.size:
        return Line(f"{group}: nothing to compare", math.nan, 0)
    return Line(group, float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())), tolerance, expected.size)


def exact(group: str, found: Any, expected: Any) -> Line:
    """Integers, texts or lists of them that must be equal; counts the differences."""
    found, expected = (list(np.asarray(x).ravel()) for x in (found, expected))
    different = sum(a != b for a, b in zip(found, expected, strict=False)) + abs(len(found) - len(expected))
    return Line(group, different, 0, len(expected))


def summary(group: str, found: torch.Tensor, expected: Mapping[str, Any], tolerance: float = FLOAT) -> Line:
    """A tensor against its recorded shape, mean, standard deviation (over n - 1), first and last eight values.

    Differences are relative to the recorded standard deviation, or to 1 if that is smaller.
    """
    if list(found.shape) != list(expected["shape"]):
        return Line(f"{group}: shape {list(found.shape)}, not {expected['shape']}", math.nan, 0)
    flat = found.detach().double().flatten()
    values = {"mean": flat.mean(), "std": flat.std(), "first8": flat[:8], "last8": flat[-8:]}
    given = {name: torch.as_tensor(expected[name], dtype=torch.float64) for name in values if name in expected}
    worst = max((values[name] - tensor).abs().max().item() for name, tensor in given.items())
    return Line(group, worst / max(1.0, expected["std"]), tolerance, sum(tensor.numel() for tensor in given.values()))


# --- draws


def share(group: str, found: float, expected: float, runs: int, own_runs: int) -> Line:
    """A share of runs: 4 standard deviations of both shares are 1. A share that never or always occurs must do so here."""
    p = (expected * runs + found * own_runs) / (runs + own_runs)
    allowed = 4 * math.sqrt(p * (1 - p) * (1 / runs + 1 / own_runs))
    difference = abs(found - expected)
    return Line(group, difference / allowed if allowed else difference and math.inf, CHANCE)


def mean(group: str, found: Sequence[float] | np.ndarray, expected: Mapping[str, Any]) -> Line:
    """A mean: 4 standard errors of both are 1."""
    allowed = 4 * expected["sd"] * math.sqrt(1 / expected["n"] + 1 / len(found))
    difference = abs(float(np.mean(found)) - expected["mean"])
    return Line(f"{group}, mean", difference / allowed if allowed else difference, CHANCE)


def distribution(group: str, found: Sequence[float] | np.ndarray, expected: Mapping[str, Any]) -> list[Line]:
    """A sample against recorded mean, standard deviation, range and quantiles.

    Quantiles: at each of them, the distance of the two distribution functions, where 1.95 sqrt(1/n + 1/m) is 1 (two-sample
    Kolmogorov-Smirnov at 0.1 %). A quantile that several values share may be anywhere on the step of this sample.
    """
    found = np.asarray(found, dtype=np.float64)
    lines = [mean(group, found, expected)]
    allowed = 1.95 * math.sqrt(1 / expected["n"] + 1 / len(found))
    distances = []
    for level, value in expected.get("quantiles", {}).items():
        slack = 1e-5 * max(1.0, abs(value))  # recorded with six digits
        below, upto = (found < value - slack).mean(), (found <= value + slack).mean()
        distances.append(max(0.0, below - float(level), float(level) - upto))
    if distances:
        lines.append(Line(f"{group}, quantiles", max(distances) / allowed, CHANCE, len(distances)))
    return lines


def worst(group: str, lines: Sequence[Line]) -> Line:
    """One line for several of one tolerance: that of the worst."""
    if not lines:
        return Line(f"{group}: nothing to compare", math.nan, 0)
    line = max(lines, key=lambda line: math.inf if math.isnan(line.deviation) else line.deviation - line.tolerance)
    name = group if len(lines) == 1 else f"{group} (worst: {line.group})"
    return Line(name, line.deviation, line.tolerance, sum(line.figures for line in lines))
