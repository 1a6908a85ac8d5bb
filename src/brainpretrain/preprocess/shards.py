"""Shards: the volumes of a data set as compressed arrays with a table that tells what became of each.

A shard is the volumes of those subjects whose hash falls into it, so that adding a subject moves no other one. Each volume
has its own record, so a shard that was killed goes on where it stopped; the table depends on neither the number of workers
nor on interruptions. Layout of `out_dir`: `volumes/<volume>.b2nd` (float16 in [0, 1]), `volumes/<volume>.label.b2nd`
(unsigned integers), `volumes/<volume>.json` (the record), `recipe.json`, the tables `shard<number>.tsv`, and `volumes.tsv`, which
is all of them. While a process works on a volume, `begun/<shard>/<process>` names it.

Every read compares the whole file with its checksum before a voxel is used. What that costs is in docs/benchmarks.md.
"""

from __future__ import annotations

import itertools
import math
import multiprocessing
import os
import shlex
import signal
import threading
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import partial, reduce
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
import pandas as pd
import xxhash
from threadpoolctl import threadpool_limits

from brainpretrain.errors import UserError
from brainpretrain.files import atomic, fingerprint, part_of, read_json, read_tsv, stable_hash, write_json
from brainpretrain.preprocess.volumes import RECIPE_KEYS, BadVolume, Limits, preprocess, read_volume, to_float16

REVISION = 1  # raise it when the same recipe gives other arrays
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
SELECTION = ("not_3d", "too_small", "negative")  # reasons by which BRAINS-45K leaves volumes out: no damage
SUFFIXES = (".b2nd", ".label.b2nd", ".json")  # image, label and record of a volume
JOINED = "volumes.tsv"  # in `out_dir`: the tables of all shards as one, which whoever reads the data set reads
RECIPE = "recipe.json"  # in `out_dir`: what its volumes were made with, so that one can be made anew
CRC_DIGITS = 8  # of the checksums that earlier versions stored
_BLOCK = 36  # voxels per axis, about: the least that a read decompresses


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
    """Preprocesses the volumes of one shard. Volumes whose source and recipe are unchanged and whose files are whole are kept.

    Args:
        rows: the index of the data set, with the columns INDEX_COLUMNS and `channel` ('' or the channel of a 4-D file).
            `path` and `label` are relative to `source_root`; `patient` is the name to use where one patient
            has several subjects.
        recipe: see `volumes.preprocess`; `revision` is part of what makes a kept volume outdated, other keys are ignored.
        shard: which of the `n_shards` to build.
        workers: processes; the result does not depend on it.
        progress: called with the number of finished volumes and of all.
        labels: values that a label of the data set may hold beside 0; without any, every value is taken.

    Killed at any moment, the same call continues: volumes with a record are kept, half-written files go.

    Returns:
        One row per volume, sorted, with INDEX_COLUMNS and RECORD_COLUMNS. `status` is 'ok' or 'rejected' (a volume or
        label that cannot be used, with `reason` and `detail`). `detail` of an accepted volume holds remarks. Lists are
        separated by blanks, `file` and `label_file` are relative to `out_dir`, checksums are XXH3 (64 bits) of the files.

    Raises:
        UserError: two rows of one name, a key of the recipe missing, or a worker killed (it names the volume). Whatever
            else stops a worker is raised as it is: only bad data is rejected.
    """
    if missing := [key for key in RECIPE_KEYS if key not in recipe]:
        raise UserError(f"the recipe lacks {', '.join(missing)}", where="preprocess", fix="add it to the recipe")
    index: Any = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else map(dict, rows)
    mine = [row for row in index if shard_of(row["subject"], n_shards) == shard]
    mine.sort(key=lambda row: row["volume"])
    twice = {a["volume"] for a, b in itertools.pairwise(mine) if a["volume"] == b["volume"]}
    if twice:
        raise UserError(f"several rows of one name: {', '.join(sorted(twice))}", where=source_root, fix="look at the index")
    out_dir = Path(out_dir)
    _keep_recipe(out_dir, {"recipe": _used(recipe), "n_shards": n_shards, "labels": sorted(labels)})
    _clear(out_dir, shard)
    begun = _begun_folder(out_dir, shard)
    store = partial(_noted, partial(_store, Path(source_root), out_dir, dict(recipe)), begun)
    records = _run(store, begun, mine, workers, progress or (lambda done, total: None))
    begun.rmdir()
    return table_of(mine, records, labels)


def shard_of(subject: str, n_shards: int) -> int:
    """The shard that the volumes of a subject are in."""
    return stable_hash(subject) % n_shards


