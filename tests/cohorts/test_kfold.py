"""Cross-validation by subject: parts, folds, cohorts, and folds that a file gives."""

import json
from collections import Counter

import pandas as pd
import pytest
from sklearn.model_selection import KFold

from brainpretrain.cohorts import VALIDATION, kfold, splits
from brainpretrain.errors import UserError

NAMES = [f"case_{n:03d}" for n in range(23)]


def index(names=NAMES, **columns):
    frame = pd.DataFrame({"subject": names, "sequence": "T1w", "subset": "train", "label": "l", "site": "", "session": ""})
    return frame.assign(volume=frame["subject"] + "_T1w").assign(**columns)


def task(k=5, **split):
    return {"dataset": "d", "sequences": ["T1w"], "subsets": [], "split": {"kind": "kfold", "k": k, "seed": 12345} | split}


def test_every_subject_is_scored_once_and_never_by_a_fold_that_trains_on_it():
    found = splits.split(index(), task())
    folds = [splits.fold(found, number, 1) for number in range(5)]
    scored = Counter()
    for fold in folds:
        test = splits.cohort_subjects(fold, set(NAMES), "10", "test", found)
        train = splits.training_subjects(fold, set(NAMES), "all")
        assert not set(test) & set(train) and sorted([*test, *train]) == NAMES
        val = splits.cohort_subjects(fold, set(NAMES), "10", "val")
        assert set(val) == set(train[10:])  # for learning rates, inside the training part
        assert splits.training_subjects(fold, set(NAMES), "10") == train[:10]  # nested
        scored.update(test)
    assert scored == dict.fromkeys(NAMES, 1)
    assert len({tuple(fold["order"][:4]) for fold in folds}) == 5
    assert splits.split(index().sample(frac=1, random_state=1), task()) == found
    assert splits.split(index(), task(seed=1))["parts"] != found["parts"]
    with pytest.raises(UserError, match="there is no fold 5 of 5"):
        splits.fold(found, 5, 1)


def test_the_parts_of_seed_12345_are_those_of_nnunet():
    """nnU-Net: KFold(n_splits=5, shuffle=True, random_state=12345) over the sorted names."""
    wanted = [
        {"train": [NAMES[i] for i in train], "val": [NAMES[i] for i in val]}
        for train, val in KFold(5, shuffle=True, random_state=12345).split(NAMES)
    ]
    assert kfold.as_nnunet(splits.split(index(), task())["parts"]) == wanted


def test_names_of_a_patient_are_in_one_part_and_sites_in_proportion():
    patient = [f"p{n // 2}" if n < 8 else f"p{n}" for n in range(23)]
    site = ["a"] * 13 + ["b"] * 9 + ["c"]
    found = splits.split(index(patient=patient, site=site), task(stratify="site"))
    of = dict(zip(NAMES, patient, strict=True))
    where = dict(zip(NAMES, site, strict=True))
    seen = [{of[name] for name in part} for part in found["parts"]]
    assert sum(map(len, seen)) == len(set(patient))
    assert all(Counter(where[name] for name in part)["b"] in (1, 2, 3) for part in found["parts"])
    assert sorted(name for part in found["parts"] for name in part) == NAMES


def test_too_many_parts_and_too_few_subjects_are_refused():
    with pytest.raises(UserError, match="23 patients cannot be cut into 24 parts"):
        splits.split_for(index(), task(24), [], "place")
    for asked, words in (
        (("19", "test"), "n_train is 19, but the training part of a fold of 5 has 18 subjects"),
        (("18", "val"), "n_train 18 of 18 subjects in the training part of a fold of 5 leaves none for the cohort 'val'"),
        (("19", VALIDATION), "training and validation need 19 subjects, but the training part of a fold of 5 has 18"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            splits.split_for(index(), task(), [asked], "place")
        assert "raise k" in caught.value.fix
    splits.split_for(index(), task(), [("18", "test"), ("17", "val"), ("all", "test")], "place")


def given(tmp_path, content):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps(content))
    return path


def test_a_given_file_is_taken_as_it_is(tmp_path):
    folds = kfold.as_nnunet([NAMES[:10], NAMES[10:20], NAMES[20:]])
    assert splits.split(index(), task(3), given(tmp_path, folds))["parts"] == [NAMES[:10], NAMES[10:20], NAMES[20:]]
    sessions = pd.concat([index(session="1"), index(session="2")])
    named = [{part: [f"{name}_{s}" for name in fold[part] for s in "12"] for part in fold} for fold in folds]
    assert splits.split(sessions, task(3), given(tmp_path, named))["parts"] == [NAMES[:10], NAMES[10:20], NAMES[20:]]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda folds: {"fold0": folds[0]}, "not a list of folds with 'train' and 'val'"),
        (lambda folds: [fold["val"] for fold in folds], "not a list of folds with 'train' and 'val'"),
        (lambda folds: folds[:2], "2 folds are given, and the task states k: 3"),
        (lambda folds: [folds[0] | {"val": [*folds[0]["val"], "other"]}, *folds[1:]], "1 names are no labelled cases .* other"),
        (
            lambda folds: [folds[0] | {"train": NAMES}, *folds[1:]],
            "fold 0 trains on a subject or patient that it scores: case_000",
        ),
        (lambda folds: [folds[0], folds[0], folds[2]], r"20 subjects are not scored exactly once, case_000 \(2 times\)"),
        (lambda folds: [folds[0] | {"train": folds[0]["train"][1:]}, *folds[1:]], "fold 0 does not train on all subjects"),
    ],
)
def test_a_given_file_that_is_no_cross_validation_of_the_task_is_refused(tmp_path, change, words):
    folds = kfold.as_nnunet([NAMES[:10], NAMES[10:20], NAMES[20:]])
    with pytest.raises(UserError, match=words):
        splits.split(index(), task(3), given(tmp_path, change(folds)))


def test_two_names_of_a_patient_on_two_sides_of_a_given_fold_are_refused(tmp_path):
    folds = kfold.as_nnunet([NAMES[:10], NAMES[10:20], NAMES[20:]])
    patient = ["p", *NAMES[1:10], "p", *NAMES[11:]]
    with pytest.raises(UserError, match="fold 0 trains on a subject or patient that it scores: p"):
        splits.split(index(patient=patient), task(3), given(tmp_path, folds))
