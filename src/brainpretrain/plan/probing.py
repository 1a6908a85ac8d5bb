"""Linear probes beside fine-tuning: a table with `probe: true` gets a second one, `<table>_probe`, of frozen encoders.

A probe trains a linear readout of all feature maps (`decoders/linear.py`) and leaves the encoder as it starts: pretrained, or
random in the rows from scratch. Its recipe is `<recipe>_probe`, made from that of the row. Probes are trained, scored and shown
by the rules of every table, so they have their own intervals, tests and verdicts.
"""

from __future__ import annotations

from brainpretrain.config import Config
from brainpretrain.config.sections import Finetune, Phase, Table
from brainpretrain.errors import UserError
from brainpretrain.plan import fairness
from brainpretrain.plan.table_spec import RowSpec

LR = 1e-2  # a linear readout takes larger steps than a network, as `amaes_linear` in config/finetune.yaml


def name_of(name: str) -> str:
    """The probe of a table, or of a recipe."""
    return f"{name}_probe"


def recipe(entry: Finetune) -> Finetune:
    """The recipe of a probe: as many steps, patches and cases, one augmentation, a linear decoder, and a frozen encoder.

    The peak learning rate is 1e-2; if the recipe has a grid of learning rates, a third of it and three times it are in the grid.
    """
    made = entry.model_copy(
        update={
            "phases": [Phase(steps=entry.steps, lr=LR, decay="cosine", train="decoder")],
            "epoch_steps": None,
            "decoder": "linear",
            "decoder_options": {},
            "transfer": "encoder",
            "stem": "divide",
            "deep_supervision": "all",
            "augmentation_scratch": None,
            "lr_grid": [],
        }
    )
    return made.model_copy(update={"lr_grid": fairness.grid(made)}) if entry.lr_grid else made


def added(config: Config, rows: dict[str, list[RowSpec]]) -> tuple[Config, dict[str, list[RowSpec]]]:
    """The config with the probes of all tables that ask for them, and the rows of all tables with those of the probes.

    A probe has the rows of one n_train: that of the table if it is a number, else the largest number of a row, else 'all'.

    Raises:
        UserError: a table or a recipe has the name of a probe.
    """
    tables, recipes, all_rows = dict(config.tables), dict(config.finetune), dict(rows)
    for name, of_table in rows.items():
        if not config.tables[name].probe:
            continue
        n_train = _n_train(config.tables[name], of_table)
        chosen = [row for row in of_table if row.n_train == n_train and not row.external and "--" not in row.init]
        for section, one in [("tables", name_of(name)), *(("finetune", name_of(row.recipe)) for row in chosen)]:
            if one in getattr(config, section):
                problem = f"'{one}' has the name of a probe of the table '{name}'"
                raise UserError(problem, where=config.where(section, one), fix="give it another name")
        recipes |= {name_of(row.recipe): recipe(config.finetune[row.recipe]) for row in chosen}
        tables[name_of(name)] = _table(config.tables[name])
        all_rows[name_of(name)] = [_row(row, {one.arm for one in chosen}) for row in chosen]
    return config.model_copy(update={"tables": tables, "finetune": recipes}), all_rows


def _n_train(table: Table, rows: list[RowSpec]) -> str:
    numbers = [row.n_train for row in rows if row.n_train != "all" and not row.external]
    if str(table.n_train) in numbers:
        return str(table.n_train)
    return max(numbers, key=int, default="all")


def _table(table: Table) -> Table:
    title = f"{table.title}: linear probe of the frozen encoder"
    return table.model_copy(update={"title": title, "published": None, "hours": False, "probe": False})


def _row(row: RowSpec, arms: set[tuple[str, str, str, str]]) -> RowSpec:
    """A row of a probe; a baseline that is not among the probes is that from scratch."""
    against = row.against if row.against in arms else None
    if against:
        against = (against[0], against[1], name_of(against[2]), against[3])
    return row.model_copy(update={"recipe": name_of(row.recipe), "against": against})
