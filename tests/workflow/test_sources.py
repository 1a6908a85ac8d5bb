"""A task over two data sets, from raw volumes to its table: the source alone, and on from there with a case of the target."""

from __future__ import annotations

import pytest

import two_sources
import workflow_fixture
from brainpretrain.files import read_json, read_tsv
from brainpretrain.plan.runs import Arm


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    workflow = workflow_fixture.copy(tmp_path_factory.mktemp("two"))
    workflow.study.with_name("two.yaml").write_text(two_sources.STUDY)
    workflow.snakemake("--config", "study=two", "--", "results/two/tables/phantom_table3.md")
    return workflow


def test_two_data_sets_give_a_table_iii(two):
    study = two.root / "results" / "two"
    scores = read_tsv(study / "tables" / "phantom_table3.tsv", numbers=["value"])
    assert list(scores["n_train"]) == ["0", "1"] and scores["value"].between(0, 1).all()
    first = Arm("tissue", "unet_micro", "scratch", "source", "0")
    after = Arm("tissue", "unet_micro", first.next_init, "target", "1")
    runs = [read_json(study / arm.path / "fold0" / "run.json") for arm in (first, after)]
    assert runs[0]["train_subjects"] == [] and sorted(runs[0]["source_subjects"]["phantom_source"]) == ["sub-001", "sub-002"]
    assert len(runs[1]["train_subjects"]) == 1 and "source_subjects" not in runs[1]
    statuses = read_tsv(study / after.path / "fold0" / "transfer.tsv")
    assert set(statuses["status"]) == {"loaded"} and statuses["tensor"].str.startswith("decoder.").any()
    audit = read_tsv(study / "splits/tissue/sources/overlap.tsv", numbers=["evaluated", "shared"])
    assert list(audit["cohort"]) == ["test"] and audit["evaluated"][0] == 2 and audit["shared"][0] == 0
