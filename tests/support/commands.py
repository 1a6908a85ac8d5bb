"""The command in a process of its own, started in milliseconds: a fork server has imported torch once.

The process may be changed before the command begins; signals and limits are the system's own.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "brainpretrain.cli", "brainpretrain.training.run"])
PATIENCE_S = 120
STARTED: list[Command] = []


class Command:
    """A running command, in a session of its own as a batch system starts it.

    Args:
        line: its arguments.
        said: file for what it prints.
        before: called in the process before the command, a function of a module in a folder of tests, or a partial of one.
    """

    def __init__(self, line: list[str], said: Path, before: Callable[[], None] | None = None) -> None:
        self.path = said
        self.process = CONTEXT.Process(target=_run, args=(line, said, before))
        self.process.start()
        STARTED.append(self)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def said(self) -> str:
        return self.path.read_text() if self.path.exists() else ""

    def ended(self, patience_s: float = PATIENCE_S) -> int:
        """Exit code; minus the number of the signal that killed it."""
        self.process.join(patience_s)
        assert self.process.exitcode is not None, f"still running: {self.said}"
        return self.process.exitcode

    def until(self, look: Callable[[], object]) -> None:
        """Waits until there is something to see."""
        deadline = time.monotonic() + PATIENCE_S
        while not look():
            assert self.process.is_alive() and time.monotonic() < deadline, self.said
            time.sleep(0.01)

    def is_stopped(self) -> bool:
        """It got SIGSTOP."""
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def signal(self, number: int) -> None:
        """Signals the command alone."""
        os.kill(self.pid, number)

    def signal_all(self, number: int) -> None:
        """Signals the command and its children."""
        os.killpg(self.pid, number)


def end_all() -> None:
    """Kills what still runs, or stands still, after a test."""
    while STARTED:
        command = STARTED.pop()
        if command.process.is_alive():
            command.signal_all(signal.SIGKILL)
        command.process.join()


def _run(line: list[str], said: Path, before: Callable[[], None] | None) -> None:
    from brainpretrain import cli

    multiprocessing.set_start_method("fork", force=True)  # of the loaders, as in a program that was started by hand
    os.setsid()
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    if before:
        before()
    sys.exit(cli.main(line))


def beating(every_s: float) -> None:
    """A training gives a sign of life so often."""
    from brainpretrain.training import history

    history.BEAT_S = every_s


def one_of(count: int, rank: int, port: int) -> None:
    """The process is one of several that train together, as `torchrun` and Lightning start them."""
    os.environ |= {"WORLD_SIZE": str(count), "LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]
