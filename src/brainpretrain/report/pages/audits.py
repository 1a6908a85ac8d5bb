"""The pages of the audits: overlap of corpora with cohorts, and licences."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from brainpretrain.cohorts import likeness
from brainpretrain.cohorts.copies import Pictures
from brainpretrain.cohorts.overlap import on_both_sides
from brainpretrain.report.licences import UNKNOWN
from brainpretrain.report.pages.html import MISSING, Table, render, table

MAX_PAIRS = 500
HOW = {
    "exact": "equal voxels",
    "near": "same image",
    "mirrored": "same image, mirrored",
    "brain": "same brain",
    "brain, mirrored": "same brain, mirrored",
    "": "",
}
LEVEL = {"same": "same", "look": "look at these", "": "same"}  # an audit of an earlier version states no level
NAME = {"same": "same name", "alias": "alias", "": "other name"}


def overlap_page(
    overlaps: Mapping[str, tuple[str, pd.DataFrame, pd.DataFrame]],
    near: float,
    splits: Mapping[str, Mapping[str, Any]],
    pictures: Mapping[str, Pictures] | None = None,
) -> str:
    """The subjects of each corpus that are scored too, and the patients that are on both sides of a split.

    Args:
        overlaps: corpus -> its protocol and the two tables that `overlap.shared_subjects` returned, read back as text.
        near: correlation from which two volumes counted as one image.
        splits: task -> what `splits.split` returned.
        pictures: corpus -> pictures of pairs that images reveal.
    """
    corpora = [
        {
            "name": corpus,
            "protocol": protocol,
            "cohorts": _cohorts(shared),
            "pairs": _pairs(pairs) if len(pairs) else None,
            "pictures": _pictures(pairs, pictures[corpus]) if pictures and corpus in pictures else [],
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
    levels = {"same": f"{likeness.SAME:g}", "look": f"{likeness.LOOK:g}"}
    return render("overlap", title=title, near=f"{near:g}", levels=levels, corpora=corpora, splits=listed)


def _cohorts(shared: pd.DataFrame) -> Table:
    header = [
        "Task",
        "Cohort",
        "Data set",
        "Subjects scored",
        "In the corpus",
        "By name",
        "By image",
        "Look at these",
        "Volumes by outline only",
    ]
    columns = ["task", "cohort", "dataset", "evaluated", "shared", "by_name", "by_content", "look", "without_brain"]
    shared = shared if "look" in shared else shared.assign(look=0, without_brain=0)  # an audit of an earlier version
    rows = [[*row[:3], *(f"{int(number):,}" for number in row[3:])] for row in shared[columns].itertuples(index=False)]
    return table(header, rows, numeric=(3, 4, 5, 6, 7, 8))


def _pairs(pairs: pd.DataFrame) -> Table:
    """The first pairs of subjects; those to look at come first, then pairs that only the images reveal: no name hints at them."""
    order, levels = {"": 1, "alias": 2, "same": 3}, pairs["level"] if "level" in pairs else pd.Series("", pairs.index)
    pairs = pairs.assign(level=levels, place=pairs["name"].map(order).where((levels != "look") | (pairs["name"] != ""), 0))
    pairs = pairs.sort_values("place", kind="stable")
    header = ["Task, cohort", "Subject", "In the corpus", "Name", "Pairs of images", "Nearest", "Correlation", "Level"]
    rows = [
        [
            f"{pair['task']}, {pair['cohort']}",
            pair["subject"],
            f"{pair['corpus_dataset']}: {pair['corpus_subject']}",
            NAME[pair["name"]],
            pair["volumes"],
            _nearest(pair),
            f"{float(pair['correlation']):.3f}" if pair["how"] else MISSING,
            LEVEL[pair["level"]] if pair["how"] and not pair["name"] else "same",
        ]
        for pair in pairs[:MAX_PAIRS].to_dict("records")
    ]
    return table(header, rows, numeric=(4, 6))


def _pictures(pairs: pd.DataFrame, found: Pictures) -> list[dict[str, str]]:
    """Caption and picture (a PNG in base64) of each pair: the volume above, its counterpart below."""
    rows = {(row["volume"], row["corpus_dataset"], row["corpus_volume"]): row for row in pairs.to_dict("records")}
    shown = []
    for names, slices in zip(found.names, found.slices, strict=True):
        if row := rows.get(names):
            caption = f"{names[0]} above, {names[2]} of {names[1]} below: {LEVEL[row.get('level', '')]}, {HOW[row['how']]}, "
            tiles = np.concatenate([np.concatenate(list(volume), axis=1) for volume in slices], axis=0)
            shown.append({"caption": caption + f"correlation {float(row['correlation']):.3f}", "png": _png(tiles)})
    return shown


def _png(image: np.ndarray) -> str:
    """A grey image (rows, columns) uint8 as a PNG in base64."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="PNG", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


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
