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

# the longest first: a long file that is left for the end keeps one process waiting
LONGEST = [
    "workflow/test_workflow.py",
    "training/test_history.py",
    "faults/test_training.py",
    "faults/test_workflow.py",
    "workflow/test_own_data.py",
    "training/test_pretrain.py",
    "training/test_run.py",
    "report/test_status.py",
    "training/test_phases.py",
    "training/test_finetune.py",
    "training/test_execution.py",
    "bench/test_scheduling.py",
    "bench/test_gpu.py",
    "faults/test_secrets.py",
    "faults/test_scores.py",
    "faults/test_shards.py",
    "backbones/test_parity.py",
    "backbones/test_contract.py",
    "pretext/test_contract.py",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begins with the longest files. `make test` keeps the tests of a file in one process, since they share fixtures."""
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.relative_to(ROOT / "tests").as_posix(), len(place)))


@pytest.fixture
def config_dir(tmp_path: Path) -> Path:
    """A copy of config/ to edit, in which the study of the AMAES paper is chosen."""
    folder = Path(shutil.copytree(ROOT / "config", tmp_path / "config", ignore=shutil.ignore_patterns("local.yaml")))
    settings = folder / "config.yaml"
    settings.write_text(settings.read_text().replace("study: demo ", "study: amaes "))
    return folder


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory):
    """A few tiny stored volumes; tests do not write into it."""
    import tiny

    return tiny.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory):
    """The study `tiny`, run from nothing to its table. Each file of tests has a copy; tests that edit its config put it back."""
    import shared
    import workflow_fixture

    return workflow_fixture.Workflow(
        shared.once(tmp_path_factory, "finished", lambda root: workflow_fixture.copy(root).snakemake())
    )


@pytest.fixture(scope="session")
def own_data(tmp_path_factory: pytest.TempPathFactory):
    """A study on own data of every kind, run from their folders to its table, without figures; tests do not edit it."""
    import own_data

    workflow = own_data.make(tmp_path_factory.mktemp("own_data"))
    workflow.snakemake("--config", "study=own", "--", *own_data.TARGETS)
    return workflow
