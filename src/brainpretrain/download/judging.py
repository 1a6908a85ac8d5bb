"""Judges the headers of a data set's files as `shard` will, so that `check` names what `shard` would reject. No voxel is read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import nibabel as nib

from brainpretrain.datasets.base import Row, some
from brainpretrain.preprocess.headers import SELECTION, BadVolume, Grid, Limits, judge, require_same_grid
from brainpretrain.preprocess.nifti import check_size, read_header

THREADS = 16  # on a network drive, opening a file is mostly waiting
LISTED_ALONE = 3  # the same text about more files than this is one line


@dataclass
class Judged:
    """What the headers of a data set say.

    Attributes:
        opened: number of files, all of them.
        grids: of the images that can be used.
        problems, remarks: texts.
    """

    opened: int
    grids: list[Grid] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def judge_rows(root: Path, rows: Sequence[Row], limits: Limits, selected: bool) -> Judged:
    """Judges image and label of every row.

    Args:
        rows: of the index.
        limits: of the preprocess recipe.
        selected: an unlabelled volume that is 4-D or too small is a remark and no problem: the selection of BRAINS-45K leaves it
            out.
    """
    paths = sorted({row[name] for row in rows for name in ("path", "label") if row[name]})
    with ThreadPoolExecutor(THREADS) as pool:
        headers = dict(zip(paths, pool.map(lambda path: _header(root / path), paths), strict=True))
    judged = Judged(len(paths))
    problems: dict[tuple[str, str], list[str]] = defaultdict(list)
    remarks: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        path, label, channel = row["path"], row["label"], str(row["channel"])
        try:
            grid = _grid(headers[path], root / path, limits, int(channel) if channel else None)
        except BadVolume as error:
            left_out = selected and not label and error.reason in SELECTION
            text = f"{error.reason} ({error.problem})"
            if left_out:
                remarks[f"{text}; it will be left out", ""].append(path)
            else:
                problems[text, error.fix].append(path)
            continue
        judged.grids.append(grid)
        for note in grid.notes:
            remarks[note, ""].append(path)
        try:
            if label:
                on_grid = _grid(headers[label], root / label, limits, None)
                require_same_grid(grid, on_grid, root / label)
                for note in on_grid.notes:
                    remarks[f"label: {note}", ""].append(path)
        except BadVolume as error:
            problems[f"{error.reason} (label: {error.problem})", error.fix].append(path)
    judged.problems, judged.remarks = _lines(problems), _lines(remarks)
    return judged


def _header(path: Path) -> nib.Nifti1Header | BadVolume:
    try:
        header = read_header(path)
    except BadVolume as error:
        return error
    return header


def _grid(header: nib.Nifti1Header | BadVolume, path: Path, limits: Limits, channel: int | None) -> Grid:
    if isinstance(header, BadVolume):
        raise header
    grid = judge(header, path, limits, channel)
    check_size(header, path)
    return grid


def _lines(found: dict[tuple[str, str], list[str]]) -> list[str]:
    """`path: text` and, if there is one, the advice; one line for a text that holds for many files."""
    lines = []
    for (text, advice), paths in found.items():
        paths = list(dict.fromkeys(paths))
        advice = f"\n  fix:   {advice}" if advice else ""
        if len(paths) > LISTED_ALONE:
            lines.append(f"{len(paths)} files: {text}: {some(paths, LISTED_ALONE)}{advice}")
        else:
            lines += [f"{path}: {text}{advice}" for path in paths]
    return lines
