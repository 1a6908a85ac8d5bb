"""Whether the raw files of a data set are still those that were fetched, indexed and stored."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from brainpretrain.datasets.base import CONVERTED, Dataset, Row
from brainpretrain.download.archives import markers
from brainpretrain.download.fetch import describe
from brainpretrain.download.index import scan, with_sizes
from brainpretrain.errors import UserError, first_line
from brainpretrain.files import as_tsv, read_json, write_json
from brainpretrain.preprocess.nifti import BadVolume
from brainpretrain.preprocess.shards import RECIPE, key_of, read_record
from brainpretrain.preprocess.sources import read_image, read_label
from brainpretrain.words import count


def difference(dataset: Dataset, root: Path, source: Path, index: Path, stored: Iterable[Path], *, update: bool) -> str:
    """Why a data set must be fetched and indexed again; '' if its raw files are those on record.

    Args:
        dataset: the description of the data set.
        root: folder of its raw files.
        source: its `source.json`. Facts that no other step reads, such as the folder or the unused files, are brought up to date.
        index: its `index.tsv`, which must list the same files with the same sizes.
        stored: folders of its stored volumes; the raw file of each must have the same size and time, or the same content, as when
            it was stored.
        update: False only looks, and writes nothing.
    """
    if not (source.exists() and index.exists()):
        return "not yet indexed"
    try:
        if waiting := _unconverted(dataset, root):
            return f"{count(len(waiting), f'{dataset.source_format.upper()} file')} not yet converted"
        if waiting := _without_label(dataset, root):
            return f"the labels of {count(len(waiting), 'case')} are yet to be made, the first: {waiting[0]}"
        files = scan(dataset, root)
        rows = with_sizes(files.rows, root)
        if as_tsv(rows) != index.read_text(encoding="utf-8"):
            return "other files than in the index, or of other sizes"
        if changed := [path for folder in stored for path in _changed(folder, root, rows)]:
            return f"{count(len(changed), 'file')} changed since volumes were stored, the first: {changed[0]}"
        facts = describe(dataset, root, files) | {"archives": markers(root)}
    except (UserError, OSError) as error:
        return first_line(error)  # the job reports it in full
    on_record = read_json(source)
    facts |= {"remarks": on_record["remarks"]} if "remarks" in on_record else {}
    if update and facts != on_record:
        status = source.stat()
        write_json(source, facts)
        os.utime(source, ns=(status.st_atime_ns, status.st_mtime_ns))  # a newer file would index again
    return ""


def _changed(folder: Path, root: Path, rows: list[Row]) -> list[str]:
    """Paths of raw files that are not those on record with their stored volumes in `folder`.

    A file of another size or time is read, and compared with its checksum where the record has one.
    """
    recipe = read_json(folder / RECIPE)["recipe"]
    records = ((row, read_record(folder / "volumes" / f"{row['volume']}.json")) for row in rows)
    others = [(row, kept["record"]) for row, kept in records if kept and kept["key"] != key_of(root, recipe, row)]
    return [row["path"] for row, record in others if not _has_same_content(folder, root, record | row)]


def _has_same_content(folder: Path, root: Path, row: Row) -> bool:
    """Whether the raw files of a stored volume have the checksums on record; those of earlier versions have none."""
    if not row.get("source_checksum"):
        return False
    try:
        read_image(root, folder, row)
        if row["label"]:
            read_label(root, folder, row)
    except BadVolume:
        return False
    return True


def _unconverted(dataset: Dataset, root: Path) -> list[Path]:
    """The NRRD or Analyze files that `fetch` would convert."""
    if dataset.source_format not in ("nrrd", "analyze"):
        return []
    from brainpretrain.download.convert import NRRD, PAIR, without_ending  # here, since few data sets need it

    endings = NRRD if dataset.source_format == "nrrd" else PAIR
    relative = [path.relative_to(root) for path in root.rglob("*") if path.name.lower().endswith(endings)]
    converted = {path: root / CONVERTED / path.with_name(without_ending(path.name) + ".nii.gz") for path in relative}
    return [path for path, target in converted.items() if re.fullmatch(dataset.convert, path.as_posix()) and not target.exists()]


def _without_label(dataset: Dataset, root: Path) -> list[str]:
    """The cases whose label `fetch` would make."""
    if dataset.structures:
        from brainpretrain.download import structures

        return structures.outdated(root, dataset.structures)
    if dataset.contours:
        from brainpretrain.download import contours

        return contours.outdated(root, dataset.contours)
    return []
