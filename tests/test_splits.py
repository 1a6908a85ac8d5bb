import pandas as pd
import pytest

from brainpretrain import splits
from brainpretrain.errors import UserError

SUBJECTS = [f"s{n:03d}" for n in range(60)]
SPLIT = {"dataset": "d", "fold": 0, "order": SUBJECTS}


def table(rows):
    columns = ["volume", "subject", "session", "sequence", "subset", "status", "file", "checksum", "shape"]
    frame = pd.DataFrame(rows, columns=["subject", "sequence", "subset", "status"])
    frame["volume"] = frame["subject"] + "_" + frame["sequence"]
    return frame.assign(session="", file="f", checksum="c", shape="1 1 1")[columns]


@pytest.mark.parametrize(("n", "seed", "pool", "test"), [(1251, 4215532, 938, 313), (250, 859032, 187, 63)])
def test_published_holdouts(n, seed, pool, test):
    found = splits.holdout([f"{i:05d}" for i in range(n)], 0.25, seed)
    assert [len(part) for part in found] == [pool, test]
    assert not set(found[0]) & set(found[1])


def test_neighbouring_folds_share_no_training_subject_and_a_further_fold_changes_nothing():
    orders = [splits.fold_order(SUBJECTS, fold, block=20, seed=1) for fold in range(7)]
    first = [set(order[:20]) for order in orders]
    assert all(sorted(order) == SUBJECTS for order in orders)
    assert not first[0] & first[1] and not first[1] & first[2] and not first[3] & first[5]
    assert first[0] | first[1] | first[2] == set(SUBJECTS)  # 60 cases: three disjoint draws of 20, as in WMH
    assert orders[3][:20] != orders[0][:20]
    assert orders[:6] == [splits.fold_order(SUBJECTS, fold, block=20, seed=1) for fold in range(6)]


def test_a_pool_smaller_than_a_block_is_only_shuffled():
    assert sorted(splits.fold_order(["a", "b"], 3, block=20, seed=0)) == ["a", "b"]


def test_budgets_are_nested_and_val_is_the_rest():
    ten = splits.training_subjects(SPLIT, set(SUBJECTS), "10")
    twenty = splits.training_subjects(SPLIT, set(SUBJECTS), "20")
    assert twenty[:10] == ten
    val = splits.cohort_subjects(SPLIT, set(SUBJECTS), "20", "val")
    assert len(val) == 40 and not set(val) & set(twenty)


def test_a_rejected_subject_is_replaced_by_the_next():
    usable = set(SUBJECTS) - {"s000"}
    assert splits.training_subjects(SPLIT, usable, "2") == ["s001", "s002"]


def test_too_few_cases_and_empty_cohorts_are_errors():
    with pytest.raises(UserError, match=r"n_train is 61, but the pool has 60"):
        splits.training_subjects(SPLIT, set(SUBJECTS), "61")
    with pytest.raises(UserError, match="cohort 'val' has no subjects"):
        splits.cohort_subjects(SPLIT, set(SUBJECTS), "all", "val")
    with pytest.raises(UserError, match="cohort 'ood' has no subjects"):
        splits.cohort_subjects(SPLIT, set(SUBJECTS), "20", "ood", {"dataset": "d", "ood": ["unusable"]})


def test_split_takes_labelled_subjects_of_the_subset():
    index = pd.DataFrame(
        [("a", "FLAIR", "train", "l"), ("b", "FLAIR", "train", ""), ("c", "T1w", "train", "l"), ("d", "FLAIR", "test", "l")],
        columns=["subject", "sequence", "subset", "label"],
    )
    task = {"dataset": "wmh", "sequences": ["FLAIR"], "subsets": ["train"], "split": {"seed": 0, "test_fraction": 0},
            "ood": {"dataset": "wmh", "subsets": ["test"]}}  # fmt: skip
    found = splits.split(index, task)
    assert (found["pool"], found["test"]) == (["a"], [])
    assert splits.ood(index, task, found) == {"dataset": "wmh", "ood": ["d"]}
    assert splits.fold(found, 0, 20)["order"] == ["a"]
    assert splits.cohort_subjects(splits.fold(found, 0, 20), {"d"}, "1", "ood", splits.ood(index, task, found)) == ["d"]


def test_an_ood_cohort_that_meets_the_pool_is_refused():
    index = pd.DataFrame(
        [("a", "FLAIR", "train", "l"), ("d", "FLAIR", "test", "l")], columns=["subject", "sequence", "subset", "label"]
    )
    task = {
        "dataset": "wmh",
        "sequences": ["FLAIR"],
        "subsets": ["train"],
        "split": {"seed": 0, "test_fraction": 0},
        "ood": {"dataset": "wmh", "subsets": []},
    }
    with pytest.raises(UserError, match="1 subjects of the cohort 'ood' are in the pool"):
        splits.ood(index, task, splits.split(index, task))


