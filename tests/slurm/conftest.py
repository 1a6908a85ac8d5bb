"""A real Slurm for all tests of this folder, and the study `tiny`, run on it once from nothing to its table."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import Cluster, missing
from on_slurm import LONG, OnSlurm

import workflow_fixture
from helpers import edit


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    assert not missing(), f"install slurm-wlm, slurm-wlm-basic-plugins and munge: no {', '.join(missing())}"
    cluster = Cluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.up()
        yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="session")
def study(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> OnSlurm:
    """The study, run once through Slurm; tests that edit it put it back."""
    found = OnSlurm(workflow_fixture.copy(tmp_path_factory.mktemp("study")), cluster)
    profile = found.root / "slurm" / "config.yaml"
    # all nodes are one small machine
    text = profile.read_text().replace("workers: 7", "workers: 0").replace("your_account", "tests")
    profile.write_text(text + "set-threads: {pretrain: 1, finetune: 1, predict_cohort: 1}\n")
    found.run()
    return found


@pytest.fixture
def longer(study: OnSlurm, tmp_path: Path) -> Iterator[OnSlurm]:
    """A copy of the finished study whose pretraining is long enough to be hit, and not begun."""
    shutil.copytree(study.root, tmp_path / "copy", symlinks=True)
    copy = OnSlurm(workflow_fixture.Workflow(tmp_path / "copy"), study.cluster)
    edit(copy.workflow.study, "phases: [{epochs: 2, lr: 1.0e-3", f"val_every_epochs: 20, phases: [{{epochs: {LONG}, lr: 1.0e-3")
    yield copy
    if numbers := [row["job"] for row in copy.jobs() if row["state"] in ("RUNNING", "PENDING")]:
        study.cluster.run("scancel", *numbers)
