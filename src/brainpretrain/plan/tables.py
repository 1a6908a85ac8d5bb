"""From tables to runs to paths: what a study has to compute, as plain data. No torch, no files read, no Snakemake.

A *pretraining* is (corpus, pretext, backbone); a *fine-tuning* is (task, backbone, init, recipe, n_train, fold);
an *evaluation* is a fine-tuning and a cohort. An *init* is `scratch`, a pretraining, or a release of `config/weights.yaml`.
Their paths below `results/<study>/` are made of these words and nothing else, so the plan can be read back from a path.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from brainpretrain import backbones
from brainpretrain.config import Config
from brainpretrain.config.sections import Published, Row, Table
from brainpretrain.errors import UserError, nearest
from brainpretrain.plan.table_spec import ColumnSpec, PublishedCell, PublishedValues, RowSpec, TableSpec
from brainpretrain.sizes import check_size, ratio_range, token_grid

SCRATCH = "scratch"
RESERVED = ("data", "work", "logs", "weights")  # folders beside the studies


@dataclass(frozen=True, order=True)
class Pretraining:
    """One pretraining; `init` is how a fine-tuning that starts from it is called."""

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
    """A row of a table for one task: everything about a fine-tuning but the fold."""

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
    def path(self) -> str:
        return f"{self.arm.path}/fold{self.fold}/{self.cohort}"


@dataclass(frozen=True)
class Plan:
    """All runs of a study. Built by `make`."""

    config: Config
    tables: dict[str, TableSpec]

    @cached_property
    def evaluations(self) -> list[Evaluation]:
        """Every run that some table shows, once."""
        return sorted({evaluation for spec in self.tables.values() for evaluation in self.table_evaluations(spec)})

    def table_evaluations(self, spec: TableSpec) -> list[Evaluation]:
        """The evaluations behind a table of `tables`, in the order of its rows."""
        return [
            Evaluation(Arm(column.task, *row.arm), fold, column.cohort)
            for row, column, fold in itertools.product(spec.rows, spec.columns, spec.folds)
        ]

    @property
    def pretrainings(self) -> list[Pretraining]:
        return sorted({e.arm.pretraining for e in self.evaluations if e.arm.pretraining})

    @property
    def corpora(self) -> list[str]:
        return sorted({p.corpus for p in self.pretrainings})

    @property
    def tasks(self) -> list[str]:
        return sorted({e.arm.task for e in self.evaluations})

    def asked(self, task: str) -> list[tuple[str, str]]:
        """Pairs of n_train and cohort that some table shows of a task."""
        return sorted({(e.arm.n_train, e.cohort) for e in self.evaluations if e.arm.task == task})

    @property
    def datasets(self) -> list[str]:
        return sorted({dataset for dataset, _ in self.preprocessed})

    @property
    def preprocessed(self) -> list[tuple[str, str]]:
        """Pairs (data set, preprocess recipe) that the study reads."""
        pairs = {(s.dataset, self.config.corpora[c].preprocess) for c in self.corpora for s in self.config.corpora[c].sources}
        pairs |= {(d, self.config.tasks[t].preprocess) for t in self.tasks for d in self.task_datasets(t)}
        return sorted(pairs)

    def task_datasets(self, task: str) -> list[str]:
        """Data sets that hold the cohorts of a task."""
        spec = self.config.tasks[task]
        return sorted({spec.dataset} | ({spec.ood.dataset} if spec.ood else set()))

    def n_shards(self, dataset: str) -> int:
        return self.config.described(dataset).n_shards

    def label_values(self, dataset: str) -> list[int]:
        """Values that a label of a data set may hold beside 0; none if that is not known."""
        found = self.config.described(dataset)
        return sorted({*found.labels, *found.ignore}) if found.labels else []


def make(config: Config) -> Plan:
    """The plan of the study in `config`.

    Raises:
        UserError: a table names a task, backbone, recipe, corpus, pretext or cohort that does not exist.
    """
    if config.study_name in RESERVED:
        raise UserError(f"a study cannot be called '{config.study_name}'", where=config.settings.results, fix="rename its file")
    if twice := sorted(({SCRATCH} | set(config.pretexts)) & set(config.weights)):
        raise UserError(f"{', '.join(twice)} would be two inits", where="weights", fix="give the release another name")
    tables = {}
    for name in config.study.build:
        table = config.get("tables", name, f"study '{config.study_name}', build")
        tables[name] = _spec(config, name, table, list(_rows(config, name, table)))
    plan = Plan(config, tables)
    _check_names(plan)
    _check_sizes(plan)
    return plan


def _rows(config: Config, name: str, table: Table) -> Iterator[RowSpec]:
    """Rows of a table with its defaults filled in; lists multiplied in the order they are written."""
    seen = set()
    for row in table.rows:
        where = f"tables.{name}.rows"
        choices = [_many(row.backbone), _many(row.init), _many(row.recipe or table.recipe), _many(row.n_train or table.n_train)]
        for backbone, init, recipe, n_train in itertools.product(*choices):
            config.get("backbones", backbone, where)
            config.get("finetune", recipe, where)
            full_init = _init(config, init, backbone, row.corpus or table.corpus, where)
            title = _title(table, row, backbone, init, recipe, n_train)
            if row.corpus not in (None, table.corpus) and full_init != init:
                title += f", on {row.corpus}"
            spec = RowSpec(title=title, backbone=backbone, init=full_init, recipe=recipe, n_train=str(n_train))
            if spec.arm in seen:  # it would count twice in ranks and in corrections
                raise UserError(f"the row '{title}' stands twice", where=where, fix="keep one")
            seen.add(spec.arm)
            yield spec


def _init(config: Config, init: str, backbone: str, corpus: str, where: str) -> str:
    """The full name of an init, once everything that it names is found to exist."""
    if init == SCRATCH:
        return init
    if init in config.weights:
        config.release(init, backbone)
        return init
    if init not in config.pretexts:
        fix = nearest(init, [SCRATCH, *config.pretexts, *config.weights])
        raise UserError(f"no entry '{init}' in 'pretexts' or 'weights'", where=where, fix=fix)
    config.pretext(init, backbone)
    config.get("corpora", corpus, where)
    return Pretraining(corpus, init, backbone).init


def _title(table: Table, row: Row, backbone: str, init: str, recipe: str, n_train: int | str) -> str:
    """What a printed row is called: its title or names, and whatever a list or a departure from the table's default adds."""
    parts = [row.title] if row.title else [backbone, init]
    if row.title and isinstance(row.backbone, list):
        parts.append(backbone)
    if row.title and isinstance(row.init, list):
        parts.append(init)
    if isinstance(row.n_train, list) or n_train != table.n_train:
        parts.append(f"n={n_train}")
    if isinstance(row.recipe, list) or recipe != table.recipe:
        parts.append(recipe)
    return ", ".join(parts)


