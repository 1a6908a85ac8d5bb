"""Files that are whole or absent: atomic writes, checksums, JSON and TSV."""

from __future__ import annotations

import csv
import errno
import gzip
import hashlib
import json
import lzma
import math
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from brainpretrain.errors import UserError

if TYPE_CHECKING:
    import pandas as pd  # the import takes a third of a second, and many commands read and write no table


# What the standard library raises for a damaged zip or tar: its own errors, and those that escape from parsing a damaged field.
UNREADABLE_ARCHIVE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, lzma.LZMAError, EOFError, struct.error),
    *(ValueError, LookupError, ArithmeticError, RuntimeError, MemoryError),
)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk is full, a quota is used up, a limit on file size is reached


@contextmanager
def atomic(path: Path | str, needs: int = 0) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; it is synced and renamed to `path` when the block ends without an error.

    After an error the temporary file is removed, and an older `path` is unchanged. The temporary path has the suffixes of
    `path`, since writers such as nibabel choose the format by them.

    Args:
        path: file to write.
        needs: its size in bytes or an upper bound, if known, for the message about a full disk.

    Raises:
        UserError: the disk is full, whatever error the block itself raised because of it.
    """
    path = Path(path)
    temporary = part_of(path, os.getpid())
    try:
        with explain_full_disk(path, temporary, needs):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            give_usual_mode(temporary)
            sync(temporary)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path | str, needs: int = 0) -> Iterator[Path]:
    """As `atomic`, for a folder of files; an older `path` is removed when the new one is complete."""
    path = Path(path)
    temporary = part_of(path, os.getpid())
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with explain_full_disk(path, temporary, needs):
            temporary.mkdir(parents=True)
            yield temporary
            for file in temporary.rglob("*"):
                give_usual_mode(file)
            sync_tree(temporary)
            shutil.rmtree(path, ignore_errors=True)
            os.replace(temporary, path)
            sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def give_usual_mode(file: Path) -> None:
    """Opens a file that only its owner may read to those whom the umask (or the folder's default ACL) lets read new files.

    Some libraries write through a temporary file that is private whatever the umask; safetensors 0.8 is one.
    """
    if not file.is_file() or stat.S_IMODE(file.stat().st_mode) & 0o077:
        return
    probe = file.with_name(f".{file.name}.mode")
    descriptor = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        file.chmod(stat.S_IMODE(os.fstat(descriptor).st_mode))
    finally:
        os.close(descriptor)
        probe.unlink()


def part_of(path: Path, process: int) -> Path:
    """The temporary path that a process writes until `path` is complete; only a killed process leaves it behind."""
    return path.with_name(f".{process}.part.{path.name}")


def clear_parts(folder: Path) -> None:
    """Removes the temporary files of killed processes from a folder that no other process writes to."""
    for part in folder.glob(".*.part.*"):
        shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


def not_permitted(path: Path | str) -> UserError:
    """The error of a file that may well exist, but that the permissions keep this user from reading or writing."""
    path = Path(path).absolute()
    place = next(place for place in (path, *path.parents) if _may_look(place))
    status = place.stat()
    if place != path:
        enter = os.access(place, os.X_OK, effective_ids=True)
        what, wanted = (f"write into the folder {place}", "a+rwx") if enter else (f"enter the folder {place}", "a+rx")
    else:
        what, wanted = ("write it", "a+w") if os.access(path, os.R_OK, effective_ids=True) else ("read it", "a+r")
    mode = f"{stat.filemode(status.st_mode)}, owner {status.st_uid}, group {status.st_gid}"
    problem = f"user {os.geteuid()} has no permission to {what} ({mode})"
    return UserError(problem, where=path, fix=f"ask the owner for: chmod {wanted} {place}")


def _may_look(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:
        return False


def full_disk(path: Path | str, why: int, needs: int = 0) -> UserError:
    """The error of a full disk.

    Args:
        path: file that could not be written.
        why: number of the system error, one of `FULL`.
        needs: size of the file in bytes, if known.
    """
    folder = next(folder for folder in Path(path).absolute().parents if folder.is_dir())
    size = f"it needs {_size(needs)}, " if needs else ""
    return UserError(
        f"disk full: {size}{_size(shutil.disk_usage(folder).free)} are free ({os.strerror(why)})",
        where=path,
        fix="make room or raise the limit, then run the same command again; earlier results are unchanged",
    )


@contextmanager
def explain_full_disk(path: Path | str, part: Path | None = None, needs: int = 0) -> Iterator[None]:
    """Raises `full_disk` instead of any error that a full disk causes in the block.

    Args:
        path: file to write.
        part: the temporary file, used to check whether the disk is full after an error of a library that gives no reason.
        needs: size of the file in bytes, if known.
    """
    try:
        yield
    except Exception as error:
        if why := _why_full(error, part):
            raise full_disk(path, why, needs) from error
        raise


def _why_full(error: Exception, part: Path | None) -> int:
    """The number of the system error if a full disk caused an error, else 0.

    Libraries in other languages raise errors of their own. Those of Rust contain the number in their text; for others, it is
    tried whether the temporary file can grow.
    """
    if isinstance(error, OSError):
        return error.errno if error.errno in FULL else 0
    if isinstance(error, UserError):
        return 0
    for number in FULL:
        if f"(os error {number})" in str(error):
            return number
    try:
        with open(part or os.devnull, "ab") as stream:
            stream.write(bytes(2**16))
    except OSError as refusal:
        return refusal.errno if refusal.errno in FULL else 0
    return 0


def _size(count: int) -> str:
    """A number of bytes in the largest unit that fits."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count} bytes"


def is_utf8(path: Path | str) -> bool:
    """Whether a name can be written into a table, a JSON file or a page; names from DICOM may be ISO 8859-1."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def shown(path: Path | str) -> str:
    """A path as a text that can be printed; bytes that are not UTF-8 appear as `\\xfc`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def nifti_files(folder: Path, pattern: str = "**/*") -> list[Path]:
    """The NIfTI files of a folder whose path below it matches a pattern, sorted; none if there is no such folder."""
    return sorted(path for path in folder.glob(pattern) if path.name.endswith((".nii", ".nii.gz")) and path.is_file())


def link(path: Path, where: Path) -> None:
    """Gives a file the second name `where` (a hard link), or copies it if the file system has no hard links."""
    try:
        os.link(path, where)
    except OSError:
        shutil.copyfile(path, where)


def sha256(path: Path | str) -> str:
    """Hex digest of a file, which is read in pieces."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def stable_hash(text: str) -> int:
    """A number of 64 bits that depends on `text` only: it is equal on all machines and in all versions of Python."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def is_drawn(name: str, share: float, seed: int) -> bool:
    """True for a share (0..1) of all names; whether a name is drawn depends on no other name."""
    return stable_hash(f"{seed} {name}") < share * 2**64


def dump_json(value: Any) -> str:
    """Canonical JSON: sorted keys, so that equal content is equal text."""
    return json.dumps(value, sort_keys=True, allow_nan=False)


def fingerprint(*values: Any) -> str:
    """12 hex digits that depend on the content of the values only; the values must be of JSON types."""
    return hashlib.sha256("\n".join(dump_json(v) for v in values).encode()).hexdigest()[:12]


def write_json(path: Path | str, value: Any) -> None:
    """Writes `value` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Reads JSON with finite numbers and valid text, as `write_json` writes it.

    Raises:
        UserError: the file is missing, is not readable, or is no such JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        value = json.loads(text, parse_constant=_finite, parse_float=_finite)
        if "\\ud" in text.lower():  # a surrogate, which is valid JSON only as one of a pair
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the step that makes it") from error
    except PermissionError as error:
        raise not_permitted(path) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"no valid JSON: {error}", where=path, fix="delete it and run the step again") from error


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is no number that can be used")
    return value


def parse_mapping(text: str) -> dict[str, Any]:
    """The JSON mapping in `text`; an empty one if the text is cut or holds anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def read_mapping(path: Path) -> dict[str, Any]:
    """The JSON mapping in a file that another process may be replacing; an empty one if there is none."""
    try:
        return parse_mapping(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def write_tsv(path: Path | str, rows: pd.DataFrame | Iterable[Mapping[str, Any]], columns: list[str] | None = None) -> None:
    """Writes a table as TSV, atomically. `columns` fixes names and order, also for a table without rows."""
    text = as_tsv(rows, columns)
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def as_tsv(rows: pd.DataFrame | Iterable[Mapping[str, Any]], columns: list[str] | None = None) -> str:
    """The text that `write_tsv` writes."""
    import pandas as pd

    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows), columns=columns)
    return frame.to_csv(sep="\t", index=False, lineterminator="\n", quoting=csv.QUOTE_MINIMAL)


