"""The pages of the audits: they say what the tables hold, escape it, and stand alone."""

from __future__ import annotations

import pandas as pd

from brainpretrain import datasets
from brainpretrain.cohorts import overlap
from brainpretrain.report import licences
from brainpretrain.report.pages import audits as audit_pages
from page_fixtures import HOSTILE, cells

SPLITS = {"t": {"dataset": "d", "seed": 7, "pool": ["a", "b"], "test": ["c"], "patients": {"a": "p9", "c": "p9"}}}


def tables(name: str = "", subject: str = "B1", n: int = 1) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As read back from overlap.tsv and pairs.tsv."""
    shared = {
        "task": "t",
        "cohort": "test",
        "dataset": "d",
        "evaluated": "1313",
        "shared": "1",
        "by_name": "0",
        "by_content": "1",
        "look": "0",
        "without_brain": "3",
    }
    pair = {"task": "t", "cohort": "test", "dataset": "d", "subject": subject, "corpus_dataset": "msd", "corpus_subject": "M1"}
    pair |= {"name": name, "volumes": "2", "how": "near", "correlation": "0.971", "volume": "B1_T1w", "corpus_volume": "M1_T1w"}
    pair["level"] = "same"
    pairs = pd.DataFrame([pair] * n, columns=overlap.PAIR_COLUMNS)
    return pd.DataFrame([shared | {"subjects": subject}], columns=overlap.OVERLAP_COLUMNS), pairs


def test_the_overlap_page_shows_counts_pairs_and_protocol() -> None:
    page = audit_pages.overlap_page({"big": ("amaes", *tables())}, 0.85, SPLITS)
    assert ["t", "test", "d", "1,313", "1", "0", "1", "0", "3"] in cells(page)
    assert ["t, test", "B1", "msd: M1", "other name", "2", "same image: B1_T1w and M1_T1w", "0.971", "same"] in cells(page)
    assert ["t", "d", "7", "2", "1", "p9"] in cells(page)
    assert "Corpus big: protocol amaes" in page and "transductive" in page and "by 0.85 or more" in page
    assert "<script" not in page and "<link" not in page


def test_pairs_that_only_images_reveal_come_first_and_unlisted_pairs_are_counted() -> None:
    shared, known = tables("same", n=audit_pages.MAX_PAIRS + 3)
    both = pd.concat([known, tables("")[1]], ignore_index=True)
    page = audit_pages.overlap_page({"big": ("amaes", shared, both)}, 0.85, {})
    rows = [row for row in cells(page) if row and row[0] == "t, test"]
    assert rows[0][3] == "other name" and len(rows) == audit_pages.MAX_PAIRS and "4 more pairs are in pairs.tsv" in page


def test_names_are_escaped() -> None:
    assert HOSTILE not in audit_pages.overlap_page({"c": ("strict", *tables(subject=HOSTILE))}, 0.85, {})


def test_a_page_without_pairs_or_without_corpora_says_so() -> None:
    shared, pairs = tables()
    assert "No pair was found." in audit_pages.overlap_page({"c": ("strict", shared, pairs[:0])}, 0.85, {})
    assert "The study pretrains on nothing." in audit_pages.overlap_page({}, 0.85, {})


def test_the_licences_page_says_what_is_forbidden_by_which() -> None:
    used = [(name, datasets.load(name), ["pretraining"]) for name in ("adni", "isles22", "ixi")]
    page = audit_pages.licences_page(licences.licence_table(used, []))
    assert [licences.SHARE_ALIKE, "ixi"] in cells(page) and [licences.NO_COPIES, "adni"] in cells(page)
    assert "CC BY 4.0" in page and datasets.load("adni").licence_url in page and "<a " not in page
