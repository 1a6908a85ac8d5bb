"""One training per GPU on a machine without a batch system: a file per GPU is locked while a command runs on it."""

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
    """Names of the GPUs that may be used: those in CUDA_VISIBLE_DEVICES if it is set, else all of the machine."""
    if (listed := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name.strip() for name in listed.split(",") if name.strip() not in ("", "-1")]
    matches = [re.fullmatch(r"nvidia(\d+)", path.name) for path in DEVICES.glob("nvidia*")]
    return [str(number) for number in sorted(int(match[1]) for match in matches if match)]


def claim(count: int, environment: Mapping[str, str], folder: Path | None = None) -> dict[str, locks.Lock]:
    """Waits until `count` GPUs are free and takes them, all or none.

    Args:
        count: number of GPUs.
        environment: environment of the command.
        folder: folder of the locks; by default the machine's folder for temporary files, so that all checkouts share them.

    Returns:
        Locks by GPU; empty on a machine without GPUs.

    Raises:
        UserError: the machine has fewer GPUs, but not none.
    """
    names = visible(environment)
    if names and len(names) < count:
        raise UserError(f"{count} GPUs are asked for, and {len(names)} are visible", fix="lower `gpu` in the profile")
    has_told = False
    while names:
        taken: dict[str, locks.Lock] = {}
        for name in names:
            lock = locks.try_take((folder or Path(tempfile.gettempdir())) / f"brainpretrain-gpu-{name}.lock")
            if lock and len(taken) < count:
                taken[name] = lock
        if len(taken) == count:
            return taken
        taken.clear()
        if not has_told:
            print(f"waiting for {count} of the GPUs {', '.join(names)}: other commands run on them", flush=True)
        has_told = True
        time.sleep(1 + random.random())
    return {}


def run_on(taken: Mapping[str, locks.Lock], command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Replaces this process by `command`, which sees only these GPUs and holds their locks until its last process ends."""
    for lock in taken.values():
        os.set_inheritable(lock.descriptor, True)
    seen = {"CUDA_VISIBLE_DEVICES": ",".join(taken)} if taken else {}
    os.execvpe(command[0], list(command), {**environment, **seen})
