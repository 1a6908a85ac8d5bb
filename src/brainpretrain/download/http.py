"""Downloads one file over HTTP; an interrupted download continues, and the file gets its name only when it is checked.

Until then it is `<name>.part`. `<name>.part.json` holds the mark by which the host distinguishes versions of the file. A response
that is not the requested file (a login page, another range, another version) is never appended to the part.
"""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import re
import ssl
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from brainpretrain.datasets.base import Archive
from brainpretrain.download.archives import check_space, web_page
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, sync, write_json

ATTEMPTS = 6  # consecutive attempts without progress
FIRST_WAIT_S = 1.0  # doubles with every such attempt
LONGEST_WAIT_S = 60.0
SILENCE_S = 60.0  # a connection that brings no byte for this long counts as broken
PIECE = 1 << 20  # bytes

T = TypeVar("T")
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)
_PAGES = (".html", ".htm", ".md")  # files of a collection that may look like a login page
_SECRET = ("Authorization", "Cookie")


class Denied(UserError):
    """The host asks for a login, or denies access: status 401 or 403."""


class _Broken(Exception):
    """An attempt failed and may be repeated, after `wait_s` seconds if the host named a time."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download_file(
    url: str | Callable[[], str], path: Path, archive: Archive, secrets: Mapping[str, str] | None = None, quiet: bool = False
) -> dict[str, Any]:
    """Downloads `url` to `path`. After an interruption, the same call continues at the byte that was reached.

    Args:
        url: http or https; or a function that returns a new address for every attempt, if addresses expire within minutes.
        path: the file to write; its folder is created.
        archive: the size and checksums on record, if any.
        secrets: the headers `Authorization` and `Cookie`; they are sent to no other host.
        quiet: shows no progress, for small files of a collection.

    Returns:
        The result of `digests`.

    Raises:
        UserError: the host refuses, sends a web page or another size, or makes no progress in `ATTEMPTS` attempts; the disk is
            too small; or the checksum differs (the file is then deleted).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part, again = _Part(path, quiet), False
    while True:
        continued = _receive_all(url, part, archive, secrets or {})
        actual = digests(part.path)
        difference = differs(actual, archive)
        if not difference:
            part.finish(path)
            return actual
        part.clear()
        if again or not continued:
            raise UserError(f"{path.name} is not the file on record: {difference}", where=path.parent, fix=_REPLACED)
        print(f"{path.name}: {difference}; once more from the start", flush=True)
        again = True


_REPLACED = "the host may have replaced it: look at the page of the data set, and place the file by hand if it is the right one"


def digests(path: Path) -> dict[str, Any]:
    """`size` in bytes, `sha256` and `md5` of a file, computed in one pass."""
    sums = {"sha256": hashlib.sha256(), "md5": hashlib.md5(usedforsecurity=False)}
    with open(path, "rb") as stream:
        for piece in iter(lambda: stream.read(PIECE), b""):
            for checksum in sums.values():
                checksum.update(piece)
        return {"size": stream.tell()} | {name: checksum.hexdigest() for name, checksum in sums.items()}


def differs(actual: Mapping[str, Any], archive: Archive) -> str:
    """Describes how digests differ from those on record; '' if they agree, or belong to another accepted version."""
    if {actual["sha256"], actual["md5"]} & set(archive.also):
        return ""
    on_record = {"size": archive.size, "sha256": archive.sha256, "md5": archive.md5}
    return "; ".join(
        f"{name} is {actual[name]}, on record {value}" for name, value in on_record.items() if value and value != actual[name]
    )


def shown(url: str) -> str:
    """An address for logs, without user, password and query, since the query may hold a signature."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"


def read(url: str, secrets: Mapping[str, str], question: Any = None) -> tuple[bytes, Message]:
    """Requests a short document, such as a list, with the same number of attempts as `download_file`.

    Args:
        url: http or https.
        secrets: as for `download_file`.
        question: sent as JSON if it is not None.

    Returns:
        Body and headers of the response.

    Raises:
        UserError: the host refuses, or does not respond.
    """
    body = None if question is None else json.dumps(question).encode()
    headers = {} if body is None else {"Content-Type": "application/json"}

    def attempt() -> tuple[bytes, Message]:
        try:
            with _open(urllib.request.Request(url, body, headers), secrets) as answer:
                return answer.read(), answer.headers
        except (http.client.HTTPException, OSError) as error:
            raise _Broken(f"the connection broke: {str(error) or type(error).__name__}") from None

    return _persist(attempt, lambda: 0, shown(url), fix="try again later")


class _Part:
    """A file that is not complete yet."""

    def __init__(self, path: Path, quiet: bool) -> None:
        self.quiet = quiet
        self.path = path.with_name(path.name + ".part")
        self.note = path.with_name(path.name + ".part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def version(self) -> str:
        """The host's mark of the version that the part belongs to; '' if it sent none."""
        return read_json(self.note)["version"] if self.note.exists() else ""

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self, path: Path) -> None:
        with open(self.path, "rb") as stream:
            os.fsync(stream.fileno())
        os.replace(self.path, path)
        sync(path.parent)
        self.clear()


