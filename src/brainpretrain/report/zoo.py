"""One page about published encoders: which of them helps on these data, by how much, at what cost, and under which licence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from brainpretrain.plan.table_spec import TableSpec
from brainpretrain.report import numbers
from brainpretrain.report.grid import Cell, Grid
from brainpretrain.report.licences import release_forbids
from brainpretrain.report.metrics import metric_of
from brainpretrain.report.verdicts import HELPS
from brainpretrain.words import count

COLUMNS = ["encoder", "backbone", "task", "cohort", "n_train", "verdict", "delta", "delta_low", "delta_high", "to_decide",
           "finetune_hours", "tuning_hours", "hardware", "licence", "forbids", "page"]  # fmt: skip


def build(
    judged: Sequence[pd.DataFrame], costs: Sequence[pd.DataFrame], releases: Mapping[str, Mapping[str, Any]]
) -> pd.DataFrame:
    """A line for each arm that starts from a published encoder, best first.

    Args:
        judged: `verdicts.judge` of each table of the study.
        costs: `costs.arms` of the same tables.
        releases: licence, page, citation and perhaps `forbids`, by release.

    Returns:
        COLUMNS. Arms that help go first, then by the difference; hours are those of one training, without the pretraining, whose
        hours are unknown, and of choosing its learning rate.
    """
    keys = ["task", "cohort", "backbone", "init", "recipe", "n_train"]
    lines = pd.concat([frame.assign(n_train=frame["n_train"].astype(str)) for frame in judged])
    hours = pd.concat([frame.assign(n_train=frame["n_train"].astype(str)) for frame in costs])
    lines = lines[lines["init"].isin(releases)].merge(
        hours[[*keys, "finetune_hours", "tuning_hours", "hardware"]], on=keys, how="left"
    )
    terms = lines["init"].map(releases)
    lines = lines.assign(
        encoder=lines["init"],
        licence=[release["licence"] or "not known" for release in terms],
        forbids=[release_forbids(release) for release in terms],
        page=[release["page"] for release in terms],
        first=lines["verdict"] != HELPS,
    )
    return lines.sort_values(["first", "delta"], ascending=[True, False], kind="stable")[COLUMNS].reset_index(drop=True)


def answer(table: pd.DataFrame, spec: TableSpec) -> str:
    """The answer in a sentence or two: the encoder that helps most at the largest budget, and its licence."""
    metric = metric_of(spec)
    helping = table[table["verdict"] == HELPS]
    if helping.empty:
        undecided = int((table["verdict"] == "undecided").sum())
        return f"No encoder is shown to help on these data; {count(undecided, 'arm')} of {len(table)} undecided."
    budgets = helping["n_train"].map(lambda n: float("inf") if n == "all" else int(n))
    best = helping[budgets == budgets.max()].sort_values("delta", ascending=False, kind="stable").iloc[0]
    low, high = (numbers.signed(best[f"delta_{end}"], metric) for end in ("low", "high"))
    terms = f"; it forbids: {best['forbids']}" if best["forbids"] else ""
    return (
        f"'{best['encoder']}' ({best['backbone']}) helps most, with {best['n_train']} labelled cases: "
        f"{numbers.signed(best['delta'], metric)} {numbers.interval(low, high)}. Its licence: {best['licence']}{terms}."
    )


def grid(table: pd.DataFrame, spec: TableSpec) -> Grid:
    """Lays the table out, with the answer as its first note."""
    metric = metric_of(spec)
    header = ("Encoder", "Network", "Labelled cases", "Verdict", "Difference", "GPU hours", "Licence", "It forbids")
    rows = tuple(
        (
            Cell(line["encoder"]),
            Cell(line["backbone"]),
            Cell(str(line["n_train"])),
            Cell(line["verdict"], under=(line["to_decide"],) if line["to_decide"] else ()),
            _difference(line, metric),
            Cell("–" if pd.isna(line["finetune_hours"]) else f"{line['finetune_hours']:.2f}", under=_tuning(line)),
            Cell(line["licence"]),
            Cell(line["forbids"] or "nothing"),
        )
        for line in table.to_dict("records")
    )
    notes = (
        answer(table, spec),
        "Verdicts are against the same network from scratch, with the same cases, augmentation, schedule and choice of rate.",
        "GPU hours: by the clock of one fine-tuning, and of choosing its learning rate; without a GPU, hours of the CPU."
        " The pretraining was done elsewhere and is not counted.",
        "Encoders of different networks are not compared with each other by a test.",
    )
    title = "Published encoders on these data"
    return Grid(title, tuple(map(Cell, header)), rows, notes, stub=3, starts=frozenset(), narrow=True)


def _difference(line: Mapping[str, Any], metric: Any) -> Cell:
    if pd.isna(line["delta"]):
        return Cell("–", tone="missing")
    shown = numbers.signed(line["delta"], metric)
    if pd.isna(line["delta_low"]):
        return Cell(shown)
    return Cell(shown, under=(numbers.interval(*(numbers.signed(line[f"delta_{end}"], metric) for end in ("low", "high"))),))


def _tuning(line: Mapping[str, Any]) -> tuple[str, ...]:
    return (
        () if pd.isna(line["tuning_hours"]) or not line["tuning_hours"] else (f"+ {line['tuning_hours']:.2f} choosing the rate",)
    )
