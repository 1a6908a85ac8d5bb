"""The models of all entries of `config/*.yaml`. Unknown keys are refused."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from brainpretrain.augment.config import PolicyConfig

NAME = r"^[a-z0-9][a-z0-9_]*$"
Name = Annotated[str, Field(pattern=NAME)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Label = Annotated[int, Field(ge=1, le=65535)]
Size3 = Annotated[list[Count], Field(min_length=3, max_length=3)]
NTrain = Count | Literal["all"]


def check_n_train(value: Any) -> Any:
    """One message for a bad number of training cases; pydantic would give one for each type of the union."""
    for number in value if isinstance(value, list) else [value]:
        if number not in (None, "all") and not (str(number).isdigit() and int(number) > 0):
            raise ValueError("a number from 1, or 'all'")
    return value


class Section(BaseModel):
    """Base of every entry: unknown keys are refused, `note` is free text that changes nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    note: str = Field("", exclude=True)

    @model_validator(mode="before")
    @classmethod
    def _no_switch_for_a_number(cls, content: Any) -> Any:
        """YAML reads `yes` as true, which would count as 1."""
        for key, value in content.items() if isinstance(content, dict) else ():
            if isinstance(value, bool) and key in cls.model_fields and cls.model_fields[key].annotation is not bool:
                raise ValueError(f"'{key}' cannot be true or false (YAML reads yes, no, on and off as these)")
        return content


class Dataset(Section):
    """A data set with options: one that the project makes itself, or the user's own (`datasets/<module>.py`)."""

    module: Name = Field(description="a module of datasets/; `bids`, `nnunet` and `csv` describe data of your own")
    options: dict[str, Any] = Field({}, description="arguments of the module's `generate` or `describe`")


class PreprocessRecipe(Section):
    """Raw volume to stored array (AMAES section 2, Appendix A)."""

    spacing_mm: Annotated[list[Positive], Field(min_length=3, max_length=3)]
    upper_quantile: Annotated[float, Field(gt=0, le=1)]
    crop: Literal["nonzero", "none"]
    antialias: bool
    min_size: Count
    allow_negative: bool
    max_voxels: Count
    spacing_range_mm: Annotated[list[Positive], Field(min_length=2, max_length=2)]
    revision: int = 1


class Preprocess(PreprocessRecipe):
    """A recipe, and the share of a data set's volumes that it may reject."""

    max_rejected_fraction: Share


class Source(Section):
    """The volumes that one data set contributes to a corpus."""

    dataset: Name
    sequences: list[str] = []
    subsets: list[str] = []
    pool_of: Name | None = Field(None, description="only subjects of this task's pool: its fixed test set stays out")
    exclude: list[str] = Field([], description="subjects to leave out, such as those that the audit found in a scored cohort")


class Corpus(Section):
    """The volumes of a pretraining: their sources, and the recipe that they are stored with."""

    sources: Annotated[list[Source], Field(min_length=1)]
    preprocess: Name
    val_fraction: Annotated[float, Field(ge=0, lt=1)]
    subjects: Count | Annotated[float, Field(gt=0, lt=1)] | None = Field(
        None,
        exclude_if=lambda subjects: subjects is None,  # the field came later; written out, it would run finished trainings again
        description="number or share of the subjects that train; draws are nested, and the validation subjects stay the same",
    )
    protocol: Literal["strict", "amaes"] = Field(
        description="strict: it is an error if the corpus holds a subject of an evaluated cohort, by name or by image; "
        "amaes: as published, such subjects are counted, and the tables mark the arm as transductive"
    )

    @property
    def datasets(self) -> list[str]:
        """Data sets that contribute volumes."""
        return sorted({source.dataset for source in self.sources})

    @property
    def pools(self) -> list[str]:
        """Tasks to whose pool a source is limited."""
        return sorted({source.pool_of for source in self.sources if source.pool_of})


class Split(Section):
    """Subjects to pool and test, and the order in which a fold draws its training cases from the pool."""

    seed: Annotated[int, Field(ge=0)]
    test_fraction: Annotated[float, Field(ge=0, lt=1)]
    block: Count = Field(description="the folds of one shuffle share none of this many first subjects")
    stratify: Literal["site"] | None = Field(None, description="site: pool, test set and folds hold the sites in proportion")
    draw: Literal["hash", "shuffle"] = Field(
        "hash",
        description="hash: each subject by itself, so that added subjects move nobody between pool and test set, whose size is"
        " then near test_fraction; shuffle: scikit-learn's train_test_split, as in published splits, of exact size",
    )


