"""Unpacks an archive into a folder of its own, completely or not at all.

No member is written outside the folder, and only regular files and folders are created, with the names and bytes of the archive
but not its modes, owners and times. `.archive.json` in the folder records the archive that it was unpacked from.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from brainpretrain.errors import UserError
from brainpretrain.files import UNREADABLE_ARCHIVE, link, read_json, sync, sync_tree, write_json

MARKER = ".archive.json"
ENCRYPTED = "_encrypted.tar.gz"  # base64 output of `openssl aes-256-cbc`
PASSWORD = "ATLAS_PASSWORD"  # environment variable
MAX_RATIO = 200  # of unpacked to packed bytes; volumes stay below 10, archives that hold only masks reach 100
STATED_RATIO = 1.5  # of unpacked bytes to the bytes on record
SMALL_BYTES = 64 << 20  # unpacked size that is allowed for any archive
BLOCK = 512  # bytes of a tar header, and the overhead counted for each file of a zip
PIECE = 1 << 20  # bytes
SPARE_BYTES = 64 << 20  # to leave free on the disk

_TARS: dict[str, Callable[..., Any]] = {
    ".tar": open,
    ".tar.gz": gzip.open,
    ".tgz": gzip.open,
    ".tar.bz2": bz2.open,
    ".tar.xz": lzma.open,
}
SUFFIXES = (".zip", *_TARS)


def stem(name: str) -> str:
    """The name of an archive without its suffix; any other name unchanged."""
    return next((name[: -len(suffix)] for suffix in (ENCRYPTED, *SUFFIXES) if name.lower().endswith(suffix)), name)


def is_archive(name: str) -> bool:
    """Whether a file of this name can be unpacked."""
    return name.lower().endswith(SUFFIXES)


def unpack(
    path: Path, folder: Path, facts: Mapping[str, Any], rename: Callable[[str], str] = str, unpacked_size: int | None = None
) -> dict[str, Any]:
    """Unpacks the archive `path` into `folder`. A file that is not an archive becomes the only file of the folder.

    Args:
        path: .zip, .tar, .tar.gz, .tgz, .tar.bz2, .tar.xz, or `*_encrypted.tar.gz` with its password in the environment.
        folder: must not exist. It has a hidden name until it is complete; a later run replaces what a killed run left.
        facts: facts about the archive that the marker records.
        rename: maps the path of a member to another path, before any check.
        unpacked_size: bytes of all files in the archive, if on record.

    Returns:
        The marker: `facts`, `files` (count) and `bytes` (unpacked).

    Raises:
        UserError: the archive is damaged; it holds a link, a device, an unsafe or a repeated name, or more than `STATED_RATIO`
            times the bytes on record (if there are none, `MAX_RATIO` times its own size); the disk is or becomes too small; the
            password is missing or wrong. Nothing remains of the folder.
    """
    with being_made(folder) as making, _plain(path, making) as (plain, name):
        target = _Target(making, path, plain.stat().st_size, rename, unpacked_size)
        try:
            if not is_archive(name):
                link(plain, making / path.name)
                target.files, target.bytes = 1, plain.stat().st_size
            elif name.lower().endswith(".zip"):
                _unzip(plain, target)
            else:
                _untar(plain, name, target)
        except (*UNREADABLE_ARCHIVE, OSError) as error:
            raise _unpackable(error, path) from None
        marker = {**facts, "files": target.files, "bytes": target.bytes}
        write_marker(making, marker)
    return marker


def _unpackable(error: Exception, path: Path) -> UserError:
    if isinstance(error, OSError) and error.errno is not None:
        problem, fix = f"cannot unpack: {error.strerror}", "make room, or check the permissions"
        return UserError(problem, where=error.filename or path, fix=fix)
    refuse_page(path)
    problem = f"the archive is damaged or is none: {str(error) or type(error).__name__}"
    return UserError(problem, where=path, fix="delete it and get it again")


def web_page(first: bytes) -> str:
    """Describes a file that begins as a web page, such as "a web page, 'Sign in',"; '' for any other file."""
    if not re.match(rb"\s*(<!doctype html|<html)", first, re.IGNORECASE):
        return ""
    title = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", first[:65536], re.IGNORECASE | re.DOTALL)
    return f"a web page, '{title[1].decode(errors='replace')[:80]}'," if title else "a web page"


def refuse_page(path: Path) -> None:
    """Raises a UserError if the file is a web page, which browsers save if a host asks for a login."""
    with open(path, "rb") as stream:
        page = web_page(stream.read(65536))
    if page:
        raise UserError(f"this is {page} and no archive", where=path, fix="delete it, log in, and download it again")


@contextmanager
def being_made(folder: Path, keep: bool = False) -> Iterator[Path]:
    """Yields a hidden folder that becomes `folder` at the end of the block. After an error it is removed, unless `keep`.

    Raises:
        UserError: `folder` exists.
    """
    if folder.exists():
        raise UserError("the folder exists already, and was not unpacked by this command", where=folder, fix="move it away")
    making = folder.with_name(f".making-{folder.name}")
    if not keep:
        shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, exist_ok=True)
    try:
        yield making
    except BaseException:
        if not keep:
            shutil.rmtree(making, ignore_errors=True)
        raise
    sync_tree(making)
    os.replace(making, folder)
    sync(folder.parent)


def write_marker(folder: Path, facts: Mapping[str, Any]) -> None:
    """Records in a folder the archive that it was unpacked from."""
    write_json(folder / MARKER, facts)


def made_from(folder: Path) -> dict[str, Any] | None:
    """The marker of a folder; None if there is no such folder, or if this program did not create it."""
    path = folder / MARKER
    return read_json(path) if path.exists() else None


def markers(root: Path | str) -> list[dict[str, Any]]:
    """The markers of all archives that were unpacked below `root`."""
    return [read_json(path) for path in sorted(Path(root).glob(f"*/{MARKER}"))]


class _Target:
    """The folder that an archive is unpacked into; it refuses members that are not allowed."""

    def __init__(self, folder: Path, archive: Path, packed: int, rename: Callable[[str], str], stated: int | None) -> None:
        self.folder, self.archive, self.rename = folder, archive, rename
        self.limit = max(packed * MAX_RATIO if stated is None else int(stated * STATED_RATIO), SMALL_BYTES)
        self.reason = f"{MAX_RATIO} times its own size" if stated is None else f"{STATED_RATIO} times what is on record"
        self.spent = self.bytes = self.files = 0
        self.seen: dict[str, str] = {}

    def refuse(self, problem: str, member: str = "") -> UserError:
        fix = "nothing was unpacked; get it from its original page, or unpack it by hand if you trust it"
        return UserError(f"the archive is refused: {f'{member!r}: ' if member else ''}{problem}", where=self.archive, fix=fix)

    def path(self, name: str, is_folder: bool) -> Path | None:
        """The path of a member; None for files that macOS adds. Some Windows programs separate folders by a backslash."""
        name = name.replace("\\", "/")
        pure = PurePosixPath(self.rename(name))
        if "__MACOSX" in pure.parts or pure.name.startswith("._") or pure.name == ".DS_Store":
            return None
        if pure == PurePosixPath("."):
            return self.folder
        odd = name[1:2] == ":" or any(ord(letter) < 32 for letter in name)
        if odd or pure.is_absolute() or ".." in pure.parts:
            raise self.refuse("a name leads out of the folder", name)
        if pure.name == MARKER:
            raise self.refuse("a name is reserved", name)
        for parent in list(pure.parents)[-2::-1]:
            self._once(str(parent), True)
        self._once(str(pure), is_folder)
        return self.folder / pure

    def _once(self, name: str, is_folder: bool) -> None:
        """Refuses two names that some file system does not distinguish, since a file would be lost; a folder may be repeated."""
        key = unicodedata.normalize("NFC", name).casefold()
        entry, earlier = name + "/" * is_folder, self.seen.get(key)
        if earlier and not (is_folder and earlier == entry):
            raise self.refuse(f"two members have one name, {earlier!r} and {entry!r}")
        self.seen[key] = entry

    def spend(self, size: int, member: str = "") -> None:
        """Counts bytes before they are written."""
        self.spent += size
        self.allow(self.spent, member)

    def allow(self, size: int, member: str) -> None:
        """Refuses a size, of one or of all members, that exceeds the limit."""
        if size > self.limit:
            limit = f"{self.limit / 1e6:.0f} MB ({self.reason}, or the minimum for any archive)"
            raise self.refuse(f"it unpacks to more than {limit}, as a zip bomb does", member)

    def write(self, where: Path, stream: IO[bytes], size: int, member: str) -> None:
        """Copies a member, which must have exactly `size` bytes. Free space is checked throughout, since others write as well."""
        where.parent.mkdir(parents=True, exist_ok=True)
        written = 0
        with open(where, "xb") as out:
            while piece := stream.read(PIECE):
                written += len(piece)
                if written > size:
                    break
                check_space(self.folder, size - written + len(piece))
                out.write(piece)
        if written != size:
            raise EOFError(f"{member!r} should have {size} bytes")
        self.files += 1
        self.bytes += size


def _unzip(path: Path, target: _Target) -> None:
    """Checks all names, types and sizes before it writes the first byte."""
    with zipfile.ZipFile(path) as archive:
        members = []
        for info in archive.infolist():
            name, kind = info.orig_filename, stat.S_IFMT(info.external_attr >> 16)
            is_folder = name.endswith(("/", "\\"))
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise target.refuse("a member is a link or a device", name)
            if info.flag_bits & 1:
                raise target.refuse("a member is encrypted", name)
            target.spend(info.file_size + BLOCK, name)
            if where := target.path(name, is_folder):
                members.append((info, where, is_folder))
        check_space(target.folder, sum(info.file_size for info, *_ in members))
        for info, where, is_folder in members:
            if is_folder:
                where.mkdir(parents=True, exist_ok=True)
            else:
                with archive.open(info) as stream:
                    target.write(where, stream, info.file_size, info.filename)


def _untar(path: Path, name: str, target: _Target) -> None:
    """Works in one pass, since listing a compressed tar means decompressing it. Each member is checked before it is written."""
    suffix = next(suffix for suffix in _TARS if name.lower().endswith(suffix))
    check_space(target.folder, path.stat().st_size)
    with _TARS[suffix](path, "rb") as raw:
        stream = _Counted(raw, target)
        with tarfile.open(fileobj=stream, mode="r|", bufsize=PIECE) as tar:  # type: ignore[call-overload]
            for member in tar:
                if not (member.isreg() or member.isdir()):
                    raise target.refuse("a member is a link or a device", member.name)
                target.allow(member.size, member.name)  # the stated size; the bytes that are read are counted below
                if member.issparse():
                    target.spend(member.size, member.name)
                where = target.path(member.name, member.isdir())
                if where and member.isdir():
                    where.mkdir(parents=True, exist_ok=True)
                elif where:
                    content = tar.extractfile(member)
                    assert content is not None  # it is None only for links and devices
                    target.write(where, content, member.size, member.name)
            stream.check_end(tar.offset)
        while stream.read(PIECE):  # reads to the end, where the checksum of the compression is
            pass


class _Counted:
    """Counts the bytes of a tar and checks how it ends, since tarfile accepts a tar that is truncated between two members."""

    def __init__(self, raw: IO[bytes], target: _Target) -> None:
        self.raw, self.target, self.position, self.last = raw, target, 0, b""

    def read(self, size: int) -> bytes:
        piece = self.raw.read(size)
        self.target.spend(len(piece))
        self.position += len(piece)
        self.last = piece or self.last
        return piece

    def check_end(self, offset: int) -> None:
        """Checks that `tarfile` stopped at `offset` because of a block of zeros, which marks the end of a tar."""
        begin = offset - (self.position - len(self.last))
        if self.last[begin : begin + BLOCK] != bytes(BLOCK):
            raise EOFError(f"it is truncated, or damaged at byte {offset}")


def check_space(folder: Path, needed: int) -> None:
    """Raises a UserError if `needed` bytes do not fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed + SPARE_BYTES > free:
        problem = f"the disk is too small: {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free"
        raise UserError(problem, where=folder, fix="make room")


