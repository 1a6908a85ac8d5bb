"""Whether the trainings behind a table were long enough, and which learning rate each arm got: from logs and choices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers
from brainpretrain.report.grid import Cell, Grid
from brainpretrain.report.results import ARM
from brainpretrain.words import count

PARTS = 5
STILL_FALLING = 0.05  # of the whole fall of the loss, in the last fifth of the steps
NO_BETTER = "It is no better, so its arms say little about pretraining"
COLUMNS = ["row", "column", "task", *ARM, "trainings", "first", "before_last", "last", "left", "converged", "rates", "at_edge"]


def last_fall(curves: list[pd.DataFrame]) -> dict[str, float]:
    """The mean training loss in the first, fourth and last fifth of the steps, and the share of its fall in the last one.

    Args:
        curves: logs of trainings of the same length, with columns step and loss.

    Returns:
        first, before_last, last; left: (before_last - last) / (first - last), NaN where the loss did not fall or a log has fewer
        than five rows.
    """
    log = pd.concat(curves).groupby("step")["loss"].mean().dropna()
    if len(log) < PARTS:
        return dict.fromkeys(("first", "before_last", "last", "left"), float("nan"))
    parts = [float(part.mean()) for part in np.array_split(log.to_numpy(), PARTS)]
    fall = parts[0] - parts[-1]
    left = (parts[-2] - parts[-1]) / fall if fall > 0 else float("nan")
    return {"first": parts[0], "before_last": parts[-2], "last": parts[-1], "left": left}


def build(
    spec: TableSpec, logs: Mapping[str, pd.DataFrame], rates: Mapping[str, Mapping[str, Any]], grids: Mapping[str, list[float]]
) -> pd.DataFrame:
    """A line for each row and each task of the table.

    An arm has converged if the last fifth of its steps brought less than `STILL_FALLING` of the whole fall of its training loss.

    Args:
        logs: log of each fine-tuning, by its path below the study.
        rates: output of `choose-rate`, by path below `learning_rates/`, without suffix.
        grids: learning rates of each recipe that has a grid.

    Returns:
        `COLUMNS`: trainings (with a log), losses and left (see `last_fall`), converged ('yes', 'no', or 'not known'), rates
        ('0.0003 in 2 folds'), at_edge (folds whose rate is the smallest or largest of the grid).
    """
    lines = []
    for task, title in {column.task: column.title for column in spec.columns}.items():
        for row in (row for row in spec.rows if not row.external):
            path = Arm(task, *row.arm).path
            found = [logs[f"{path}/fold{name}"] for name in spec.fold_names if f"{path}/fold{name}" in logs]
            curve = last_fall(found) if found else dict.fromkeys(("first", "before_last", "last", "left"), float("nan"))
            if len({curve["step"].max() for curve in found}) > 1:  # some ended early, at rates that had not decayed
                curve = dict.fromkeys(curve, float("nan"))
            known = not np.isnan(curve["left"])
            chosen = [rates[key] for fold in spec.folds if (key := f"{path.removeprefix('finetune/')}/fold{fold}") in rates]
            per_rate = Counter(one["lr"] for one in chosen) if row.recipe in grids else Counter()
            lines.append(
                {"row": row.title, "column": title, "task": task, **dict(zip(ARM, row.arm, strict=True)), **curve}
                | {"trainings": len(found), "at_edge": sum(one["at_edge"] for one in chosen)}
                | {"converged": ("yes" if curve["left"] < STILL_FALLING else "no") if known else "not known"}
                | {"rates": ", ".join(f"{lr:g} in {count(n, 'fold')}" for lr, n in sorted(per_rate.items()))}
            )
    return pd.DataFrame(lines, columns=COLUMNS).round({name: 6 for name in ("first", "before_last", "last", "left")})


def sanity(name: str, log: pd.DataFrame) -> str:
    """Whether a pretraining reconstructs better than the mean of the visible voxels around, in words.

    Args:
        name: of the pretraining.
        log: its log. val_loss_mean of the last validation is compared with the error of the network: val_loss_hidden if it is
            logged, val_loss_reconstruction of several tasks, else val_loss, which is then this error (S3D, Models Genesis).
    """
    errors = [column for column in ("val_loss_hidden", "val_loss_reconstruction", "val_loss") if column in log.columns]
    names = [*errors[:1], "val_loss_mean"]
    known = log.dropna(subset=names) if set(names) <= set(log.columns) else log.head(0)
    if known.empty:
        return f"Pretraining {name}: it reconstructs nothing, or logs no error of it, so it was not compared with the local mean."
    own, local = (float(known[column].iloc[-1]) for column in names)
    where = " at hidden voxels" if names[0] == "val_loss_hidden" else " of the reconstruction"
    words = f"Pretraining {name}: validation error{where} {own:.4f}, of the mean of the visible voxels around {local:.4f}"
    return f"{words}." if own < local else f"{words}. {NO_BETTER}."


def grid(lines: pd.DataFrame, spec: TableSpec, grids: Mapping[str, list[float]], pretrainings: Sequence[str] = ()) -> Grid:
    """Lays out what `build` returned; `pretrainings`: what `sanity` said of each."""
    header = ["Data", "Model", "trainings", "loss, fourth and last fifth", "fall in the last fifth", "converged", "learning rate"]
    body = []
    for line in lines.to_dict("records"):
        known = pd.notna(line["left"])
        losses = f"{line['before_last']:.4f}, {line['last']:.4f}" if known else "–"
        share = f"{100 * line['left']:.1f} %".replace("-", numbers.MINUS) if known else "–"
        cells = [
            line["column"],
            line["row"],
            str(line["trainings"]),
            losses,
            share,
            line["converged"],
            line["rates"] or "of the recipe",
        ]
        body.append(tuple(map(Cell, cells)))
    notes = [
        f"Converged: the last fifth of the steps brought less than {numbers.share(STILL_FALLING)} of the whole fall of the"
        " training loss, mean over the trainings of the row. A learning rate that decays lowers a loss at the end of any"
        " training; and a loss on training cases may fall while scores do not."
    ]
    if (lines["converged"] == "no").any():
        notes.append("Where an arm has not converged, the comparison is of this length of training, and may change with more.")
    for recipe, rates in grids.items():
        notes.append(
            f"Learning rate of '{recipe}': of {', '.join(f'{lr:g}' for lr in rates)}, in each fold the one with the highest Dice"
            " on the rest of the pool, which neither trains nor counts in the table; one training each, with the first seed."
        )
    if lines["at_edge"].sum():
        notes.append(
            f"In {count(int(lines['at_edge'].sum()), 'fold')} it is at the edge of the grid, so a better one may lie outside."
        )
    notes += [words for words in pretrainings if NO_BETTER not in words]
    warnings = tuple(words for words in pretrainings if NO_BETTER in words)
    starts = frozenset(range(len(spec.rows), len(body), len(spec.rows)))
    return Grid(f"{spec.title}: trainings", tuple(map(Cell, header)), tuple(body), tuple(notes), 2, starts, warnings=warnings)


def key_of_log(path: str) -> str:
    """The path of a training below its study, from that of its log."""
    return path[path.rindex("finetune/") :].rpartition("/")[0]


def key_of_rate(path: str) -> str:
    """The path below `learning_rates/`, without suffix."""
    return path[path.rindex("learning_rates/") + len("learning_rates/") :].removesuffix(".json")