class OutOfDistribution(Section):
    """A further cohort of a task, from another subset or data set: `ood`, or one of `cohorts`."""

    dataset: Name
    subsets: list[str] = []
    labels: dict[str, Annotated[list[Label], Field(min_length=1)]] | None = Field(
        None,
        exclude=True,
        description="class name to values in the label files of this cohort, with the class names of the task; null: as the task",
    )
    ignore: list[Label] | None = Field(None, exclude=True, description="values that are not scored; null: as the task")
    by_site: bool = Field(
        False, exclude=True, description="also report sites seen and not seen in training separately (table <table>_sites)"
    )


# names that a cohort cannot have: those of the other cohorts, and those of keys and files next to its list of subjects
_TAKEN = ("train", "val", "test", "ood", "pool", "dataset", "subjects")
_TAKEN_FORM = re.compile(r"fold\d+|.*_(seen|unseen)")  # splits of folds; parts of a cohort in a table by site


class Segmentation(Section):
    """Input and output of a segmentation network: its sequences and its classes."""

    sequences: Annotated[list[str], Field(min_length=1)]
    labels: dict[str, Annotated[list[Label], Field(min_length=1)]] = Field(
        min_length=1, description="class name to the values of the label file; order is the class order; the rest is background"
    )
    ignore: list[Label] = Field([], description="label values that neither train nor score")
    left_right: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = Field(
        [],
        exclude_if=lambda pairs: not pairs,  # the field came later
        description="pairs of class names that change places where an image is mirrored along x: [left name, right name]",
    )

    @model_validator(mode="after")
    def _sides_are_labels(self) -> Segmentation:
        names = [name for pair in self.left_right for name in pair]
        if unknown := [name for name in names if name not in self.labels]:
            raise ValueError(f"'left_right' lists names that are not in 'labels': {', '.join(unknown)}")
        if len(set(names)) < len(names):
            raise ValueError("a class occurs twice in 'left_right'")
        return self

    @model_validator(mode="after")
    def _each_value_once(self) -> Segmentation:
        values = [value for group in (*self.labels.values(), self.ignore) for value in group]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise ValueError(f"label values occur twice in 'labels' and 'ignore': {twice}")
        return self


class Task(Segmentation):
    """A segmentation task: one data set, the network's input and output, and how its segmentations are scored."""

    dataset: Name
    subsets: list[str] = []
    nsd_tolerance_mm: Positive = Field(description="surfaces this far apart still agree (docs/evaluation.md: how to choose)")
    lesions: list[str] = Field([], description="names of the labels whose connected components are lesions, to be counted")
    empty_masks: Literal["nan", "one"] = Field(
        "nan", description="scores where neither reference nor prediction holds a label: left out of means (nan), or right (one)"
    )
    hd95_missed_mm: Positive | None = Field(
        None, description="HD95 where only one of reference and prediction holds a label; null leaves it out of means"
    )
    preprocess: Name
    split: Split
    ood: OutOfDistribution | None = None
    cohorts: dict[Name, OutOfDistribution] = Field({}, description="further cohorts like `ood`, by name; columns name them")

    @property
    def others(self) -> dict[str, OutOfDistribution]:
        """The cohorts from other subsets or data sets, by name: `ood` and those of `cohorts`."""
        return ({"ood": self.ood} if self.ood else {}) | self.cohorts

    def dataset_of(self, cohort: str) -> str:
        """The data set of a cohort."""
        return self.others[cohort].dataset if cohort in self.others else self.dataset

    def subsets_of(self, cohort: str) -> list[str]:
        """The subsets that a cohort is taken from; all if empty."""
        return self.others[cohort].subsets if cohort in self.others else self.subsets

    def reference_of(self, cohort: str) -> dict[str, Any]:
        """`labels` and `ignore` of the label files of a cohort, where they differ from those of the task; else empty."""
        other = self.others.get(cohort)
        if other is None or (other.labels is None and other.ignore is None):
            return {}
        labels = self.labels if other.labels is None else {name: other.labels[name] for name in self.labels}
        return {"labels": labels, "ignore": self.ignore if other.ignore is None else other.ignore}

    def key_of(self, cohort: str) -> str:
        """The key of the entry of one of `others`."""
        return cohort if cohort == "ood" else f"cohorts.{cohort}"

    @model_validator(mode="after")
    def _names_of_cohorts(self) -> Task:
        for name in self.cohorts:
            if name in _TAKEN or _TAKEN_FORM.fullmatch(name):
                hint = "give it as 'ood: {...}' next to 'cohorts'" if name == "ood" else "choose another name, such as 'site_b'"
                raise ValueError(f"cohorts.{name}: the name '{name}' is taken; {hint}")
        return self

    @model_validator(mode="after")
    def _one_name_per_class(self) -> Task:
        for cohort, other in self.others.items():
            key = self.key_of(cohort)
            if other.labels is not None and set(other.labels) != set(self.labels):
                raise ValueError(f"'{key}' needs labels with the class names of the task: {', '.join(self.labels)}")
            if reference := self.reference_of(cohort):
                values = [value for group in (*reference["labels"].values(), reference["ignore"]) for value in group]
                if twice := sorted({value for value in values if values.count(value) > 1}):
                    raise ValueError(f"label values occur twice in 'labels' and 'ignore' of '{key}': {twice}")
        return self

    @model_validator(mode="after")
    def _lesions_are_labels(self) -> Task:
        if unknown := [name for name in self.lesions if name not in self.labels]:
            raise ValueError(f"'lesions' lists names that are not in 'labels': {', '.join(unknown)}")
        return self


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


