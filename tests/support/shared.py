"""Folders that one process of the tests makes, and that all of them use."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from brainpretrain import locks


def place(factory: pytest.TempPathFactory, name: str) -> Path:
    """A path that is the same in all processes of a run."""
    base = factory.getbasetemp()
    # a worker of pytest-xdist has its own folder below that of the run
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    folder.mkdir(exist_ok=True)
    return folder / name


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A copy of a folder that `make` fills. The first process that asks for it makes it, and the others wait.

    A copy may be edited.
    """
    whole = place(factory, name)
    lock, _ = locks.take(whole.with_name(f"{name}.lock"), f"another process of the tests makes {name}")
    try:
        if not (done := whole.with_name(f"{name}.made")).exists():
            shutil.rmtree(whole, ignore_errors=True)  # what another process began
            whole.mkdir()
            make(whole)
            done.touch()
    finally:
        lock.release()
    return Path(shutil.copytree(whole, factory.mktemp(name) / "copy", symlinks=True))
