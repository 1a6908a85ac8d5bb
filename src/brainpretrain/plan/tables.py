"""The tables of a study, from their entries in the config to rows of runs; every name and size behind them is checked here.

No torch, no files read, no Snakemake.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from brainpretrain import backbones
from brainpretrain.config import Config
from brainpretrain.config.placing import names_lines
from brainpretrain.config.sections import AfterRow, Column, External, Published, PublishedRow, Row, Table, Task
from brainpretrain.datasets.base import Dataset
from brainpretrain.errors import UserError, nearest
from brainpretrain.plan import checks, external, fairness, probing, sources, starts, tuning, validating
from brainpretrain.plan.runs import SCRATCH, Plan, Pretraining
from brainpretrain.plan.starts import Planned
from brainpretrain.plan.table_spec import (
    ColumnSpec,
    Degraded,
    PublishedCell,
    PublishedHours,
    PublishedTrainingHours,
    PublishedValues,
    RowSpec,
    TableSpec,
)
from brainpretrain.pretext import planning
from brainpretrain.sizes import check_size

RESERVED = ("data", "work", "logs", "weights")  # folders next to those of the studies


@names_lines
def make(config: Config) -> Plan:
    """The plan of the study in `config`.

    Raises:
        UserError: a table names something that does not exist, such as a cohort of a task; a row occurs twice; or a patch or
            mask does not fit its network.
    """
    if config.study_name in RESERVED:
        raise UserError(f"a study cannot be called '{config.study_name}'", where=config.settings.results, fix="rename its file")
    if set("{}") & set(config.study_name):
        problem = f"a study cannot be called '{config.study_name}': braces are wildcards of the workflow"
        raise UserError(problem, where=config.settings.results, fix="rename its file")
    if both := sorted(({SCRATCH} | set(config.pretexts)) & set(config.weights)):
        raise UserError(
            f"{', '.join(both)}: both a release and another init", where="weights", fix="give the release another name"
        )
    entries = {name: config.get("tables", name, f"study '{config.study_name}', build") for name in config.study.build}
    planned = {name: list(_rows(config, name, table)) for name, table in entries.items()}
    found = {name: starts.resolved(rows, planned) for name, rows in planned.items()}
    rows = {name: _compared(f"tables.{name}.rows", found[name]) for name in found}
    config, rows = probing.added(config, rows)
    config = fairness.filled(config, rows)
    tables = {}
    for name, of_table in rows.items():
        spec = _spec(config, name, config.tables[name], of_table, [entry for _, entry in found.get(name, [])])
        tables[name] = fairness.noted(config, spec)
    plan = Plan(tuning.with_candidates(config, tables), tables)
    external.check(plan)
    _check_names(plan)
    _check_label_values(plan)
    _check_cohort_labels(plan)
    _check_sizes(plan)
    checks.check(plan)
    sources.check(plan)
    fairness.check(plan)
    tuning.check(plan)
    return plan


def _rows(config: Config, name: str, table: Table) -> Iterator[Planned]:
    """Rows of a table with its defaults filled in; lists multiplied in their order in the config."""
    for number, row in enumerate(table.rows):
        where = f"tables.{name}.rows.{number}"
        if isinstance(row.init, External):
            yield from (Planned(name, spec, row) for spec in external.rows(table, row))
        else:
            yield from _trained(config, name, table, row, where)


def _trained(config: Config, name: str, table: Table, row: Row, where: str) -> Iterator[Planned]:
    """The rows of an entry of fine-tunings, lists multiplied."""
    n_trains = _many(table.n_train if row.n_train is None else row.n_train)  # it may be 0
    choices = [_many(row.backbone), _many(row.init), _many(row.recipe or table.recipe), n_trains]
    for backbone, init, recipe, n_train in itertools.product(*choices):
        config.get("backbones", backbone, where)
        config.get("finetune", recipe, where)
        after = init.row if isinstance(init, AfterRow) else ""
        full_init = "" if after else _init(config, init, backbone, row.corpus or table.corpus, where)
        title = _title(table, row, backbone, f"after {after}" if after else init, recipe, n_train)
        if row.corpus not in (None, table.corpus) and full_init not in ("", init):
            title += f", on {row.corpus}"
        watched = validating.described(config.finetune[recipe])
        fields = {"backbone": backbone, "init": full_init, "recipe": recipe, "n_train": str(n_train), "watched": watched}
        yield Planned(name, RowSpec(title=title, **fields), row, after)


def _compared(where: str, rows: list[tuple[RowSpec, Row]]) -> list[RowSpec]:
    """The rows, each that names a baseline with the arm of that baseline.

    The name is the title of a row, or that of an entry: then it is the row of the entry with the same n_train, backbone and
    recipe, as far as the entry has such a row.

    Raises:
        UserError: no row has the name, several rows have it, or a row is compared with itself.
    """
    return [
        row.model_copy(update={"against": _named(where, row, entry.baseline, rows).arm}) if entry.baseline else row
        for row, entry in rows
    ]


def _named(where: str, row: RowSpec, name: str, rows: list[tuple[RowSpec, Row]]) -> RowSpec:
    """The row that `name` means as the baseline of `row`."""
    found = [other for other, _ in rows if other.title == name] or [other for other, entry in rows if entry.title == name]
    for key in ("n_train", "backbone", "recipe"):
        found = [other for other in found if getattr(other, key) == getattr(row, key)] or found
    if len(found) == 1 and found[0] != row:
        return found[0]
    problem = "is the row itself" if row in found else f"names {len(found)} rows" if found else "is the title of no row"
    titles = sorted({entry.title or other.title for other, entry in rows} - {row.title})
    raise UserError(f"the baseline '{name}' of the row '{row.title}' {problem}", where=where, fix=nearest(name, titles))


def _init(config: Config, init: str, backbone: str, corpus: str, where: str) -> str:
    """The full name of an init, after a check that everything it names exists."""
    if init == SCRATCH:
        return init
    if init in config.weights:
        config.release(init, backbone)
        return init
    _check_init(config, init, where)
    config.pretext(init, backbone)
    config.get("corpora", corpus, where)
    return Pretraining(corpus, init, backbone).init


def _check_init(config: Config, init: str, where: str) -> None:
    inits = [SCRATCH, *config.pretexts, *config.weights]
    if init not in inits:
        raise UserError(f"no entry '{init}' in 'pretexts' or 'weights'", where=where, fix=nearest(init, inits))


def _title(table: Table, row: Row, backbone: str, init: str, recipe: str, n_train: int | str) -> str:
    """Title of a row: its own or its names, and every value that comes from a list or differs from the table's default."""
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