def _many(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _spec(config: Config, name: str, table: Table, rows: list[RowSpec]) -> TableSpec:
    """The table with every name resolved, once its columns are found to be possible."""
    for column in table.columns:
        task = config.get("tasks", column.task, f"tables.{name}.columns")
        if column.cohort == "ood" and task.ood is None:
            raise UserError(
                f"task '{column.task}' has no 'ood' cohort", where=f"tables.{name}.columns", fix="add 'ood:' to the task"
            )
        if column.cohort == "test" and not task.split.test_fraction:
            raise UserError(
                f"task '{column.task}' has no fixed test set",
                where=f"tables.{name}.columns",
                fix="use 'cohort: val' or a test_fraction",
            )
        if table.metric == "lesion_f1" and not task.lesions:
            raise UserError(
                f"task '{column.task}' names no lesions, so lesion_f1 is never defined",
                where=f"tables.{name}.metric",
                fix="name its 'lesions', or choose another metric",
            )
        if column.cohort == "val" and any(row.n_train == "all" for row in rows):
            raise UserError(
                f"n_train 'all' leaves no case of task '{column.task}' for the cohort 'val'",
                where=f"tables.{name}",
                fix="use 'cohort: test' and a test_fraction",
            )
    return TableSpec(
        name=name,
        title=table.title,
        folds=tuple(range(config.study.folds)),
        columns=tuple(ColumnSpec(**column.model_dump()) for column in table.columns),
        rows=tuple(rows),
        baseline=SCRATCH,
        metric=table.metric,
        published=_published(config, name, table, rows),
        bootstrap=config.settings.bootstrap,
    )


def _published(config: Config, name: str, table: Table, rows: list[RowSpec]) -> PublishedValues | None:
    """The published values of the rows of a table, a line for each cell; values of other rows or another metric are left out."""
    published, where = table.published, f"tables.{name}.published"
    if published is None or published.metric != table.metric:
        return None
    config.get("corpora", published.corpus, where)
    config.get("finetune", published.recipe, where)
    titles = [column.title for column in table.columns]
    cells = []
    for line in published.rows:
        config.get("backbones", line.backbone, where)
        for column in line.cells:
            if column not in titles:
                raise UserError(f"the table has no column '{column}'", where=where, fix=nearest(column, titles))
        for init, row in itertools.product(_many(line.init), rows):
            if init not in (SCRATCH, *config.pretexts, *config.weights):
                fix = nearest(init, [SCRATCH, *config.pretexts, *config.weights])
                raise UserError(f"no entry '{init}' in 'pretexts' or 'weights'", where=where, fix=fix)
            n_train = str(line.n_train or published.n_train)
            if (line.backbone, init, n_train) == (row.backbone, row.init.split("-on-")[0], row.n_train):
                cells += [_published_cell(config, published, row, column, numbers) for column, numbers in line.cells.items()]
    return PublishedValues(source=published.source, notes=tuple(published.notes), cells=tuple(cells))


def _published_cell(config: Config, published: Published, row: RowSpec, column: str, numbers: list[float]) -> PublishedCell:
    """A published value, and in words how the row of this study differs from the published protocol."""
    differs = [f"corpus {row.corpus}"] if row.corpus not in ("", published.corpus) else []
    differs += [f"recipe {row.recipe}"] if row.recipe != published.recipe else []
    differs += [f"{config.study.folds} instead of {published.folds} folds"] if config.study.folds != published.folds else []
    value, sd = numbers[0], numbers[1] if len(numbers) > 1 else None
    arm = {"backbone": row.backbone, "init": row.init, "n_train": row.n_train}
    return PublishedCell(**arm, column=column, value=value, sd=sd, differs=", ".join(differs))


def finetune_config(config: Config, arm: Arm, fold: int) -> dict[str, Any]:
    """What shapes a fine-tuning, and nothing else, as plain data (prediction has its own part of the recipe).

    The two arms of a comparison differ by their name, and by the policy where the recipe gives two.
    """
    recipe, task = config.finetune[arm.recipe], config.tasks[arm.task]
    policy = recipe.augmentation_scratch if arm.init == SCRATCH else recipe.augmentation
    backbone = config.backbones[arm.backbone].model_dump(mode="json")
    if recipe.decoder:
        backbone |= {"decoder": recipe.decoder, "decoder_options": recipe.decoder_options}
    elsewhere = {"inference", "augmentation", "augmentation_scratch", "log_every_steps", "decoder", "decoder_options"}
    return {
        "name": f"{arm.task}/{arm.backbone}/{arm.init}/{arm.recipe}/n{arm.n_train}/fold{fold}",
        "seed": config.study.seed,
        "fold": fold,
        "n_train": arm.n_train,
        "task": task.model_dump(mode="json", include={"sequences", "labels", "ignore"}),
        "recipe": recipe.model_dump(mode="json", exclude=elsewhere),
        "backbone": backbone,
        "policy": config.augmentations[policy].model_dump(mode="json"),
        "preprocess": config.stored_as(task.preprocess, task.dataset),
    }


def _check_names(plan: Plan) -> None:
    """Every name below the tables resolves: data sets, preprocess recipes, policies."""
    config = plan.config
    for corpus in plan.corpora:
        where = f"corpora.{corpus}"
        config.get("preprocess", config.corpora[corpus].preprocess, where)
        for source in config.corpora[corpus].sources:
            if source.pool_of:
                config.get("tasks", source.pool_of, where)
    for task in plan.tasks:
        config.get("preprocess", config.tasks[task].preprocess, f"tasks.{task}")
    for pretraining in plan.pretrainings:
        config.get("augmentations", config.pretexts[pretraining.pretext].augmentation, f"pretexts.{pretraining.pretext}")
    for recipe in {e.arm.recipe for e in plan.evaluations}:
        for policy in (config.finetune[recipe].augmentation, config.finetune[recipe].augmentation_scratch):
            config.get("augmentations", policy, f"finetune.{recipe}")
    for dataset in plan.datasets:
        plan.n_shards(dataset)


def _check_sizes(plan: Plan) -> None:
    """Every patch fits the networks that see it and the blocks of its mask, and a mask hides a possible share."""
    config = plan.config
    seen = set()
    for pretraining in plan.pretrainings:
        recipe, where = config.pretext(pretraining.pretext, pretraining.backbone), f"pretexts.{pretraining.pretext}"
        seen.add((tuple(recipe.patch_size), pretraining.backbone, where))
        if "mask_size" in recipe.options:
            token_grid(recipe.patch_size, recipe.options["mask_size"], f"{where}: mask_size")
        if "mask_ratio" in recipe.options:
            ratio_range(recipe.options["mask_ratio"], f"{where}: mask_ratio")
    for arm in {evaluation.arm for evaluation in plan.evaluations}:
        seen.add((tuple(config.finetune[arm.recipe].patch_size), arm.backbone, f"finetune.{arm.recipe}"))
    for patch, name, where in sorted(seen):
        backbone = config.backbones[name]
        divisor = backbones.divisor(backbone.architecture, backbone.options)
        if divisor:
            check_size(patch, divisor, f"{where}: patch_size, for backbone '{name}'")
