"""Fixtures that several tests share. No test reaches the network."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

# This is set before torch is imported, and holds for every process that a test starts. Sums then have the same order whichever test ran
# before, and the two workers of `make test` do not take cores from each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from helpers import ROOT


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps tests in one worker process that share a fixture: the tests of a file, and all tests that use the finished study."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            together = "finished" if "finished" in getattr(item, "fixturenames", ()) else str(item.path.relative_to(ROOT))
            item.add_marker(pytest.mark.xdist_group(together))


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A copy of config/ to edit."""
    return Path(shutil.copytree(ROOT / "config", tmp_path / "config"))


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory):
    """A few tiny stored volumes; tests do not write into it."""
    import tiny

    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory):
    """The study `tiny`, run from nothing to its table. Tests that edit its config put it back."""
    import workflow_fixture

    workflow = workflow_fixture.copy(tmp_path_factory.mktemp("workflow"))
    workflow.snakemake()
    return workflow


@pytest.fixture(scope="session")
def own_data(tmp_path_factory: pytest.TempPathFactory):
    """A study on own data of every kind, run from their folders to its table, without figures; tests do not edit it."""
    import own_data

    workflow = own_data.make(tmp_path_factory.mktemp("own_data"))
    workflow.snakemake("--config", "study=own", "--", *own_data.TARGETS)
    return workflow
