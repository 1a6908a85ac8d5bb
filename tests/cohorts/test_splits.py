import itertools
import re
from collections import Counter

import pandas as pd
import pytest

from brainpretrain import config
from brainpretrain.cohorts import splits
from brainpretrain.errors import UserError
from helpers import ROOT

SUBJECTS = [f"s{n:03d}" for n in range(60)]
SPLIT = {"dataset": "d", "fold": 0, "order": SUBJECTS}


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
    ).assign(session="")
    task = {"dataset": "wmh", "sequences": ["FLAIR"], "subsets": ["train"], "split": {"seed": 0, "test_fraction": 0},
            "ood": {"dataset": "wmh", "subsets": ["test"]}}  # fmt: skip
    found = splits.split(index, task)
    assert (found["pool"], found["test"]) == (["a"], [])
    assert splits.ood(index, task, found) == {"dataset": "wmh", "ood": ["d"]}
    assert splits.fold(found, 0, 20)["order"] == ["a"]
    assert splits.cohort_subjects(splits.fold(found, 0, 20), {"d"}, "1", "ood", splits.ood(index, task, found)) == ["d"]


def indexed(subjects, **columns):
    frame = pd.DataFrame({"subject": subjects, "sequence": "FLAIR", "subset": "train", "label": "l", "site": "", "session": ""})
    return frame.assign(**columns)


def rule(**changes):
    spec = {"seed": 1, "test_fraction": 0.25} | changes
    return {"dataset": "d", "sequences": ["FLAIR"], "subsets": [], "split": spec}


@pytest.mark.parametrize("n", range(3, 9))
def test_a_draw_without_a_test_set_or_a_pool_names_a_seed_that_gives_both(n):
    """With few subjects, each drawn by itself, nobody may be drawn, or everybody."""
    names, refused = [f"sub-{i:02d}" for i in range(n)], 0
    for seed in range(12):
        task = rule(seed=seed, draw="hash")
        try:
            found = splits.split_for(indexed(names), task, [("all", "test")], "place")
        except UserError as error:
            refused += 1
            advice = re.search(r"where: place\n *fix: +set 'seed: (\d+)' .* a pool of (\d+) and a test set of (\d+);", str(error))
            found = splits.split_for(indexed(names), rule(seed=int(advice[1]), draw="hash"), [("all", "test")], "place")
            assert (
                [len(found["pool"]), len(found["test"])] == [int(advice[2]), int(advice[3])] == [n - round(n / 4), round(n / 4)]
            )
        assert found["pool"] and found["test"]
    assert refused or n > 6