class FinetuneRecipe(Training):
    """How a segmentation network is trained."""

    loss: Loss
    stem: Literal["divide", "repeat"] = Field(
        "divide",
        exclude_if=lambda stem: stem == "divide",  # the field came later, and written out it would run finished trainings again
        description="how a stem pretrained on one channel is repeated over n: divided by n, or as it is",
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

    @model_validator(mode="after")
    def _in_steps(self) -> FinetuneRecipe:
        if any(phase.epochs or phase.warmup_epochs for phase in self.phases):
            raise ValueError("phases of a fine-tuning are given in steps: its few cases are drawn without end")
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
    def _a_choice(self) -> Finetune:
        if len(set(self.lr_grid)) < len(self.lr_grid) or len(self.lr_grid) == 1:
            raise ValueError("'lr_grid' needs at least two different learning rates")
        return self

    @model_validator(mode="after")
    def _options_of_a_decoder(self) -> Finetune:
        if self.decoder_options and not self.decoder:
            raise ValueError("'decoder_options' goes with 'decoder'; the backbone's entry has the options of its own decoder")
        return self


class ReleasedFile(Section):
    """One file of a release; a checksum is None if none is on record."""

    file: Annotated[str, Field(pattern=r"^[\w.-]+$")]
    url: str
    bytes: Count | None = None
    md5: str | None = None
    sha256: str | None = None


class Release(Section):
    """Encoders that others have published, a file per backbone. Its name is an `init`."""

    page: str
    licence: str | None = Field(description="null if it is not known")
    citation: str
    corpus: str = Field(description="what they were pretrained on, in words")
    preprocess: Name
    patch_size: Size3
    files: dict[Name, ReleasedFile] = Field(min_length=1, description="by backbone")


class Column(Section):
    """A task and the cohort to score; `val` is the pool without the training cases of the fold."""

    title: str
    task: Name
    cohort: Name = Field(description="val, test, ood, or one of the task's `cohorts`")


class Row(Section):
    """One row, or several: a list in any field multiplies."""

    title: str = ""
    backbone: Name | list[Name]
    init: Name | list[Name] = Field("scratch", description="scratch, a pretext, or a release of `weights`")
    n_train: Annotated[NTrain | list[NTrain] | None, BeforeValidator(check_n_train)] = None
    recipe: Name | list[Name] | None = None
    corpus: Name | None = None
    baseline: str | None = Field(
        None, description="title of the row to compare with, of the same backbone and n_train; null: from scratch"
    )


MetricName = Literal["dice", "nsd", "hd95_mm", "volume_error", "lesion_f1", "dice_with_background"]


class PublishedRow(Section):
    """Published values of one arm: by column title, the value and, if known, its SD, as printed (Dice x 100)."""

    backbone: Name
    init: Name | list[Name] = Field("scratch", description="as in a row; the values are shown for each of several")
    n_train: Annotated[NTrain | None, BeforeValidator(check_n_train)] = Field(None, description="null: as in the publication")
    cells: dict[str, Annotated[list[float], Field(min_length=1, max_length=2)]]
    hours: Positive | None = Field(None, description="published hours of the pretraining, for a table with 'hours'")


class Published(Section):
    """Published values of a table's cells, and the protocol behind them, so that the table can mark differences."""

    source: str
    corpus: Name
    recipe: Name
    n_train: Annotated[NTrain, BeforeValidator(check_n_train)]
    folds: Count
    metric: MetricName = Field("dice", description="a table of another metric does not show the values")
    notes: list[str] = Field([], description="what differs from the publication, misprints: shown below the table")
    rows: Annotated[list[PublishedRow], Field(min_length=1)]


class Table(Section):
    """A table of results; `corpus`, `recipe` and `n_train` are the defaults of its rows."""

    title: str
    columns: Annotated[list[Column], Field(min_length=1)]
    rows: Annotated[list[Row], Field(min_length=1)]
    corpus: Name
    recipe: Name
    n_train: Annotated[NTrain, BeforeValidator(check_n_train)]
    metric: MetricName = "dice"
    margin: Positive | None = Field(
        None, description="the largest difference that counts as equivalent, as printed (Dice x 100); stated before any result"
    )
    hours: bool = Field(False, description="a further column: hours by the clock of the pretraining of each row (AMAES Table 2)")
    published: Published | None = None


SECTIONS: dict[str, type[Section]] = {
    "datasets": Dataset,
    "preprocess": Preprocess,
    "corpora": Corpus,
    "tasks": Task,
    "backbones": Backbone,
    "augmentations": PolicyConfig,
    "pretexts": Pretext,
    "finetune": Finetune,
    "weights": Release,
    "tables": Table,
}


class Bootstrap(Section):
    """Resampling behind the intervals and ranks of the tables (docs/statistics.md) and of the label budgets."""

    resamples: Count
    confidence: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0)]


