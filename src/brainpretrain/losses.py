"""Losses of segmentation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def deep_dice_ce(
    logits: torch.Tensor | Sequence[torch.Tensor], label: torch.Tensor, ignored: int, *, smooth: float
) -> torch.Tensor:
    """`dice_ce` of every output of a network, finest first, weighted 1, 1/2, 1/4 ... and divided by their sum.

    A coarser output is compared with every n-th voxel of the label. Of one output it is plain `dice_ce`.
    """
    outputs = [logits] if isinstance(logits, torch.Tensor) else logits
    weights = [0.5**number for number in range(len(outputs))]
    steps = [label.shape[-1] // output.shape[-1] for output in outputs]
    terms = [
        weight * dice_ce(output, label[:, ::step, ::step, ::step], ignored, smooth=smooth)
        for weight, step, output in zip(weights, steps, outputs, strict=True)
    ]
    return torch.stack(terms).sum() / sum(weights)


def dice_ce(logits: torch.Tensor, label: torch.Tensor, ignored: int, *, smooth: float) -> torch.Tensor:
    """Soft Dice loss plus cross-entropy, 1:1 (AMAES fine-tuning).

    Dice is (2 sum(p y) + smooth) / (sum(p) + sum(y) + smooth) with softmax probabilities p, per sample and class,
    background included, and the loss takes 1 - its mean. (The authors take -mean: another constant, the same gradient.)

    Args:
        logits: (b classes x y z), any float type; the loss is computed in float32.
        label: (b x y z) integer classes.
        ignored: label value of voxels that count in neither term. Cross-entropy is the mean over the other voxels of a sample,
            then over samples, so that no sample's weight depends on the company it is trained in.
        smooth: added above and below the bar (the paper's code: 1), keeps the Dice of an absent class defined.
    """
    logits, label = logits.float(), label[:, None].long()
    counts = label != ignored
    known = label.masked_fill(~counts, 0)
    truth = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, known, True) & counts
    probability = logits.softmax(dim=1) * counts
    axes = (2, 3, 4)
    overlap = (probability * truth).sum(axes)
    dice = (2 * overlap + smooth) / (probability.sum(axes) + truth.sum(axes) + smooth)
    entropy = F.cross_entropy(logits, known[:, 0], reduction="none")[:, None] * counts
    per_sample = entropy.sum((1, 2, 3, 4)) / counts.sum((1, 2, 3, 4)).clamp(min=1)
    return 1 - dice.mean() + per_sample.mean()