def test_no_seed_is_named_where_none_helps():
    for task, asked, words in (
        (rule(draw="hash"), [("9", "test")], "n_train is 9, but the pool has"),
        (rule(), [("20", "test")], "n_train is 20, but the pool has 3"),
        (rule(draw="hash", stratify="site"), [("1", "test")], "the site of 4 subjects is unknown"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            splits.split_for(indexed(SUBJECTS[:4]), task, asked, "place")
        assert "set 'seed" not in str(caught.value)


def test_a_stratified_split_holds_every_site_in_proportion():
    site = ["a"] * 12 + ["b"] * 24 + ["c"] * 24
    found = splits.split(indexed(SUBJECTS, site=site), rule(stratify="site"))
    where = dict(zip(SUBJECTS, site, strict=True))
    assert pd.Series([where[s] for s in found["test"]]).value_counts().to_dict() == {"a": 3, "b": 6, "c": 6}
    for number in range(4):
        order = splits.fold(found, number, 15)["order"]
        assert sorted(order) == found["pool"]
        for n in (5, 10, 15, 20):
            counts = pd.Series([where[s] for s in order[:n]]).value_counts()
            assert all(abs(counts.get(name, 0) - share * n) <= 1 for name, share in (("a", 0.2), ("b", 0.4), ("c", 0.4)))
    assert splits.fold(found, 0, 15)["order"] != splits.fold(found, 3, 15)["order"]
    with pytest.raises(UserError, match="the site of 60 subjects is unknown, s000 for one"):
        splits.split(indexed(SUBJECTS), rule(stratify="site"))
    with pytest.raises(UserError, match="no split by site"):
        splits.split(indexed(SUBJECTS, site=["x", *site[1:]]), rule(stratify="site"))


@pytest.mark.parametrize(
    ("name", "subset", "pool", "test"), [("brats21_flair", "train", 938, 313), ("isles22_dwi", "train", 187, 63), ("wmh_flair", "train", 60, 0)]
)  # fmt: skip
def test_the_published_tasks_have_six_folds_of_20(name, subset, pool, test):
    """AMAES: splits of the catalogue on indexes of the published size."""
    task = config.load(ROOT / "config").tasks[name].model_dump(mode="json")
    subjects = [f"sub-{number:04d}" for number in range(pool + test)]
    site = dict(zip(subjects, itertools.cycle("abc")))
    indexes = indexed(subjects, sequence=task["sequences"][0], subset=subset, site=list(site.values()))
    found = splits.split(indexes, task)
    assert (len(found["pool"]), len(found["test"]), found["seed"]) == (pool, test, task["split"]["seed"])
    folds = [splits.fold(found, number, task["split"]["block"]) for number in range(6)]
    drawn = [splits.training_subjects(fold, set(subjects), "20") for fold in folds]
    assert [len(subjects) for subjects in drawn] == [20] * 6 and len({tuple(d) for d in drawn}) == 6
    assert not set(drawn[0]) & set(drawn[1]) and not set(drawn[1]) & set(drawn[2])
    counts = [Counter(site[subject] for subject in draw) for draw in drawn]
    assert task["split"]["stratify"] is None or all(6 <= count[name] <= 8 for count in counts for name in "abc")
    for fold in folds:
        budgets = [splits.training_subjects(fold, set(subjects), n) for n in ("10", "20", "30", "40", "all")]
        assert all(larger[: len(smaller)] == smaller for smaller, larger in itertools.pairwise(budgets))


def test_an_ood_cohort_that_meets_the_pool_is_refused():
    index = pd.DataFrame(
        [("a", "FLAIR", "train", "l"), ("d", "FLAIR", "test", "l")], columns=["subject", "sequence", "subset", "label"]
    ).assign(session="")
    task = {
        "dataset": "wmh",
        "sequences": ["FLAIR"],
        "subsets": ["train"],
        "split": {"seed": 0, "test_fraction": 0},
        "ood": {"dataset": "wmh", "subsets": []},
    }
    with pytest.raises(UserError, match="1 subjects of the cohort 'ood' are in the pool"):
        splits.ood(index, task, splits.split(index, task))


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


def index_of(patients):
    rows = [(name, patient, "FLAIR", "train", "l") for name, patient in patients.items()]
    return pd.DataFrame(rows, columns=["subject", "patient", "sequence", "subset", "label"]).assign(session="")


def versions(**subsets):
    """Two subjects with a volume in each of these subsets; the value says whether it has a label."""
    rows = [(f"{name}_{subset}", name, subset, "l" * labelled) for name in "ab" for subset, labelled in subsets.items()]
    return pd.DataFrame(rows, columns=["volume", "subject", "subset", "label"]).assign(session="1", sequence="FLAIR")


def test_versions_of_a_scan_are_chosen_by_their_subset():
    task = rule(test_fraction=0)
    for index, advice in ((versions(orig=True, norm=True), "norm"), (versions(orig=True, norm=False), "orig")):
        with pytest.raises(UserError, match=rf"several volumes of one sequence[\s\S]*such as `subsets: \[{advice}\]`"):
            splits.split(index, task)
        found = splits.split(index, task | {"subsets": ["orig"]})
        assert found["subsets"] == splits.fold(found, 0, 1)["subsets"] == ["orig"]
    one = splits.split(versions(orig=True), task | {"subsets": ["orig"]})
    assert "subsets" not in one and "subsets" not in splits.fold(one, 0, 1)  # as the files of earlier versions
    twice = pd.concat([versions(orig=True)] * 2)
    with pytest.raises(UserError, match="keep one of them: move the other files out"):
        splits.split(twice, task)
    apart = pd.concat([versions(orig=True), versions(other=False).assign(session="2")])
    apart = pd.concat([apart, apart[apart["session"] == "2"]])
    assert splits.split(apart, task)["pool"] == ["a", "b"]  # a session without labels has no cases


def test_an_ood_cohort_takes_its_volumes_from_its_own_subsets():
    index = versions(orig=True, norm=True)
    task = rule() | {"ood": {"dataset": "other", "subsets": ["norm"]}}
    assert splits.ood(index, task, {"dataset": "d", "pool": [], "test": []}) == {
        "dataset": "other",
        "ood": ["a", "b"],
        "subsets": ["norm"],
    }