def _spec(config: Config, name: str, table: Table, rows: list[RowSpec], entries: list[Row]) -> TableSpec:
    """The table with every name resolved, after a check of its columns; `entries`: those of its rows, none of a probe."""
    _check_columns(config, name, table, rows)
    return TableSpec(
        name=name,
        title=table.title,
        folds=tuple(range(config.study.folds)),
        columns=tuple(_column(config, column) for column in table.columns),
        rows=tuple(rows),
        baseline=SCRATCH,
        seeds=tuple(config.study.seeds),
        disjoint=config.study.draws == "disjoint",
        probe=name not in config.study.build,
        free=config.study.protocol == "free",
        metric=table.metric,
        training_hours=table.training_hours,
        margin=table.margin,
        published=_published(config, name, table, list(zip(rows, entries, strict=False))),
        bootstrap=config.settings.bootstrap,
    )


def _column(config: Config, column: Column) -> ColumnSpec:
    """A column, with what its task and its cohort add."""
    kfold = config.tasks[column.task].split.k
    return ColumnSpec(**column.model_dump(), kfold=kfold, degraded=_degraded(config, column))


def _degraded(config: Config, column: Column) -> Degraded | None:
    """How the cohort of a column is made worse; None if it is not."""
    task = config.tasks[column.task]
    how = task.degradation_of(column.cohort)
    if how is None:
        return None
    return Degraded(of=task.cases_of(column.cohort), kind=how.kind, strength=how.strength, sequence=how.sequence)