def table_of(rows: Sequence[dict], records: Sequence[dict], labels: Collection[int]) -> pd.DataFrame:
    """The table of a shard: what became of each of its `rows`; see `build`."""
    table = [row | _judged(record, labels) for row, record in zip(rows, records, strict=True)]
    return pd.DataFrame(table, columns=[*INDEX_COLUMNS, *RECORD_COLUMNS])


def check_rejected(table: pd.DataFrame, max_fraction: float) -> None:
    """Accepts a table with few rejected volumes.

    Unlabelled volumes that the selection rules of BRAINS-45K leave out (SELECTION) count neither as rejected nor among
    all: a 4-D diffusion series is no damage. A labelled volume counts whatever the reason, since a case to score drops out.

    Raises:
        UserError: more than `max_fraction` (0..1) of the volumes are rejected; it lists each of them.
    """
    left_out = table["reason"].isin(SELECTION) & (table["label"] == "")
    table = table[~left_out]
    rejected = table[table["status"] == "rejected"]
    if len(rejected) > max_fraction * len(table):
        lines = zip(rejected["path"], rejected["reason"], rejected["detail"], strict=True)
        listed = "\n".join(f"    {path}: {reason} ({detail})" for path, reason, detail in lines)
        raise UserError(
            f"{len(rejected)} of {len(table)} volumes rejected, more than the accepted share of {max_fraction:g}:\n{listed}",
            fix="repair or remove these files, or raise max_rejected_fraction of the recipe (--max-rejected)",
        )


def load(out_dir: Path | str, row: Mapping[str, Any], box: tuple[slice, ...] | None = None) -> np.ndarray:
    """The image of a table row, float16 (x, y, z) in [0, 1], or only the part inside `box`.

    Raises:
        UserError: the file is missing, or its checksum differs from the row's `checksum`; it says how to repair it.
    """
    return _load(Path(out_dir) / row["file"], row["checksum"], row, box)


def load_label(out_dir: Path | str, row: Mapping[str, Any], box: tuple[slice, ...] | None = None) -> np.ndarray:
    """The label of a table row, unsigned integers (x, y, z) with the values of the source, or its part inside `box`.

    Raises:
        UserError: the row has no label, its file is missing, or its checksum differs from the row's `label_checksum`.
    """
    if not row["label_file"]:
        raise UserError(f"{row['volume']} has no label", where=row["path"], fix="choose labelled volumes")
    return _load(Path(out_dir) / row["label_file"], row["label_checksum"], row, box)


def files_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The stored files of a table row or record, relative to `out_dir`, with their checksums; none of a rejected volume."""
    pairs = ((row["file"], row["checksum"]), (row["label_file"], row["label_checksum"]))
    return [(name, checksum) for name, checksum in pairs if name]


def fault_of(path: Path, checksum: str) -> str:
    """What is wrong with a stored file: 'missing', 'damaged: ...', or '' if it is whole."""
    try:
        return _fault(_like(checksum, _pieces(path)), checksum)
    except FileNotFoundError:
        return "missing"


# ------------------------------------------------------------------------------------------------ processes


def interrupted(out_dir: Path | str, shard: int) -> list[str]:
    """The volumes that an earlier attempt at a shard was working on when it was killed."""
    return sorted(_begun(_begun_folder(Path(out_dir), shard)).values())


def _begun_folder(out_dir: Path, shard: int) -> Path:
    return out_dir / "begun" / f"{shard:03d}"


def _begun(folder: Path) -> dict[int, str]:
    """Process -> the volume that it works on, or worked on when it was killed."""
    return {int(path.name): path.read_text(encoding="utf-8") for path in folder.glob("[0-9]*")}


def _clear(out_dir: Path, shard: int) -> None:
    """Removes what killed processes left behind: files written in part, and the notes that name them."""
    begun = _begun_folder(out_dir, shard)
    begun.mkdir(parents=True, exist_ok=True)
    for process, volume in _begun(begun).items():
        for suffix in SUFFIXES:
            part_of(out_dir / "volumes" / f"{volume}{suffix}", process).unlink(missing_ok=True)
        (begun / str(process)).unlink()


def _run(
    store: Callable[[dict], dict], begun: Path, rows: Sequence[dict], workers: int, progress: Callable[[int, int], None]
) -> list[dict]:
    """`store` of every row, in order. One BLAS thread per process: results then depend on no thread count."""
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
    """One BLAS thread, and an end when the parent is killed: a pool's worker would wait for work for ever."""
    threadpool_limits(limits=1)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _killed(begun: Path, processes: Iterable[int | None]) -> UserError:
    """Names the volume that the killed process worked on; the pool ends its other processes by another signal."""
    notes = _begun(begun)
    volumes = sorted({notes[process] for process in processes if process in notes} or notes.values())
    return UserError(
        f"a worker process was killed while preprocessing {' or '.join(volumes) or 'a volume'}",
        where=begun,
        fix="most often memory ran out: ask for more, or use fewer workers; run again, finished volumes are kept",
    )


