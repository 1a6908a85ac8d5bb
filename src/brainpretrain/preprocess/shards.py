"""Shards: the volumes of a data set as compressed arrays, and a table with the outcome of every volume.

A shard holds the volumes of the subjects whose hash falls into it, so a new subject moves no other one. Each volume has a record
of its own, so a shard that was killed continues where it stopped, and its table depends neither on the number of workers nor on
interruptions. With `session` in the recipe, the sequences of a session are prepared together, and stored together or not at all.
Layout of `out_dir`:

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

import pandas as pd
from threadpoolctl import threadpool_limits

from brainpretrain.errors import UserError
from brainpretrain.files import dump_json, fingerprint, part_of, read_json, read_tsvs, stable_hash, write_json
from brainpretrain.preprocess import atlases, frames, sessions
from brainpretrain.preprocess.frames import SUFFIXES
from brainpretrain.preprocess.recipes import RECIPE_KEYS, moves, relevant
from brainpretrain.preprocess.rejections import check_any_stored
from brainpretrain.preprocess.sessions import OfSession, Prepared, grouped
from brainpretrain.preprocess.volumes import to_float16

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
ALIGNMENT_COLUMNS = ("aligned_to", "covered", "metric", "alignment")  # further ones, if the recipe aligns volumes
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
        One row per volume, sorted by volume, with INDEX_COLUMNS and RECORD_COLUMNS, and with ALIGNMENT_COLUMNS if the recipe
        aligns volumes. `status` is 'ok' or 'rejected' (the volume
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
    _keep_recipe(out_dir, {"recipe": relevant(recipe), "n_shards": n_shards, "labels": sorted(labels)})
    _clear(out_dir, shard)
    begun = _begun_folder(out_dir, shard)
    store = partial(_noted, partial(_store, Path(source_root), out_dir, dict(recipe)), begun)
    records = _run(store, begun, grouped(shard_rows, recipe), workers, progress or (lambda done, total: None))
    begun.rmdir()
    return table_of(shard_rows, [records[row["volume"]] for row in shard_rows], labels, moves(recipe))


def shard_of(subject: str, n_shards: int) -> int:
    """Number of the shard that holds the volumes of a subject."""
    return stable_hash(subject) % n_shards


def table_of(rows: Sequence[dict], records: Sequence[dict], labels: Collection[int], aligned: bool = False) -> pd.DataFrame:
    """The table of a shard: its index rows, each with the record of its volume; see `build`."""
    table = [row | _checked_labels(record, labels) for row, record in zip(rows, records, strict=True)]
    return pd.DataFrame(table, columns=[*INDEX_COLUMNS, *RECORD_COLUMNS, *(ALIGNMENT_COLUMNS if aligned else ())])


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
    return sorted(itertools.chain(*_begun(_begun_folder(Path(out_dir), shard)).values()))


def _begun_folder(out_dir: Path, shard: int) -> Path:
    return out_dir / "begun" / f"{shard:03d}"


def _begun(folder: Path) -> dict[int, list[str]]:
    """Process id -> the volumes that the process is working on, or was working on when it was killed."""
    return {int(path.name): path.read_text(encoding="utf-8").splitlines() for path in folder.glob("[0-9]*")}


def _clear(out_dir: Path, shard: int) -> None:
    """Removes the files that killed processes left half written, and the notes that name those processes."""
    begun = _begun_folder(out_dir, shard)
    begun.mkdir(parents=True, exist_ok=True)
    for process, volumes in _begun(begun).items():
        for volume, suffix in itertools.product(volumes, SUFFIXES):
            part_of(out_dir / "volumes" / f"{volume}{suffix}", process).unlink(missing_ok=True)
        (begun / str(process)).unlink()


def _run(
    store: Callable[[list[dict]], dict],
    begun: Path,
    groups: Sequence[list[dict]],
    workers: int,
    progress: Callable[[int, int], None],
) -> dict[str, dict]:
    """The records of all volumes. Each process uses one BLAS thread: the thread count would change results."""
    records: dict[str, dict] = {}
    total = sum(map(len, groups))
    if workers <= 1:
        with threadpool_limits(limits=1):
            for group in groups:
                records |= store(group)
                progress(len(records), total)
        return records
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _begin_worker)
    processes: list[Any] = []
    try:
        futures = [pool.submit(store, group) for group in groups]
        processes = multiprocessing.active_children()
        for future in as_completed(futures):
            records |= future.result()
            progress(len(records), total)
        return records
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
    known = [notes[process] for process in processes if process in notes] or notes.values()
    volumes = sorted(set(itertools.chain(*known)))
    return UserError(
        f"a worker process was killed while preprocessing {' or '.join(volumes) or 'a volume'}",
        where=begun,
        fix="usually memory ran out: request more, or use fewer workers; then run again, finished volumes are kept",
    )


def _noted(store: Callable[[list[dict]], dict], begun: Path, group: list[dict]) -> dict:
    """`store(group)`, during which a note in `begun` names the volumes; after a kill, it tells what was being processed."""
    note = begun / str(os.getpid())
    note.write_text("\n".join(row["volume"] for row in group), encoding="utf-8")
    try:
        return store(group)
    except Exception as error:
        error.add_note(f"while preprocessing {', '.join(row['path'] for row in group)}")
        raise
    finally:
        note.unlink()


def _store(source_root: Path, out_dir: Path, recipe: dict[str, Any], group: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The records of the volumes of a group, taken from an earlier run if nothing changed and their files are intact."""
    key = key_of(source_root, recipe, group)
    paths = {row["volume"]: [out_dir / "volumes" / f"{row['volume']}{suffix}" for suffix in SUFFIXES] for row in group}
    kept = {volume: _kept(out_dir, own[-1], key) for volume, own in paths.items()}
    intact = {volume: record for volume, record in kept.items() if record}
    if len(intact) == len(group):
        return intact
    for path in itertools.chain(*(reversed(own) for own in paths.values())):  # records first: files without one do not count
        path.unlink(missing_ok=True)
    try:
        made = make(source_root, recipe, group)
    except OfSession as error:
        records = _rejected(source_root, group, error)
    else:
        records = {}
        for row, (contents, facts) in zip(group, made, strict=True):
            for path, content in zip(paths[row["volume"]], contents, strict=False):
                frames.write(path, content)
            records[row["volume"]] = record_of(row, contents, facts)
    for volume, record in records.items():
        rules = {"rules": RULES} if record["status"] == "rejected" else {}
        write_json(paths[volume][-1], {"key": key, "record": record} | rules)
    return records


