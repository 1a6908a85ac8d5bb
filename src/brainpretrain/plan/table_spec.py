"""What defines one table of results: its rows, columns, folds and baseline, with every name resolved.

The plan makes it from an entry of `config/tables.yaml`, rules pass it to commands as JSON, and everything in `report` takes it.
It shapes the results of the jobs that get it: a new key with a value in every table makes all tables again.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from brainpretrain.config.explaining import validate
from brainpretrain.config.sections import Bootstrap, MetricName

EXTERNAL = "external"  # backbone and recipe of an arm that another program made; no entry of the config may have the name


class _Part(BaseModel):
    """Base of the parts of a table: immutable, and unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, coerce_numbers_to_str=True)


class Degraded(_Part):
    """How a cohort was made worse: the cohort whose cases it has, and kind and strength (`config.sections.Degradation`)."""

    of: str
    kind: str
    strength: float | None = None
    sequence: str | None = None


class ColumnSpec(_Part):
    """A column: the results of one task in one cohort. `cohort` may also be a part of a cohort, such as `ood_seen`."""

    title: str
    task: str
    cohort: str
    degraded: Degraded | None = Field(None, exclude_if=lambda degraded: degraded is None)
    kfold: int | None = Field(
        None, exclude_if=lambda k: k is None, description="number of parts, if the folds of the task are a cross-validation"
    )


class RowSpec(_Part):
    """A row: what the fine-tunings in all its cells have in common. `title` is what readers see."""

    title: str
    backbone: str
    init: str = Field(
        description="scratch, <pretext>-on-<corpus>, a release of `weights`, <init>--<recipe>--n<n_train> of an arm before it, or"
        " the name of another program"
    )
    recipe: str
    n_train: str = Field(description="number of labelled training subjects, or 'all'")
    against: tuple[str, str, str, str] | None = Field(
        None, exclude_if=lambda arm: arm is None, description="the arm that this row is compared with, if the row names one"
    )

    besides: tuple[str, ...] = Field(
        (), exclude_if=lambda words: not words, description="what the row differs in from its baseline besides the encoder"
    )
    watched: str = Field("", exclude_if=lambda words: not words, description="how its trainings are validated, in words")

    @property
    def arm(self) -> tuple[str, str, str, str]:
        """(backbone, init, recipe, n_train): what identifies the arm in tables of scores."""
        return self.backbone, self.init, self.recipe, self.n_train

    @property
    def external(self) -> bool:
        """True for segmentations of another program: one fixed predictor, of which this study draws and trains nothing."""
        return self.backbone == EXTERNAL

    @property
    def corpus(self) -> str:
        """The corpus on which the initial encoder was pretrained in this study, or ''."""
        return self.start.partition("-on-")[2]

    @property
    def start(self) -> str:
        """The init without the fine-tunings that came before: scratch, <pretext>-on-<corpus>, or a release."""
        return self.init.partition("--")[0]


class PublishedCell(_Part):
    """A published mean and, if the publication has it, SD, in printed units (Dice x 100), for the cell of a row and column."""

    backbone: str
    init: str
    n_train: str
    recipe: str | None = Field(None, exclude_if=lambda recipe: recipe is None, description="null: the rows of any recipe")
    column: str = Field(description="title of the column")
    value: float
    sd: float | None
    differs: str = Field(description="how the row of this study differs from the published protocol; '' if it does not")


class PublishedHours(_Part):
    """Published hours of the pretraining of a row."""

    backbone: str
    init: str
    value: float


class PublishedTrainingHours(_Part):
    """Published hours of the fine-tuning of a row, for a column of the table."""

    backbone: str
    init: str
    recipe: str
    n_train: str
    column: str
    value: float


class PublishedValues(_Part):
    """The published values of a table's cells, with their source and notes for readers."""

    source: str
    notes: tuple[str, ...]
    cells: tuple[PublishedCell, ...]
    hours: tuple[PublishedHours, ...] = Field((), exclude_if=lambda hours: not hours)
    training_hours: tuple[PublishedTrainingHours, ...] = Field((), exclude_if=lambda hours: not hours)


