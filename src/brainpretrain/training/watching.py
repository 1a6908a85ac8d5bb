"""Validation during a fine-tuning: pseudo-Dice, the best weights, and the end of a training that gets no better."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from brainpretrain.config.sections import FinetuneRecipe
from brainpretrain.errors import UserError
from brainpretrain.training import checkpoints, schedule
from brainpretrain.training.history import History


def counted(logits: torch.Tensor, label: torch.Tensor, ignored: int) -> torch.Tensor:
    """True positive, false positive and false negative voxels of each class but the background: int64 (classes - 1, 3).

    Args:
        logits: (b classes x y z).
        label: (b x y z) integer classes; voxels of the value `ignored` do not count.
    """
    classes, counts = logits.shape[1], label != ignored
    pairs = label[counts].long() * classes + logits.argmax(1)[counts]
    table = torch.bincount(pairs, minlength=classes**2).reshape(classes, classes)  # truth by prediction
    hits = table.diagonal()
    return torch.stack([hits, table.sum(0) - hits, table.sum(1) - hits], dim=1)[1:]


def pseudo_dice(counts: torch.Tensor) -> list[float]:
    """nnU-Net's pseudo-Dice of each class, 2 TP / (2 TP + FP + FN) over all patches together; NaN for one that never occurs.

    Args:
        counts: what `counted` returned, summed over patches and processes.
    """
    hits, false, missed = counts.double().cpu().unbind(1)
    return (2 * hits / (2 * hits + false + missed)).tolist()


def mean_of(values: Sequence[float]) -> float:
    """Mean over the classes that are defined; NaN if none is."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


class Watch(L.Callback):
    """Adds up each validation over all processes, keeps the best weights, and ends a training that gets no better.

    A validation is better if its pseudo-Dice, the mean over classes, is higher than every one before: a tie goes to the earlier,
    and a validation with a loss that is not finite never wins. Nothing is smoothed, since the patches are always the same.
    Patience counts validations of the last phase, so that no later phase is left out.

    Args:
        recipe: with `validation`.
        classes: names of the classes, in their order.
        work: the work folder, which holds the best weights.
        history: of the training.
        stretches: the phases in steps.
        columns: text of further columns of log.csv, which this fills; `Trace` empties it after each row.
    """

    def __init__(
        self,
        recipe: FinetuneRecipe,
        classes: Sequence[str],
        work: Path,
        history: History,
        stretches: Sequence[schedule.Stretch],
        columns: dict[str, str],
    ) -> None:
        self.recipe, self.classes, self.work, self.history = recipe, list(classes), work, history
        self.last_phase, self.columns = stretches[-1].start, columns
        self.columns |= dict.fromkeys(("val_dice", *self._class_columns()), "")
        self.batches = 0  # of a validation, over all processes
        self.best: float | None = None
        self.best_step, self.misses, self.times, self.seconds = 0, 0, 0, 0.0
        self.dice: list[float] = []  # of the classes, in the last validation
        self.best_dice: list[float] = []

    def _class_columns(self) -> list[str]:
        return [f"val_dice_{name}" for name in self.classes] if len(self.classes) > 1 else []

    def state_dict(self) -> dict[str, Any]:
        names = ("best", "best_step", "best_dice", "misses", "times", "seconds", "dice")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    @property
    def is_over(self) -> bool:
        """True if patience has ended."""
        return self.recipe.patience is not None and self.misses >= self.recipe.patience

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            checkpoints.drop_later_best(self.work, trainer.global_step)
        if self.recipe.select == "best" and self.best_step:
            checkpoints.load_best(self.work, self.best_step)  # refuses damaged weights now, and not after the training
        trainer.should_stop = self.is_over  # killed after the last validation and before the results were written

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.started = time.monotonic()
        self.counts = torch.zeros(len(self.classes), 3, dtype=torch.long, device=trainer.strategy.root_device)
        self.bad = torch.zeros(1, dtype=torch.long, device=trainer.strategy.root_device)

    def on_validation_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if trainer.global_rank + batch_idx * trainer.world_size < self.batches:  # else it is the batch of another process
            self.counts += pl_module.counts
            self.bad += ~outputs["loss"].isfinite()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        counts = trainer.strategy.reduce(self.counts, reduce_op="sum")
        is_finite = not int(trainer.strategy.reduce(self.bad, reduce_op="sum"))
        self.dice = pseudo_dice(counts) if is_finite else [math.nan] * len(self.classes)
        step, mean = trainer.global_step, mean_of(self.dice)
        self.times += 1
        if mean > (-1.0 if self.best is None else self.best):  # never with NaN
            self.best, self.best_step, self.best_dice, self.misses = mean, step, self.dice, 0
            if self.recipe.select == "best" and trainer.is_global_zero:
                checkpoints.save_best(self.work, step, pl_module.network.state_dict())
        elif step > self.last_phase:
            self.misses += 1
        values = [mean, *(self.dice if len(self.classes) > 1 else [])]
        shown = ["nan" if math.isnan(value) else f"{value:.6g}" for value in values]
        self.columns |= dict(zip(self.columns, shown, strict=True))
        self.history.validated(step, None if math.isnan(mean) else round(mean, 6), self.best_step)
        self.seconds += time.monotonic() - self.started
        trainer.should_stop = trainer.should_stop or self.is_over

    def weights(self) -> dict[str, torch.Tensor] | None:
        """The weights of the best validation; None if the last ones are the model.

        Raises:
            UserError: no validation gave a number, or the weights are damaged.
        """
        if self.recipe.select == "last":
            return None
        if not self.best_step:
            raise UserError(
                "no validation gave a pseudo-Dice, so there are no best weights",
                where=self.work,
                fix="see val_dice in log.csv: no case has a class of the task, or the loss was not finite; or use 'select: last'",
            )
        return checkpoints.load_best(self.work, self.best_step)

    def summary(self, steps: int, total_steps: int) -> dict[str, Any]:
        """What run.json and model.json say of the validations of a training of `steps` steps."""
        is_best = self.recipe.select == "best"
        dice = self.best_dice if is_best else self.dice
        named = {name: _rounded(value) for name, value in zip(self.classes, dice, strict=False)}
        facts = {"select": self.recipe.select, "selected_step": self.best_step if is_best else steps}
        facts |= {"pseudo_dice": _rounded(mean_of(dice)), "pseudo_dice_by_class": named, "best_step": self.best_step}
        facts["times"] = self.times
        if self.recipe.patience:
            facts["stopped_early"] = steps < total_steps
        return facts


def _rounded(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