def _noted(store: Callable[[dict], dict], begun: Path, row: dict) -> dict:
    """`store(row)`; a note in `begun` names the volume to whoever looks after a kill, the traceback of an error too."""
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
    """The record of one volume, from an earlier run if nothing changed and its files are whole."""
    paths = [out_dir / "volumes" / f"{row['volume']}{suffix}" for suffix in SUFFIXES]
    key = key_of(source_root, recipe, row)
    kept = read_record(paths[-1])
    if kept and kept["key"] == key and not any(fault_of(out_dir / name, found) for name, found in files_of(kept["record"])):
        return kept["record"]
    for path in reversed(paths):  # the record first: without it nothing counts
        path.unlink(missing_ok=True)
    try:
        frames, facts = make(source_root, recipe, row)
    except BadVolume as error:
        record = dict.fromkeys(RECORD_COLUMNS, "") | {"status": "rejected", "reason": error.reason}
        about = "label: " if Path(error.where) == source_root / row["label"] else ""
        record["detail"] = " ".join(f"{about}{error.problem}".split())
    else:
        for path, frame in zip(paths, frames, strict=False):
            write_frame(path, frame)
        record = record_of(row, frames, facts)
    write_json(paths[-1], {"key": key, "record": record})
    return record


def read_record(path: Path) -> dict[str, Any] | None:
    """`key` and `record` of a volume; None where there is no whole record."""
    try:
        found = read_json(path)
        return found if set(found["record"]) >= set(RECORD_COLUMNS) and "key" in found else None
    except (UserError, KeyError, TypeError, ValueError):
        return None


def make(source_root: Path, recipe: Mapping[str, Any], row: Mapping[str, Any]) -> tuple[list[bytes], dict[str, Any]]:
    """A volume from its raw files: the bytes of the stored image and, if it has one, label; and what the record says of them.

    Raises:
        BadVolume: see `nifti` and `volumes`.
    """
    image, label, facts = _preprocess(source_root, recipe, row)
    arrays = [to_float16(image), label]
    del image  # compression needs its room
    return [_compressed(array) for array in arrays if array is not None], facts


def record_of(row: Mapping[str, Any], frames: Sequence[bytes], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a volume that is stored as `frames`."""
    record = dict.fromkeys(RECORD_COLUMNS, "") | dict(facts)
    for prefix, suffix, frame in zip(("", "label_"), SUFFIXES, frames, strict=False):
        record |= {f"{prefix}file": f"volumes/{row['volume']}{suffix}", f"{prefix}checksum": checksum_of(frame)}
    return record | {"bytes": sum(map(len, frames))}


def _judged(record: dict[str, Any], labels: Collection[int]) -> dict[str, Any]:
    """A record as it enters the table: a label with a value that nobody has named is a fault, whatever its voxels are."""
    unknown = [value for value in record["label_values"].split() if int(value) not in {0, *labels}] if labels else []
    if not unknown:
        return record
    known = " ".join(map(str, sorted(labels)[:20])) + (" ..." if len(labels) > 20 else "")
    detail = f"label: holds {' '.join(unknown[:8])}, which the data set does not name (its labels: {known})"
    return dict.fromkeys(RECORD_COLUMNS, "") | {"status": "rejected", "reason": "label_value", "detail": detail}


def key_of(source_root: Path, recipe: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """Changes with whatever can change the stored arrays."""
    used = _used(recipe)
    sources = []
    for name in (row["path"], row["label"]):
        path = source_root / name
        stat = path.stat() if name and path.exists() else None
        sources.append([name, stat.st_size, stat.st_mtime_ns] if stat else [name])
    return fingerprint(REVISION, used, sources, str(row.get("channel", "")))


def _used(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What of a recipe shapes the stored arrays."""
    return {key: recipe[key] for key in RECIPE_KEYS} | {"revision": recipe.get("revision", 1)}


def _keep_recipe(out_dir: Path, content: Mapping[str, Any]) -> None:
    """Leaves to `repair` what it has to know; shards that are made at the same time write the same."""
    try:
        kept = read_json(out_dir / RECIPE)
    except UserError:
        kept = None
    if kept != content:
        write_json(out_dir / RECIPE, content)


def _preprocess(
    source_root: Path, recipe: Mapping[str, Any], row: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray | None, dict[str, Any]]:
    """Image (float32) and label on the stored grid, and the columns of the record that describe them."""
    limits = Limits(recipe["max_voxels"], tuple(recipe["spacing_range_mm"]))
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
    }
    return image, stored_label, described