class TableSpec(_Part):
    """A table of results: a cell for each row and column, and its score is the mean over the folds.

    Attributes:
        name: of the entry in `config/tables.yaml`; files are named after it.
        title: what readers see.
        folds: numbers of the folds that a complete cell needs.
        columns, rows: in the order in which they are printed.
        baseline: the init with which the other rows are compared.
        metric: a column of scores.tsv.
        seeds: of the trainings of each fold; empty if there is one training, with the seed of the study.
        margin: the largest difference that counts as equivalent, in printed units; None if the study states none.
        disjoint: True if the folds share no training case.
        probe: True if the encoders are frozen and read out linearly.
        free: True if the study compares arms by no protocol (`protocol: free`).
        hours: a further column shows the hours of each row's pretraining.
        training_hours: a further column for each column shows the device hours of fine-tuning.
        published: None if nothing is published for this table and metric.
        bootstrap: resamples, confidence and seed of intervals and ranks.
    """

    name: str
    title: str
    folds: tuple[int, ...]
    columns: tuple[ColumnSpec, ...]
    rows: tuple[RowSpec, ...]
    baseline: str
    metric: MetricName = "dice"
    seeds: tuple[int, ...] = Field((), exclude_if=lambda seeds: not seeds)
    margin: float | None = Field(None, exclude_if=lambda margin: margin is None)
    disjoint: bool = Field(False, exclude_if=lambda disjoint: not disjoint)
    probe: bool = Field(False, exclude_if=lambda probe: not probe)
    free: bool = Field(False, exclude_if=lambda free: not free)
    hours: bool = Field(False, exclude_if=lambda hours: not hours)
    training_hours: bool = Field(False, exclude_if=lambda hours: not hours)
    published: PublishedValues | None = None
    bootstrap: Bootstrap

    @classmethod
    def read(cls, content: Mapping[str, Any], where: str = "--spec") -> TableSpec:
        """The table that `content` (parsed JSON or YAML) describes.

        Raises:
            UserError: a key is unknown or missing, or a value has the wrong type.
        """
        return validate(cls, content, where)

    @property
    def fold_names(self) -> list[str]:
        """The trainings of an arm as they are written in tables of scores: fold by fold, and within a fold seed by seed."""
        return [fold_name(fold, seed) for fold, seed in self.trainings]

    @property
    def trainings(self) -> list[tuple[int, int | None]]:
        """Fold and seed of each training of an arm, in this order; the seed is None if the study has one for all."""
        return list(itertools.product(self.folds, self.seeds or (None,)))

    def baseline_of(self, row: RowSpec) -> RowSpec | None:
        """The row with which `row` is compared: the one that it names, or init `baseline`, the same backbone and n_train.

        Among several it is the one with the same recipe, else the first, since both arms may have a recipe of their own.
        None for a baseline itself, and if the table has no such row.
        """
        if row.against:
            return next(other for other in self.rows if other.arm == row.against)
        if row.init == self.baseline:
            return None
        baselines = [
            other
            for other in self.rows
            if (other.init, other.backbone, other.n_train) == (self.baseline, row.backbone, row.n_train)
        ]
        return next((other for other in baselines if other.recipe == row.recipe), baselines[0] if baselines else None)

    def has_budgets(self) -> bool:
        """True if an arm has more than one n_train, so that its score can be drawn over the number of labelled subjects."""
        return len({row.arm[:3] for row in self.rows}) < len({row.arm for row in self.rows})

    def has_degraded(self) -> bool:
        """True if a column is of a degraded cohort, so that the scores can be drawn over the strength."""
        return any(column.degraded for column in self.columns)

    def with_metric(self, metric: str) -> TableSpec:
        """The same table of another metric, without published values and margin, which hold for one metric alone."""
        return self.model_copy(update={"metric": metric, "published": None, "margin": None})


def fold_name(fold: int, seed: int | None = None) -> str:
    """A fold, or the training with one seed in it, as paths and tables of scores write it: '0', '0-seed2'."""
    return str(fold) if seed is None else f"{fold}-seed{seed}"


def read_fold_name(name: str) -> tuple[int, int | None]:
    """Fold and seed of a `fold_name`."""
    fold, _, seed = name.partition("-seed")
    return int(fold), int(seed) if seed else None
