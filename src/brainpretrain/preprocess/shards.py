"""Shards: the volumes of a data set as compressed arrays, and a table with the outcome of every volume.

A shard holds the volumes of the subjects whose hash falls into it, so a new subject moves no other one. Each volume has a record
of its own, so a shard that was killed continues where it stopped, and its table depends neither on the number of workers nor on
interruptions. Layout of `out_dir`:

    volumes/<volume>.b2nd         the image, float16 in [0, 1]; see frames.py for the format
    volumes/<volume>.label.b2nd   the label map, unsigned integers
    volumes/<volume>.json         the record
    recipe.json                   the recipe that the volumes were made with
    shard<number>.tsv             the table of a shard
    volumes.tsv                   the tables of all shards, joined
    begun/<shard>/<process>       the volume that a process is working on
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from brainpretrain.errors import UserError
from brainpretrain.files import fingerprint, part_of, read_json, read_tsvs, stable_hash, write_json
from brainpretrain.preprocess import frames
from brainpretrain.preprocess.frames import SUFFIXES
from brainpretrain.preprocess.headers import SELECTION, BadVolume, Limits
from brainpretrain.preprocess.nifti import read_volume
from brainpretrain.preprocess.volumes import RECIPE_KEYS, preprocess, to_float16

REVISION = 1  # raise it when the same recipe gives other arrays
RULES = 2  # raise it when fewer volumes are rejected: a volume that was rejected by earlier rules is then read again
INDEX_COLUMNS = ("volume", "subject", "patient", "session", "sequence", "subset", "site", "path", "label", "channel")
RECORD_COLUMNS = (
    "status",
    "reason",
    "detail",
    "file",
    "label_file",
    "checksum",
    "label_checksum",
    "label_values",
    "geometry",
    "shape",
    "spacing_mm",
    "native_shape",
    "native_spacing_mm",
    "bytes",
    "mean",
    "std",
)
# What helps against a reason, where repairing the file is not what is meant.
FIXES = {
    "negative": "allow_negative: true in the preprocess recipe, if its values below 0 are meant",
    "too_small": "a lower min_size in the preprocess recipe",
    "too_large": "a higher max_voxels in the preprocess recipe, if the size in the header is right",
    "spacing": "a wider spacing_range_mm in the preprocess recipe, if the spacing in the header is right",
    "not_3d": "one 3-D volume per file, or a table (module csv) that names the channel of each 4-D file",
    "label_value": "these values in the `labels` of the data set, if they are meant (of your own data: in its options)",
    "pointer": "datalad get, or git lfs pull, in the folder of the clone",
    "empty": "crop: none and allow_negative: true in the preprocess recipe, if all values are meant to be 0 or less",
}
JOINED = "volumes.tsv"  # in `out_dir`: the tables of all shards in one file, the input of every later step
RECIPE = "recipe.json"  # in `out_dir`: lets `repair` restore a volume


def build(
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    source_root: Path | str,
    out_dir: Path | str,
    recipe: Mapping[str, Any],
    shard: int,
    n_shards: int,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
    labels: Collection[int] = (),
) -> pd.DataFrame:
    """Preprocesses the volumes of one shard. Volumes whose source and recipe are unchanged and whose files are intact are kept.

    If it is killed, the same call continues: volumes that have a record are kept, files that were written in part are removed.

    Args:
        rows: the index of the data set, with INDEX_COLUMNS. `path` and `label` are relative to `source_root`, `channel` is '' or
            the channel of a 4-D file, and `patient` is the name of a patient who appears as several subjects.
        source_root: folder of the raw files.
        out_dir: folder of the shard tables; the head of this module describes its layout.
        recipe: see `volumes.preprocess`. A new `revision` makes stored volumes outdated; other keys have no effect.
        shard: number of the shard to build, from 0.
        n_shards: number of shards of the data set.
        workers: number of processes; the result does not depend on it.
        progress: called with the number of finished volumes and the number of all volumes.
        labels: values that a label of the data set may hold besides 0; if empty, every value is accepted.

    Returns:
        One row per volume, sorted by volume, with INDEX_COLUMNS and RECORD_COLUMNS. `status` is 'ok' or 'rejected' (the volume
        or its label cannot be used; see `reason` and `detail`). The `detail` of an accepted volume holds remarks. Lists are
        separated by blanks, `file` and `label_file` are relative to `out_dir`, checksums are XXH3 (64 bits) of the files.

    Raises:
        UserError: two rows have the same name, the recipe lacks a key, or a worker was killed (the message names the volume).
            Any other error of a worker is raised unchanged, since only bad data may lead to a rejection.
    """
    if missing := [key for key in RECIPE_KEYS if key not in recipe]:
        raise UserError(f"the recipe lacks {', '.join(missing)}", where="preprocess", fix="add it to the recipe")
    index: Any = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else map(dict, rows)
    shard_rows = [row for row in index if shard_of(row["subject"], n_shards) == shard]
    shard_rows.sort(key=lambda row: row["volume"])
    repeated = {a["volume"] for a, b in itertools.pairwise(shard_rows) if a["volume"] == b["volume"]}
    if repeated:
        names = ", ".join(sorted(repeated))
        raise UserError(f"several rows have the same name: {names}", where=source_root, fix="look at the index")
    out_dir = Path(out_dir)
    _keep_recipe(out_dir, {"recipe": _relevant(recipe), "n_shards": n_shards, "labels": sorted(labels)})
    _clear(out_dir, shard)
    begun = _begun_folder(out_dir, shard)
    store = partial(_noted, partial(_store, Path(source_root), out_dir, dict(recipe)), begun)
    records = _run(store, begun, shard_rows, workers, progress or (lambda done, total: None))
    begun.rmdir()
    return table_of(shard_rows, records, labels)


def shard_of(subject: str, n_shards: int) -> int:
    """Number of the shard that holds the volumes of a subject."""
    return stable_hash(subject) % n_shards


def table_of(rows: Sequence[dict], records: Sequence[dict], labels: Collection[int]) -> pd.DataFrame:
    """The table of a shard: its index rows, each with the record of its volume; see `build`."""
    table = [row | _checked_labels(record, labels) for row, record in zip(rows, records, strict=True)]
    return pd.DataFrame(table, columns=[*INDEX_COLUMNS, *RECORD_COLUMNS])


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


def join(tables: Sequence[Path], out: Path) -> pd.DataFrame:
    """The tables of all shards of a data set as one table.

    Args:
        tables: the tables of the shards, in one folder.
        out: where the joined table will be written; it belongs into the same folder, since rows name files relative to it.

    Raises:
        UserError: a table is in another folder than `out`, the number of tables is not the number of shards, or every volume is
            rejected.
    """
    for path in tables:
        if path.parent.absolute() != out.parent.absolute():
            problem = f"its rows name files of {path.parent}, and would be looked for in {out.parent}"
            raise UserError(problem, where=path, fix=f"--out {path.parent / out.name}")
    recipe, n_tables = out.parent / RECIPE, len(set(tables))
    if recipe.exists() and (n_shards := read_json(recipe)["n_shards"]) != n_tables:
        raise UserError(f"tables of {n_tables} shards, the data set has {n_shards}", where=out.parent, fix="name each table once")
    table = read_tsvs(tables)
    check_any_stored(table, "this data set", out.parent)
    return table


# ------------------------------------------------------------------------------------------------ processes


def interrupted(out_dir: Path | str, shard: int) -> list[str]:
    """Names of the volumes that an earlier attempt at a shard was working on when it was killed."""
    return sorted(_begun(_begun_folder(Path(out_dir), shard)).values())


def _begun_folder(out_dir: Path, shard: int) -> Path:
    return out_dir / "begun" / f"{shard:03d}"


def _begun(folder: Path) -> dict[int, str]:
    """Process id -> the volume that the process is working on, or was working on when it was killed."""
    return {int(path.name): path.read_text(encoding="utf-8") for path in folder.glob("[0-9]*")}


def _clear(out_dir: Path, shard: int) -> None:
    """Removes the files that killed processes left half written, and the notes that name those processes."""
    begun = _begun_folder(out_dir, shard)
    begun.mkdir(parents=True, exist_ok=True)
    for process, volume in _begun(begun).items():
        for suffix in SUFFIXES:
            part_of(out_dir / "volumes" / f"{volume}{suffix}", process).unlink(missing_ok=True)
        (begun / str(process)).unlink()


def _run(
    store: Callable[[dict], dict], begun: Path, rows: Sequence[dict], workers: int, progress: Callable[[int, int], None]
) -> list[dict]:
    """The results of `store` for all rows, in order. Each process uses one BLAS thread: the thread count would change results."""
    if workers <= 1:
        records = []
        with threadpool_limits(limits=1):
            for row in rows:
                records.append(store(row))
                progress(len(records), len(rows))
        return records
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    processes: list[Any] = []
    try:
        futures = [pool.submit(store, row) for row in rows]
        processes = multiprocessing.active_children()
        for done, future in enumerate(as_completed(futures), start=1):
            future.result()
            progress(done, len(rows))
        return [future.result() for future in futures]
    except BrokenProcessPool as error:
        pool.shutdown(cancel_futures=True)
        raise _killed(begun, [process.pid for process in processes if process.exitcode == -signal.SIGKILL]) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Sets one BLAS thread, and ends the worker when its parent is killed; otherwise it would wait for work for ever."""
    threadpool_limits(limits=1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def exit_with_parent() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


def _killed(begun: Path, processes: Iterable[int | None]) -> UserError:
    """The error that names the volume of the killed process. The pool ends its other processes by a different signal."""
    notes = _begun(begun)
    volumes = sorted({notes[process] for process in processes if process in notes} or notes.values())
    return UserError(
        f"a worker process was killed while preprocessing {' or '.join(volumes) or 'a volume'}",
        where=begun,
        fix="usually memory ran out: request more, or use fewer workers; then run again, finished volumes are kept",
    )


def _noted(store: Callable[[dict], dict], begun: Path, row: dict) -> dict:
    """`store(row)`, during which a note in `begun` names the volume; after a kill, it tells which volume was being processed."""
    note = begun / str(os.getpid())
    note.write_text(row["volume"], encoding="utf-8")
    try:
        return store(row)
    except Exception as error:
        error.add_note(f"while preprocessing {row['path']}")
        raise
    finally:
        note.unlink()


def _store(source_root: Path, out_dir: Path, recipe: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """The record of one volume, taken from an earlier run if nothing changed and its files are intact."""
    paths = [out_dir / "volumes" / f"{row['volume']}{suffix}" for suffix in SUFFIXES]
    key = key_of(source_root, recipe, row)
    kept = read_record(paths[-1])
    if kept and kept["key"] == key and (kept["record"]["status"] == "ok" or kept.get("rules") == RULES):
        stored_files = frames.files_of(kept["record"])
        if not any(frames.fault_of(out_dir / name, checksum) for name, checksum in stored_files):
            return kept["record"]
    for path in reversed(paths):  # the record first: files without a record do not count
        path.unlink(missing_ok=True)
    try:
        contents, facts = make(source_root, recipe, row)
    except BadVolume as error:
        record = dict.fromkeys(RECORD_COLUMNS, "") | {"status": "rejected", "reason": error.reason}
        prefix = "label: " if Path(error.where) == source_root / row["label"] else ""
        record["detail"] = " ".join(f"{prefix}{error.problem}".split())
    else:
        for path, content in zip(paths, contents, strict=False):
            frames.write(path, content)
        record = record_of(row, contents, facts)
    write_json(paths[-1], {"key": key, "record": record} | ({"rules": RULES} if record["status"] == "rejected" else {}))
    return record


def read_record(path: Path) -> dict[str, Any] | None:
    """The `key` and the `record` of a volume; None if there is no complete record."""
    try:
        content = read_json(path)
        return content if set(content["record"]) >= set(RECORD_COLUMNS) and "key" in content else None
    except (UserError, KeyError, TypeError, ValueError):
        return None


def make(source_root: Path, recipe: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[list[bytes], dict[str, Any]]:
    """Preprocesses one volume.

    Returns:
        The contents of the stored files (the image and, if there is one, the label), and the columns of the record that describe
        the arrays.

    Raises:
        BadVolume: see `nifti` and `volumes`.
    """
    image, label, facts = _preprocess(source_root, recipe, row)
    arrays = [to_float16(image), label]
    del image  # frees its memory for the compression
    return [frames.compress(array) for array in arrays if array is not None], facts


def record_of(row: Mapping[str, Any], contents: Sequence[bytes], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a volume from what `make` returns."""
    record = dict.fromkeys(RECORD_COLUMNS, "") | dict(facts)
    for prefix, suffix, content in zip(("", "label_"), SUFFIXES, contents, strict=False):
        record |= {f"{prefix}file": f"volumes/{row['volume']}{suffix}", f"{prefix}checksum": frames.checksum_of(content)}
    return record | {"bytes": sum(map(len, contents))}


def _checked_labels(record: dict[str, Any], labels: Collection[int]) -> dict[str, Any]:
    """The record, or a rejection if its label holds a value that the data set does not name."""
    unknown = [value for value in record["label_values"].split() if int(value) not in {0, *labels}] if labels else []
    if not unknown:
        return record
    known = " ".join(map(str, sorted(labels)[:20])) + (" ..." if len(labels) > 20 else "")
    detail = f"label: holds {' '.join(unknown[:8])}, which the data set does not name (its labels: {known})"
    return dict.fromkeys(RECORD_COLUMNS, "") | {"status": "rejected", "reason": "label_value", "detail": detail}


def key_of(source_root: Path, recipe: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """A key that changes with everything that can change the stored arrays: recipe, source files and channel."""
    sources = []
    for name in (row["path"], row["label"]):
        path = source_root / name
        stat = path.stat() if name and path.exists() else None
        sources.append([name, stat.st_size, stat.st_mtime_ns] if stat else [name])
    return fingerprint(REVISION, _relevant(recipe), sources, str(row.get("channel", "")))


def _relevant(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe that shapes the stored arrays."""
    return {key: recipe[key] for key in RECIPE_KEYS} | {"revision": recipe.get("revision", 1)}


def _keep_recipe(out_dir: Path, content: Mapping[str, Any]) -> None:
    """Writes RECIPE for `repair`. Shards that are built at the same time write the same content."""
    try:
        kept = read_json(out_dir / RECIPE)
    except UserError:
        kept = None
    if kept != content:
        write_json(out_dir / RECIPE, content)


def _preprocess(
    source_root: Path, recipe: Mapping[str, Any], row: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Image (x, y, z) float32 and label (x, y, z) on the stored grid, and the columns of the record that describe them."""
    limits = Limits.of(recipe)
    channel = str(row.get("channel", ""))
    volume = read_volume(source_root / row["path"], limits=limits, channel=int(channel) if channel else None)
    label = read_volume(source_root / row["label"], limits=limits) if row["label"] else None
    image, stored_label, geometry, facts = preprocess(volume, label, recipe)
    described = {
        "status": "ok",
        "detail": "; ".join(facts["notes"]),
        "label_values": _text(facts["label_values"]),
        "geometry": geometry.to_json(),
        "shape": _text(geometry.stored_shape),
        "spacing_mm": _text(geometry.stored_spacing_mm),
        "native_shape": _text(geometry.native_shape),
        "native_spacing_mm": _text(facts["native_spacing_mm"]),
        "mean": float(f"{facts['mean']:.6g}"),
        "std": float(f"{facts['std']:.6g}"),
        "source_checksum": volume.facts["checksum"],
        "label_source_checksum": label.facts["checksum"] if label else "",
    }
    return image, stored_label, described


def _text(values: Iterable[Any]) -> str:
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
