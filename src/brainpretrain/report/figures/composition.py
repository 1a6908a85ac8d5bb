"""The composition of a pretraining corpus: volumes by source and sequence, spacing, intensity."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from brainpretrain.report.figures.canvas import DARK, SEQUENCE_COLOURS, figure_at, write_message

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_SOURCES = 30
HISTOGRAMS = {
    "finest_mm": "Native spacing, finest axis (mm)",
    "coarsest_mm": "Native spacing, coarsest axis (mm)",
    "mean": "Mean intensity of the stored volume",
}


def draw(corpus: pd.DataFrame, stored: Mapping[str, pd.DataFrame], path: Path | str) -> None:
    """Draws the volumes of a corpus by source and sequence, their native spacing and their stored intensity.

    Args:
        corpus: dataset, volume, subject, session, sequence, role ('train' or 'val').
        stored: each dataset of the corpus -> rows of its table of stored volumes with volume, status, native_spacing_mm
            ('1.0 1.0 3.0'), mean.
        path: .svg or .png.
    """
    facts = _with_facts(corpus, stored)
    sequences = _ranked(corpus["sequence"], len(SEQUENCE_COLOURS), "other")
    sources = _ranked(corpus["dataset"], MAX_SOURCES, "other sources")
    facts["sequence"] = facts["sequence"].where(facts["sequence"].isin(sequences), "other")
    facts["source"] = facts["dataset"].where(facts["dataset"].isin(sources), "other sources")
    rejected = pd.Series(0, index=sources)
    for dataset, source in dict(zip(facts["dataset"], facts["source"], strict=True)).items():
        rejected[source] += int((stored[dataset]["status"] == "rejected").sum())
    colours = dict(zip(sequences, SEQUENCE_COLOURS, strict=False))
    subjects = corpus[["dataset", "subject"]].drop_duplicates()
    title = f"{len(corpus):,} volumes of {len(subjects):,} subjects, {rejected.sum():,} volumes rejected"
    with figure_at(path, 1200, min(880, max(560, 200 + 24 * len(sources)))) as figure:
        grid = figure.add_gridspec(3, 5)
        bars = figure.add_subplot(grid[:, :3])
        _draw_sources(bars, facts, sources, rejected, colours)
        figure.legend(*bars.get_legend_handles_labels(), loc="outside lower left", ncols=len(colours) + 1)
        for i, (column, heading) in enumerate(HISTOGRAMS.items()):
            _draw_histogram(figure.add_subplot(grid[i, 3:]), facts, column, heading, colours)
        figure.suptitle(title, x=0.01, ha="left")


def _with_facts(corpus: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The corpus with finest and coarsest native spacing and mean intensity of each volume."""
    stored = pd.concat([frame.assign(dataset=dataset) for dataset, frame in tables.items()])
    stored = stored[["dataset", "volume", "native_spacing_mm", "mean"]]
    facts = corpus[["dataset", "volume", "sequence", "role"]]
    facts = facts.merge(stored, on=["dataset", "volume"], how="left", validate="one_to_one")
    spacing_mm = facts["native_spacing_mm"].fillna("").str.split().map(lambda axes: [float(axis) for axis in axes])
    return facts.assign(
        finest_mm=spacing_mm.map(lambda mm: min(mm, default=np.nan)),
        coarsest_mm=spacing_mm.map(lambda mm: max(mm, default=np.nan)),
        mean=pd.to_numeric(facts["mean"]),
    )


def _ranked(names: pd.Series, most: int, rest: str) -> list[str]:
    """Names from frequent to rare, equally frequent ones by alphabet; names beyond `most` are summed up as `rest`."""
    counts = names.value_counts()
    ranked = sorted(counts.index, key=lambda name: (-counts[name], name))
    return ranked if len(ranked) <= most else [*ranked[: most - 1], rest]


def _draw_sources(axes: Axes, facts: pd.DataFrame, sources: list[str], rejected: pd.Series, colours: Mapping[str, str]) -> None:
    """A stacked bar per source, with its numbers next to it; rejected volumes are hatched."""
    counts = facts.groupby(["source", "sequence"]).size().unstack(fill_value=0).reindex(index=sources, columns=list(colours))
    left = np.zeros(len(sources))
    for sequence, colour in colours.items():
        axes.barh(sources, counts[sequence], left=left, color=colour, edgecolor="white", label=sequence)
        left += counts[sequence].to_numpy()
    out = rejected[sources].to_numpy()
    if out.any():
        some = np.flatnonzero(out)
        style = {"color": "white", "edgecolor": DARK, "hatch": "////", "label": "rejected"}
        axes.barh([sources[i] for i in some], out[some], left=left[some], **style)
    for i, source in enumerate(sources):
        val = int((facts.loc[facts["source"] == source, "role"] == "val").sum())
        numbers = [f"{int(left[i]):,}", f"{val:,} for validation" if val else "", f"{out[i]:,} rejected" if out[i] else ""]
        text = ", ".join(filter(None, numbers))
        axes.annotate(text, (left[i] + out[i], i), (4, 0), textcoords="offset points", va="center", fontsize=9)
    axes.set(xlim=(0, 1.4 * max(left + out, default=1)), ylim=(max(len(sources), 4) - 0.5, -0.5))
    axes.grid(axis="y", visible=False)
    axes.set_title("Volumes by source and sequence", loc="left")


def _draw_histogram(axes: Axes, facts: pd.DataFrame, column: str, title: str, colours: Mapping[str, str]) -> None:
    recorded = facts[facts[column].notna()]
    if recorded.empty:
        write_message(axes, f"{title}: not recorded")
        return
    groups = [recorded.loc[recorded["sequence"] == sequence, column] for sequence in colours]
    edges = np.histogram_bin_edges(recorded[column], bins=30)
    axes.hist(groups, bins=edges, stacked=True, histtype="stepfilled", color=list(colours.values()))
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_ylabel("volumes")
