"""How the processes of `make test` share the tests, and what they make once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import conftest
import shared
from helpers import ROOT


@pytest.mark.parametrize("number", range(8))
def test_the_tests_of_a_file_stay_in_one_process(tmp_path_factory: pytest.TempPathFactory, number: int) -> None:
    """Otherwise each process makes the fixtures of every file: run several processes with `--dist loadfile`, as `make test` does."""
    seen = shared.place(tmp_path_factory, "processes")
    with seen.open("a") as stream:
        stream.write(f"{os.getpid()}\n")
    assert set(seen.read_text().split()) == {str(os.getpid())}


def test_the_longest_files_exist() -> None:
    assert [name for name in conftest.LONGEST if not (ROOT / "tests" / name).is_file()] == []


def test_a_folder_is_made_once_and_each_copy_may_be_edited(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("as made")

    one, two = (shared.once(tmp_path_factory, tmp_path.name, make) for _ in range(2))
    (one / "file").write_text("edited")
    assert (two / "file").read_text() == "as made" and len(made) == 1


def test_a_folder_that_could_not_be_made_is_made_by_the_next(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ValueError("as planned")

    with pytest.raises(ValueError, match="as planned"):
        shared.once(tmp_path_factory, tmp_path.name, fail)
    found = shared.once(tmp_path_factory, tmp_path.name, lambda folder: (folder / "whole").touch())
    assert [path.name for path in found.iterdir()] == ["whole"]