# ------------------------------------------------------------------------------------------------ files


def _compressed(array: np.ndarray) -> bytes:
    """An array as the content of its file. Equal arrays give equal bytes."""
    # the upper bytes of halves compress well by themselves: a seventh smaller than by bits, which suit label maps
    shuffle = blosc2.Filter.SHUFFLE if array.dtype.kind == "f" else blosc2.Filter.BITSHUFFLE
    compression = blosc2.CParams(codec=blosc2.Codec.ZSTD, clevel=2, filters=[shuffle], typesize=array.itemsize, nthreads=1)
    # blocks that share an axis evenly: a rest of a block would be stored, and read, as a whole one
    blocks = tuple(math.ceil(n / max(1, round(n / _BLOCK))) for n in array.shape)
    chunks = tuple(min(2 * block, n) for block, n in zip(blocks, array.shape, strict=True))
    contiguous: Any = np.ascontiguousarray(array)
    return blosc2.asarray(contiguous, contiguous=True, chunks=chunks, blocks=blocks, cparams=compression).to_cframe()


def write_frame(path: Path, frame: bytes) -> None:
    """Writes a stored file: beside its place, read back, compared and renamed.

    Raises:
        UserError: it reads back differently.
    """
    with atomic(path, needs=len(frame)) as temporary:
        temporary.write_bytes(frame)
        if fault_of(temporary, checksum_of(frame)):
            raise UserError("the file reads back differently", where=path, fix="check the disk, then run the step again")


def checksum_of(frame: bytes) -> str:
    """XXH3 of 64 bits, 16 hex digits; what it costs at every read is in docs/benchmarks.md."""
    return xxhash.xxh3_64_hexdigest(frame)


def _like(checksum: str, pieces: Iterable[bytes | memoryview]) -> str:
    """The checksum of bytes that come in pieces, of the same kind: those of earlier versions are CRC-32."""
    if len(checksum) == CRC_DIGITS:
        return f"{reduce(lambda found, piece: zlib.crc32(piece, found), pieces, 0):08x}"
    found = xxhash.xxh3_64()
    for piece in pieces:
        found.update(piece)
    return found.hexdigest()


def _pieces(path: Path) -> Iterator[memoryview]:
    """The content of a file that is never whole in memory; a piece is valid until the next one."""
    room = memoryview(bytearray(1 << 18))
    with open(path, "rb", buffering=0) as stream:
        while size := stream.readinto(room):
            yield room[:size]


def _fault(found: str, checksum: str) -> str:
    return "" if found == checksum else f"damaged: its checksum is {found}, and {checksum} was stored"


def _load(path: Path, checksum: str, row: Mapping[str, Any], box: tuple[slice, ...] | None) -> np.ndarray:
    """The bytes that are compared are the bytes that are decompressed: nothing can change in between."""
    try:
        frame = path.read_bytes()
    except FileNotFoundError as error:
        raise _damaged("missing", path, row) from error
    if fault := _fault(_like(checksum, [frame]), checksum):
        raise _damaged(fault, path, row)
    array: Any = blosc2.ndarray_from_cframe(frame)
    array.schunk.dparams = blosc2.DParams(nthreads=1)
    return array[:] if box is None else array[box]


def _damaged(fault: str, path: Path, row: Mapping[str, Any]) -> UserError:
    """Says which shard, stored volume and raw file it is about; a corpus names no raw file, the table of the shard does."""
    folder = path.parent.parent
    shard, source = _origin(folder, row, "label" if path.name.endswith(SUFFIXES[1]) else "path")
    return UserError(
        f"the stored volume {row['volume']}{shard}, made from {source}, is {fault}",
        where=path,
        fix=f"brainpretrain repair {shlex.quote(str(folder))}   (makes it anew and nothing else; then run this again)",
    )


def _origin(folder: Path, row: Mapping[str, Any], column: str) -> tuple[str, str]:
    """' of shard <number>' and the raw file in `column`, as far as the tables in `folder` know of a volume."""
    for path in sorted(folder.glob("shard*.tsv")):
        try:
            table = read_tsv(path)
            (found,) = table.loc[table["volume"] == row["volume"], column]
        except (UserError, KeyError, ValueError):  # not in this one, or it is damaged as well
            continue
        return f" of shard {path.stem.removeprefix('shard')}", found
    return "", row.get(column, "an unknown file")


def _text(values: Iterable[Any]) -> str:
    return " ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