def _kept(out_dir: Path, path: Path, key: str) -> dict[str, Any] | None:
    """The record of a volume if its key is `key`, later rules would not accept it, and its files are intact."""
    kept = read_record(path)
    if not kept or kept["key"] != key or (kept["record"]["status"] != "ok" and kept.get("rules") != RULES):
        return None
    stored = frames.files_of(kept["record"])
    return None if any(frames.fault_of(out_dir / name, checksum) for name, checksum in stored) else kept["record"]


def _rejected(source_root: Path, group: Sequence[dict[str, Any]], error: OfSession) -> dict[str, dict[str, Any]]:
    """The records of a group of which one volume cannot be used: no sequence of a session is stored without the others."""
    bad = group[error.number]
    prefix = "label: " if Path(error.where) == source_root / bad["label"] else ""
    detail = " ".join(f"{prefix}{error.problem}".split())
    records = {}
    for row in group:
        own = (error.reason, detail) if row is bad else ("session", f"left out with {bad['path']}: {error.reason} ({detail})")
        records[row["volume"]] = dict.fromkeys(RECORD_COLUMNS, "") | {"status": "rejected", "reason": own[0], "detail": own[1]}
    return records


def read_record(path: Path) -> dict[str, Any] | None:
    """The `key` and the `record` of a volume; None if there is no complete record."""
    try:
        content = read_json(path)
        return content if set(content["record"]) >= set(RECORD_COLUMNS) and "key" in content else None
    except (UserError, KeyError, TypeError, ValueError):
        return None