def _receive_all(url: str | Callable[[], str], part: _Part, archive: Archive, secrets: Mapping[str, str]) -> bool:
    """Completes the part. Returns True if it consists of several responses."""
    answers = 1 if part.size else 0

    def attempt() -> None:
        nonlocal answers
        answers += 1
        _attempt(url if isinstance(url, str) else url(), part, archive, secrets)

    name = shown(url) if isinstance(url, str) else archive.name
    _persist(attempt, lambda: part.size, name, fix=f"give the same command again; it continues {part.path}")
    return answers > 1


def _persist(attempt: Callable[[], T], progress: Callable[[], int], where: str, fix: str) -> T:
    """The result of `attempt`, which is repeated after `_Broken`. Any progress resets the number of attempts."""
    failures, best = 0, progress()
    while True:
        try:
            return attempt()
        except _Broken as broken:
            failures = 1 if progress() > best else failures + 1
            best = max(best, progress())
            if failures >= ATTEMPTS:
                raise UserError(f"given up after {failures} attempts: {broken}", where=where, fix=fix) from None
            wait_s = min(broken.wait_s or FIRST_WAIT_S * 2 ** (failures - 1), LONGEST_WAIT_S)
            print(f"{where}: {broken}; again in {wait_s:g} s", flush=True)
        time.sleep(wait_s)


def _attempt(url: str, part: _Part, archive: Archive, secrets: Mapping[str, str]) -> None:
    """One request and its response."""
    if part.size and not (part.version or archive.sha256 or archive.md5):
        part.clear()  # nothing would show whether the rest belongs to the same file
    offset = part.size
    if archive.size and offset == archive.size:
        return
    request = urllib.request.Request(url)
    if offset:
        request.add_header("Range", f"bytes={offset}-")
        if part.version:
            request.add_header("If-Range", part.version)
    try:
        with _open(request, secrets) as answer:
            _receive(answer, offset, part, archive, url)
    except urllib.error.HTTPError as error:  # 416: the requested range is empty
        with error:
            whole = re.fullmatch(r"bytes \*/(\d+)", error.headers.get("Content-Range", ""))
        if not whole or int(whole[1]) != offset:
            part.clear()
            raise _Broken(f"the host has no byte {offset}; from the start") from None


def _open(request: urllib.request.Request, secrets: Mapping[str, str]) -> Any:
    """The response to a request.

    Raises:
        urllib.error.HTTPError: status 416.
        _Broken: a temporary error.
        UserError: a permanent error.
    """
    request.add_header("User-Agent", "brainpretrain")
    for name, value in secrets.items():
        request.add_unredirected_header(name, value)
    where = shown(request.full_url)
    try:
        return _OPENER.open(request, timeout=SILENCE_S)
    except urllib.error.HTTPError as error:
        if error.code == 416:
            raise
        with error:
            if error.code in _TEMPORARY:
                raise _Broken(f"status {error.code} ({error.reason})", _retry_after(error)) from None
            raise _refused(error.code, where) from None
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLCertVerificationError):
            raise UserError(
                f"the host's certificate is not valid: {error.reason.verify_message}",
                where=where,
                fix="ask the administrator of your network",
            ) from None
        raise _Broken(f"no connection: {error.reason}") from None
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"no connection: {error or type(error).__name__}") from None


def _refused(code: int, where: str) -> UserError:
    if code in (401, 403):
        fix = "accept the terms on the page of the data set, and check its environment variables"
        return Denied(f"the host asks for a login: status {code}", where=where, fix=fix)
    if code in (404, 410):
        problem, fix = "does not have this file (any more)", "look for it on the page of the data set, and place it by hand"
    else:
        problem, fix = "refuses", "try again later, or place the file by hand"
    return UserError(f"the host {problem}: status {code}", where=where, fix=fix)


def _retry_after(error: urllib.error.HTTPError) -> float | None:
    """Seconds that the host asks to wait; None if it names no number of seconds."""
    text = error.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to other hosts, but never with a secret and never from https to http."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        if new.scheme not in ("http", "https") or (old.scheme, new.scheme) == ("https", "http"):
            fp.close()
            raise UserError(f"the host sends on to an unsafe address, {shown(newurl)}", where=shown(req.full_url),
                            fix="look at the page of the data set for the right address")  # fmt: skip
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        if request and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            for name in _SECRET:
                if name in req.unredirected_hdrs:
                    request.add_unredirected_header(name, req.unredirected_hdrs[name])
        return request


_OPENER = urllib.request.build_opener(_Redirects)


