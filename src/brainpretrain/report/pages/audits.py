"""The pages of the audits: overlap of corpora with cohorts, and licences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainpretrain.cohorts.overlap import on_both_sides
from brainpretrain.report.licences import UNKNOWN
from brainpretrain.report.pages.html import MISSING, Table, render, table

MAX_PAIRS = 500
HOW = {"exact": "equal voxels", "near": "same image", "mirrored": "same image, mirrored", "": ""}
NAME = {"same": "same name", "alias": "alias", "": "other name"}


def overlap_page(
    overlaps: Mapping[str, tuple[str, pd.DataFrame, pd.DataFrame]], near: float, splits: Mapping[str, Mapping[str, Any]]
) -> str:
    """The subjects of each corpus that are scored too, and the patients that are on both sides of a split.

    Args:
        overlaps: corpus -> its protocol and the two tables that `overlap.shared_subjects` returned, read back as text.
        near: correlation from which two volumes counted as one image.
        splits: task -> what `splits.split` returned.
    """
    corpora = [
        {
            "name": corpus,
            "protocol": protocol,
            "cohorts": _cohorts(shared),
            "pairs": _pairs(pairs) if len(pairs) else None,
            "more_pairs": len(pairs) - MAX_PAIRS,
        }
        for corpus, (protocol, shared, pairs) in sorted(overlaps.items())
    ]
    header = ["Task", "Data set", "Seed", "Pool", "Test", "Patients on both sides"]
    rows = [
        [task, s["dataset"], s["seed"], len(s["pool"]), len(s["test"]), " ".join(on_both_sides(s)) or "none"]
        for task, s in sorted(splits.items())
    ]
    title, listed = "Overlap of corpora and cohorts", table(header, rows, numeric=(2, 3, 4))
    return render("overlap", title=title, near=f"{near:g}", corpora=corpora, splits=listed)


def _cohorts(shared: pd.DataFrame) -> Table:
    header = ["Task", "Cohort", "Data set", "Subjects scored", "In the corpus", "By name", "By image"]
    columns = ["task", "cohort", "dataset", "evaluated", "shared", "by_name", "by_content"]
    rows = [[*row[:3], *(f"{int(number):,}" for number in row[3:])] for row in shared[columns].itertuples(index=False)]
    return table(header, rows, numeric=(3, 4, 5, 6))


def _pairs(pairs: pd.DataFrame) -> Table:
    """The first pairs of subjects; pairs that only the images reveal come first, since no name hints at them."""
    order = {"": 0, "alias": 1, "same": 2}
    pairs = pairs.sort_values("name", key=lambda names: names.map(order), kind="stable")
    header = ["Task, cohort", "Subject", "In the corpus", "Name", "Equal images", "Nearest", "Correlation"]
    rows = [
        [
            f"{pair['task']}, {pair['cohort']}",
            pair["subject"],
            f"{pair['corpus_dataset']}: {pair['corpus_subject']}",
            NAME[pair["name"]],
            pair["volumes"],
            _nearest(pair),
            f"{float(pair['correlation']):.3f}" if pair["how"] else MISSING,
        ]
        for pair in pairs[:MAX_PAIRS].to_dict("records")
    ]
    return table(header, rows, numeric=(4, 6))


def _nearest(pair: Mapping[str, str]) -> str:
    """How the two nearest volumes agree, with their names where these differ."""
    if not pair["how"]:
        return MISSING
    names = "" if pair["volume"] == pair["corpus_volume"] else f": {pair['volume']} and {pair['corpus_volume']}"
    return HOW[pair["how"]] + names


def licences_page(licences: pd.DataFrame) -> str:
    """Data and weights in use, their licences, and what these forbid.

    Args:
        licences: what `licences.licence_table` returned.
    """
    forbids = licences["forbids"].str.split("; ")
    acts = {act for cell in forbids for act in cell if act}
    forbidden = [
        [act, ", ".join(licences.loc[forbids.map(lambda cell, act=act: act in cell), "name"])]
        for act in sorted(acts, key=lambda act: (act == UNKNOWN, act))
    ]
    used = [
        [
            row["name"],
            row["used_for"],
            ", ".join(filter(None, (row["licence"], row["licence_url"]))),
            row["forbids"] or MISSING,
            row["citation"],
        ]
        for row in licences.to_dict("records")
    ]
    return render(
        "licences",
        title="Licences",
        forbidden=table(["What", "By the licence of"], forbidden) if forbidden else None,
        used=table(["Name", "Used for", "Licence, and where it is published", "Forbids", "Please cite"], used),
    )
