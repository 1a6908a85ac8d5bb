"""Limits for every input: memory, time, no writing elsewhere, no program, no connection."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

ADDRESS_SPACE = 3 << 30  # bytes beyond those at the start; protects the machine, and a claim of more is a `MemoryError`
PROGRAMS = ("os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")
NETWORK = ("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request")
REMOVALS = ("os.remove", "os.rmdir", "os.mkdir")  # for these, paths relative to an open folder were judged with that folder
CHANGES = ("os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown", *REMOVALS)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Broken(Exception):
    """An input exceeded a limit."""


class _Stop(BaseException):
    """Leaves the code under test at once: it cannot be caught there by `except Exception`."""


class Guard:
    """Watches one process. Its context `watching` is the block in which an input is read.

    Args:
        work: the one folder that may be written to.
        memory: bytes that the process may grow by while it reads an input.
        seconds: limit for one input.
    """

    def __init__(self, work: Path, memory: int, seconds: float) -> None:
        self.work, self.memory, self.seconds = os.path.realpath(work), memory, seconds
        self.active = False
        self.peak = 0  # the largest growth so far
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        self.address_space = pages * resource.getpagesize() + ADDRESS_SPACE
        signal.signal(signal.SIGALRM, self._late)
        sys.addaudithook(self._audit)

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Raises `Broken` if the block exceeds a limit; other exceptions pass."""
        Path("/proc/self/clear_refs").write_text("5")  # the highest memory is counted from now on
        before = _memory("VmRSS")
        signal.setitimer(signal.ITIMER_REAL, self.seconds)
        faulthandler.dump_traceback_later(3 * self.seconds, exit=True)  # where a signal cannot reach: within compiled code
        resource.setrlimit(resource.RLIMIT_AS, (self.address_space, resource.RLIM_INFINITY))
        self.active = True
        try:
            yield
        except _Stop as stop:
            raise Broken(str(stop)) from stop
        finally:
            self.active = False
            resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            signal.setitimer(signal.ITIMER_REAL, 0)
            faulthandler.cancel_dump_traceback_later()
            grown = _memory("VmHWM") - before
        self.peak = max(self.peak, grown)
        if grown > self.memory:
            raise Broken(f"memory grew by {grown >> 20} MiB, more than {self.memory >> 20}")

    def _late(self, *_: object) -> None:
        if self.active:
            raise _Stop(f"took more than {self.seconds:g} s")

    def _audit(self, event: str, args: tuple) -> None:
        if not self.active:
            return
        if event in PROGRAMS or event in NETWORK:
            raise _Stop(f"{event} {args[:2]!r:.200}")
        if event == "open" and isinstance(args[2], int) and args[2] & WRITING:
            self._inside(event, args[0])
        elif event in CHANGES:
            written = {"os.rename": args[:2], "os.link": args[1:2], "os.symlink": args[1:2]}.get(event, args[:1])
            in_open_folder = event in REMOVALS and args[-1] >= 0
            for path in () if in_open_folder else written:
                self._inside(event, path)

    def _inside(self, event: str, path: object) -> None:
        """Links in the path are resolved."""
        if not isinstance(path, str | bytes | os.PathLike) or os.fsdecode(path) == os.devnull:
            return
        folder, name = os.path.split(os.path.abspath(os.fsdecode(path)))
        if not (os.path.join(os.path.realpath(folder), name) + os.sep).startswith(self.work + os.sep):
            raise _Stop(f"{event} outside of the folder: {path!r}")


def _memory(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status", "rb") as stream:
        line = next(line for line in stream if line.startswith(field.encode()))
    return int(line.split()[1]) << 10
