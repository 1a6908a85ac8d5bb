"""Folders that one process of the tests makes, and that all of them use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from brainpretrain import locks


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A copy, for this process, of a folder that `make` fills.

    The first process that asks for it makes it, and the others wait. A process may edit its copy.
    """
    base = factory.getbasetemp()
    # a worker of pytest-xdist has its own folder below that of the run
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared" / name
    lock, _ = locks.take(place.with_name(f"{name}.lock"), f"another process of the tests makes {name}")
    try:
        if not place.exists():
            made = factory.mktemp(name)
            make(made)
            made.rename(place)
    finally:
        lock.release()
    return Path(shutil.copytree(place, factory.mktemp(name) / "copy", symlinks=True))
