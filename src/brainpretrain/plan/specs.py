"""The part of the config that shapes the result of one job, as plain data or a typed run for its command line.

Rules pass these as `params`, and Snakemake runs a job again if the text of its params changes. So a spec holds every field
that changes the result, and no other: no note, no place, no tolerance, no setting of the machine.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

from brainpretrain import datasets
from brainpretrain.config import Config, runs
from brainpretrain.config.runs import FinetuneRun, PretrainRun
from brainpretrain.config.sections import Encoder, Finetune, FinetuneRecipe, PretrainRecipe, Section, Segmentation, Task
from brainpretrain.plan.runs import SCRATCH, Arm, Plan, Pretraining
from brainpretrain.plan.table_spec import ColumnSpec, TableSpec, fold_name


def as_json(content: Any) -> str:
    """JSON text of plain data or of an entry of the config, its keys sorted: the same content is always the same text."""
    return json.dumps(content.model_dump(mode="json") if hasattr(content, "model_dump") else content, sort_keys=True)


def _part(entry: Section, model: type[Section]) -> dict[str, Any]:
    """The fields of an entry that it inherits from `model`."""
    return entry.model_dump(mode="json", include=set(model.model_fields))


# --- trainings


def pretrain_run(config: Config, pretraining: Pretraining) -> PretrainRun:
    """`--config` of `brainpretrain pretrain`."""
    recipe = config.pretext(pretraining.pretext, pretraining.backbone)
    content = {
        "name": f"{pretraining.init}/{pretraining.backbone}",
        "seed": config.study.seed,
        "recipe": _part(recipe, PretrainRecipe),
        "backbone": backbone(config, pretraining.backbone),
        "policy": config.augmentations[recipe.augmentation].model_dump(mode="json"),
        "preprocess": config.stored_as(config.corpora[pretraining.corpus].preprocess),
    }
    return runs.pretrain_run(content, f"pretraining {pretraining.path}")


def finetune_run(config: Config, arm: Arm, fold: int, seed: int | None = None) -> FinetuneRun:
    """`--config` of `brainpretrain finetune`; `seed`: of this training, if the study has several for each fold.

    The two arms of a comparison differ by their name, and by the policy if the recipe gives one for each.
    """
    recipe, task = config.finetune[arm.recipe], config.tasks[arm.task]
    policy = recipe.policy(arm.start == SCRATCH)
    network = config.backbones[arm.backbone].model_dump(mode="json")
    if recipe.decoder:
        network |= {"decoder": recipe.decoder, "decoder_options": recipe.decoder_options}
    content = {
        "name": f"{arm.task}/{arm.backbone}/{arm.init}/{arm.recipe}/n{arm.n_train}/fold{fold_name(fold, seed)}",
        "seed": config.study.seed if seed is None else seed,
        "fold": fold,
        "n_train": arm.n_train,
        "task": _part(task, Segmentation),
        "recipe": _part(recipe, FinetuneRecipe),
        "backbone": network,
        "policy": config.augmentations[policy].model_dump(mode="json"),
        "preprocess": config.stored_as(task.preprocess, task.dataset),
        "sources": training_sources(task, recipe),
    }
    return runs.finetune_run(content, f"fine-tuning {arm.path}/fold{fold_name(fold, seed)}")


def training_sources(task: Task, recipe: Finetune) -> list[dict[str, Any]]:
    """The sources of a task that a recipe trains on, with the number of subjects of each."""
    if recipe.sources == "none":
        return []
    asked = [source.n if recipe.sources == "all" else recipe.sources for source in task.sources]
    return [
        {"dataset": source.dataset, "n": n, **task.source_labels(i)}
        for i, (source, n) in enumerate(zip(task.sources, asked, strict=True))
    ]


def backbone(config: Config, name: str) -> dict[str, Any]:
    """An encoder, without the decoder of fine-tuning."""
    return _part(config.backbones[name], Encoder)


def inference(config: Config, recipe: str) -> dict[str, Any]:
    """The sliding window of a fine-tuning recipe."""
    return config.finetune[recipe].inference.model_dump(mode="json")


# --- cohorts


def corpus(config: Config, name: str) -> dict[str, Any]:
    """The sources of a corpus. `exclude` came later: written out when empty, it would pretrain again."""
    content = config.corpora[name].model_dump(mode="json", include={"sources", "val_fraction", "subjects", "filters"})
    for source in content["sources"]:
        if not source["exclude"]:
            del source["exclude"]
    return content


def task_split(config: Config, task: str) -> dict[str, Any]:
    """What shapes the pool and the test set of a task. `block` shapes folds only, and other cohorts shape neither."""
    entry = config.tasks[task]
    split = entry.split.model_dump(include={"kind", "k", "seed", "test_fraction", "stratify"}, exclude_defaults=True)
    if entry.split.test_fraction and entry.split.draw == "hash":  # `draw` came later: without it, a split is shuffled
        split["draw"] = "hash"
    return entry.model_dump(mode="json", include={"dataset", "sequences", "subsets"}) | {"split": split}


def task_ood(config: Config, task: str, cohort: str) -> dict[str, Any]:
    """What shapes the subjects of a cohort from another subset or data set, or of degraded copies of a cohort."""
    entry = config.tasks[task]
    source = entry.cases_of(cohort)
    subjects = {"of": source} if source == "test" else entry.others[source].model_dump(mode="json")
    return {"sequences": entry.sequences, "ood": subjects}


def task_source(config: Config, task: str, number: int) -> dict[str, Any]:
    """What shapes the pool of a source of a task, besides the cohorts that are scored."""
    entry = config.tasks[task]
    source = entry.sources[number].model_dump(mode="json", include={"dataset", "subsets", "exclude"})
    return source | {"sequences": entry.sequences}


def task_prediction(config: Config, task: str, cohort: str = "val") -> dict[str, Any]:
    """What shapes predictions of a cohort, besides the model."""
    degrade = config.tasks[task].degradation_of(cohort)
    how = {"degrade": degrade.model_dump(mode="json", exclude_defaults=True)} if degrade else {}
    return config.tasks[task].model_dump(mode="json", include={"sequences"}) | how


def task_scores(config: Config, task: str, cohort: str) -> dict[str, Any]:
    """What shapes the scores of predictions. `reference`: labels of the cohort's own label files, if they differ."""
    fields = {"sequences", "labels", "ignore", "nsd_tolerance_mm", "lesions", "empty_masks", "hd95_missed_mm"}
    return config.tasks[task].model_dump(mode="json", include=fields) | _reference(config, task, cohort)


