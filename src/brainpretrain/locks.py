"""Locks between processes, as locked files. A lock ends with the process that holds it, even if it is killed."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

ASK_EVERY_S = 2


class Lock:
    """A locked file. The lock ends with `release`, with the end of this object, or with the process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def __del__(self) -> None:
        self.release()


def try_take(path: Path) -> Lock | None:
    """The lock of a file, which is created if it is missing; None while another process holds the lock.

    On a file system without locks other processes cannot be excluded; a warning is printed and the lock is granted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:  # the file of another user, which can be locked without writing to it
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        print(f"{path}: this file system has no locks ({error}); do not start a second copy", flush=True)
    holder_text = f"host {socket.gethostname()}, process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    with suppress(OSError):  # another user's file, or a full disk: the lock holds nevertheless
        os.ftruncate(descriptor, 0)
        os.write(descriptor, holder_text.encode())
    return Lock(descriptor)


def holder(path: Path) -> str:
    """The current or last holder of a lock: host, process and time; '' if unknown."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def take(path: Path, message: str) -> tuple[Lock, bool]:
    """Waits until the lock of a file is free and takes it; prints `message` and the holder once if it has to wait.

    Returns:
        The lock, and whether another process held it before.
    """
    waited = False
    while (lock := try_take(path)) is None:
        if not waited:
            print(f"{message} ({path}: {holder(path)})", flush=True)
        waited = True
        time.sleep(ASK_EVERY_S)
    return lock, waited
