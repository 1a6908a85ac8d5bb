"""What a corpus consists of, source by source, next to the published counts (AMAES, Table 1)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.datasets.base import Dataset
from brainpretrain.report.grid import Cell, Grid

PARTS = ("subjects", "sessions", "volumes")
PUBLISHED = tuple(f"published_{part}" for part in PARTS)
MEDIANS = ("finest_mm", "coarsest_mm", "mean_intensity")
COMPOSITION_COLUMNS = ["dataset", "source", *PARTS, *PUBLISHED, "train", "val", "rejected", "sequences", *MEDIANS]


def count_sources(corpus: pd.DataFrame, tables: Mapping[str, pd.DataFrame], modules: Mapping[str, Dataset]) -> pd.DataFrame:
    """Counts of a corpus by source, next to the published counts (AMAES, Table 1).

    Args:
        corpus: dataset, volume, subject, session, sequence, role.
        tables: by data set, its table of stored volumes with volume, status, native_spacing_mm and mean.
        modules: by data set, its description.

    Returns:
        COMPOSITION_COLUMNS, a row per source, largest first, and a last row for all sources. A subject counts once in a source,
        a session once in a subject. `rejected` counts volumes of the whole data set. Spacing is that of the raw volumes
        (median of the finest and of the coarsest axis), intensity the median of the stored volumes' means (0..1).
    """
    facts = corpus.merge(_facts(tables), on=["dataset", "volume"], how="left", validate="one_to_one")
    names = sorted(facts["dataset"].unique(), key=lambda name: (-int((facts["dataset"] == name).sum()), name))
    rows = []
    for name in names:
        rejected = int((tables[name]["status"] == "rejected").sum())
        published = modules[name].brains45k or {}
        rows.append({"dataset": name, "source": _source(name, modules[name]), "rejected": rejected}
                    | _counted(facts[facts["dataset"] == name])
                    | {f"published_{part}": published.get(part, np.nan) for part in PARTS})  # fmt: skip
    total: dict[str, Any] = {"dataset": "all", "source": "all sources", "rejected": sum(row["rejected"] for row in rows)}
    summed = {part: sum(row[part] for row in rows) for part in PUBLISHED}
    frame = pd.DataFrame([*rows, total | _counted(facts) | summed], columns=COMPOSITION_COLUMNS)
    return frame.astype(dict.fromkeys(PUBLISHED, "Int64"))


def _source(name: str, dataset: Dataset) -> str:
    """Title of a source, with its name if it is the user's own data, since such sources may share a title ('BIDS folder')."""
    return dataset.title if dataset.name == name else f"{name} ({dataset.title})"


def _facts(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Finest and coarsest spacing and mean intensity of every accepted volume."""
    stored = pd.concat([table[table["status"] == "ok"].assign(dataset=name) for name, table in tables.items()])
    spacing = stored["native_spacing_mm"].str.split().map(lambda words: [float(word) for word in words])
    return pd.DataFrame({"dataset": stored["dataset"], "volume": stored["volume"], "finest_mm": spacing.map(min),
                         "coarsest_mm": spacing.map(max), "mean_intensity": pd.to_numeric(stored["mean"])})  # fmt: skip


def _counted(rows: pd.DataFrame) -> dict[str, Any]:
    sequences = rows["sequence"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    medians = rows[list(MEDIANS)].median().round(4)
    return {
        "subjects": len(rows[["dataset", "subject"]].drop_duplicates()),
        "sessions": len(rows[["dataset", "subject", "session"]].drop_duplicates()),
        "volumes": len(rows),
        "train": int((rows["role"] == "train").sum()),
        "val": int((rows["role"] == "val").sum()),
        "sequences": ", ".join(f"{name} {number}" for name, number in sequences.items()),
    } | medians.to_dict()


def composition_grid(frame: pd.DataFrame, name: str) -> Grid:
    """Lays out what `count_sources` returned; published counts are shown next to those of the corpus."""
    header = ["Source", "Sequences", "Subjects", "Sessions", "Volumes", "Spacing (mm)", "Mean intensity", "Rejected"]
    rows = []
    for row in frame.to_dict("records"):
        counts = [_with_published(row[part], row[f"published_{part}"]) for part in PARTS]
        spacing = Cell(" – ".join(dict.fromkeys(f"{row[axis]:.3g}" for axis in ("finest_mm", "coarsest_mm"))))
        rows.append((Cell(row["source"]), Cell(row["sequences"]), *counts, spacing, Cell(f"{row['mean_intensity']:.3f}"),
                     Cell(f"{row['rejected']:,}")))  # fmt: skip
    last = frame.to_dict("records")[-1]
    notes = [f"{last['train']:,} volumes to train and {last['val']:,} to validate, split by subject.",
             "Spacing: medians over volumes of the finest and of the coarsest axis, as delivered.",
             "Mean intensity: median over stored volumes, 0 to 1. Rejected: of the whole data set."]  # fmt: skip
    if frame["published_volumes"].notna().any():
        notes.append("Published: what the source gives to BRAINS-45K (AMAES, Table 1).")
    title = f"What the corpus {name} is made of"
    return Grid(title, tuple(map(Cell, header)), tuple(rows), tuple(notes), stub=2, starts=frozenset([len(rows) - 1]))


def _with_published(number: int, published: Any) -> Cell:
    return Cell(f"{number:,}", "" if pd.isna(published) else f"published {published:,}")
