"""The learning rate over a training: phases one after another, each a linear warm-up and then a decay. Imports no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from brainpretrain.config.sections import Phase


@dataclass(frozen=True)
class Stretch:
    """A phase whose length is known in optimiser steps."""

    start: int
    steps: int
    warmup_steps: int
    lr: float
    decay: str
    train: str
    exponent: float | None

    def lr_at(self, step: int) -> float:
        """Learning rate of optimiser step `step` (counted from the start of training).

        The warm-up reaches the peak exactly at its end; cosine and poly reach 0 at the end of the phase.
        """
        local = step - self.start
        if local < self.warmup_steps:
            return self.lr * (local + 1) / (self.warmup_steps + 1)
        share = (local - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        share = min(share, 1.0)
        if self.decay == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * share))
        if self.decay == "poly":
            return self.lr * (1 - share) ** (self.exponent or 1)
        return self.lr


def stretches(phases: Sequence[Phase], steps_per_epoch: int) -> list[Stretch]:
    """The phases of a recipe, given in steps or epochs, end to end.

    Args:
        phases: of a recipe.
        steps_per_epoch: optimiser steps of one pass over the data (global batch, last partial batch dropped).
    """
    result: list[Stretch] = []
    start = 0
    for phase in phases:
        steps = phase.length(steps_per_epoch)
        warmup = min(phase.warmup_steps or round(phase.warmup_epochs * steps_per_epoch), steps)
        result.append(Stretch(start, steps, warmup, phase.lr, phase.decay, phase.train, phase.exponent))
        start += steps
    return result


def points(stretches: Sequence[Stretch], per_phase: int) -> list[dict[str, Any]]:
    """The learning-rate curve as few rows (step, lr, phase from 1, train), so close that straight lines can join them.

    Args:
        stretches: of a training.
        per_phase: rows spread evenly over a phase; more are added where its curve begins, bends and ends.
    """
    rows = []
    for number, stretch in enumerate(stretches, start=1):
        last = stretch.steps - 1
        local = {0, min(stretch.warmup_steps, last), last} | {round(last * k / per_phase) for k in range(per_phase)}
        rows += [
            {"step": step, "lr": stretch.lr_at(step), "phase": number, "train": stretch.train}
            for step in sorted(stretch.start + step for step in local)
        ]
    return rows


def total_steps(stretches: Sequence[Stretch]) -> int:
    """Optimiser steps of all phases together."""
    return stretches[-1].start + stretches[-1].steps


def stretch_at(stretches: Sequence[Stretch], step: int) -> Stretch:
    """The phase of a step; a step after the end belongs to the last phase."""
    return next((stretch for stretch in stretches if step < stretch.start + stretch.steps), stretches[-1])
