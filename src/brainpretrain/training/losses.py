"""Losses of segmentation. A recipe names one of `KINDS`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def deep_weights(outputs: int, kind: str) -> list[float]:
    """Weights of the outputs of a network, finest first: 1, 1/2, 1/4 ...; they are relative to their sum.

    Args:
        outputs: their number.
        kind: `all`; `nnunet`, where the coarsest of several has weight 0; `finest`, where all but the finest have.
    """
    kept = {"all": outputs, "nnunet": max(1, outputs - 1), "finest": 1}[kind]
    return [0.5**number if number < kept else 0.0 for number in range(outputs)]


def deep(
    logits: torch.Tensor | Sequence[torch.Tensor],
    label: torch.Tensor,
    ignored: int,
    *,
    name: str,
    smooth: float,
    supervision: str = "all",
) -> torch.Tensor:
    """The loss `name` of the outputs of a network, finest first, weighted as `deep_weights` says.

    A coarser output is compared with every n-th voxel of the label. For a single output this is the plain loss. An output of
    weight 0 stays part of the computation, with a gradient of 0, since several processes expect a gradient of every parameter.
    """
    outputs = [logits] if isinstance(logits, torch.Tensor) else logits
    weights = deep_weights(len(outputs), supervision)
    steps = [label.shape[-1] // output.shape[-1] for output in outputs]
    terms = [
        weight * KINDS[name](output, label[:, ::step, ::step, ::step], ignored, smooth=smooth) if weight else _nothing(output)
        for weight, step, output in zip(weights, steps, outputs, strict=True)
    ]
    return torch.stack(terms).sum() / sum(weights)


def _nothing(output: torch.Tensor) -> torch.Tensor:
    """0, with a gradient of 0 for everything behind an output."""
    return 0 * output.float().clamp(-1, 1).sum()


def dice_ce(logits: torch.Tensor, label: torch.Tensor, ignored: int, *, smooth: float) -> torch.Tensor:
    """Soft Dice loss plus cross-entropy, 1:1 (AMAES fine-tuning).

    Dice is (2 sum(p y) + smooth) / (sum(p) + sum(y) + smooth) with softmax probabilities p, per sample and class,
    background included, and the loss takes 1 - its mean. (The authors take -mean: another constant, the same gradient.)

    Args:
        logits: (b classes x y z), any float type; the loss is computed in float32.
        label: (b x y z) integer classes.
        ignored: label value of voxels that count in neither term. Cross-entropy is the mean over the other voxels of a sample,
            then over samples, so that the weight of a sample does not depend on the others in its batch.
        smooth: added to numerator and denominator (1 in the paper's code); keeps the Dice of an absent class defined.
    """
    probability, truth, entropy = _parts(logits, label, ignored)
    overlap = (probability * truth).sum(_AXES)
    dice = (2 * overlap + smooth) / (probability.sum(_AXES) + truth.sum(_AXES) + smooth)
    return 1 - dice.mean() + entropy


def squared_dice_ce(logits: torch.Tensor, label: torch.Tensor, ignored: int, *, smooth: float) -> torch.Tensor:
    """As `dice_ce`, with Dice as 2 sum(p y) / (sum(p^2) + sum(y) + smooth) (Zhang et al., fine-tuning).

    Nothing is added to the numerator, so the Dice of a class that is not in the patch is 0 for any prediction: it adds a
    constant to the loss and nothing to its gradient.
    """
    probability, truth, entropy = _parts(logits, label, ignored)
    overlap = (probability * truth).sum(_AXES)
    dice = 2 * overlap / (probability.square().sum(_AXES) + truth.sum(_AXES) + smooth)
    return 1 - dice.mean() + entropy


KINDS = {"dice_ce": dice_ce, "squared_dice_ce": squared_dice_ce}
_AXES = (2, 3, 4)


def _parts(logits: torch.Tensor, label: torch.Tensor, ignored: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Probabilities and one-hot truth (b classes x y z), 0 where ignored, and the mean cross-entropy; see `dice_ce`."""
    logits, label = logits.float(), label[:, None].long()
    counts = label != ignored
    classes = label.masked_fill(~counts, 0)
    truth = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, classes, True) & counts
    probability = logits.softmax(dim=1) * counts
    entropy = F.cross_entropy(logits, classes[:, 0], reduction="none")[:, None] * counts
    per_sample = entropy.sum((1, 2, 3, 4)) / counts.sum((1, 2, 3, 4)).clamp(min=1)
    return probability, truth, per_sample.mean()
