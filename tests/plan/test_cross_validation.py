"""Plans with a cross-validated task, and what they cannot be combined with."""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

from brainpretrain import config
from brainpretrain.errors import UserError
from brainpretrain.files import write_json, write_tsv
from brainpretrain.plan import existing, specs, tables

KFOLD = {"kind": "kfold", "k": 5, "test_fraction": None, "block": None, "draw": "hash"}


def planned(config_dir, split=None, cohort="test", n_train=20, init="scratch", source=None, **study):
    content = {
        **{"title": "t", "seed": 0, "folds": 5, "protocol": "free", "build": ["one"]} | study,
        "tasks": {"crossed": {"like": "hippocampus_s3d", "split": KFOLD | (split or {})}},
        "corpora": {"own": {"like": "hippocampus_unlabelled", "sources": [source or {"dataset": "ixi"}]}},
        "finetune": {"mine": {"like": "amaes", "augmentation_scratch": "spatial"}},
        "tables": {
            "one": {
                "title": "t", "columns": [{"title": "Hippocampus", "task": "crossed", "cohort": cohort}], "n_train": n_train,
                "recipe": "mine", "rows": [{"backbone": "unet_b", "init": ["scratch", init] if init != "scratch" else init}],
                "corpus": "own",
            }
        },
    }  # fmt: skip
    (config_dir / "studies" / "crossed.yaml").write_text(yaml.safe_dump(content))
    return tables.make(config.load(config_dir, {"study": "crossed"}))


def test_a_cross_validation_is_planned(config_dir):
    plan = planned(config_dir)
    assert [evaluation.fold for evaluation in plan.evaluations] == list(range(5))
    assert specs.task_split(plan.config, "crossed")["split"] == {"kind": "kfold", "k": 5, "seed": 0}
    assert plan.tables["one"].columns[0].kfold == 5
    assert planned(config_dir, n_train="all", folds=3).evaluations


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"folds": 6}, r"the study has 6 folds, and the cross-validation of task 'crossed' has 5 parts"),
        ({"split": {"test_fraction": 0.2}}, "'kind: kfold' has no fixed test set, since it scores each subject once"),
        ({"split": {"block": 20}}, "'block' goes with 'kind: fraction'"),
        ({"split": {"k": None}}, "'kind: kfold' needs 'k'"),
        ({"split": {"k": 1}}, "greater than or equal to 2|at least 2|k"),
        ({"split": {"kind": "fraction"}}, "a split needs test_fraction and block, or 'kind: kfold'"),
        ({"split": {"kind": "fraction", "test_fraction": 0.2, "block": 5}}, "'k' goes with 'kind: kfold'"),
        ({"split": {"file": "splits_final.json"}}, "there is no such file"),
        ({"cohort": "val"}, "scores the cohort 'val' of a cross-validation"),
        ({"draws": "disjoint"}, "the folds of the cross-validation of task 'crossed' share training cases"),
        ({"protocol": "fair", "init": "amaes"}, "nothing they show holds for another training"),
        ({"init": "amaes", "source": {"dataset": "msd_hippocampus", "pool_of": "crossed"}}, "a cross-validation, which scores everybody"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(config_dir, changes, words):
    with pytest.raises(UserError, match=words) as caught:
        planned(config_dir, **changes)
    assert caught.value.where


def test_an_index_or_a_split_that_is_too_small_is_refused_when_planning(config_dir, tmp_path):
    names = [f"hippocampus_{n:03d}" for n in range(24)]
    index, subjects = tmp_path / "index.tsv", tmp_path / "subjects.json"
    columns = {"volume": names, "subject": names, "session": "", "sequence": "T1w", "subset": "train", "label": "l", "site": ""}
    write_tsv(index, pd.DataFrame(columns))
    existing.check_split(planned(config_dir, n_train=19), "crossed", subjects, index)
    with pytest.raises(UserError, match="n_train is 20, but the training part of a fold of 5 has 19 subjects"):
        existing.check_split(planned(config_dir), "crossed", subjects, index)
    with pytest.raises(UserError, match="24 patients cannot be cut into 25 parts"):
        existing.check_split(planned(config_dir, {"k": 25}), "crossed", subjects, index)
    parts = [names[n::5] for n in range(5)]
    made = {
        "dataset": "msd_hippocampus",
        "draw": "kfold",
        "seed": 0,
        "pool": names,
        "test": names,
        "parts": parts,
        "patients": {},
    }
    write_json(subjects, made)
    with pytest.raises(UserError, match="n_train is 20, but the training part") as caught:
        existing.check_split(planned(config_dir), "crossed", subjects, tmp_path / "none")
    assert str(subjects) in str(caught.value.where)
    existing.check_split(planned(config_dir, {"k": 6}), "crossed", subjects, tmp_path / "none")  # will be drawn again
