"""Finds the label files of a BIDS folder where people keep them: next to the image, and below `derivatives/`."""

from __future__ import annotations

import csv
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from brainpretrain.datasets.base import EXTENSIONS, Row, some
from brainpretrain.datasets.own.bids import VALUE
from brainpretrain.preprocess.headers import BadVolume, Grid, require_same_grid
from brainpretrain.preprocess.nifti import read_grid, read_volume
from brainpretrain.preprocess.volumes import integer_labels, label_values
from brainpretrain.words import count

READ = 300  # largest number of label files whose voxels are read
KINDS = re.compile(r".*_(dseg|mask|seg|segmentation|labels?|lesions?|roi|annotations?)", re.IGNORECASE)
PROBABILITY = re.compile(r".*_(probseg|prob|pseg)", re.IGNORECASE)
BRAIN = re.compile(r"brain[-_]?mask|(desc|label)-brain|_brain_", re.IGNORECASE)
PLACE = re.compile(rf"(?P<top>(?:.+/)?)(?P<folder>(?P<subject>sub-{VALUE})/(?:ses-{VALUE}/)?[a-z]+)/(?P<name>[^/]+)")


@dataclass
class Labels:
    """The label files that fit one template.

    Attributes:
        template: the option `label` of a BIDS folder.
        pairs: path of the label for the path of each image of the same subject and session.
        sequences: of the images on whose grid the labels are.
        partly: an image of these sequences has no label.
        values: names by value, from the files; empty if `read` is 0.
        read: number of files whose voxels were read.
    """

    template: str
    pairs: dict[str, str] = field(default_factory=dict)
    sequences: tuple[str, ...] = ()
    partly: bool = False
    values: dict[int, str] = field(default_factory=dict)
    read: int = 0

    def options(self) -> dict[str, Any]:
        """The options of the module `bids` for these labels."""
        partly = {"partly_labelled": True} if self.partly else {}
        return {"label": self.template, "label_sequences": list(self.sequences), **partly, "labels": self.values}


def find(root: Path, files: Sequence[str], rows: Sequence[Row]) -> tuple[Labels | None, list[str]]:
    """The labels to use, and a text for each other group of label files: how many, and why they are not used.

    Of several groups, the first by this order is used: on the grid of an image and with whole numbers; no brain mask; with the
    name of the image; the most subjects; the shortest template.

    Args:
        files: all paths below `root`.
        rows: of the index without labels.
    """
    images = {row["path"] for row in rows}
    stems = {path: _bare(path) for path in files if path.endswith(EXTENSIONS) and path not in images}
    candidates = {path: stem for path, stem in stems.items() if KINDS.fullmatch(stem)}
    groups, strangers = _groups(candidates, rows)
    unused = [f"{_files(paths)}: {reason}" for reason, paths in strangers.items()]
    if probabilities := [path for path, stem in stems.items() if PROBABILITY.fullmatch(stem)]:
        unused.append(f"{_files(probabilities)}: probabilities, while labels are whole numbers")
    sequences = {row["path"]: row["sequence"] for row in rows}
    subjects = {row["path"]: row["subject"] for row in rows}
    for labels in groups:
        labels.sequences, reason = _on_grid(root, labels, sequences)
        if not labels.sequences:
            unused.append(_not_used(labels, reason))
    usable = sorted(
        (labels for labels in groups if labels.sequences),
        key=lambda labels: (
            bool(BRAIN.search(labels.template)),
            "{stem}" not in labels.template,
            -len({subjects[path] for path in labels.pairs}),
            len(labels.template),
            labels.template,
        ),
    )
    chosen = None
    for labels in usable:
        if chosen and set(labels.pairs.values()) <= set(chosen.pairs.values()):
            continue
        if chosen:
            kind = "brain mask" if BRAIN.search(labels.template) else "another label of these images"
            unused.append(f'{_not_used(labels, kind)}; to use it instead: label: "{labels.template}"')
            continue
        try:
            labels.values, labels.read = read_values(root, _used(labels, sequences), labels.template)
        except BadVolume as error:
            unused.append(_not_used(labels, f"{error.problem} ({error.where})"))
            continue
        if not labels.values:
            unused.append(_not_used(labels, "all files that were read are empty"))
            continue
        labels.partly = any(name in labels.sequences and path not in labels.pairs for path, name in sequences.items())
        chosen = labels
    return chosen, unused


