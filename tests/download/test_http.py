"""The downloader against a server that misbehaves in every way that hosts do."""

from __future__ import annotations

import hashlib
import io
import json
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest

from brainpretrain.datasets.base import Archive
from brainpretrain.download import http as module
from brainpretrain.download.http import download_file
from brainpretrain.errors import UserError
from faulty_server import Server, saying, serving

CONTENT = bytes(range(256)) * 1200  # 307,200 bytes
OTHER = CONTENT[::-1]
HALF = len(CONTENT) // 2
SHA = hashlib.sha256(CONTENT).hexdigest()
KNOWN = Archive("a.zip", size=len(CONTENT), sha256=SHA, md5=hashlib.md5(CONTENT).hexdigest())
UNKNOWN = Archive("a.zip")
LOGIN = b"<!DOCTYPE html><html><head><title>\n Sign in </title></head></html>"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """No waiting, and no proxy between the tests and their server."""
    monkeypatch.setattr(module, "FIRST_WAIT_S", 0.01)
    monkeypatch.setenv("no_proxy", "*")


def cut(at: int, content: bytes = CONTENT, **headers: str):
    """Promises all of it and closes the connection at byte `at`."""
    return saying(200, content[:at], **{"Content_Length": str(len(content)), "ETag": '"v1"', **headers})


def spans(server: Server) -> list[str | None]:
    return [request.get("Range") for request in server.asked]


def whole(tmp_path) -> bool:
    """The file is there with the right content, and nothing but the file."""
    return [path.name for path in tmp_path.iterdir()] == ["a.zip"] and (tmp_path / "a.zip").read_bytes() == CONTENT


def part(tmp_path, content: bytes, version: str = '"v1"') -> None:
    (tmp_path / "a.zip.part").write_bytes(content)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"version": version, "url": ""}))


@pytest.mark.parametrize("archive", [KNOWN, UNKNOWN])
def test_a_file_is_fetched_and_its_checksums_told(tmp_path, archive, capsys):
    with Server(serving(CONTENT)) as server:
        found = download_file(f"{server.url}/a.zip?signature=secret", tmp_path / "a.zip", archive)
    assert found == {"size": KNOWN.size, "sha256": KNOWN.sha256, "md5": KNOWN.md5} and whole(tmp_path)
    said = capsys.readouterr().out
    assert "0.3 of 0.3 MB" in said and "secret" not in said


def test_kill_9_loses_nothing_that_had_arrived(tmp_path):
    def stall(handler):
        cut(HALF)(handler)
        handler.wfile.flush()
        time.sleep(5)

    code = (
        "import sys; from pathlib import Path; from brainpretrain.download.http import download_file;"
        "from brainpretrain.datasets.base import Archive; download_file(sys.argv[1], Path(sys.argv[2]), Archive('a.zip'))"
    )
    with Server(stall, serving(CONTENT)) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url, str(tmp_path / "a.zip")])
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and (
            not (tmp_path / "a.zip.part").exists() or (tmp_path / "a.zip.part").stat().st_size < HALF
        ):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [None, f"bytes={HALF}-"] and whole(tmp_path)