def read_tsv(path: Path | str, numbers: Iterable[str] = ()) -> pd.DataFrame:
    """Reads a TSV. Every column is text, with '' for an empty cell, except for the columns in `numbers`, with NaN.

    Raises:
        UserError: the file is missing, not readable, empty or damaged, or lacks a column of `numbers`.
    """
    import pandas as pd

    try:
        frame = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise UserError("file not found", where=path, fix="run the step that makes it") from error
    except PermissionError as error:
        raise not_permitted(path) from error
    except pd.errors.EmptyDataError as error:
        raise UserError("the table is empty", where=path, fix="delete it and run the step again") from error
    except (pd.errors.ParserError, UnicodeDecodeError) as error:
        problem = f"the table is damaged ({str(error).splitlines()[0]})"
        raise UserError(problem, where=path, fix="delete it and run the step again") from error
    for name in numbers:
        if name not in frame.columns:
            raise UserError(f"the table has no column '{name}'", where=path, fix="run the step that makes it again")
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame


def read_tsvs(paths: Iterable[Path | str]) -> pd.DataFrame:
    """Tables of the same columns as one table, in the order of `paths`.

    Raises:
        UserError: as `read_tsv`.
    """
    import pandas as pd

    return pd.concat([read_tsv(path) for path in paths], ignore_index=True)


def is_cut(path: Path | str) -> bool:
    """True if the last line of a text file has no line end, which every table of `write_tsv` has."""
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) != b"\n"


def sync_tree(folder: Path) -> None:
    """Makes all files below a folder survive a power cut; called before the folder gets its final name."""
    for path in (*folder.rglob("*"), folder):
        sync(path)


def sync(path: Path) -> None:
    """Makes a file, or the names in a folder, survive a power cut; does nothing for a link to a missing file."""
    if not path.exists():
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
