"""The pages of the audits in the report."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import pandas as pd

from brainpretrain.cohorts.overlap import on_both_sides
from brainpretrain.report.licences import UNKNOWN
from brainpretrain.report.pages import html as pages

MAX_PAIRS = 500
HOW = {"exact": "equal voxels", "near": "same image", "mirrored": "same image, mirrored", "": ""}
NAME = {"same": "same name", "alias": "alias", "": "other name"}
PROTOCOLS = {
    "strict": "No subject that is scored may be in the corpus, by name or by image.",
    "amaes": "As published. Subjects of the corpus may be scored too; where they are, scores are transductive: the encoder saw "
    "the images, not the labels.",
}


def overlap_page(
    found: Mapping[str, tuple[str, pd.DataFrame, pd.DataFrame]], near: float, splits: Mapping[str, Mapping[str, Any]]
) -> str:
    """Who of each corpus is scored too, and who is on both sides of a split.

    Args:
        found: by corpus, its protocol, and what `overlap.shared_subjects` returned, read back as text.
        near: correlation from which two volumes counted as one image.
        splits: by task, what `splits.split` returned.
    """
    body = (
        "<p>Every corpus is compared with every cohort that the study scores: by subject and patient, and by the images "
        f"themselves. Two volumes count as one image if their voxels are equal, or their fingerprints correlate by {near:g} or "
        "more.</p>\n"
    )
    for corpus, (protocol, shared, pairs) in sorted(found.items()):
        body += f"<h2>Corpus {escape(corpus)}: protocol {escape(protocol)}</h2>\n<p>{PROTOCOLS[protocol]}</p>\n"
        body += _cohorts(shared) + _pairs(pairs)
    if not found:
        body += "<p>The study pretrains on nothing.</p>\n"
    body += "<h2>Splits</h2>\n<p>Pool and fixed test set of each task, drawn by name as published. A patient who is on both "
    body += "sides under two names is tested, and no fold trains on the other name.</p>\n"
    header = ["Task", "Data set", "Seed", "Pool", "Test", "Patients on both sides"]
    rows = [[task, s["dataset"], s["seed"], len(s["pool"]), len(s["test"]), " ".join(on_both_sides(s)) or "none"]
            for task, s in sorted(splits.items())]  # fmt: skip
    return pages.page("Overlap of corpora and cohorts", body + pages.table(header, rows, numeric=(2, 3, 4)))


def _cohorts(shared: pd.DataFrame) -> str:
    header = ["Task", "Cohort", "Data set", "Subjects scored", "In the corpus", "By name", "By image"]
    columns = ["task", "cohort", "dataset", "evaluated", "shared", "by_name", "by_content"]
    rows = [[*row[:3], *(f"{int(number):,}" for number in row[3:])] for row in shared[columns].itertuples(index=False)]
    return pages.table(header, rows, numeric=(3, 4, 5, 6))


def _pairs(pairs: pd.DataFrame) -> str:
    """The pairs of subjects; those that only an image tells of come first, since nobody knew of them."""
    if pairs.empty:
        return "<p>No pair was found.</p>\n"
    order = {"": 0, "alias": 1, "same": 2}
    listed = pairs.sort_values("name", key=lambda names: names.map(order), kind="stable")
    header = ["Task, cohort", "Subject", "In the corpus", "Name", "Equal images", "Nearest", "Correlation"]
    rows = []
    for pair in listed[:MAX_PAIRS].to_dict("records"):
        correlation = f"{float(pair['correlation']):.3f}" if pair["how"] else "–"
        rows.append([f"{pair['task']}, {pair['cohort']}", pair["subject"], f"{pair['corpus_dataset']}: {pair['corpus_subject']}",
                     NAME[pair["name"]], pair["volumes"], _nearest(pair), correlation])  # fmt: skip
    more = len(pairs) - MAX_PAIRS
    note = f'<p class="notes">{more:,} more pairs are in pairs.tsv beside overlap.tsv.</p>\n' if more > 0 else ""
    return "<h3>Pairs of subjects</h3>\n" + pages.table(header, rows, numeric=(4, 6)) + note


def _nearest(pair: Mapping[str, str]) -> str:
    """The two volumes that are nearest, named where they have two names."""
    if not pair["how"]:
        return "–"
    names = "" if pair["volume"] == pair["corpus_volume"] else f": {pair['volume']} and {pair['corpus_volume']}"
    return HOW[pair["how"]] + names


def licences_page(licences: pd.DataFrame) -> str:
    """What `licences.licence_table` returned, with what must not be done."""
    body = (
        "<p>What the study uses, under which licence, and what that forbids, as far as the name of the licence and the terms of "
        "access tell. Read the licence itself before you pass anything on. Whether an encoder that was trained on the data falls "
        "under the licence of the data is not settled here.</p>\n"
    )
    found = {what for cell in licences["forbids"] for what in cell.split("; ") if what}
    together = sorted(found, key=lambda what: (what == UNKNOWN, what))
    body += "<h2>Forbidden for some of it, or not known</h2>\n"
    forbids = licences["forbids"].str.split("; ")
    rows = [[what, ", ".join(licences.loc[forbids.map(lambda cell, what=what: what in cell), "name"])] for what in together]
    body += pages.table(["What", "By the licence of"], rows) if rows else "<p>Nothing.</p>\n"
    body += "<h2>In use</h2>\n"
    header = ["Name", "Used for", "Licence, and where it stands", "Forbids", "Please cite"]
    shown = [
        [
            row["name"],
            row["used_for"],
            ", ".join(filter(None, (row["licence"], row["licence_url"]))),
            row["forbids"] or "–",
            row["citation"],
        ]
        for row in licences.to_dict("records")
    ]
    return pages.page("Licences", body + pages.table(header, shown))