def task_overlays(config: Config, task: str, cohort: str) -> dict[str, Any]:
    """What shapes pictures of predictions over their images."""
    return _part(config.tasks[task], Segmentation) | _reference(config, task, cohort)


def _reference(config: Config, task: str, cohort: str) -> dict[str, Any]:
    reference = config.tasks[task].reference_of(cohort)
    return {"reference": reference} if reference else {}


# --- data sets and releases


def module(config: Config, dataset: str) -> str:
    """Module of a data set: that of its entry in the config if it has one, else its name."""
    return config.datasets[dataset].module if dataset in config.datasets else dataset


def options(config: Config, dataset: str) -> dict[str, Any]:
    """Options of a data set that the project makes or that is the user's own; empty for all others."""
    return config.datasets[dataset].options if dataset in config.datasets else {}


def described(config: Config, dataset: str) -> dict[str, Any]:
    """What a command needs for the description of a data set: its module, and the options of the user's own data."""
    own = module(config, dataset) in datasets.TEMPLATES
    return {"module": module(config, dataset), "options": options(config, dataset) if own else {}}


def corpus_modules(config: Config, corpus: str) -> dict[str, Any]:
    """`described` of every data set of a corpus."""
    return {name: described(config, name) for name in config.corpora[corpus].datasets}