class Settings(Section):
    """`config/config.yaml`: where things are, and which study to build."""

    study: str
    data_root: str
    data_roots: dict[str, str] = {}
    mirror: str = Field("", description="a folder that is searched for archives before the network is asked")
    results: str
    bootstrap: Bootstrap
    save_every_steps: Count = Field(description="optimiser steps between two checkpoints: the most that a killed training loses")
    max_idle_attempts: Count = Field(
        description="after this many attempts in a row without a new checkpoint, a training refuses to start"
    )
    max_nonfinite_steps: Count = Field(5, description="a training ends after this many steps in a row with a loss of NaN or Inf")
    near_copy: Share = Field(
        description="correlation of fingerprints from which on two volumes count as one image (docs/cohorts.md)"
    )
    tensorboard: bool = False
    execution: list[Literal["compile", "channels_last", "checkpointing"]] = Field(
        [], description="how training computes networks (training/execution.py): changes speed and memory, not the result"
    )

    @field_validator("results")
    @classmethod
    def _no_wildcards(cls, results: str) -> str:
        if set("{}") & set(results):
            raise ValueError("braces are wildcards of the workflow there; choose a folder without { and }")
        return results


class Study(Section):
    """The head of a study file."""

    title: str
    seed: Annotated[int, Field(ge=0)]
    folds: Annotated[int, Field(ge=1, le=1000)] = Field(description="draws of training cases; three or more allow intervals")
    seeds: list[Annotated[int, Field(ge=0)]] = Field(
        [],
        description="seeds of every fine-tuning in every fold: initialisation, order of cases and augmentation; none: one"
        " training with the seed of the study",
    )
    protocol: Literal["fair"] | None = Field(
        None,
        description="fair: rows that are compared have the same augmentation, schedule and budget, a learning rate chosen from a"
        " grid, and three folds or more; anything else is refused, unless a row names its baseline. null: noted under tables",
    )
    draws: Literal["disjoint"] | None = Field(
        None,
        description="disjoint: the folds share no training case of a numbered n_train; null: by the `block` of the task's split",
    )
    build: Annotated[list[Name], Field(min_length=1)]

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed occurs twice, and would count as two trainings")
        return seeds
