"""The runs of a study and their paths, as plain data. No torch, no files read, no Snakemake.

A *pretraining* is (corpus, pretext, backbone); a *fine-tuning* is (task, backbone, init, recipe, n_train, fold);
an *evaluation* is a fine-tuning and a cohort. With `seeds` in the study, a fold has a fine-tuning for each seed.
An *init* is `scratch`, a pretraining, a release of `config/weights.yaml`, or the fine-tuning of another arm, written as
`<init>--<recipe>--n<n_train>` of that arm. Segmentations that another program made are an arm, too, of backbone `external`: it
has evaluations and no fine-tunings.
Their paths below `results/<study>/` consist of these words and nothing else, so a run can be read back from its path.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property

from brainpretrain.cohorts import DISJOINT, VALIDATION
from brainpretrain.config import Config
from brainpretrain.plan.table_spec import EXTERNAL, RowSpec, TableSpec, fold_name

SCRATCH = "scratch"
AFTER = "--"  # between init, recipe and n_train of the arm that another one goes on from; names have no hyphen


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
    def external(self) -> bool:
        """True if another program made its segmentations."""
        return self.backbone == EXTERNAL

    @property
    def before(self) -> Arm | None:
        """The arm whose fine-tuned network this one goes on from, of the same fold and seed; None if there is none."""
        if AFTER not in self.init:
            return None
        init, recipe, n_train = self.init.rsplit(AFTER, 2)
        return replace(self, init=init, recipe=recipe, n_train=n_train.removeprefix("n"))

    @property
    def chain(self) -> list[Arm]:
        """This arm and those before it, the last first."""
        return [self, *(self.before.chain if self.before else [])]

    @property
    def start(self) -> str:
        """The init of the first arm of the chain: scratch, a pretraining or a release."""
        return self.init.split(AFTER)[0]

    @property
    def next_init(self) -> str:
        """The init of an arm that goes on from this one."""
        return AFTER.join((self.init, self.recipe, f"n{self.n_train}"))

    @property
    def pretraining(self) -> Pretraining | None:
        """The pretraining that gives the initial encoder of the chain; None from scratch and from a release."""
        if "-on-" not in self.start:
            return None
        pretext, corpus = self.start.split("-on-")
        return Pretraining(corpus, pretext, self.backbone)


@dataclass(frozen=True, order=True)
class Evaluation:
    """One arm, one fold, one cohort; and one seed, if the study trains each fold with several."""

    arm: Arm
    fold: int
    cohort: str
    seed: int | None = None

    @property
    def training(self) -> str:
        """Path of the fine-tuning."""
        return f"{self.arm.path}/fold{fold_name(self.fold, self.seed)}"

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
        """Every evaluation of a fine-tuning in the tables, each once."""
        return [evaluation for evaluation in self.scored if not evaluation.arm.external]

    @cached_property
    def scored(self) -> list[Evaluation]:
        """Every evaluation of the tables, each once: of fine-tunings, and of segmentations that another program made."""
        return sorted({evaluation for table in self.tables.values() for evaluation in self.table_scored(table)})

    def table_evaluations(self, table: TableSpec) -> list[Evaluation]:
        """The evaluations of fine-tunings behind a table of `tables`, in the order of its rows."""
        return [evaluation for evaluation in self.table_scored(table) if not evaluation.arm.external]

    def table_scored(self, table: TableSpec) -> list[Evaluation]:
        """All evaluations behind a table of `tables`, in the order of its rows.

        Another program has no folds and seeds: it is scored once, except in the cohort `val`, whose cases each fold chooses.
        """
        return [
            Evaluation(Arm(column.task, *row.arm), fold, column.cohort, seed)
            for row, column in itertools.product(table.rows, table.columns)
            for fold, seed in self._trainings(table, row, column.cohort)
        ]

    @staticmethod
    def _trainings(table: TableSpec, row: RowSpec, cohort: str) -> list[tuple[int, int | None]]:
        if not row.external:
            return table.trainings
        return [(fold, None) for fold in (table.folds if cohort == "val" else table.folds[:1])]

    def tuned_at(self, arm: Arm) -> str:
        """The n_train at which the learning rate of an arm is chosen: its own; for 'all' the largest number of the same arm."""
        same = {e.arm.n_train for e in self.evaluations if replace(e.arm, n_train=arm.n_train) == arm} - {"all"}
        return arm.n_train if arm.n_train != "all" or not same else max(same, key=int)

    def candidates(self, arm: Arm, fold: int) -> list[Evaluation]:
        """The evaluations by which the learning rate of an arm is chosen in a fold, in the order of the grid, if there is one.

        With n_train 0 there are none: the choice would read labels of the target, and the rates of the phases are taken.
        """
        seed = self.config.study.seeds[0] if self.config.study.seeds else None
        grid = self.config.finetune[arm.recipe].lr_grid if arm.n_train != "0" else []
        arms = [replace(arm, recipe=f"{arm.recipe}_lr{number}", n_train=self.tuned_at(arm)) for number in range(len(grid))]
        return [Evaluation(candidate, fold, "val", seed) for candidate in arms]

    @cached_property
    def tunings(self) -> list[Evaluation]:
        """The evaluations of all candidates of all arms, each once."""
        folds = {(arm, e.fold) for e in self.evaluations for arm in e.arm.chain}
        return sorted({candidate for arm, fold in folds for candidate in self.candidates(arm, fold)})

    @cached_property
    def trainings(self) -> list[str]:
        """Paths of all fine-tunings, those of candidates and those that others go on from too."""
        return sorted({replace(e, arm=arm).training for e in [*self.evaluations, *self.tunings] for arm in e.arm.chain})

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
        return sorted({e.arm.task for e in self.scored})

    @cached_property
    def cohorts(self) -> list[tuple[str, str]]:
        """Pairs (task, cohort) that are scored."""
        return sorted({(e.arm.task, e.cohort) for e in self.scored})

    def draws(self, task: str) -> list[tuple[str, str]]:
        """Pairs (n_train, cohort) that the tables need from the split of a task; disjoint folds need a pair of their own."""
        scored = [e for e in [*self.scored, *self.tunings] if e.arm.task == task]
        pairs = {(arm.n_train, e.cohort) for e in scored for arm in e.arm.chain}
        for arm in {arm for e in [*self.evaluations, *self.tunings] if e.arm.task == task for arm in e.arm.chain}:
            pairs |= self._validated(arm)
        if self.config.study.draws == "disjoint":
            pairs.add((str(self.config.study.folds * self.block(task)), DISJOINT))
        return sorted(pairs)

    def _validated(self, arm: Arm) -> set[tuple[str, str]]:
        """The number of subjects that an arm needs for training and validation together, with `VALIDATION`."""
        rule = self.config.finetune[arm.recipe].validation
        if rule is None or (arm.n_train != "all" and rule.taken_from == "training"):
            return set()
        trained = 1 if arm.n_train == "all" else int(arm.n_train)
        return {(str(trained + rule.number(trained)), VALIDATION)}

    def block(self, task: str) -> int:
        """How many subjects lie between the starts of two folds in the shuffled pool of a task."""
        arms = [arm for e in self.evaluations if e.arm.task == task for arm in e.arm.chain]
        budgets = [int(arm.n_train) for arm in arms if arm.n_train != "all"]
        disjoint = any(budgets) and self.config.study.draws == "disjoint"
        return max(budgets) if disjoint else self.config.tasks[task].split.block or 1

    def datasets_of(self, task: str) -> list[str]:
        """The data set of a task, those of its cohorts that are scored, and its sources, if an arm trains on them."""
        entry = self.config.tasks[task]
        scored = {entry.dataset_of(cohort) for name, cohort in self.cohorts if name == task}
        return sorted({entry.dataset, *scored, *(entry.sources[number].dataset for number in self.sources_of(task))})

    def sources_of(self, task: str) -> list[int]:
        """Numbers of the sources of a task, if an arm trains on them; else none."""
        arms = {arm for e in self.evaluations if e.arm.task == task for arm in e.arm.chain}
        used = any(self.config.finetune[arm.recipe].sources != "none" for arm in arms)
        return list(range(len(self.config.tasks[task].sources))) if used else []

    @cached_property
    def with_sources(self) -> list[str]:
        """The tasks of which an arm trains on further data sets."""
        return [task for task in self.tasks if self.sources_of(task)]

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

    @cached_property
    def aligned(self) -> list[tuple[str, str]]:
        """The pairs of `preprocessed` whose recipe brings volumes onto the grid of others."""
        recipes = self.config.preprocess
        return [(dataset, name) for dataset, name in self.preprocessed if recipes[name].align or recipes[name].atlas]

    def n_shards(self, dataset: str) -> int:
        return self.config.described(dataset).n_shards

    def label_values(self, dataset: str) -> list[int]:
        """Values that a label of a data set may hold besides 0; none if they are not known."""
        description = self.config.described(dataset)
        return sorted({*description.labels, *description.ignore}) if description.labels else []
