"""Files that are whole or absent: atomic writes, checksums, JSON and TSV."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainpretrain.errors import UserError

try:  # the same numbers, several times as fast
    from isal.isal_zlib import crc32 as _crc32
except ImportError:
    from zlib import crc32 as _crc32

if TYPE_CHECKING:
    import pandas as pd  # takes a third of a second, and half of the commands write no table


@contextmanager
def atomic(path: Path | str) -> Iterator[Path]:
    """A temporary path in the folder of `path`; fsynced and renamed to `path` when the block ends well.

    After an exception nothing of it is left and an older `path` is untouched. The suffixes of `path` are kept,
    since writers such as nibabel choose the format by them.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = part_of(path, os.getpid())
    try:
        yield temporary
        with open(temporary, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def part_of(path: Path, process: int) -> Path:
    """Where a process writes `path` until it is whole; left behind only by a killed one."""
    return path.with_name(f".{process}.part.{path.name}")


def _sync_folder(folder: Path) -> None:
    """Makes a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256(path: Path | str) -> str:
    """Hex digest of a file, read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def crc32(path: Path | str) -> str:
    """CRC-32 of a file as 8 hex digits, read in pieces that stay in the cache."""
    checksum, piece = 0, memoryview(bytearray(1 << 18))
    with open(path, "rb", buffering=0) as stream:
        while n := stream.readinto(piece):
            checksum = _crc32(piece[:n], checksum)
    return f"{checksum:08x}"


def stable_hash(text: str) -> int:
    """A number that depends on `text` alone: equal on every machine, in every Python, on every day."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def dump_json(value: Any) -> str:
    """Canonical JSON: sorted keys, so that equal content is equal text."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def fingerprint(*values: Any) -> str:
    """12 hex digits that name the content of JSON-able values."""
    return hashlib.sha256("\n".join(dump_json(v) for v in values).encode()).hexdigest()[:12]


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Reads JSON.

    Raises:
        UserError: the file is missing or no JSON.
    """
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the step that makes it") from error
    except ValueError as error:
        raise UserError(f"no valid JSON: {error}", where=path, fix="delete it and run the step again") from error


def write_tsv(path: Path | str, rows: pd.DataFrame | Iterable[Mapping[str, Any]], columns: list[str] | None = None) -> None:
    """Writes a table as TSV, atomically. `columns` fixes names and order, also for a table without rows."""
    import pandas as pd

    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=columns)
    with atomic(path) as temporary:
        frame.to_csv(temporary, sep="\t", index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)


def read_tsv(path: Path | str, numbers: Iterable[str] = ()) -> pd.DataFrame:
    """Reads a TSV. Every column is text and an empty cell is '', but for the columns named in `numbers`.

    Raises:
        UserError: the file is missing, empty, or lacks a column of `numbers`.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the step that makes it") from error
    except pd.errors.EmptyDataError as error:
        raise UserError("the table is empty", where=path, fix="delete it and run the step again") from error
    for name in numbers:
        if name not in frame.columns:
            raise UserError(f"the table has no column '{name}'", where=path, fix="run the step that makes it again")
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame
