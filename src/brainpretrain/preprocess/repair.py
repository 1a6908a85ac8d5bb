"""Makes damaged or missing stored volumes anew, and nothing else: trainings that used them need not run again.

A volume is repaired only if it gets the checksum that the table of its shard, and every training, knows it by. A table that
is missing or cut is put together again from the index and the records of its volumes, with a time that makes nothing newer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from threadpoolctl import threadpool_limits

from brainpretrain.errors import UserError
from brainpretrain.files import is_cut, read_json, read_tsv, write_json, write_tsv
from brainpretrain.preprocess import shards
from brainpretrain.preprocess.nifti import BadVolume


@dataclass
class Outcome:
    """What `repair` looked at, and a line for each thing that it made anew or could not."""

    volumes: int = 0
    repaired: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def repair(
    folder: Path | str,
    root: Path | None = None,
    recipe: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Compares every stored volume of a preprocessed data set with its checksum, and makes anew what is not whole.

    Args:
        folder: of the shard tables; the folder above it holds `index.tsv` and `source.json`.
        root: folder of the raw files; without it, where `source.json` says that they were.
        recipe: the preprocess recipe; without it, what was kept in `folder`.
        progress: called with the number of shards that were looked at and of all.

    Raises:
        UserError: there are no shards, or something is to be made anew and it is not known from where or by which recipe.
    """
    stored = _Stored(Path(folder), root, recipe)
    tables = []
    for number, path in enumerate(stored.tables, start=1):
        tables.append(stored.look_at(path))
        progress(number, len(stored.tables))
    stored.look_at_joined([table for table in tables if table is not None])
    return stored.outcome


