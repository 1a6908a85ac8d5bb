"""Sections of networks and of their training."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from brainpretrain.config.sections.base import Count, Name, Positive, Section, Share, Size3


class Network(Section):
    """Published counts of one network: of a pretext, of a segmentation network for `classes`, or else of the encoder."""

    pretext: Name | None = None
    classes: Count | None = None
    parameters: Count
    gflop: Positive | None = Field(None, description="10^9 floating-point operations of one forward pass, 2 per multiply-add")

    @model_validator(mode="after")
    def _one_kind(self) -> Network:
        if self.pretext and self.classes:
            raise ValueError("a network has either 'pretext' or 'classes', not both")
        return self


class Encoder(Section):
    """`backbones/<architecture>.py` with its options."""

    architecture: Name
    options: dict[str, Any] = {}


class Backbone(Encoder):
    """An encoder, and the decoder used for fine-tuning, which is `decoders/<decoder>.py` with its options."""

    decoder: Name
    decoder_options: dict[str, Any] = {}
    expected: list[Network] = Field(
        [],
        exclude=True,
        description="counts of the published network (of your own: by hand); tests and the command `params` compare them",
    )


class AdamW(Section):
    """Fields as in torch.optim.AdamW."""

    name: Literal["adamw"]
    weight_decay: Annotated[float, Field(ge=0)]
    betas: Annotated[list[Share], Field(min_length=2, max_length=2)]
    eps: Positive
    amsgrad: bool


class SGD(Section):
    """Fields as in torch.optim.SGD."""

    name: Literal["sgd"]
    weight_decay: Annotated[float, Field(ge=0)]
    momentum: Share
    nesterov: bool


class Phase(Section):
    """A stretch of training with one learning-rate curve: linear warm-up from 0, then decay to 0."""

    steps: Count | None = None
    epochs: Positive | None = None
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    warmup_epochs: Annotated[float, Field(ge=0)] = 0
    lr: Positive
    decay: Literal["cosine", "poly", "constant"]
    exponent: Positive | None = Field(None, description="of the decay 'poly'")
    train: Literal["all", "all_but_stem", "decoder", "decoder_and_stem"] = Field(
        "all", description="the rest is frozen; the stem is the convolution of the encoder that reads the image"
    )

    @model_validator(mode="after")
    def _one_length(self) -> Phase:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("a phase needs either 'steps' or 'epochs'")
        if self.warmup_steps and self.warmup_epochs:
            raise ValueError("a phase takes 'warmup_steps' or 'warmup_epochs', not both")
        if self.warmup_steps > (self.steps or math.inf) or self.warmup_epochs > (self.epochs or math.inf):
            raise ValueError("the warm-up is a part of its phase and cannot be longer")
        if (self.decay == "poly") != (self.exponent is not None):
            raise ValueError("'exponent' goes with the decay 'poly', and 'poly' needs it")
        return self

    def length(self, epoch_steps: int) -> int:
        """Optimiser steps of the phase, if an epoch has `epoch_steps`."""
        return self.steps or max(1, round((self.epochs or 0) * epoch_steps))


class Training(Section):
    """Fields that pretraining and fine-tuning share."""

    patch_size: Size3
    global_batch: Count = Field(description="patches per optimiser step over all devices together")
    phases: Annotated[list[Phase], Field(min_length=1)]
    optimizer: Annotated[AdamW | SGD, Field(discriminator="name")]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]
    gradient_clip: Positive | None = None
    revision: int = 1


class PretrainRecipe(Training):
    """`pretext/<method>.py` with its options, and how it is trained."""

    method: Name
    options: dict[str, Any] = {}
    val_every_epochs: Count = 1
    intensity: Literal["unit", "zscore"] = Field(
        "unit",
        exclude_if=lambda rule: rule == "unit",  # the field came later, and written out it would run finished trainings again
        description="what the network sees: stored intensities, 0 to 1; or zscore: of each volume with mean 0 and deviation 1",
    )


class Pretext(PretrainRecipe):
    """A pretraining recipe, its augmentation policy, and what differs for some backbones."""

    augmentation: Name
    per_backbone: dict[Name, dict[str, Any]] = {}


class Inference(Section):
    """Sliding window (AMAES: constant weights, overlap 0.5, no mirroring)."""

    overlap: Annotated[float, Field(ge=0, lt=1)]
    weights: Literal["constant", "gaussian"]
    batch: Count
    mirror: list[Literal["x", "y", "z"]] = Field(
        json_schema_extra={"uniqueItems": True}, description="logits are the mean over all flips along these axes; none: []"
    )

    @model_validator(mode="after")
    def _each_axis_once(self) -> Inference:
        if len(set(self.mirror)) < len(self.mirror):
            raise ValueError("an axis occurs twice in 'mirror'")
        return self


class Loss(Section):
    """A loss of `training/losses.py`; `smooth` keeps the Dice of an absent class defined."""

    name: Literal["dice_ce", "squared_dice_ce"]
    smooth: Positive


class Validation(Section):
    """Labelled subjects on which a fine-tuning is watched: it trains on none of them, and no table scores them."""

    subjects: Count | Annotated[float, Field(gt=0, lt=1)] = Field(
        description="their number, or their share of the n_train subjects; they are the same in every arm and seed of a fold"
    )
    taken_from: Literal["training", "pool"] = Field(
        "training",
        description="training: the last of the n_train subjects of the fold, which then do not train, so that an arm costs"
        " n_train labels; pool: the subjects after them in the order of the fold, labels that come on top",
    )
    patches: Count = Field(8, description="fixed patches of each of their cases, centred on foreground, the classes in turn")
    every_steps: Count = Field(description="optimiser steps between two validations; the training ends with one")

    def number(self, n_train: int) -> int:
        """How many subjects validate beside or among `n_train`; at least one."""
        return int(self.subjects) if self.subjects >= 1 else max(1, round(self.subjects * n_train))


class FinetuneRecipe(Training):
    """How a segmentation network is trained."""

    loss: Loss
    stem: Literal["divide", "repeat", "random"] = Field(
        "divide",
        exclude_if=lambda stem: stem == "divide",  # the field came later, and written out it would run finished trainings again
        description="what becomes of a stem pretrained on one sequence where the task has n (S3D, Table 8): repeated and divided"
        " by n, repeated as it is, or a random start",
    )
    transfer: Literal["encoder", "encoder_decoder"] = Field(
        "encoder",
        exclude_if=lambda transfer: transfer == "encoder",  # as for `stem`
        description="what a pretraining initialises: its encoder, or also the decoder that it trained, but for the last layer",
    )
    deep_supervision: Literal["all", "nnunet", "finest"] = Field(
        "all",
        exclude_if=lambda kind: kind == "all",  # the field came later
        description="outputs of a decoder with several heads that train: all, weighted 1, 1/2, 1/4 ...; nnunet: the same without"
        " the coarsest; finest: the finest alone",
    )
    foreground_fraction: Share
    sources: Count | Literal["all", "none", "matched"] = Field(
        "all",
        exclude_if=lambda number: number == "all",  # the field came later
        description="for tasks with `sources`: how many subjects of each train besides the n_train of the target; matched: as"
        " many as those of the target",
    )
    mixing: Literal["proportional", "balanced"] = Field(
        "proportional",
        exclude_if=lambda mixing: mixing == "proportional",  # the field came later
        description="patches of a task with `sources`: proportional, every case of target and sources once per round; balanced,"
        " equally many of the target and of each source",
    )
    intensity: Literal["unit", "zscore", "ct"] = Field(
        "unit",
        exclude_if=lambda rule: rule == "unit",  # as for `stem`
        description="what the network sees: stored intensities, 0 to 1; zscore: of each volume with mean 0 and deviation 1; ct:"
        " nnU-Net's rule for CT, from the labelled voxels of the training cases, for a preprocess recipe with `window`",
    )
    encoder_intensity: Literal["same", "any"] = Field(
        "same",
        exclude_if=lambda which: which == "same",  # as for `stem`
        description="any: start from encoders that were pretrained under another rule of `intensity`, too",
    )
    epoch_steps: Count | None = Field(
        None,
        exclude_if=lambda steps: steps is None,  # this and the following fields came later
        description="steps of an epoch, for phases that are given in epochs; nnU-Net has 250",
    )
    validation: Validation | None = Field(None, exclude_if=lambda validation: validation is None)
    select: Literal["last", "best"] = Field(
        "last",
        exclude_if=lambda select: select == "last",
        description="weights that become the model: the last, or those of the validation with the highest pseudo-Dice",
    )
    patience: Count | None = Field(
        None,
        exclude_if=lambda patience: patience is None,
        description="the training ends early after so many validations in a row, all in its last phase, without a new best",
    )

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases, as far as no early stop ends them."""
        return sum(phase.length(self.epoch_steps or 1) for phase in self.phases)

    @model_validator(mode="after")
    def _epochs_have_a_length(self) -> FinetuneRecipe:
        in_epochs = any(phase.epochs or phase.warmup_epochs for phase in self.phases)
        if in_epochs and not self.epoch_steps:
            raise ValueError(
                "phases of a fine-tuning in epochs need 'epoch_steps', such as nnU-Net's 250: an epoch is no pass over its few"
                " cases, or the length would depend on n_train"
            )
        if self.epoch_steps and not in_epochs:
            raise ValueError("'epoch_steps' goes with phases in epochs, and these are in steps; remove it, or set it to null")
        return self

    @model_validator(mode="after")
    def _validation_can_work(self) -> FinetuneRecipe:
        if self.validation is None:
            for key, is_set in (("select: best", self.select == "best"), ("patience", self.patience)):
                if is_set:
                    raise ValueError(f"'{key}' needs a 'validation', such as {{subjects: 0.2, every_steps: 250}}")
            return self
        every = self.validation.every_steps
        if self.steps % every:
            raise ValueError(
                f"validation.every_steps {every} does not divide the {self.steps} steps of the phases, and the last weights"
                " would not be validated"
            )
        last = self.phases[-1].length(self.epoch_steps or 1)
        if self.patience and self.patience * every >= last:
            raise ValueError(
                f"a 'patience' of {self.patience} validations, {self.patience * every} steps, never ends the last phase of"
                f" {last} steps early"
            )
        return self


