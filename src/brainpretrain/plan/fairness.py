"""What compared arms differ in besides the encoder: noted under tables, and refused by `protocol: fair`, the default of a study.

A study that compares nothing (one row for each number of labelled cases) is not affected. For the others the protocol fills in
what the study leaves open: three seeds, and a grid of learning rates around that of each recipe.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from brainpretrain.config import Config
from brainpretrain.config.sections import Finetune
from brainpretrain.errors import UserError
from brainpretrain.plan.runs import AFTER, SCRATCH, Plan
from brainpretrain.plan.table_spec import RowSpec, TableSpec
from brainpretrain.words import count

FEWEST_FOLDS = 3  # as `report.crossed`: with fewer, nothing is said about another training
FEWEST_SEEDS = 3
FACTORS = (1 / 3, 1, 3)  # of the peak learning rate of a recipe: the grid where it gives none
# parts of a recipe that change nothing between the arms of a comparison, or that apply to a pretrained encoder alone
SAME_ANYWAY = {"note", "augmentation", "augmentation_scratch", "log_every_steps", "transfer", "stem"}


def differences(config: Config, row: RowSpec, base: RowSpec) -> list[str]:
    """What two rows differ in besides the encoder they start from, in words: 'augmentation (spatial, not amaes_finetune)'."""
    if row.external or base.external:  # nothing of it is trained here; a note says so
        return []
    found = []
    recipes = [config.finetune[one.recipe] for one in (row, base)]
    policies = [recipe.policy(one.start == SCRATCH) for recipe, one in zip(recipes, (row, base), strict=True)]
    if config.augmentations[policies[0]] != config.augmentations[policies[1]]:
        found.append(f"augmentation ({policies[0]}, not {policies[1]})")
    if row.init.count(AFTER) != base.init.count(AFTER):
        found.append("trainings before this one")
    found += _recipe_differences(*recipes)
    for key in ("backbone", "n_train"):
        if getattr(row, key) != getattr(base, key):
            found.append(f"{key} ({getattr(row, key)}, not {getattr(base, key)})")
    return found


def _recipe_differences(recipe: Finetune, other: Finetune) -> list[str]:
    """The keys of two recipes that differ, with the two values of those that are short."""
    found = []
    for key in type(recipe).model_fields:
        values: list[Any] = [getattr(recipe, key), getattr(other, key)]
        if key not in SAME_ANYWAY and values[0] != values[1]:
            short = all(isinstance(value, int | float | str) for value in values)
            found.append(f"{key} ({values[0]}, not {values[1]})" if short else key)
    return found


def noted(config: Config, spec: TableSpec) -> TableSpec:
    """The table with what each row differs in from its baseline besides the encoder."""
    rows = []
    for row in spec.rows:
        base = spec.baseline_of(row)
        found = tuple(differences(config, row, base)) if base else ()
        rows.append(row.model_copy(update={"besides": found}) if found else row)
    return spec.model_copy(update={"rows": tuple(rows)})


def compares(rows: Iterable[RowSpec]) -> bool:
    """True if two rows have the same n_train, so that they are compared or ranked, or a row names its baseline.

    Rows of other programs alone compare no training.
    """
    rows = list(rows)
    if all(row.external for row in rows):
        return False
    return any(row.against for row in rows) or max(Counter(row.n_train for row in rows).values(), default=0) > 1


def filled(config: Config, tables: Mapping[str, Iterable[RowSpec]]) -> Config:
    """The config with the seeds and the grids of learning rates that `protocol: fair` fills in where arms are compared.

    Args:
        tables: the rows of each table of the study.
    """
    recipes = sorted({row.recipe for rows in tables.values() if compares(rows) for row in rows if not row.external})
    if config.study.protocol != "fair" or not recipes:
        return config
    study = config.study
    if not study.seeds:
        study = study.model_copy(update={"seeds": [study.seed + number for number in range(FEWEST_SEEDS)]})
    grids = {name: config.finetune[name].model_copy(update={"lr_grid": grid(config.finetune[name])}) for name in recipes}
    return config.model_copy(update={"study": study, "finetune": config.finetune | grids})


def grid(recipe: Finetune) -> list[float]:
    """The learning rates to choose from: those of the recipe, or its peak divided by 3, as it is, and times 3 (two digits)."""
    peak = max(phase.lr for phase in recipe.phases)
    return recipe.lr_grid or [float(f"{peak * factor:.2g}") for factor in FACTORS]


def said(plan: Plan) -> str:
    """One line for the start of a run: what `protocol: fair` trains; '' where it does nothing."""
    if not applies(plan):
        return ""
    study = plan.config.study
    recipes = {row.recipe for spec in plan.tables.values() for row in spec.rows if not row.external}
    tuned = sorted(name for name in recipes if plan.config.finetune[name].lr_grid)
    rates = [f"{', '.join(f'{lr:g}' for lr in plan.config.finetune[name].lr_grid)} ({name})" for name in tuned]
    number = len({evaluation.training for evaluation in plan.tunings})
    return (
        f"protocol: fair: {study.folds} draws with seeds {', '.join(map(str, study.seeds))}; learning rates to choose from:"
        f" {'; '.join(rates)}; {count(len(plan.trainings), 'fine-tuning')}, {number} of them to choose rates (docs/statistics.md)"
    )


def applies(plan: Plan) -> bool:
    """True if the study has `protocol: fair` and compares arms."""
    return plan.config.study.protocol == "fair" and any(compares(spec.rows) for spec in plan.tables.values())


def check(plan: Plan) -> None:
    """Refuses, where `protocol: fair` compares arms, what makes that unfair or says nothing about another training.

    A row that names its baseline may differ from it, since that is then what the row is about.

    Raises:
        UserError: two compared rows differ in more than the encoder; there are fewer than three folds or seeds; or no case is
            left to choose learning rates on. It has all of the study's problems, and the lines that solve them.
    """
    if not applies(plan):
        return
    config = plan.config
    found: dict[str, str] = {}  # problem: the line that solves it
    if config.study.folds < FEWEST_FOLDS:
        number = count(config.study.folds, "fold")
        found[f"{number}: fewer than {FEWEST_FOLDS} draws say nothing about another training"] = f"folds: {FEWEST_FOLDS}"
    if len(config.study.seeds) < FEWEST_SEEDS:
        more = [*config.study.seeds, *(n for n in range(2 * FEWEST_SEEDS) if n not in config.study.seeds)][:FEWEST_SEEDS]
        found[f"{count(len(config.study.seeds), 'seed')}: fewer than {FEWEST_SEEDS} say little about another training"] = (
            f"seeds: {more}"
        )
    for name, spec in plan.tables.items():
        for row in spec.rows:
            if row.besides and not row.against:
                problem = f"tables.{name}: the row '{row.title}' differs from its baseline in more than the encoder: "
                found[problem + "; ".join(row.besides)] = _line(config, row, spec)
    found |= _no_choice(plan)
    if found:
        raise UserError(
            "\n    ".join(["the arms of this study are not compared by protocol: fair, which is the default:", *found]),
            where=f"study '{config.study_name}'",
            fix="\n    ".join(
                [
                    "write these lines, or 'protocol: free', which a note under each table then says:",
                    *dict.fromkeys(found.values()),
                ]
            ),
        )


def _no_choice(plan: Plan) -> dict[str, str]:
    """What leaves no validation case for the choice of learning rates, and the line that solves it; see also `tuning.check`."""
    found = {}
    for name, spec in plan.tables.items():
        for column in spec.columns:
            if column.cohort == "val":
                problem = f"tables.{name}: learning rates would be chosen on cases that the column '{column.title}' scores"
                found[problem] = f"cohort: test in the column, and in tasks.{column.task}: split: {{test_fraction: 0.3}}"
    for arm in sorted({evaluation.arm for evaluation in plan.evaluations}):
        if plan.config.finetune[arm.recipe].lr_grid and plan.tuned_at(arm) == "all":
            found["n_train 'all' alone leaves no case to choose learning rates on"] = "n_train: [10, all], or another number"
    return found


def _line(config: Config, row: RowSpec, spec: TableSpec) -> str:
    """The line of a study that makes a row differ from its baseline in the encoder alone."""
    base = spec.baseline_of(row)
    if base and base.recipe == row.recipe and all(part.startswith("augmentation ") for part in row.besides):
        policy = config.finetune[row.recipe].augmentation
        if config.files.get("finetune", {}).get(row.recipe, "").endswith(f"{config.study_name}.yaml"):
            return f"in finetune.{row.recipe}: augmentation_scratch: {policy}"
        return f"finetune: {{{row.recipe}: {{like: {row.recipe}, augmentation_scratch: {policy}}}}}"
    return f"'recipe' and other keys of '{row.title}' as in '{base.title if base else ''}', or a 'baseline' in the row"
