"""The fake corpus of `bench/planning.py`: of the published size, and good enough for every step up to pretraining."""

from __future__ import annotations

import importlib

import pytest

from brainpretrain import cli, config, datasets
from brainpretrain.files import read_tsv
from helpers import ROOT


@pytest.fixture
def planning(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "bench"))
    return importlib.import_module("planning")


@pytest.mark.parametrize("name", ["adni", "isles22", "msseg1", "msd_brain_tumour"])
def test_the_fake_index_has_the_published_numbers(planning, name):
    rows, published = planning.index(name, 1), datasets.load(name).brains45k
    assert len(rows) == published["volumes"] and rows["volume"].is_unique
    assert rows["subject"].nunique() == published["subjects"]
    assert len(rows[["subject", "session"]].drop_duplicates()) == published["sessions"]


def test_every_step_up_to_pretraining_works_on_it(planning, tmp_path, capsys):
    loaded = config.load(ROOT / "config")
    volumes = planning.make(tmp_path, loaded, scale=0.02)
    planning.raw_tree(tmp_path / "raw", 3)
    for name, line in planning.commands(tmp_path, loaded).items():
        assert cli.main(line[3:]) == 0, (name, capsys.readouterr().err)
    assert len(read_tsv(tmp_path / "index.tsv")) == 12
    corpus = read_tsv(tmp_path / "corpus.tsv")
    assert len(corpus) < sum(volumes.values())  # the test cases of BraTS21 and WMH stay out
    shared = read_tsv(tmp_path / "overlap.tsv").set_index(["task", "cohort"])
    assert shared["shared"].to_dict() == {("brats21_flair", "test"): "0", ("isles22_dwi", "val"): shared["evaluated"]["isles22_dwi", "val"],
                                          ("wmh_flair", "val"): "1", ("wmh_flair", "ood"): "0"}  # fmt: skip
    assert (shared["by_name"] == shared["by_content"]).all()
    assert read_tsv(tmp_path / "table1.tsv")["volumes"].tolist()[-1] == str(len(corpus))
