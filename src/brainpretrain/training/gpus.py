"""One training per GPU on a machine without a batch system: a GPU is a locked file as long as a command runs on it."""

from __future__ import annotations

import os
import random
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from brainpretrain import locks
from brainpretrain.errors import UserError

DEVICES = Path("/dev")


def visible(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that may be used: those of CUDA_VISIBLE_DEVICES if it is set, else all of the machine."""
    if (listed := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    numbers = [re.fullmatch(r"nvidia(\d+)", path.name) for path in DEVICES.glob("nvidia*")]
    return [str(number) for number in sorted(int(found[1]) for found in numbers if found)]


def claim(count: int, environment: Mapping[str, str], folder: Path | None = None) -> dict[str, locks.Lock]:
    """Waits until `count` GPUs are free and takes them, all or none.

    Args:
        count: how many.
        environment: of the command.
        folder: where the locks are; the machine's folder for temporary files, so that all checkouts share them.

    Returns:
        Locks by GPU; empty on a machine without GPUs.

    Raises:
        UserError: the machine has GPUs, but fewer.
    """
    names = visible(environment)
    if names and len(names) < count:
        raise UserError(f"{count} GPUs are asked for, and {len(names)} can be seen", fix="lower `gpu` in the profile")
    told = False
    while names:
        taken: dict[str, locks.Lock] = {}
        for name in names:
            lock = locks.try_take((folder or Path(tempfile.gettempdir())) / f"brainpretrain-gpu-{name}.lock")
            if lock and len(taken) < count:
                taken[name] = lock
        if len(taken) == count:
            return taken
        taken.clear()
        if not told:
            print(f"waiting for {count} of the GPUs {', '.join(names)}: others run on them", flush=True)
        told = True
        time.sleep(1 + random.random())
    return {}


def run_on(taken: Mapping[str, locks.Lock], command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Becomes `command`, which sees these GPUs only and holds their locks with its last process."""
    for lock in taken.values():
        os.set_inheritable(lock.descriptor, True)
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(taken)} if taken else {}
    os.execvpe(command[0], list(command), {**environment, **seen})