def _check_columns(config: Config, name: str, table: Table, rows: list[RowSpec]) -> None:
    """Every column is of a cohort that its task has, with enough cases, and of a metric that is defined for the task."""
    for number, column in enumerate(table.columns):
        where = f"tables.{name}.columns.{number}"
        task = config.get("tasks", column.task, where)
        if column.cohort not in (cohorts := ["val", "test", *task.others]):
            key = "'ood: {dataset: ...}'" if column.cohort == "ood" else f"'cohorts: {{{column.cohort}: {{dataset: ...}}}}'"
            raise UserError(
                f"task '{column.task}' has no cohort '{column.cohort}'",
                where=where,
                fix=f"{nearest(column.cohort, cohorts)} Or add {key} to the task",
            )
        _check_degradation(config, task, column.cohort, f"{config.where('tasks', column.task)}.{task.key_of(column.cohort)}")
        whole = task.cases_of(column.cohort)
        if whole == "test" and not task.split.test_fraction and task.split.kind == "fraction":
            raise UserError(
                f"task '{column.task}' has no fixed test set",
                where=where,
                fix="use 'cohort: val', a test_fraction, or 'kind: kfold'",
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


def _check_degradation(config: Config, task: Task, cohort: str, where: str) -> None:
    """Slices of a degraded cohort are thicker than the voxels that are predicted."""
    how = task.degradation_of(cohort)
    if how is None or how.kind != "thick_slices" or how.strength is None:
        return
    voxel = config.get("preprocess", task.preprocess, where).spacing_mm["xyz".index(how.axis)]
    if how.strength <= voxel:
        problem = f"slices of {how.strength:g} mm are no thicker than the stored voxels of {voxel:g} mm"
        raise UserError(problem, where=f"{where}.degrade.strength", fix=f"give more than {voxel:g}")


def _published(config: Config, name: str, table: Table, rows: list[tuple[RowSpec, Row]]) -> PublishedValues | None:
    """The published values of the rows of a table, one entry for each cell; values of other rows or metrics are left out."""
    published, where = table.published, f"tables.{name}.published"
    if published is None or published.metric != table.metric:
        return None
    config.get("corpora", published.corpus, where)
    config.get("finetune", published.recipe, where)
    titles = [column.title for column in table.columns]
    cells, hours, trained = [], [], []
    for line in published.rows:
        config.get("backbones", line.backbone, where)
        for column in [*line.cells, *line.training_hours]:
            if column not in titles:
                raise UserError(f"the table has no column '{column}'", where=where, fix=nearest(column, titles))
        for init in _many(line.init):
            _check_init(config, init, where)
        if line.row and line.row not in (titles_of_rows := [entry.title for _, entry in rows]):
            raise UserError(f"no row has the title '{line.row}'", where=where, fix=nearest(line.row, titles_of_rows))
        for row, entry in rows:
            if _is_of(line, row, entry, published):
                cells += [_published_cell(config, published, line, row, column) for column in line.cells]
                trained += _published_hours(table, line, row)
                if table.hours and line.hours:
                    hours.append(PublishedHours(backbone=row.backbone, init=row.init, value=line.hours))
    return PublishedValues(
        source=published.source,
        notes=tuple(published.notes),
        cells=tuple(cells),
        hours=tuple(hours),
        training_hours=tuple(trained),
    )


def _is_of(line: PublishedRow, row: RowSpec, entry: Row, published: Published) -> bool:
    """Whether published values are those of a row."""
    n_train = str(published.n_train if line.n_train is None else line.n_train)
    if (line.backbone, n_train) != (row.backbone, row.n_train):
        return False
    return line.row == entry.title if line.row else row.init.split("-on-")[0] in _many(line.init)


def _published_hours(table: Table, line: PublishedRow, row: RowSpec) -> list[PublishedTrainingHours]:
    """The published hours of fine-tuning of a row, if the table shows them."""
    fields = row.model_dump(include={"backbone", "init", "recipe", "n_train"})
    named = line.training_hours.items() if table.training_hours else ()
    return [PublishedTrainingHours(**fields, column=column, value=value) for column, value in named]


def _published_cell(config: Config, published: Published, line: PublishedRow, row: RowSpec, column: str) -> PublishedCell:
    """The published value of a cell (and its SD, if there are two values), with how the run differs from the publication."""
    values, recipe = line.cells[column], line.recipe or published.recipe
    differs = [f"corpus {row.corpus}"] if row.corpus not in ("", published.corpus) else []
    differs += [f"recipe {row.recipe}"] if row.recipe != recipe else []
    differs += [f"{config.study.folds} instead of {published.folds} folds"] if config.study.folds != published.folds else []
    value, sd = values[0], values[1] if len(values) > 1 else None
    arm = {"backbone": row.backbone, "init": row.init, "n_train": row.n_train}
    arm |= {"recipe": row.recipe} if line.row else {}
    return PublishedCell(**arm, column=column, value=value, sd=sd, differs=", ".join(differs))


def _check_names(plan: Plan) -> None:
    """Every name that the runs need has an entry: data sets, preprocess recipes, policies, tasks of pools."""
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
        for policy in {config.finetune[recipe].policy(scratch) for scratch in (True, False)}:
            config.get("augmentations", policy, f"finetune.{recipe}")
    for dataset in plan.datasets:
        plan.n_shards(dataset)


def _check_label_values(plan: Plan) -> None:
    """Every label value of a task is one of its data set, and the task names the values that the data set marks as ignored.

    Data sets that do not name their values are checked when a training starts.
    """
    for name in plan.tasks:
        task = plan.config.tasks[name]
        description = plan.config.described(task.dataset)
        if not description.labels:
            continue
        values = {0, *plan.label_values(task.dataset)}
        named = {*task.ignore, *(value for group in task.labels.values() for value in group)}
        names = ", ".join(f"{value} {label}" for value, label in list(description.labels.items())[:40])
        if unknown := sorted(named - values):
            raise UserError(
                f"task '{name}' names label values that the data set '{task.dataset}' does not have: {_words(unknown)}",
                where=f"tasks.{name}",
                fix=f"use values of the data set: {names}",
            )
        if unnamed := sorted(_ignored_by(description) - named):
            raise UserError(
                f"the data set '{task.dataset}' marks the label values {_words(unnamed)} as ignored; task '{name}' would count"
                " them as background",
                where=f"tasks.{name}",
                fix=f"add them to the task: ignore: {sorted({*task.ignore, *unnamed})}",
            )


def _check_cohort_labels(plan: Plan) -> None:
    """The values of a task mean the same in the data sets of its other cohorts, or a cohort names its own.

    A data set that does not name its values is judged by `evaluate`, from its label files.
    """
    for name, cohort in plan.cohorts:
        task = plan.config.tasks[name]
        if cohort not in task.others or task.degradation_of(cohort):
            continue
        other, where = task.others[cohort], f"{plan.config.where('tasks', name)}.{task.key_of(cohort)}"
        dataset = task.dataset_of(cohort)
        own, theirs = (plan.config.described(name_of).labels for name_of in (task.dataset, dataset))
        if not theirs:
            continue
        names = ", ".join(f"{value} {label}" for value, label in list(theirs.items())[:40])
        _check_values(plan, name, cohort, where, names)
        if not own or dataset == task.dataset:
            continue
        labels = [value for group in task.labels.values() for value in group] if other.labels is None else []
        # an ignored value that the other data set does not have hides nothing
        ignored = [value for value in task.ignore if value in theirs] if other.ignore is None else []
        for values, fix in (
            (labels, f"its own labels, with the class names of the task ({', '.join(task.labels)}) and these values: {names}"),
            (ignored, f"its own list 'ignore', which may be empty, with values of its data set: {names}"),
        ):
            if differ := [value for value in sorted(values) if _plain(own.get(value, "")) != _plain(theirs.get(value, ""))]:
                pairs = ", ".join(
                    f"{value} is {own.get(value, 'nothing')} and {theirs.get(value, 'nothing')}" for value in differ
                )
                problem = f"the data sets '{task.dataset}' and '{dataset}' of task '{name}' name label values differently"
                raise UserError(f"{problem}: {pairs}", where=where, fix=f"give '{cohort}' {fix}")


def _check_values(plan: Plan, task: str, cohort: str, where: str, names: str) -> None:
    """The values that a cohort names are those of its data set, and it names those that its data set marks as ignored."""
    entry, other = plan.config.tasks[task], plan.config.tasks[task].others[cohort]
    dataset = entry.dataset_of(cohort)
    given = {*(other.ignore or []), *(value for group in (other.labels or {}).values() for value in group)}
    if unknown := sorted(given - {0, *plan.label_values(dataset)}):
        problem = f"'{cohort}' names label values that the data set '{dataset}' does not have: {_words(unknown)}"
        raise UserError(problem, where=where, fix=f"use values of the data set: {names}")
    used = entry.reference_of(cohort) or {"labels": entry.labels, "ignore": entry.ignore}
    named = {*used["ignore"], *(value for group in used["labels"].values() for value in group)}
    if unnamed := sorted(_ignored_by(plan.config.described(dataset)) - named):
        problem = f"the data set '{dataset}' marks the label values {_words(unnamed)} as ignored; '{cohort}' would count"
        problem += " them as background"
        raise UserError(problem, where=where, fix=f"add them to the cohort: ignore: {sorted({*used['ignore'], *unnamed})}")


def _ignored_by(description: Dataset) -> set[int]:
    """The label values that a data set marks as ignored."""
    return {*description.ignore, *(value for value, label in description.labels.items() if label.lower() == "ignore")}


def _plain(name: str) -> str:
    """The letters and digits of a name."""
    return "".join(letter for letter in name.lower() if letter.isalnum())


def _words(values: Iterable[int]) -> str:
    return " ".join(map(str, values))


def _check_sizes(plan: Plan) -> None:
    """Every patch fits its networks and its pretext, as do backbone and batch of a pretext."""
    config = plan.config
    patches = set()
    for pretraining in plan.pretrainings:
        recipe, where = config.pretext(pretraining.pretext, pretraining.backbone), f"pretexts.{pretraining.pretext}"
        patches.add((tuple(recipe.patch_size), pretraining.backbone, where))
        backbone = config.backbones[pretraining.backbone]
        network = backbone.architecture, backbones.divisor(backbone.architecture, backbone.options)
        planning.check(recipe.method, recipe.options, recipe.patch_size, recipe.global_batch, network, where)
    for arm in {evaluation.arm for evaluation in plan.evaluations}:
        patches.add((tuple(config.finetune[arm.recipe].patch_size), arm.backbone, f"finetune.{arm.recipe}"))
    for patch, name, where in sorted(patches):
        backbone = config.backbones[name]
        divisor = backbones.divisor(backbone.architecture, backbone.options)
        if divisor:
            check_size(patch, divisor, f"{where}: patch_size, for backbone '{name}'")
