"""Filters of a corpus: volumes left out by field of view, spacing, size of the file, sequence or name (S3D, section on data)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from brainpretrain.errors import UserError
from brainpretrain.files import read_json

FILTERED_COLUMNS = ["dataset", "volume", "subject", "session", "sequence", "reason", "detail"]
FILTERED = "filtered.tsv"  # beside corpus.tsv, if the corpus has filters
KILOBYTE = 1000
_OF_SUBJECT = re.compile(r"^(sub|ses)-[a-z0-9]+_?", re.IGNORECASE)  # parts of a name that say nothing about the image


def judged(table: pd.DataFrame, filters: Mapping[str, Any]) -> pd.DataFrame:
    """The first filter that each stored volume fails, and the value that fails it.

    Args:
        table: of stored volumes with status ok; `raw_bytes` too, with `min_file_kb`.
        filters: `filters` of a corpus. A value that is exactly a limit passes.

    Returns:
        Columns reason and detail with the index of `table`; '' for volumes that pass.
    """
    found = [_judge(row, filters) for row in table.to_dict("records")]
    return pd.DataFrame(found, columns=["reason", "detail"], index=table.index)


def with_raw_bytes(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """The table with the sizes of the raw files of its accepted volumes, in bytes.

    Args:
        table: of stored volumes.
        folder: of the data set, with `source.json`, which names the folder of the raw files.

    Raises:
        UserError: raw files are not where they were.
    """
    root = Path(read_json(folder / "source.json")["root"])
    paths = [root / path if status == "ok" else None for path, status in zip(table["path"], table["status"], strict=True)]
    sizes = [path.stat().st_size if path and path.is_file() else 0 for path in paths]
    gone = [path for path, size in zip(paths, sizes, strict=True) if path and not size]
    if gone:
        raise UserError(
            f"{len(gone)} raw files are not there, such as {gone[0].name}, and the filter 'min_file_kb' needs their sizes",
            where=gone[0].parent,
            fix="put them back, or leave 'min_file_kb' out of the corpus",
        )
    return table.assign(raw_bytes=sizes)


def require_some(table: pd.DataFrame, verdicts: pd.DataFrame, source: str, where: str) -> None:
    """Refuses filters that leave nothing of a source.

    Args:
        table: accepted volumes of the source.
        verdicts: of `judged`.
        source: name of its data set.
        where: for the message.

    Raises:
        UserError: with the number of volumes that fail each filter.
    """
    if len(table) and (verdicts["reason"] != "").all():
        counts = ", ".join(f"{count} {reason}" for reason, count in verdicts["reason"].value_counts().items())
        example = f"{table['volume'].iloc[0]}: {verdicts['detail'].iloc[0]}"
        raise UserError(
            f"the filters of the corpus leave none of the {len(table)} volumes of '{source}': {counts}, such as {example}",
            where=where,
            fix="loosen these filters, or remove the source",
        )


def _judge(row: Mapping[str, Any], filters: Mapping[str, Any]) -> tuple[str, str]:
    wanted, unwanted = filters.get("sequences") or [], filters.get("exclude_sequences") or []
    if (wanted and row["sequence"] not in wanted) or row["sequence"] in unwanted:
        return "sequence", f"sequence {row['sequence']}"
    if words := [word for word in filters.get("exclude_words") or [] if word.lower() in described(row["path"])]:
        return "words", f"its name contains {' and '.join(words)}"
    spacing = np.array([float(word) for word in row["native_spacing_mm"].split()])
    view = spacing * np.array([int(word) for word in row["native_shape"].split()][:3])
    if (limit := filters.get("min_fov_mm")) and view.min() < limit:
        return "field of view", f"field of view {_mm(view)} mm, an axis below {limit:g}"
    if (limit := filters.get("max_spacing_mm")) and spacing.max() > limit:
        return "spacing", f"spacing {_mm(spacing)} mm, an axis above {limit:g}"
    if (limit := filters.get("min_file_kb")) and row["raw_bytes"] < limit * KILOBYTE:
        return "file size", f"a file of {row['raw_bytes'] / KILOBYTE:.1f} kB, below {limit:g}"
    return "", ""


def described(path: str) -> str:
    """The part of a file's name that may describe its series, in lower case: without folders, subject and session."""
    name = Path(path).name
    while shorter := _OF_SUBJECT.sub("", name):
        if shorter == name:
            break
        name = shorter
    return name.lower()


def _mm(values: np.ndarray) -> str:
    return " x ".join(f"{value:g}" for value in values)
