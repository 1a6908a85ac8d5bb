"""Learning rates as phases: linear warm-up, then decay, one after another. Pure Python."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

        The warm-up reaches the peak exactly at its end; cosine and poly come to 0 at the end.
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


def stretches(phases: list[Mapping[str, Any]], steps_per_epoch: int) -> list[Stretch]:
    """Phases given in steps or epochs, laid end to end.

    Args:
        phases: phase entries of a recipe.
        steps_per_epoch: optimiser steps of one pass over the data (global batch, last partial batch dropped).
    """
    found: list[Stretch] = []
    for phase in phases:
        steps = phase["steps"] or max(1, round(phase["epochs"] * steps_per_epoch))
        warmup = phase["warmup_steps"] or round(phase["warmup_epochs"] * steps_per_epoch)
        start = found[-1].start + found[-1].steps if found else 0
        found.append(Stretch(start, steps, min(warmup, steps), phase["lr"], phase["decay"], phase["train"], phase["exponent"]))
    return found


def points(found: list[Stretch], per_phase: int) -> list[dict[str, Any]]:
    """The learning-rate curve as few rows: step, lr, phase (from 1) and train; between two rows of a phase it is near straight.

    Args:
        found: what `stretches` returned.
        per_phase: rows spread evenly over a phase, beside those where its curve begins, bends and ends.
    """
    rows = []
    for number, one in enumerate(found, start=1):
        last = one.steps - 1
        local = {0, min(one.warmup_steps, last), last} | {round(last * k / per_phase) for k in range(per_phase)}
        rows += [
            {"step": one.start + step, "lr": one.lr_at(one.start + step), "phase": number, "train": one.train}
            for step in sorted(local)
        ]
    return rows


def total_steps(found: list[Stretch]) -> int:
    """Optimiser steps of all phases together."""
    return found[-1].start + found[-1].steps


def stretch_at(found: list[Stretch], step: int) -> Stretch:
    """The phase that `step` falls into; steps behind the end belong to the last one."""
    return next((s for s in found if step < s.start + s.steps), found[-1])
