"""How the processes of `make test` share the tests, and what they make once."""

from __future__ import annotations

from pathlib import Path

import pytest

import conftest
import shared
from helpers import ROOT


def test_the_tests_of_a_file_stay_in_one_process(request: pytest.FixtureRequest) -> None:
    """A group that xdist found is at the end of a test's name; without it, each process would make the fixtures of every file."""
    grouped = getattr(request.config.option, "loadgroup", False)
    assert request.node.nodeid.endswith("@test_processes.py") == grouped


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