@contextmanager
def _plain(path: Path, making: Path) -> Iterator[tuple[Path, str]]:
    """Yields an archive and its name; for an encrypted one, a decrypted copy that is deleted at the end of the block."""
    if not path.name.endswith(ENCRYPTED):
        yield path, path.name
        return
    plain = making.with_name(making.name + ".tar.gz")
    try:
        _decrypt(path, plain)
        yield plain, plain.name
    finally:
        plain.unlink(missing_ok=True)


def _decrypt(path: Path, plain: Path) -> None:
    """Decrypts with openssl, which reads the password from its environment, so that no command line shows it."""
    if not os.environ.get(PASSWORD):
        raise UserError(f"{path.name} is encrypted, and the variable {PASSWORD} is not set", where=path,
                        fix=f"export {PASSWORD}=... (the password that the owners of the data sent to you)")  # fmt: skip
    if not (openssl := shutil.which("openssl")):
        raise UserError(f"{path.name} is encrypted, and there is no openssl", where=path, fix="install openssl")
    check_space(plain.parent, path.stat().st_size)
    line = [openssl, "aes-256-cbc", "-md", "sha256", "-d", "-a", "-in", str(path), "-out", str(plain), "-pass", f"env:{PASSWORD}"]
    done = subprocess.run(line, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if "warning" not in line.lower()]
        problem = f"cannot decrypt, openssl says: {errors[0] if errors else done.returncode}"
        raise UserError(problem, where=path, fix=f"check the password in {PASSWORD}; if it is right, get the archive again")
