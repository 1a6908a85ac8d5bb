"""The command in a process of its own, started in milliseconds: a fork server has imported torch once.

A process may be given a place to die or a limit to meet: signals and limits are the system's own.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
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
        before: called in the process before the command, a function of this module or a partial of one.
    """

    def __init__(self, line: list[str], said: Path, before: Callable[[], None] | None = None) -> None:
        self.path = said
        self.process = CONTEXT.Process(target=_run, args=(line, said, before))
        self.process.start()
        STARTED.append(self)

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
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

    def signal_all(self, number: int) -> None:
        """Signals the command and its children."""
        os.killpg(self.process.pid, number)


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


def _at_step(step: int, act: Callable[[], None]) -> None:
    """Calls `act` in the middle of a training step, counted from 1."""
    from brainpretrain.training import modules

    train = modules.Pretraining.training_step

    def stepped(self, batch, number):
        if self.global_step == step - 1:
            act()
        return train(self, batch, number)

    modules.Pretraining.training_step = stepped


def signalled(step: int, number: int) -> None:
    """The process gets a signal at a step."""
    _at_step(step, lambda: os.kill(os.getpid(), number))


def hung_up(step: int) -> None:
    """The process gets SIGHUP at a step, also where the tests run under `nohup`."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    signalled(step, signal.SIGHUP)


def signalled_in_vain(step: int, number: int) -> None:
    """The same for a process that was started so that it ignores the signal, as `nohup` does."""
    signal.signal(number, signal.SIG_IGN)
    signalled(step, number)


def killed_while_saving(step: int, place: str) -> None:
    """Dies in the checkpoint of a step: 'tensors' (half of them are written), 'json' (they are whole), 'rename' (all is)."""
    from brainpretrain import files
    from brainpretrain.training import checkpoints

    write, dump, rename = checkpoints.save_file, checkpoints.json.dumps, files.os.replace

    def die(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)

    def half(tensors, path):
        if checkpoints.name(step) not in str(path):
            return write(tensors, path)
        write(tensors, path)
        os.truncate(path, path.stat().st_size // 2)
        die()

    def replace(source, target):
        (die if str(target).endswith(checkpoints.name(step)) else rename)(source, target)

    def arm():
        if place == "json":
            checkpoints.json.dumps = lambda value, **options: die() if "tree_sha256" in value else dump(value, **options)

    if place == "tensors":
        checkpoints.save_file = half
    elif place == "rename":
        files.os.replace = replace
    else:
        _at_step(step, arm)


def limited_files(size: int, step: int = 0) -> None:
    """No file grows beyond so many bytes, from a step on."""
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))  # noqa: E731
    _at_step(step, limit) if step else limit()


def full_output() -> None:
    """Standard output goes to a device that is full."""
    os.dup2(os.open("/dev/full", os.O_WRONLY), 1)


def limited_memory(more: int, step: int) -> None:
    """From a step on, the process may take so many bytes more than it has."""

    def limit():
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, hard))

    _at_step(step, limit)


def killed_while_reading(volume: str) -> None:
    """A loader process dies when it reads a volume."""
    from brainpretrain.preprocess import frames

    load = frames.load

    def dying(folder, row, box=None):
        if row["volume"] == volume:
            os.kill(os.getpid(), signal.SIGKILL)
        return load(folder, row, box)

    frames.load = dying


def on_node(host: str, job: str, step: int) -> None:
    """A job on a node of a cluster, that stops at a step."""
    import socket

    socket.gethostname = lambda: host
    os.environ["SLURM_JOB_ID"] = job
    signalled(step, signal.SIGSTOP)
