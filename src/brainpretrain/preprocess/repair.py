"""Restores damaged or missing stored volumes without making anything newer, so that no training runs again.

A volume is repaired only if the result has the checksum that the table of its shard, and every training, has on record. A table
that is missing or truncated is rebuilt from the index and the records of its volumes; it gets the time of the newest of these.
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
from brainpretrain.preprocess import frames, shards
from brainpretrain.preprocess.nifti import BadVolume
from brainpretrain.preprocess.recipes import moves
from brainpretrain.preprocess.sessions import grouped


@dataclass
class Outcome:
    """The result of `repair`: number of volumes checked, and a line for each file that was restored or could not be."""

    volumes: int = 0
    repaired: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


def repair(
    folder: Path | str,
    root: Path | None = None,
    recipe: Mapping[str, Any] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Outcome:
    """Compares every stored volume of a preprocessed data set with its checksum, and restores those that are not intact.

    Args:
        folder: folder of the shard tables; the folder above it holds `index.tsv` and `source.json`.
        root: folder of the raw files; by default the one that `source.json` names.
        recipe: the preprocess recipe; by default the one that is on record in `folder`.
        progress: called with the number of shards checked so far and the number of all shards.

    Raises:
        UserError: there are no shards, or a volume must be restored and its raw folder or its recipe is not on record.
    """
    stored = _Stored(Path(folder), root, recipe)
    tables = []
    for number, path in enumerate(stored.tables, start=1):
        tables.append(stored.check(path))
        progress(number, len(stored.tables))
    stored.check_joined([table for table in tables if table is not None])
    return stored.outcome


class _Stored:
    """A preprocessed data set and the outcome of its repair."""

    def __init__(self, folder: Path, root: Path | None, recipe: Mapping[str, Any] | None) -> None:
        self.folder, self.outcome = folder, Outcome()
        self._given_root, self._given_recipe = root, recipe

    @cached_property
    def kept(self) -> dict[str, Any]:
        """`recipe`, `n_shards` and `labels` that the shards were built with; empty if an earlier version built them."""
        path = self.folder / shards.RECIPE
        return read_json(path) if path.exists() else {}

    @cached_property
    def root(self) -> Path:
        """The folder of the raw files."""
        path = self.folder.absolute().parent / "source.json"
        if not self._given_root and not path.exists():
            raise UserError("the folder of the raw files is not on record", where=path, fix="name their folder: --root DIR")
        return Path(self._given_root or read_json(path)["root"])

    @cached_property
    def recipe(self) -> dict[str, Any]:
        """The preprocess recipe of the stored volumes."""
        recipe = self._given_recipe or self.kept.get("recipe")
        if not recipe:
            problem, name = "the recipe of these volumes is not on record: an earlier version stored them", self.folder.name
            raise UserError(problem, where=self.folder / shards.RECIPE, fix=f"name it, as in config/: --recipe {name}")
        return dict(recipe)

    @cached_property
    def tables(self) -> list[Path]:
        """The expected shard tables: as many as are on record, else up to the highest number that exists."""
        existing = [int(path.stem.removeprefix("shard")) + 1 for path in self.folder.glob("shard[0-9]*.tsv")]
        n_shards = self.kept.get("n_shards") or max(existing, default=0)
        if not n_shards:
            fix = "give the folder of a preprocessed data set: results/data/<data set>/<recipe>"
            raise UserError("there are no shards", where=self.folder, fix=fix)
        return [self.folder / f"shard{n:03d}.tsv" for n in range(n_shards)]

    @cached_property
    def index(self) -> pd.DataFrame:
        """The index of the data set, with the shard number of each row."""
        index = read_tsv(self.folder.absolute().parent / "index.tsv").sort_values("volume")
        return index.assign(shard=[shards.shard_of(subject, len(self.tables)) for subject in index["subject"]])

    def check(self, path: Path) -> pd.DataFrame | None:
        """Repairs one shard and returns its table; None if the table could not be rebuilt."""
        fault = self._fault_of_table(path)
        if fault and not self._rebuild_table(path, fault):
            return None
        table = read_tsv(path)
        for group in grouped(table.to_dict("records"), self.kept.get("recipe") or self._given_recipe or {}):
            for row in group:
                if row["status"] == "ok":
                    self._check_volume(path.stem, row, group)
        return table

    def check_joined(self, tables: Sequence[pd.DataFrame]) -> None:
        """Joins the tables of the shards again if the joined table is missing or differs from them.

        The workflow would write a newer file, and would then repeat every step that reads it.
        """
        path = self.folder / shards.JOINED
        if len(tables) < len(self.tables):
            return
        joined = pd.concat(tables, ignore_index=True)
        try:
            fault = "" if read_tsv(path).equals(joined) else "different from the tables of the shards"
        except (UserError, ValueError):
            fault = "damaged" if path.exists() else "missing"
        if fault:
            write_tsv(path, joined)
            _as_new_as(path, self.tables)
            self.outcome.repaired.append(f"{path.name} is {fault}. Joined from the tables of {len(tables)} shards")

    # ------------------------------------------------------------------------------------------------ volumes

    def _check_volume(self, shard: str, row: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> None:
        self.outcome.volumes += 1
        files = frames.files_of(row)
        faults = {name: fault for name, checksum in files if (fault := frames.fault_of(self.folder / name, checksum))}
        if not faults:
            return
        problem = f"{row['volume']} ({shard}): " + "; ".join(f"{Path(name).name} is {fault}" for name, fault in faults.items())
        if any(len(checksum) == frames.CRC_DIGITS for _, checksum in files):
            command = f"snakemake --forcerun {self.folder / shard}.tsv -- {self.folder / shards.JOINED}"
            self.outcome.failed.append(
                f"{problem}. An earlier version stored it in a format that this one cannot write: {command}"
            )
            return
        try:
            self._restore_volume(row, group, set(faults))
            self.outcome.repaired.append(f"{problem}. Restored from {row['path']}")
        except BadVolume as error:
            self.outcome.failed.append(f"{problem}. Its raw file {error.where}: {error.problem}")

    def _restore_volume(self, row: Mapping[str, Any], group: Sequence[Mapping[str, Any]], names: set[str]) -> None:
        """Writes the files `names` of a volume if preprocessing of its group gives the same bytes as before.

        Raises:
            BadVolume: a raw file is missing or damaged, or gives another volume now.
        """
        with threadpool_limits(limits=1):  # as in `shards.build`, since the thread count would change results
            contents, facts = shards.make(self.root, self.recipe, group)[group.index(row)]
        files = frames.files_of(row)
        if [frames.checksum_of(content) for content in contents] != [checksum for _, checksum in files]:
            problem = "gives another volume than it did: the file, the recipe, this program or a library has changed"
            raise BadVolume(problem, reason="differs", where=self.root / row["path"])
        if facts["geometry"] != row["geometry"]:
            problem = "gives the same stored voxels, but on another grid: the file was turned or its header has changed"
            raise BadVolume(problem, reason="changed", where=self.root / row["path"])
        for (name, _), content in zip(files, contents, strict=True):
            if name in names:
                frames.write(self.folder / name, content)
        if shards.read_record(self._record(row)) is None:
            record = shards.record_of(row, contents, facts)
            write_json(self._record(row), {"key": shards.key_of(self.root, self.recipe, group), "record": record})

    def _record(self, row: Mapping[str, Any]) -> Path:
        return self.folder / "volumes" / f"{row['volume']}{frames.SUFFIXES[-1]}"

    # ------------------------------------------------------------------------------------------------ tables

    def _rows(self, path: Path) -> list[dict[str, Any]]:
        """The index rows of a shard, in the order of its table."""
        rows = self.index[self.index["shard"] == int(path.stem.removeprefix("shard"))]
        return rows.drop(columns="shard").to_dict("records")

    def _fault_of_table(self, path: Path) -> str:
        if not path.exists():
            return "missing"
        try:
            table = read_tsv(path)
        except (UserError, ValueError) as error:  # pandas raises subclasses of ValueError
            return f"damaged: {str(error).splitlines()[0]}"
        if not {"volume", "path", "label", "status", "checksum", "label_checksum"} <= set(table.columns):
            return "damaged: it lacks columns"
        index = self.folder.absolute().parent / "index.tsv"
        if index.exists() and index.stat().st_mtime_ns <= path.stat().st_mtime_ns:  # a later index may hold other volumes
            missing = {row["volume"] for row in self._rows(path)} - set(table["volume"])
            if missing:
                return f"damaged: it lacks {len(missing)} volumes"
        return "damaged: it is truncated" if is_cut(path) else ""

    def _rebuild_table(self, path: Path, fault: str) -> bool:
        """Rebuilds the table of a shard from the records of its volumes; False if records are missing."""
        rows = self._rows(path) if self.kept else []
        contents = [shards.read_record(self._record(row)) for row in rows]
        if not self.kept or None in contents:
            reason = "records of its volumes are damaged too" if self.kept else f"there is no {shards.RECIPE}"
            self.outcome.failed.append(f"{path.name} is {fault}. It cannot be rebuilt, since {reason}: run the step shard")
            return False
        records = [content["record"] for content in contents if content]
        table = shards.table_of(rows, records, self.kept["labels"], moves(self.kept["recipe"]))
        write_tsv(path, table)
        _as_new_as(path, [self.folder.absolute().parent / "index.tsv", *map(self._record, rows)])
        self.outcome.repaired.append(f"{path.name} is {fault}. Rebuilt from the records of {len(rows)} volumes")
        return True


def _as_new_as(path: Path, parts: Sequence[Path]) -> None:
    """Gives a file the time of the newest of its sources, so that Snakemake does not repeat the steps that read it."""
    latest = max(part.stat().st_mtime_ns for part in parts)
    os.utime(path, ns=(latest, latest))