def read_values(root: Path, paths: Iterable[str], template: str = "") -> tuple[dict[int, str], int]:
    """Names of the values above 0 in label files, and the number of files that were read: all, or READ that are evenly spread.

    The names are those of a BIDS table (`*dseg.tsv` with the columns index and name) next to the files or in a folder above
    them; else, for a single value, that of the entity `label-` or `desc-`, or of the folder below `derivatives`; else
    `label_<value>`.

    Raises:
        BadVolume: a file cannot be read, or holds values that are not whole numbers from 0 to 65535.
    """
    names = sorted(set(paths))
    chosen = names[:: max(1, -(-len(names) // READ))]
    values = sorted({value for path in chosen for value in label_values(integer_labels(read_volume(root / path)))} - {0})
    table = _table(root, chosen[0]) if chosen else {}
    hints = re.findall(rf"_(?:label|desc)-({VALUE})", template) or re.findall(r"derivatives/([^/{}]+)/", template, re.IGNORECASE)
    alone = hints[0] if hints and len(values) == 1 else ""
    texts = {value: table.get(value) or alone or f"label_{value}" for value in values}
    repeated = {name for name, number in Counter(texts.values()).items() if number > 1}
    return {value: f"{name}_{value}" if name in repeated else name for value, name in texts.items()}, len(chosen)


def _bare(path: str) -> str:
    return path.removesuffix(".gz").removesuffix(".nii")


def _files(paths: Sequence[str]) -> str:
    return f"{count(len(paths), 'file')} ({some(sorted(paths), 2)})"


def _not_used(labels: Labels, reason: str) -> str:
    return f"{_files(sorted(set(labels.pairs.values())))}: {reason}"


def _used(labels: Labels, sequences: dict[str, str]) -> list[str]:
    return [label for image, label in labels.pairs.items() if sequences[image] in labels.sequences]


def _groups(candidates: dict[str, str], rows: Sequence[Row]) -> tuple[list[Labels], dict[str, list[str]]]:
    """The candidates by template, and the ones without a template by the reason."""
    by_subject: dict[str, list[tuple[Row, re.Match[str]]]] = defaultdict(list)
    for row in rows:
        if place := PLACE.fullmatch(_bare(row["path"])):
            by_subject[row["subject"]].append((row, place))
    groups: dict[str, Labels] = {}
    strangers: dict[str, list[str]] = defaultdict(list)
    for path, stem in sorted(candidates.items()):
        subject = re.findall(rf"(?:^|[/_])(sub-{VALUE})(?=[/_])", stem)
        session = re.findall(rf"[/_]ses-({VALUE})(?=[/_])", stem)
        of_subject = by_subject[subject[-1]] if subject else []
        images = [pair for pair in of_subject if not session or pair[0]["session"] == session[-1]]
        templates = [(row["path"], text) for row, place in images if (text := _template(stem, row["session"], place))]
        for image, template in templates:
            groups.setdefault(template, Labels(template)).pairs[image] = path
        if not templates:
            reason = "name and folder do not follow from those of an image" if images else "no image of this subject and session"
            strangers[reason].append(path)
    return list(groups.values()), strangers


def _template(stem: str, session: str, place: re.Match[str]) -> str:
    """The option `label` that gives the path `stem` for the image at `place`; '' if there is none."""
    top, folder, subject, name = place["top"], place["folder"], place["subject"], place["name"]
    if not stem.startswith(top) or "{" in stem or "}" in stem:
        return ""
    where, _, text = stem[len(top) :].rpartition("/")
    image, _, suffix = name.rpartition("_")
    visit = f"_ses-{session}" if session else ""
    starts = {f"{subject}_": "{subject}_"}
    starts |= {f"{subject}{visit}_": "{subject}_ses-{session}_"} if visit else {}
    starts |= {f"{image}_": "{stem}_"}
    start = max((start for start in starts if text.startswith(start)), key=len, default="")
    if not start:
        return ""
    rest = "_".join("{sequence}" if part == suffix else part for part in text[len(start) :].split("_"))
    if where == folder or where.endswith(f"/{folder}"):
        where = where[: len(where) - len(folder)] + "{folder}"
    else:
        parts = {subject: "{subject}", f"ses-{session}": "ses-{session}"}
        where = "/".join(parts.get(part, part) for part in where.split("/"))
    return "{top}" + (f"{where}/" if where else "") + starts[start] + rest


def _on_grid(root: Path, labels: Labels, sequences: dict[str, str]) -> tuple[tuple[str, ...], str]:
    """The sequences with at least half of their images on the grids of their labels; and why another image is not."""
    fits: dict[str, list[bool]] = defaultdict(list)
    reason = ""
    for image, label in labels.pairs.items():
        try:
            require_same_grid(_grid(root / image), _grid(root / label), root / label)
            fits[sequences[image]].append(True)
        except BadVolume as error:
            fits[sequences[image]].append(False)
            reason = reason or error.problem
    return tuple(sorted(name for name, values in fits.items() if 2 * sum(values) >= len(values))), reason


def _grid(path: Path) -> Grid:
    return read_grid(path)


def _table(root: Path, label: str) -> dict[int, str]:
    """The names in a table of BIDS for a label file, next to it or above it."""
    folder = (root / label).parent
    while folder != root.parent:
        for table in sorted(folder.glob("*dseg.tsv")):
            with open(table, newline="", encoding="utf-8-sig", errors="replace") as stream:
                rows = [
                    row
                    for row in csv.DictReader(stream, delimiter="\t")
                    if row.get("name") and (row.get("index") or "").isdigit()
                ]
            if rows:
                return {int(row["index"]): row["name"].strip() for row in rows}
        if folder == root:
            break
        folder = folder.parent
    return {}
