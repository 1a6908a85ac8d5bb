"""When rejected volumes are too many, and what helps against the reasons of their rejection."""

from __future__ import annotations

import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.preprocess.headers import SELECTION

# What helps against a reason, where repairing the file is not what is meant.
FIXES = {
    "negative": "allow_negative: true in the preprocess recipe, if its values below 0 are meant",
    "too_small": "a lower min_size in the preprocess recipe",
    "too_large": "a higher max_voxels in the preprocess recipe, if the size in the header is right",
    "spacing": "a wider spacing_range_mm in the preprocess recipe, if the spacing in the header is right",
    "not_3d": "one 3-D volume per file, or a table (module csv) that names the channel of each 4-D file",
    "label_value": "these values in the `labels` of the data set, if they are meant (of your own data: in its options)",
    "pointer": "datalad get, or git lfs pull, in the folder of the clone",
    "session_grid": "align: header, rigid or affine in the preprocess recipe",
    "not_aligned": "a look at both volumes; another align, or a lower min_covered, in the preprocess recipe",
    "session": "what helps the volume of the session that is named",
    "empty": "crop: none and allow_negative: true in the preprocess recipe, if all values are meant to be 0 or less",
}


def check_rejected(table: pd.DataFrame, max_fraction: float) -> None:
    """Refuses a table in which more than `max_fraction` (0..1) of the volumes are rejected.

    Unlabelled volumes that the selection rules of BRAINS-45K leave out (SELECTION) are not counted at all, since a 4-D diffusion
    series, for example, is not damaged. A labelled volume counts whatever the reason, since its case would not be scored.

    Raises:
        UserError: too many volumes are rejected; the message lists each of them.
    """
    left_out = table["reason"].isin(SELECTION) & (table["label"] == "")
    table = table[~left_out]
    rejected = table[table["status"] == "rejected"]
    if len(rejected) > max_fraction * len(table):
        lines = zip(rejected["path"], rejected["reason"], rejected["detail"], strict=True)
        listed = "\n".join(f"    {path}: {reason} ({detail})" for path, reason, detail in lines)
        raise UserError(
            f"{len(rejected)} of {len(table)} volumes rejected, more than the accepted fraction of {max_fraction:g}:\n{listed}",
            fix=_fixes(rejected)
            + "\n         or, to go on without these volumes, raise max_rejected_fraction of the recipe (--max-rejected)",
        )


def check_any_stored(table: pd.DataFrame, what: str, where: object) -> None:
    """Refuses volumes of which none is stored; a corpus or a task would otherwise miss a whole source without an error.

    Args:
        what: the source of the volumes, for the message.

    Raises:
        UserError: every volume is rejected; the message counts the reasons and says what helps against each.
    """
    if len(table) == 0 or (table["status"] == "ok").any():
        return
    counts = ", ".join(f"{count} {reason}" for reason, count in table["reason"].value_counts().items())
    example = f"{table['path'].iloc[0]}: {table['reason'].iloc[0]} ({table['detail'].iloc[0]})"
    raise UserError(
        f"all {len(table)} volumes of {what} are left out: {counts}\n    such as {example}", where=where, fix=_fixes(table)
    )


def _fixes(rejected: pd.DataFrame) -> str:
    """What helps against the reasons in a table of rejected volumes, a line for each."""
    reasons = list(dict.fromkeys(rejected["reason"]))
    lines = [f"{reason}: {FIXES[reason]}" for reason in reasons if reason in FIXES]
    return "\n         ".join(lines + (["repair or remove these files"] if any(r not in FIXES for r in reasons) else []))
