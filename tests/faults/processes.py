"""Places to die, and limits to meet, for a command in a process of its own: signals and limits are the system's own."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path


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