def dataset_uses(plan: Plan) -> dict[str, Any]:
    """`described` of every data set of the study, with what the study uses it `for`."""
    config = plan.config
    uses = {name: {**described(config, name), "for": []} for name in plan.datasets}
    for corpus in plan.corpora:
        for name in config.corpora[corpus].datasets:
            uses[name]["for"].append(f"pretraining ({corpus})")
    for task in plan.tasks:
        for name in plan.datasets_of(task):
            uses[name]["for"].append(f"task {task}")
    return uses


def releases(plan: Plan) -> dict[str, Any]:
    """Licence, page and citation of every release of weights that an arm of the study starts from."""
    names = sorted({e.arm.start for e in plan.evaluations} & set(plan.config.weights))
    return {
        name: plan.config.weights[name].model_dump(mode="json", include={"licence", "page", "citation", "forbids"})
        for name in names
    }


def zoo_tables(plan: Plan) -> list[str]:
    """The tables with arms that start from a published encoder, in a study that compares its arms by `protocol: fair`."""
    if plan.config.study.protocol != "fair":
        return []
    return [name for name, table in plan.tables.items() if any(row.start in plan.config.weights for row in table.rows)]


# --- tables


def grids(plan: Plan, table: str) -> dict[str, list[float]]:
    """The learning rates from which the rows of a table choose, by recipe."""
    recipes = dict.fromkeys(row.recipe for row in plan.tables[table].rows if not row.external)
    return {name: plan.config.finetune[name].lr_grid for name in recipes if plan.config.finetune[name].lr_grid}


def has_encoders(plan: Plan, table: str) -> bool:
    """True if a table comes with a comparison of its encoders before and after fine-tuning: in a fair one, or with `probe: true`.

    Encoders of a probe are frozen, and a table from scratch alone has none that was pretrained.
    """
    spec = plan.tables[table]
    wanted = plan.config.tables[table].probe or (plan.config.study.protocol == "fair" and bool(grids(plan, table)))
    return wanted and not spec.probe and any(row.init != SCRATCH and not row.external for row in spec.rows)


def sites_columns(plan: Plan, table: str) -> list[ColumnSpec]:
    """The columns of a table whose cohorts are also shown by site; one of each cohort."""
    columns: dict[tuple[str, str], ColumnSpec] = {}
    for column in plan.tables[table].columns:
        other = plan.config.tasks[column.task].others.get(column.cohort)
        if other and other.by_site:
            columns.setdefault((column.task, column.cohort), column)
    return list(columns.values())


def sites_table(plan: Plan, table: str) -> TableSpec:
    """A table with three columns of each of these cohorts: all sites, sites seen in training, other sites.

    Raises:
        LookupError: no column of the table is to be shown by site.
    """
    shown = sites_columns(plan, table)
    if not shown:
        raise LookupError(f"no column of table '{table}' is shown by site")
    parts = {"": "", "_seen": ", sites seen in training", "_unseen": ", other sites"}
    columns = tuple(
        ColumnSpec(title=column.title + words, task=column.task, cohort=column.cohort + part, kfold=column.kfold)
        for column in shown
        for part, words in parts.items()
    )
    spec = plan.tables[table]
    return spec.model_copy(
        update={"name": f"{table}_sites", "title": f"{spec.title}: by site", "columns": columns, "hours": False}
    )


def arm_titles(plan: Plan) -> dict[Arm, str]:
    """Titles of all arms, from the tables. A report shows one of two entries with the same labels, so no title occurs twice."""
    titles: dict[Arm, str] = {}
    for table in plan.tables.values():
        for column, row in itertools.product(table.columns, table.rows):
            titles.setdefault(Arm(column.task, *row.arm), f"{column.title}: {row.title}")
    counts = Counter(titles.values())
    return {arm: f"{title} ({arm.path})" if counts[title] > 1 else title for arm, title in titles.items()}