class _Stored:
    """A preprocessed data set, and what becomes of it."""

    def __init__(self, folder: Path, root: Path | None, recipe: Mapping[str, Any] | None) -> None:
        self.folder, self.outcome = folder, Outcome()
        self._given_root, self._given_recipe = root, recipe

    @cached_property
    def kept(self) -> dict[str, Any]:
        """Recipe, number of shards and labels, as they were when the shards were made; an earlier version kept nothing."""
        path = self.folder / shards.RECIPE
        return read_json(path) if path.exists() else {}

    @cached_property
    def root(self) -> Path:
        """The folder of the raw files."""
        path = self.folder.absolute().parent / "source.json"
        if not self._given_root and not path.exists():
            raise UserError("it is not known where the raw files are", where=path, fix="name their folder: --root DIR")
        return Path(self._given_root or read_json(path)["root"])

    @cached_property
    def recipe(self) -> dict[str, Any]:
        found = self._given_recipe or self.kept.get("recipe")
        if not found:
            problem, name = "the recipe of these volumes is not on record: an earlier version made them", self.folder.name
            raise UserError(problem, where=self.folder / shards.RECIPE, fix=f"name it, as in config/: --recipe {name}")
        return dict(found)

    @cached_property
    def tables(self) -> list[Path]:
        """Those that should be there: as many as are on record, else up to the last one found."""
        found = [int(path.stem.removeprefix("shard")) + 1 for path in self.folder.glob("shard[0-9]*.tsv")]
        number = self.kept.get("n_shards") or max(found, default=0)
        if not number:
            fix = "give the folder of a preprocessed data set: results/data/<data set>/<recipe>"
            raise UserError("there are no shards", where=self.folder, fix=fix)
        return [self.folder / f"shard{n:03d}.tsv" for n in range(number)]

    @cached_property
    def index(self) -> pd.DataFrame:
        """The index of the data set, and the number of each row's shard."""
        found = read_tsv(self.folder.absolute().parent / "index.tsv").sort_values("volume")
        return found.assign(shard=[shards.shard_of(subject, len(self.tables)) for subject in found["subject"]])

    def look_at(self, path: Path) -> pd.DataFrame | None:
        """Repairs one shard, and returns its table; None if that could not be made anew."""
        fault = self._fault_of_table(path)
        if fault and not self._make_table(path, fault):
            return None
        table = read_tsv(path)
        for row in table.to_dict("records"):
            if row["status"] == "ok":
                self._look_at_volume(path.stem, row)
        return table

    def look_at_joined(self, tables: Sequence[pd.DataFrame]) -> None:
        """Joins the tables of the shards if the table of all is missing or says something else.

        If it were left to the workflow, it would be new, and whatever was made of it would be made again.
        """
        path = self.folder / shards.JOINED
        if len(tables) < len(self.tables):
            return
        joined = pd.concat(tables, ignore_index=True)
        try:
            fault = "" if read_tsv(path).equals(joined) else "not what the tables of the shards say"
        except (UserError, ValueError):
            fault = "damaged" if path.exists() else "missing"
        if fault:
            write_tsv(path, joined)
            _as_new_as(path, self.tables)
            self.outcome.repaired.append(f"{path.name} is {fault}. Joined from the tables of {len(tables)} shards")

    # ------------------------------------------------------------------------------------------------ volumes

    def _look_at_volume(self, shard: str, row: Mapping[str, Any]) -> None:
        self.outcome.volumes += 1
        files = shards.files_of(row)
        faults = {name: fault for name, checksum in files if (fault := shards.fault_of(self.folder / name, checksum))}
        if not faults:
            return
        told = f"{row['volume']} ({shard}): " + "; ".join(f"{Path(name).name} is {fault}" for name, fault in faults.items())
        if any(len(checksum) == shards.CRC_DIGITS for _, checksum in files):
            again = f"snakemake --forcerun {self.folder / shard}.tsv -- {self.folder / shards.JOINED}"
            self.outcome.failed.append(f"{told}. An earlier version stored it, with bytes that this one does not make: {again}")
            return
        try:
            self._make_volume(row, set(faults))
            self.outcome.repaired.append(f"{told}. Made anew from {row['path']}")
        except BadVolume as error:
            self.outcome.failed.append(f"{told}. Its raw file {error.where}: {error.problem}")

    def _make_volume(self, row: Mapping[str, Any], names: set[str]) -> None:
        """Writes those files of a volume that are named, if they come out as they were.

        Raises:
            BadVolume: a raw file is missing or damaged, or gives another volume now.
        """
        with threadpool_limits(limits=1):  # as in a shard: the result depends on no thread count
            frames, facts = shards.make(self.root, self.recipe, row)
        files = shards.files_of(row)
        if [shards.checksum_of(frame) for frame in frames] != [checksum for _, checksum in files]:
            problem = "gives another volume than it did: it was replaced, or the recipe, this program or a library was"
            raise BadVolume(problem, reason="differs", where=self.root / row["path"])
        for (name, _), frame in zip(files, frames, strict=True):
            if name in names:
                shards.write_frame(self.folder / name, frame)
        if shards.read_record(self._record(row)) is None:
            record = shards.record_of(row, frames, facts)
            write_json(self._record(row), {"key": shards.key_of(self.root, self.recipe, row), "record": record})

    def _record(self, row: Mapping[str, Any]) -> Path:
        return self.folder / "volumes" / f"{row['volume']}{shards.SUFFIXES[-1]}"

    # ------------------------------------------------------------------------------------------------ tables

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        """What the index has for a shard, sorted as in its table."""
        rows = self.index[self.index["shard"] == int(path.stem.removeprefix("shard"))]
        return rows.drop(columns="shard").to_dict("records")

    def _fault_of_table(self, path: Path) -> str:
        if not path.exists():
            return "missing"
        try:
            table = read_tsv(path)
        except (UserError, ValueError) as error:  # pandas' own errors are of the latter kind
            return f"damaged: {str(error).splitlines()[0]}"
        if not {"volume", "path", "label", "status", "checksum", "label_checksum"} <= set(table.columns):
            return "damaged: it lacks columns"
        index = self.folder.absolute().parent / "index.tsv"
        if index.exists() and index.stat().st_mtime_ns <= path.stat().st_mtime_ns:  # of a later index nobody knows
            lacking = {row["volume"] for row in self._rows(path)} - set(table["volume"])
            if lacking:
                return f"damaged: it lacks {len(lacking)} volumes"
        return "damaged: it is cut" if is_cut(path) else ""

    def _make_table(self, path: Path, fault: str) -> bool:
        """Puts a table together again; whether it could be done."""
        rows = self._rows(path) if self.kept else []
        records = [shards.read_record(self._record(row)) for row in rows]
        if not self.kept or None in records:
            reason = "records of its volumes are damaged too" if self.kept else f"there is no {shards.RECIPE} to go by"
            self.outcome.failed.append(f"{path.name} is {fault}. It cannot be made anew, since {reason}: run the step shard")
            return False
        table = shards.table_of(rows, [found["record"] for found in records if found], self.kept["labels"])
        write_tsv(path, table)
        _as_new_as(path, [self.folder.absolute().parent / "index.tsv", *map(self._record, rows)])
        self.outcome.repaired.append(f"{path.name} is {fault}. Put together again from the records of {len(rows)} volumes")
        return True


def _as_new_as(path: Path, parts: Sequence[Path]) -> None:
    """Gives a file the time of what it was made of: nothing that was made of it is out of date."""
    latest = max(part.stat().st_mtime_ns for part in parts)
    os.utime(path, ns=(latest, latest))