class Finetune(FinetuneRecipe):
    """A fine-tuning recipe, and the parts of it that the arm, prediction or the log use; `inference` is prediction's."""

    decoder: Name | None = Field(None, description="a decoder to use instead of the backbone's own, such as 'linear'")
    decoder_options: dict[str, Any] = {}
    augmentation: Name = Field(description="policy when the encoder was pretrained")
    augmentation_scratch: Name | None = Field(
        None, description="policy when training starts from scratch; null: the same as for a pretrained encoder"
    )
    lr_grid: list[Positive] = Field(
        [],
        description="peak learning rates to choose from, for each arm and fold: each is trained on the training cases and scored"
        " on the rest of the pool; none: the rates of the phases",
    )
    log_every_steps: Count
    inference: Inference

    def policy(self, scratch: bool) -> str:
        """The augmentation policy of an arm."""
        return self.augmentation_scratch or self.augmentation if scratch else self.augmentation

    @model_validator(mode="after")
    def _validations_are_logged(self) -> Finetune:
        if self.validation and self.validation.every_steps % self.log_every_steps:
            raise ValueError(
                f"validation.every_steps {self.validation.every_steps} is no multiple of log_every_steps {self.log_every_steps},"
                " and a validation is written into a row of the log"
            )
        return self

    @model_validator(mode="after")
    def _a_choice(self) -> Finetune:
        if len(set(self.lr_grid)) < len(self.lr_grid) or len(self.lr_grid) == 1:
            raise ValueError("'lr_grid' needs at least two different learning rates")
        return self

    @model_validator(mode="after")
    def _options_of_a_decoder(self) -> Finetune:
        if self.decoder_options and not self.decoder:
            raise ValueError("'decoder_options' goes with 'decoder'; the backbone's entry has the options of its own decoder")
        return self
