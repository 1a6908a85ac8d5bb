"""The runs of a study and their paths, as plain data. No torch, no files read, no Snakemake.

A *pretraining* is (corpus, pretext, backbone); a *fine-tuning* is (task, backbone, init, recipe, n_train, fold);
an *evaluation* is a fine-tuning and a cohort. An *init* is `scratch`, a pretraining, or a release of `config/weights.yaml`.
Their paths below `results/<study>/` consist of these words and nothing else, so a run can be read back from its path.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

from brainpretrain.config import Config
from brainpretrain.plan.table_spec import TableSpec

SCRATCH = "scratch"


@dataclass(frozen=True, order=True)
class Pretraining:
    """One pretraining; `init` is its name as the start of a fine-tuning."""

    corpus: str
    pretext: str
    backbone: str

    @property
    def path(self) -> str:
        return f"pretrain/{self.corpus}/{self.pretext}/{self.backbone}"

    @property
    def init(self) -> str:
        return f"{self.pretext}-on-{self.corpus}"


@dataclass(frozen=True, order=True)
class Arm:
    """A row of a table for one task: everything about a fine-tuning except the fold."""

    task: str
    backbone: str
    init: str
    recipe: str
    n_train: str

    @property
    def path(self) -> str:
        return f"finetune/{self.task}/{self.backbone}/{self.init}/{self.recipe}/n{self.n_train}"

    @property
    def pretraining(self) -> Pretraining | None:
        """The pretraining that gives the initial encoder; None from scratch and from a release."""
        if "-on-" not in self.init:
            return None
        pretext, corpus = self.init.split("-on-")
        return Pretraining(corpus, pretext, self.backbone)


@dataclass(frozen=True, order=True)
class Evaluation:
    """One arm, one fold, one cohort."""

    arm: Arm
    fold: int
    cohort: str

    @property
    def training(self) -> str:
        """Path of the fine-tuning."""
        return f"{self.arm.path}/fold{self.fold}"

    @property
    def path(self) -> str:
        return f"{self.training}/{self.cohort}"


@dataclass(frozen=True)
class Plan:
    """All runs of a study. Built by `tables.make`.

    Args:
        config: of the study.
        tables: of the study, by name.
    """

    config: Config
    tables: dict[str, TableSpec]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Every evaluation of the tables, each once."""
        return sorted({evaluation for table in self.tables.values() for evaluation in self.table_evaluations(table)})

    def table_evaluations(self, table: TableSpec) -> list[Evaluation]:
        """The evaluations behind a table of `tables`, in the order of its rows."""
        return [
            Evaluation(Arm(column.task, *row.arm), fold, column.cohort)
            for row, column, fold in itertools.product(table.rows, table.columns, table.folds)
        ]

    def table_pretrainings(self, table: TableSpec) -> list[Pretraining]:
        """The pretrainings behind a table of `tables`."""
        return sorted({e.arm.pretraining for e in self.table_evaluations(table) if e.arm.pretraining})

    @cached_property
    def pretrainings(self) -> list[Pretraining]:
        return sorted({e.arm.pretraining for e in self.evaluations if e.arm.pretraining})

    @cached_property
    def corpora(self) -> list[str]:
        return sorted({p.corpus for p in self.pretrainings})

    @cached_property
    def tasks(self) -> list[str]:
        return sorted({e.arm.task for e in self.evaluations})

    @cached_property
    def cohorts(self) -> list[tuple[str, str]]:
        """Pairs (task, cohort) that are scored."""
        return sorted({(e.arm.task, e.cohort) for e in self.evaluations})

    def draws(self, task: str) -> list[tuple[str, str]]:
        """Pairs (n_train, cohort) that the tables need from the split of a task."""
        return sorted({(e.arm.n_train, e.cohort) for e in self.evaluations if e.arm.task == task})

    def datasets_of(self, task: str) -> list[str]:
        """The data set that a task trains on, and those of its cohorts that are scored."""
        entry = self.config.tasks[task]
        return sorted({entry.dataset, *(entry.dataset_of(cohort) for name, cohort in self.cohorts if name == task)})

    @cached_property
    def datasets(self) -> list[str]:
        return sorted({dataset for dataset, _ in self.preprocessed})

    @cached_property
    def preprocessed(self) -> list[tuple[str, str]]:
        """Pairs (data set, preprocess recipe) that the study reads."""
        pairs = {
            (dataset, self.config.corpora[c].preprocess) for c in self.corpora for dataset in self.config.corpora[c].datasets
        }
        pairs |= {(dataset, self.config.tasks[t].preprocess) for t in self.tasks for dataset in self.datasets_of(t)}
        return sorted(pairs)

    def n_shards(self, dataset: str) -> int:
        return self.config.described(dataset).n_shards

    def label_values(self, dataset: str) -> list[int]:
        """Values that a label of a data set may hold besides 0; none if they are not known."""
        description = self.config.described(dataset)
        return sorted({*description.labels, *description.ignore}) if description.labels else []
