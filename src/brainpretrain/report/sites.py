"""Scores of a cohort, split into sites that occur in the training pool and sites that do not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from brainpretrain.errors import UserError

_LISTED = 20  # names in a message


def by_site(scores: pd.DataFrame, index: pd.DataFrame, trained: set[str]) -> pd.DataFrame:
    """Scores of a cohort, followed by the same scores under `<cohort>_seen` (sites of the pool) or `<cohort>_unseen` (others).

    Args:
        scores: rows with dataset-wide subject names and a cohort.
        index: of the scored data set, with subject and site.
        trained: the sites of the task's pool.

    Raises:
        UserError: the index has no site for a scored subject.
    """
    sites = dict(zip(index["subject"], index["site"], strict=True))
    site = scores["subject"].map(sites).fillna("")
    if (site == "").any():
        subjects = sorted(scores.loc[site == "", "subject"].unique())
        cohort = f"cohort '{scores['cohort'].iloc[0]}'"
        raise UserError(f"no site is known of {', '.join(subjects[:_LISTED])}", fix=f"take 'by_site' out of the task's {cohort}")
    seen = site.isin(trained)
    parts = [scores[seen].assign(cohort=scores["cohort"] + "_seen"), scores[~seen].assign(cohort=scores["cohort"] + "_unseen")]
    return pd.concat([scores, *parts], ignore_index=True)


def sites_of_pool(index: pd.DataFrame, subjects: Mapping[str, Any]) -> set[str]:
    """The sites of a task's pool.

    Args:
        index: of the data set that the task trains on, with subject and site.
        subjects: what `splits.split` returned for the task.
    """
    return set(index.loc[index["subject"].isin(set(subjects["pool"])), "site"])


def overlap_by_site(overlap: pd.DataFrame) -> pd.DataFrame:
    """The audit, repeated for both parts of each cohort, since it does not tell the site of a shared subject."""
    parts = [overlap.assign(cohort=overlap["cohort"] + part) for part in ("_seen", "_unseen")]
    return pd.concat([overlap, *parts], ignore_index=True)