def _receive(answer: http.client.HTTPResponse, offset: int, part: _Part, archive: Archive, url: str) -> None:
    """Appends a response to the part, or replaces the part, after checking that the response is the requested file."""
    total = _total(answer, offset, part)
    first = _piece(answer, total)
    if not archive.name.lower().endswith(_PAGES):
        _refuse_page(answer, first, url)
    if archive.size and total not in (None, archive.size):
        raise UserError(f"the host offers {total} bytes, on record are {archive.size}", where=shown(url), fix=_REPLACED)
    if answer.status == 200 and offset:
        print(f"{shown(url)}: the host starts from the beginning (it has another version now, or cannot continue)", flush=True)
    if answer.status == 200:
        part.clear()
    write_json(part.note, {"version": _version(answer), "url": shown(url)})
    check_space(part.path.parent, (total or 0) - part.size)
    _append(answer, first, total, part)
    whole = total or (None if answer.chunked else archive.size)  # a chunked response has an end of its own
    if whole and part.size < whole:
        raise _Broken(f"the connection ended at byte {part.size} of {whole}")


def _total(answer: http.client.HTTPResponse, offset: int, part: _Part) -> int | None:
    """Size of the whole file according to a response, which must hold all of it or continue where the part ends."""
    if answer.status == 200:
        length = answer.headers.get("Content-Length", "")
        return int(length) if length.isdigit() else None
    if answer.status != 206:
        raise _Broken(f"the host answers with status {answer.status}")
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
    if not span or int(span[1]) != offset:
        part.clear()
        raise _Broken(f"asked for the bytes from {offset}, the host sends '{answer.headers.get('Content-Range')}'")
    if part.version and _version(answer) not in ("", part.version):
        part.clear()
        raise _Broken("the file has changed on the host; from the start")
    return None if span[2] == "*" else int(span[2])


def _version(answer: http.client.HTTPResponse) -> str:
    """The mark of a version that is valid in If-Range: a strong ETag, else the time of the last change."""
    tag = answer.headers.get("ETag", "")
    return tag if tag.startswith('"') else answer.headers.get("Last-Modified", "")


def _refuse_page(answer: http.client.HTTPResponse, first: bytes, url: str) -> None:
    page = web_page(first)
    if answer.headers.get_content_type() != "text/html" and not page:
        return
    raise UserError(
        f"the host sent {page or 'a web page'} where a file was asked for",
        where=shown(url),
        fix="this is how hosts ask for a login or for terms: register on the page of the data set, and place the file by hand",
    )


def _piece(answer: http.client.HTTPResponse, left: int | None) -> bytes:
    """The next bytes of a response, at most `PIECE` and at most `left`; b'' at the end."""
    try:
        return answer.read1(PIECE if left is None else min(PIECE, left))
    except (http.client.HTTPException, OSError) as error:
        raise _Broken(f"the connection broke: {str(error) or type(error).__name__}") from None


def _append(answer: http.client.HTTPResponse, first: bytes, total: int | None, part: _Part) -> None:
    size = part.size
    progress = _Progress(part.path.name.removesuffix(".part"), size, total, part.quiet)
    with open(part.path, "ab", buffering=0) as stream:
        piece = first
        while piece:
            _write(stream, piece, part.path)
            size += len(piece)
            progress.show(size)
            piece = _piece(answer, None if total is None else total - size) if size != total else b""


def _write(stream: Any, piece: bytes, path: Path) -> None:
    left = memoryview(piece)
    try:
        while left:
            left = left[stream.write(left) :]
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        fix = f"{'make room, then ' if full else ''}give the same command again; it continues"
        raise UserError(f"cannot write: {error.strerror}", where=path, fix=fix) from None


class _Progress:
    """Progress: one line that is updated on a terminal; elsewhere a line per tenth, or per GB if the size is unknown."""

    def __init__(self, name: str, size: int, total: int | None, quiet: bool) -> None:
        self.quiet, self.name, self.total, self.step = quiet, name, total, max(1, total // 10 if total else 10**9)
        self.begun, self.first, self.shown, self.seen = time.monotonic(), size, 0.0, size // self.step
        if size:
            print(f"{name}: continues at byte {size}", flush=True)

    def show(self, size: int) -> None:
        now = time.monotonic()
        if self.quiet:
            return
        if sys.stdout.isatty():
            if now - self.shown > 0.5 or size == self.total:
                print(f"\r{self._line(size, now)}", end="\n" if size == self.total else "", flush=True)
                self.shown = now
        elif size // self.step > self.seen or size == self.total:
            print(self._line(size, now), flush=True)
            self.seen = size // self.step

    def _line(self, size: int, now: float) -> str:
        rate = (size - self.first) / max(now - self.begun, 1e-3) / 1e6
        of = f" of {self.total / 1e6:.1f}" if self.total else ""
        return f"{self.name}: {size / 1e6:.1f}{of} MB, {rate:.1f} MB/s"
