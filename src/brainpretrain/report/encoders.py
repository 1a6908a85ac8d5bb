"""What fine-tuning made of the encoders behind a table: similarity and size of their features before and after, by level."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from brainpretrain.plan.runs import Arm
from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers
from brainpretrain.report.grid import Cell, Grid
from brainpretrain.report.results import ARM

NUMBERS = ["level", "stride", "channels", "positions", "cka", "change", "norm"]
MEASURES = ("cka", "change", "norm")
COLUMNS = [
    "row",
    "column",
    "task",
    *ARM,
    "level",
    "stride",
    "folds",
    *(f"{name}{end}" for name in MEASURES for end in ("", "_sd")),
]


def build(spec: TableSpec, found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """A line for each task, row and level of its encoder.

    Args:
        spec: the table.
        found: output of `compare-encoders`, by path of the arm below the study.

    Returns:
        `COLUMNS`: cka, change and norm are means over the folds, with their SD (n - 1); no line for an arm without a table.
    """
    lines = []
    for task, title in {column.task: column.title for column in spec.columns}.items():
        for row in spec.rows:
            table = found.get(Arm(task, *row.arm).path)
            if table is None:
                continue
            for level, folds in table.groupby("level"):
                line = {"row": row.title, "column": title, "task": task, **dict(zip(ARM, row.arm, strict=True))}
                line |= {"level": int(level), "stride": int(folds["stride"].iloc[0]), "folds": len(folds)}
                lines.append(
                    line
                    | {name: folds[name].mean() for name in MEASURES}
                    | {f"{name}_sd": folds[name].std() for name in MEASURES}
                )
    return pd.DataFrame(lines, columns=COLUMNS).round({f"{name}{end}": 6 for name in MEASURES for end in ("", "_sd")})


def grid(lines: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays out what `build` returned."""
    header = ["Data", "Model", "Stride", "CKA", "change", "norm"]
    body, starts = [], set()
    for (_, _), levels in lines.groupby(["task", "row"], sort=False):
        starts.add(len(body))
        for line in levels.to_dict("records"):
            values = [_shown(line[name], line[f"{name}_sd"]) for name in MEASURES]
            body.append(tuple(map(Cell, [line["column"], line["row"], str(line["stride"]), *values])))
    notes = (
        "Features of each level of the encoder before and after fine-tuning, on the same patches, which trained no model of their"
        " fold unless all cases train: mean over folds (first seed), ± SD (n - 1).",
        "CKA: 1 if fine-tuning left the features as they were, up to rotation and scale; about 0 if it replaced them. change:"
        " norm of the difference over the norm before. norm: norm after over the norm before.",
        f"'{spec.baseline}' starts from a random encoder, so its CKA shows what fine-tuning leaves of random features. Of a"
        " pretrained encoder with a CKA as low, fine-tuning kept no more than of a random one.",
    )
    return Grid(
        f"{spec.title}: encoders before and after fine-tuning",
        tuple(map(Cell, header)), tuple(body), notes, stub=2, starts=frozenset(starts - {0}),
    )  # fmt: skip


def _shown(value: float, sd: float) -> str:
    text = f"{value:.3f}" + (f" ± {sd:.3f}" if pd.notna(sd) else "")
    return text.replace("-", numbers.MINUS) if pd.notna(value) else "–"


def key_of(path: str) -> str:
    """The path of an arm below its study, from that of its output of `compare-encoders`."""
    return path[path.rindex("finetune/") :].rpartition("/")[0]
