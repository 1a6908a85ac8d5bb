"""Scores of a cohort, split into sites that occur in the training pool and sites that do not."""

from __future__ import annotations

import pandas as pd

from brainpretrain.errors import UserError

_LISTED = 20  # names in a message


def by_site(scores: pd.DataFrame, index: pd.DataFrame, trained: set[str]) -> pd.DataFrame:
    """Scores of a cohort three times: as they are, and apart for sites that training saw (`<cohort>_seen`) and did not see.

    Args:
        scores: rows with dataset-wide subject names and a cohort.
        index: of the data set that is scored, with subject and site.
        trained: the sites of the task's pool.

    Raises:
        UserError: the index does not tell the site of a subject that is scored.
    """
    sites = dict(zip(index["subject"], index["site"], strict=True))
    site = scores["subject"].map(sites).fillna("")
    if (site == "").any():
        nobody = sorted(scores.loc[site == "", "subject"].unique())
        raise UserError(f"no site is known of {', '.join(nobody[:_LISTED])}", fix="take 'by_site' out of the task's 'ood'")
    seen = site.isin(trained)
    apart = [scores[seen].assign(cohort=scores["cohort"] + "_seen"), scores[~seen].assign(cohort=scores["cohort"] + "_unseen")]
    return pd.concat([scores, *apart], ignore_index=True)


def overlap_by_site(overlap: pd.DataFrame) -> pd.DataFrame:
    """An audit that speaks for both parts of each cohort as well: it does not say which of them a shared subject is in."""
    parts = [overlap.assign(cohort=overlap["cohort"] + part) for part in ("_seen", "_unseen")]
    return pd.concat([overlap, *parts], ignore_index=True)
