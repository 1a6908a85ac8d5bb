"""The two LightningModules, pretraining and fine-tuning: a step on a batch, the optimiser, and what is frozen in which phase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning as L
import torch
from torch import nn

from brainpretrain import scales
from brainpretrain.augment.policy import Policy
from brainpretrain.backbones.base import stem
from brainpretrain.cohorts.cases import IGNORED
from brainpretrain.config.sections import SGD, AdamW, FinetuneRecipe, PretrainRecipe, Training
from brainpretrain.decoders import Segmenter
from brainpretrain.errors import UserError
from brainpretrain.training import execution, losses, schedule, watching


class Module(L.LightningModule):
    """Base of both: batches augmented on the device, phases, optimiser.

    Args:
        recipe: the recipe of the run.
        policy: how training batches are augmented.
        stretches: the phases of the recipe, in optimiser steps.
    """

    kind: str
    encoder: Any  # each kind of training has its own property
    decoders: list[nn.Module]
    val_every_epochs = 1

    def __init__(self, recipe: Training, policy: Policy, stretches: list[schedule.Stretch]) -> None:
        super().__init__()
        self.recipe, self.policy, self.stretches = recipe, policy, stretches

    @property
    def freezes(self) -> bool:
        """True if some phase freezes a part of the network."""
        return any(stretch.train != "all" for stretch in self.stretches)

    def augmented(self, batch: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Input and label of a batch; without a label, input and target. Intensity transforms change the input alone.

        Intensities are scaled first, on the device, and with them the padding, which has the stored value of the background.
        """
        images = batch["image"]
        if "scale" in batch:
            images = [scales.apply(image, scale) for image, scale in zip(images, batch["scale"], strict=True)]
        return self.policy.apply(images, batch["draws"], batch.get("label"))

    def with_progress(self, scalars: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Returns the scalars of a step, and shows the loss in the progress bar if there is one."""
        if self.trainer.progress_bar_callback:
            self.log("loss", scalars["loss"], prog_bar=True, logger=False)
        return scalars

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Seeds what a network draws by itself, such as dropout, from the samples, so that a resumed training draws the same."""
        torch.manual_seed(int(batch["seed"][0]))
        return batch

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Freezes and unfreezes parts of the encoder where a phase begins.

        Frozen parameters stay exactly as they are: they get no gradient, and optimisers skip parameters without one, including
        weight decay and momentum.
        """
        train = schedule.stretch_at(self.stretches, self.global_step).train
        self.encoder.requires_grad_(train in ("all", "all_but_stem"))
        stem(self.encoder).requires_grad_(train in ("all", "decoder_and_stem"))

    def on_train_start(self) -> None:
        """Optimiser state from a checkpoint is contiguous; fused optimisers need the layout of the parameters."""
        execution.align(self.trainer.optimizers[0])

    def configure_optimizers(self) -> Any:
        precision, clips = self.recipe.precision, self.recipe.gradient_clip is not None
        # Lightning does not clip gradients of a fused optimiser in mixed precision
        fused = precision == "32-true" or (precision == "bf16-mixed" and not clips)
        # fused SGD needs momentum buffers of all parameters or of none: those that are frozen at first have none yet
        fused &= not (self.freezes and self.recipe.optimizer.name == "sgd")
        optimizer = make_optimizer(list(self.parameters()), self.recipe.optimizer, fused)
        curve = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.stretch_at(self.stretches, step).lr_at(step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": curve, "interval": "step"}}


class Pretraining(Module):
    """A pretext task on batches of `samples.PretrainPatches`."""

    kind = "pretraining"

    def __init__(self, task: nn.Module, recipe: PretrainRecipe, policy: Policy, stretches: list[schedule.Stretch]) -> None:
        super().__init__(recipe, policy, stretches)
        self.task, self.val_every_epochs = task, recipe.val_every_epochs

    @property
    def encoder(self) -> nn.Module:
        return self.task.encoder

    @property
    def decoders(self) -> list[nn.Module]:
        return [module for name, module in self.task.named_children() if name != "encoder"]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, target = self.augmented(batch)
        return self.with_progress(self.task(image, target, batch["seed"]))

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, target = self.augmented(batch)  # the validation data set has a policy that draws nothing
        return self.task(image, target, batch["seed"])


class Finetuning(Module):
    """Supervised segmentation on batches of `samples.FinetunePatches`."""

    kind = "fine-tuning"

    def __init__(self, network: Segmenter, recipe: FinetuneRecipe, policy: Policy, stretches: list[schedule.Stretch]) -> None:
        super().__init__(recipe, policy, stretches)
        self.network, self.loss = network, recipe.loss.model_dump() | {"supervision": recipe.deep_supervision}

    @property
    def encoder(self) -> nn.Module:
        return self.network.encoder

    @property
    def decoders(self) -> list[nn.Module]:
        return [self.network.decoder]

    def training_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, label = self.augmented(batch)
        loss = losses.deep(self.network(image), label, IGNORED, **self.loss)
        return self.with_progress({"loss": loss})


class WatchedFinetuning(Finetuning):
    """A fine-tuning that is validated on batches of `samples.ValidationPatches`; `Watch` adds up its counts.

    A class of its own, since Lightning warns of a `validation_step` without validation data.
    """

    counts: torch.Tensor  # of the last validation batch, see `watching.counted`

    def validation_step(self, batch: Mapping[str, Any], batch_idx: int) -> dict[str, torch.Tensor]:
        image, label = self.augmented(batch)  # the validation data set has a policy that draws nothing
        logits = self.network(image)
        self.counts = watching.counted(logits, label, IGNORED)
        return {"loss": losses.deep(logits, label, IGNORED, **self.loss)}


def check_precision(precision: str, patch: Sequence[int], stride: int) -> None:
    """Refuses, on a CPU, a precision that CPUs compute wrongly or not at all.

    Seen with torch 2.13 (oneDNN 3.12) on a processor with bf16 instructions: gradients of 3-D convolutions over a feature
    map of 2 voxels along x are garbage, different in every run.

    Args:
        precision: `precision` of the recipe.
        patch: `patch_size` of the recipe, in voxels.
        stride: cumulative downsampling of the coarsest feature map.

    Raises:
        UserError: 16-bit floats on a CPU, or bf16 with a coarsest feature map below 3 voxels along x.
    """
    if torch.cuda.is_available() or precision == "32-true":
        return
    if precision == "16-mixed":
        fix = "use 32-true" if patch[0] // stride < 3 else "use bf16-mixed or 32-true"
        raise UserError("precision 16-mixed needs a GPU", where="recipe", fix=fix)
    if patch[0] // stride < 3:
        coarsest = f"{patch[0] // stride} voxels (patch {patch[0]}, stride {stride})"
        raise UserError(
            f"bf16 on a CPU is wrong for a coarsest feature map of {coarsest}",
            where="recipe",
            fix="use precision 32-true, a larger patch or fewer levels",
        )


def make_optimizer(parameters: list[nn.Parameter], spec: AdamW | SGD, fused: bool) -> torch.optim.Optimizer:
    """Optimiser with learning rate 1, which the schedule multiplies."""
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[spec.name]
    return kind(parameters, lr=1.0, fused=fused, **spec.model_dump(exclude={"name"}))