def make(
    source_root: Path, recipe: Mapping[str, Any], group: Sequence[Mapping[str, Any]]
) -> list[tuple[list[bytes], dict[str, Any]]]:
    """Preprocesses the volumes of a group (`sessions.grouped`).

    Returns:
        For each volume the contents of the stored files (the image and, if there is one, the label), and the columns of the
        record that describe the arrays.

    Raises:
        OfSession: a volume cannot be used.
    """
    about, prepared = _prepared(source_root, recipe, group)
    made = []
    for shape, checksums in about:
        own = prepared.pop(0)
        arrays = [to_float16(own.image), own.label]
        facts = _described(own, shape, checksums, moves(recipe))
        del own  # frees its memory for the compression
        made.append(([frames.compress(array) for array in arrays if array is not None], facts))
    return made


def _prepared(
    source_root: Path, recipe: Mapping[str, Any], group: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[tuple[int, ...], list[str]]], list[Prepared]]:
    """For each volume of a group the shape and the checksums of its files, and what is stored of it."""
    pairs = sessions.read(source_root, group, recipe)
    about = [(volume.shape, [part.facts["checksum"] if part else "" for part in (volume, label)]) for volume, label in pairs]
    return about, sessions.prepare(pairs, recipe, [row["path"] for row in group])


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


def key_of(source_root: Path, recipe: Mapping[str, Any], group: Sequence[Mapping[str, Any]]) -> str:
    """A key that changes with everything that can change the stored arrays of a group: recipe, source files and channels."""
    keys = [_sources(source_root, row) for row in group]
    named = [atlases.load(recipe["atlas"]).checksum] if recipe.get("atlas") else []
    return fingerprint(REVISION, relevant(recipe), *itertools.chain(*keys), *named)


def _sources(source_root: Path, row: Mapping[str, Any]) -> tuple[list, str]:
    sources = []
    for name in (row["path"], row["label"]):
        path = source_root / name
        stat = path.stat() if name and path.exists() else None
        sources.append([name, stat.st_size, stat.st_mtime_ns] if stat else [name])
    return sources, str(row.get("channel", ""))


def _keep_recipe(out_dir: Path, content: Mapping[str, Any]) -> None:
    """Writes RECIPE for `repair`. Shards that are built at the same time write the same content."""
    try:
        kept = read_json(out_dir / RECIPE)
    except UserError:
        kept = None
    if kept != content:
        write_json(out_dir / RECIPE, content)


def _described(own: Prepared, shape: tuple[int, ...], checksums: Sequence[str], aligned: bool) -> dict[str, Any]:
    """The columns of a record that describe what is stored."""
    facts, geometry, place = own.facts, own.geometry, own.alignment
    described = {
        "status": "ok",
        "detail": "; ".join(facts["notes"]),
        "label_values": _text(facts["label_values"]),
        "geometry": geometry.to_json(),
        "shape": _text(geometry.stored_shape),
        "spacing_mm": _text(geometry.stored_spacing_mm),
        "native_shape": _text(shape),
        "native_spacing_mm": _text(facts["native_spacing_mm"]),
        "mean": float(f"{facts['mean']:.6g}"),
        "std": float(f"{facts['std']:.6g}"),
        "source_checksum": checksums[0],
        "label_source_checksum": checksums[1],
    }
    if not aligned:
        return described
    columns: dict[str, Any] = dict.fromkeys(ALIGNMENT_COLUMNS, "")
    if place:
        metric = "" if place.metric is None else float(f"{place.metric:.6g}")
        columns = {"aligned_to": place.to, "covered": float(f"{place.covered:.4f}"), "metric": metric}
        columns["alignment"] = dump_json(place.to_dict())
    return described | columns


def _text(values: Iterable[Any]) -> str:
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
