"""Locks between processes, by files: they go with the process that holds them, also when it is killed."""

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
    """A locked file. The lock ends with `release`, with this object, or with the process."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
        self.descriptor = -1

    def __del__(self) -> None:
        self.release()


def try_take(path: Path) -> Lock | None:
    """The lock of a file that is made if need be, or None while another process has it.

    On a file system without locks nobody can be kept out, and the lock is granted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:  # another user's file
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError as error:
        print(f"{path}: this file system has no locks ({error}); do not start a second copy", flush=True)
    told = f"host {socket.gethostname()}, process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
    with suppress(OSError):  # another user's file, or a full disk: a lock it is all the same
        os.ftruncate(descriptor, 0)
        os.write(descriptor, told.encode())
    return Lock(descriptor)


def holder(path: Path) -> str:
    """Who has a lock, or had it last: host, process and time; '' if nobody can tell."""
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace")
    return ""


def take(path: Path, message: str) -> tuple[Lock, bool]:
    """Like `try_take`, after waiting for as long as it takes; prints `message` and who has the lock once if it waits.

    Returns:
        The lock, and whether it had to be waited for.
    """
    waited = False
    while (lock := try_take(path)) is None:
        if not waited:
            print(f"{message} ({path}: {holder(path)})", flush=True)
        waited = True
        time.sleep(ASK_EVERY_S)
    return lock, waited