def test_corpus_is_split_by_subject_and_takes_only_what_it_says():
    rows = [(s, seq, "train", "ok") for s in SUBJECTS[:10] for seq in ("T1w", "FLAIR")]
    rows += [("bad", "T1w", "train", "rejected"), ("test", "T1w", "test", "ok")]
    source = {"dataset": "d", "sequences": [], "subsets": ["train"], "pool_of": None}
    found = splits.corpus({"d": table(rows)}, {"sources": [source], "val_fraction": 0.2}, {}, seed=0)
    by_role = {role: set(part["subject"]) for role, part in found.groupby("role")}
    assert len(found) == 20 and len(by_role["val"]) == 2 and not by_role["val"] & by_role["train"]
    only = splits.corpus({"d": table(rows)}, {"sources": [source | {"sequences": ["T1w"], "pool_of": "t"}], "val_fraction": 0},
                         {"t": {"s000", "s001"}}, seed=0)  # fmt: skip
    assert list(only["volume"]) == ["s000_T1w", "s001_T1w"]
    with pytest.raises(UserError, match="the corpus is empty"):
        splits.corpus({"d": table(rows)}, {"sources": [source | {"sequences": ["DWI"]}], "val_fraction": 0}, {}, seed=0)


def test_a_scored_subject_in_a_strict_corpus_is_an_error():
    rows = pd.DataFrame({"dataset": ["d", "d", "e"], "subject": ["a", "b", "t"]})
    whole = {"dataset": "d", "pool": ["b", "c"], "test": ["t"]}
    shared = splits.overlap(rows, splits.evaluated([("task", "test", whole)]))
    splits.check_protocol(shared, "strict")  # subject t of another data set is another person
    shared = splits.overlap(rows, splits.evaluated([("task", "val", whole), ("task", "test", whole)]))
    assert shared.to_dict("records") == [{"task": "task", "dataset": "d", "evaluated": 3, "shared": 1, "subjects": "b"}]
    splits.check_protocol(shared, "transductive")
    with pytest.raises(UserError, match=r"1 of 3 subjects of task task \(d\): b"):
        splits.check_protocol(shared, "strict")


def test_no_fold_trains_on_a_patient_whom_it_scores():
    """Two names of one patient: one in the pool and one in the test set, or both in the pool."""
    names = [f"s{n:02d}" for n in range(40)]
    task = {"dataset": "d", "sequences": ["FLAIR"], "subsets": [], "split": {"seed": 3, "test_fraction": 0.25}}
    alone = splits.split(index_of({name: name for name in names}), task)
    pool, test = alone["pool"], alone["test"]
    assert alone["patients"] == {}
    first, other = (splits.fold_order(pool, number, 5, seed=3)[0] for number in (0, 1))  # trained on by different folds
    leaked = next(name for name in pool if name not in (first, other))
    patients = {name: name for name in names} | {leaked: test[0], first: other}
    found = splits.split(index_of(patients), task)
    assert (found["pool"], found["test"]) == (pool, test)  # drawn by name, as published
    assert found["patients"] == {leaked: test[0], test[0]: test[0], first: other, other: other}
    assert splits.training_pool(found) == [name for name in pool if name != leaked]
    for number in range(6):
        fold = splits.fold(found, number, 5)
        assert sorted(fold["order"]) == splits.training_pool(found)
        train = splits.training_subjects(fold, set(names), "5")
        val = splits.cohort_subjects(fold, set(names), "5", "val")
        assert not {patients[name] for name in train} & {patients[name] for name in val}
        assert len(val) == len(pool) - 1 - 5 - (number in (0, 1))  # the other name is left out where one is trained on
        assert splits.cohort_subjects(fold, set(names), "5", "test", found) == test


def test_a_patient_is_on_one_side_of_a_corpus():
    names = [f"s{n:02d}" for n in range(30)]
    rows = table([(name, "T1w", "train", "ok") for name in names]).assign(patient=[f"p{n // 2}" for n in range(30)])
    spec = {"sources": [{"dataset": "d", "sequences": [], "subsets": [], "pool_of": None}], "val_fraction": 0.3}
    roles = splits.corpus({"d": rows}, spec, {}, seed=0).set_index("subject")["role"]
    assert set(roles) == {"train", "val"} and all(roles[a] == roles[b] for a, b in zip(names[::2], names[1::2], strict=True))
    former = splits.corpus({"d": rows.drop(columns="patient")}, spec, {}, seed=0)
    blank = splits.corpus({"d": rows.assign(patient="")}, spec, {}, seed=0)
    assert former.equals(blank)


def index_of(patients):
    rows = [(name, patient, "FLAIR", "train", "l") for name, patient in patients.items()]
    return pd.DataFrame(rows, columns=["subject", "patient", "sequence", "subset", "label"])