@pytest.mark.parametrize("extent", [f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}", f"bytes {HALF + 1}-9/*", "bytes */9", ""])
def test_another_range_than_asked_for_is_not_added(tmp_path, extent):
    part(tmp_path, CONTENT[:HALF])
    with Server(saying(206, CONTENT[:HALF], Content_Range=extent), serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [f"bytes={HALF}-", None] and whole(tmp_path)


def test_another_version_is_not_glued_to_an_old_part(tmp_path):
    part(tmp_path, OTHER[:HALF], version='"v0"')
    with Server(serving(CONTENT, etag='"v1"')) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert server.asked[0]["If-Range"] == '"v0"' and whole(tmp_path)


def test_another_version_that_ignores_if_range_is_seen_by_its_mark(tmp_path):
    part(tmp_path, OTHER[:HALF], version='"v0"')
    extent = f"bytes {HALF}-{len(CONTENT) - 1}/{len(CONTENT)}"
    with Server(saying(206, CONTENT[HALF:], Content_Range=extent, ETag='"v1"'), serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [f"bytes={HALF}-", None] and whole(tmp_path)


def test_a_part_that_nothing_can_tell_apart_is_not_continued(tmp_path):
    part(tmp_path, OTHER[:HALF], version="")
    with Server(serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [None] and whole(tmp_path)


def test_a_part_with_a_wrong_byte_is_fetched_once_more(tmp_path, capsys):
    part(tmp_path, b"x" + CONTENT[1:HALF])
    with Server(serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert spans(server) == [f"bytes={HALF}-", None] and whole(tmp_path)
    assert "once more from the start" in capsys.readouterr().out


def test_a_weak_mark_is_no_mark(tmp_path):
    """Equal weak ETags do not promise equal bytes, and a host must ignore them in If-Range."""
    date = "Fri, 20 Nov 2026 12:00:00 GMT"
    with Server(cut(HALF, ETag='W/"v1"', Last_Modified=date), serving(CONTENT, etag=date)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert server.asked[1]["If-Range"] == date and whole(tmp_path)


def test_a_wrong_checksum_is_refused(tmp_path):
    with Server(serving(OTHER)) as server, pytest.raises(UserError) as error:
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert hashlib.sha256(OTHER).hexdigest() in str(error.value) and SHA in str(error.value)
    assert len(server.asked) == 1 and not list(tmp_path.iterdir())


def test_another_size_than_on_record_is_refused_before_the_download(tmp_path):
    part(tmp_path, CONTENT[:HALF])
    with Server(saying(200, CONTENT + b"x")) as server, pytest.raises(UserError, match=f"offers {len(CONTENT) + 1} bytes"):
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:HALF]


def test_a_body_cut_without_a_length_is_found_by_the_size_on_record_and_continued(tmp_path):
    with Server(saying(200, CONTENT[:HALF], Content_Length="", ETag='"v1"'), serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert spans(server) == [None, f"bytes={HALF}-"] and whole(tmp_path)


def test_a_shorter_file_than_on_record_is_refused_after_one_more_look(tmp_path):
    """The host has no byte behind the end, and its file is another one: no reason to fetch it for ever."""
    words = f"offers {HALF} bytes, on record are {len(CONTENT)}"
    with (
        Server(saying(200, CONTENT[:HALF], Content_Length=""), serving(CONTENT[:HALF])) as server,
        pytest.raises(UserError, match=words),
    ):
        download_file(server.url, tmp_path / "a.zip", Archive("a.zip", size=len(CONTENT), sha256=SHA))
    assert len(server.asked) <= 5 and not list(tmp_path.iterdir())


def test_another_file_over_a_line_that_breaks_is_refused_and_not_fetched_for_ever(tmp_path):
    def bits(handler):
        (serving(OTHER) if handler.headers.get("Range") else cut(HALF, OTHER))(handler)

    with Server(bits) as server, pytest.raises(UserError, match="is not the file on record: sha256 is"):
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert len(server.asked) == 4 and not list(tmp_path.iterdir())


def test_a_page_that_is_asked_for_is_no_login_page(tmp_path):
    with Server(saying(200, LOGIN, Content_Type="text/html")) as server:
        download_file(server.url, tmp_path / "a.html", Archive("docs/a.html"))
    assert (tmp_path / "a.html").read_bytes() == LOGIN


def test_progress_is_a_line_per_tenth_or_one_that_moves(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "PIECE", 1000)
    with Server(serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", KNOWN)
        assert len(capsys.readouterr().out.splitlines()) == 10
        monkeypatch.setattr(module.sys.stdout, "isatty", lambda: True)
        download_file(server.url, tmp_path / "a.zip", KNOWN)
        said = capsys.readouterr().out
        assert said.startswith("\ra.zip: ") and said.endswith(" MB/s\n") and said.count("\n") == 1
        download_file(server.url, tmp_path / "a.zip", KNOWN, quiet=True)
        assert capsys.readouterr().out == ""


def test_a_lasting_error_ends_after_so_many_attempts_with_growing_waits(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module, "LONGEST_WAIT_S", 0.05)
    monkeypatch.setattr(module.time, "sleep", waits.append)
    with Server(saying(500)) as server, pytest.raises(UserError, match=r"given up after 6 attempts: status 500"):
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert len(server.asked) == 6 and waits == [0.01, 0.02, 0.04, 0.05, 0.05] and not list(tmp_path.iterdir())


def test_the_host_says_how_long_to_wait(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    with Server(saying(429, Retry_After="7"), saying(503, Retry_After="999999"), serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert waits == [7, module.LONGEST_WAIT_S]


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "asks for a login"), (403, "asks for a login"), (404, "does not have this file"), (400, "refuses")],
)
def test_a_refusal_is_told_at_once(tmp_path, status, words):
    with Server(saying(status, LOGIN)) as server, pytest.raises(UserError, match=f"{words}.*: status {status}"):
        download_file(f"{server.url}/x?key=secret", tmp_path / "a.zip", UNKNOWN)
    assert len(server.asked) == 1


def test_a_host_that_cannot_be_reached(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    with Server(saying(200)) as server:
        pass
    with pytest.raises(UserError, match=r"given up after 2 attempts: no connection: .*refused"):
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)


def test_416_where_the_part_is_already_all_of_it(tmp_path):
    part(tmp_path, CONTENT)
    with Server(serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [f"bytes={len(CONTENT)}-"] and whole(tmp_path)


def test_416_where_the_part_is_longer_than_the_file(tmp_path):
    part(tmp_path, CONTENT + b"more")
    with Server(serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [f"bytes={len(CONTENT) + 4}-", None] and whole(tmp_path)


def test_a_silent_connection_is_given_up_and_continued(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SILENCE_S", 0.2)

    def stall(handler):
        cut(HALF)(handler)
        handler.wfile.flush()
        time.sleep(0.6)

    with Server(stall, serving(CONTENT)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(server) == [None, f"bytes={HALF}-"] and whole(tmp_path)


def test_a_slow_connection_is_read_to_the_end(tmp_path):
    def slow(handler):
        handler.reply(200, b"", Content_Length=str(len(CONTENT)))
        for start in range(0, len(CONTENT), HALF // 4):
            handler.wfile.write(CONTENT[start : start + HALF // 4])
            handler.wfile.flush()
            time.sleep(0.02)

    with Server(slow) as server:
        download_file(server.url, tmp_path / "a.zip", KNOWN)
    assert len(server.asked) == 1 and whole(tmp_path)


def test_progress_renews_patience(tmp_path, monkeypatch):
    """A line that breaks every few bytes gets there in the end."""
    monkeypatch.setattr(module, "ATTEMPTS", 2)

    def bits(handler):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        body, extent = CONTENT[start : start + 60_000], f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        handler.reply(
            206 if start else 200,
            body,
            Content_Length=str(len(CONTENT) - start),
            Content_Range=extent if start else "",
            ETag='"v1"',
        )

    with Server(bits) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert len(server.asked) == 6 and whole(tmp_path)


def test_a_server_that_always_breaks_at_one_byte_and_has_no_ranges_is_given_up(tmp_path):
    with Server(cut(HALF)) as server, pytest.raises(UserError, match="given up after 6 attempts"):
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert len(server.asked) <= 7


def test_a_chunked_answer_that_ends_early_is_not_taken_for_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 2)
    body = b"%x\r\n%s\r\n" % (HALF, CONTENT[:HALF])
    server = Server(saying(200, body, Content_Length="", Transfer_Encoding="chunked"))
    with server, pytest.raises(UserError, match="the connection broke"):
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert not (tmp_path / "a.zip").exists()


SECRETS = {"Authorization": "Basic c2VjcmV0", "Cookie": "JSESSIONID=secret"}


def test_secrets_stay_with_their_host(tmp_path):
    with Server(serving(CONTENT)) as store, Server(saying(302, Location=f"{store.url}/far")) as server:
        download_file(f"{server.url}/a.zip", tmp_path / "a.zip", KNOWN, SECRETS)
    assert {name: server.asked[0][name] for name in SECRETS} == SECRETS
    assert store.asked[0]["path"] == "/far" and not set(SECRETS) & set(store.asked[0]) and whole(tmp_path)


def test_secrets_are_sent_on_within_their_host(tmp_path):
    with Server(saying(302, Location="/near"), serving(CONTENT)) as server:
        download_file(f"{server.url}/a.zip", tmp_path / "a.zip", KNOWN, SECRETS)
    assert [request["path"] for request in server.asked] == ["/a.zip", "/near"]
    assert {name: server.asked[1][name] for name in SECRETS} == SECRETS


def test_a_resume_goes_along_with_a_redirect(tmp_path):
    part(tmp_path, CONTENT[:HALF])
    with Server(serving(CONTENT)) as store, Server(saying(302, Location=store.url)) as server:
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert spans(store) == [f"bytes={HALF}-"] and whole(tmp_path)


@pytest.mark.parametrize("address", ["file:///etc/passwd", "ftp://127.0.0.1/a.zip"])
def test_other_kinds_of_addresses_are_not_followed(tmp_path, address):
    with Server(saying(302, Location=address)) as server, pytest.raises(UserError, match=r"unsafe address|status 302"):
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_is_too_small_is_seen_before(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**5))
    with Server(serving(CONTENT)) as server, pytest.raises(UserError, match=r"the disk is too small: 0\.00 GB are needed"):
        download_file(server.url, tmp_path / "a.zip", KNOWN)


def test_a_disk_that_fills_up_loses_nothing(tmp_path):
    """A limit on the size of files stands in for the full disk."""
    code = (
        "import sys, resource, signal; from pathlib import Path; from brainpretrain.download.http import download_file;"
        "from brainpretrain.datasets.base import Archive; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({HALF}, {HALF})); download_file(sys.argv[1], Path(sys.argv[2]), Archive('a.zip'))"
    )
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
    with Server(serving(CONTENT)) as server:
        done = subprocess.run([sys.executable, "-c", code, server.url, str(tmp_path / "a.zip")], capture_output=True, text=True)
        assert "cannot write: File too large" in done.stderr and "make room" in done.stderr
        assert (tmp_path / "a.zip.part").read_bytes() == CONTENT[:HALF]
        download_file(server.url, tmp_path / "a.zip", UNKNOWN)
    assert whole(tmp_path)


def test_no_way_back_from_https():
    request = module.urllib.request.Request("https://127.0.0.1/a.zip")
    with pytest.raises(UserError, match=r"unsafe address, http://127\.0\.0\.1/a\.zip"):
        module._Redirects().redirect_request(request, io.BytesIO(), 302, "Found", {}, "http://127.0.0.1/a.zip?token=x")
