"""The subjects of the sources of a task: who is left out, and in which order folds draw the others."""

from itertools import pairwise

import pandas as pd
import pytest

from brainpretrain.cohorts import sources
from brainpretrain.cohorts.cases import IGNORED, label_lookup, source_lookup
from brainpretrain.errors import UserError

SOURCE = {"dataset": "old", "sequences": ["T1w"], "subsets": [], "exclude": []}


def index(subjects, **columns):
    table = pd.DataFrame({"subject": subjects, "session": "", "sequence": "T1w", "subset": "a", "label": "x", "site": ""})
    return table.assign(**{"volume": [f"{name}_T1w" for name in subjects], "patient": ""} | columns)


def drawn(source, indexes, scored, persons=None):
    return sources.pool(SOURCE | source, [("test", "new", set(scored))], indexes, persons or {}, "source old")


def test_who_is_scored_under_a_name_that_a_module_declares_does_not_train():
    indexes = {"old": index(["a", "b", "c", "d"]), "new": index(["a", "n7"])}
    found = drawn({}, indexes, ["a", "n7"], {"old": {"c": "OAS1_0007"}, "new": {"n7": "OAS1_0007"}})
    assert found["pool"] == ["a", "b", "d"] and found["excluded"] == ["c"]  # equal names of two data sets mean nothing
    assert found["volumes"] == ["a_T1w", "b_T1w", "d_T1w"]
    assert drawn({"exclude": ["b"]}, indexes, [])["pool"] == ["a", "c", "d"]


def test_in_the_data_set_of_the_target_no_patient_is_on_both_sides():
    both = index(["a", "b", "c", "d"], patient=["p", "p", "", ""])
    found = sources.pool(SOURCE | {"dataset": "new"}, [("test", "new", {"a", "d"})], {"new": both}, {}, "x")
    assert found["pool"] == ["c"] and found["excluded"] == ["a", "b", "d"]


@pytest.mark.parametrize(
    ("changes", "scored", "message"),
    [
        ({"sequences": ["FLAIR"]}, [], "the source 'old' has no labelled subjects[\\s\\S]*T1w"),
        ({"dataset": "new"}, ["a"], "each of the 1 labelled subjects of the source 'new' is scored, a for one"),
    ],
)
def test_a_source_without_subjects_is_refused(changes, scored, message):
    with pytest.raises(UserError, match=message):
        drawn(changes, {"old": index(["a"]), "new": index(["a"])}, scored)


def test_each_fold_has_an_order_of_its_own_and_a_smaller_number_is_a_part_of_a_larger_one():
    pools = [{"dataset": "old", "pool": list("abcdefgh")}, {"dataset": "older", "pool": list("abcdefgh"), "subsets": ["s"]}]
    orders = [sources.orders(pools, fold, seed=3) for fold in (0, 1)]
    assert all(sorted(one["order"]) == list("abcdefgh") for fold in orders for one in fold)
    assert len({tuple(one["order"]) for fold in orders for one in fold}) == 4
    assert orders[0] == sources.orders(pools[:1], 0, 3) + orders[0][1:]  # a further source changes no earlier one
    order, usable = orders[0][0]["order"], set("abcdefg")
    taken = [sources.training_subjects(order, usable, n, 3, "x") for n in (2, "matched", 5, "all")]
    assert [len(names) for names in taken] == [2, 3, 5, 7]
    assert all(large[: len(small)] == small for small, large in pairwise(taken))
    with pytest.raises(UserError, match="8 subjects of the source are to train, and 7 have a usable case"):
        sources.training_subjects(order, usable, 8, 3, "x")


def test_where_a_class_is_missing_what_is_not_named_trains_nothing():
    whole = source_lookup({"grey": [1, 2], "lesion": [3]}, [9])
    assert (whole == label_lookup({"grey": [1, 2], "lesion": [3]}, [9])).all()
    part = source_lookup({"grey": [1, 2], "lesion": []}, [9])
    assert part[[1, 2]].tolist() == [1, 1] and set(part[[0, 3, 9, 500]].tolist()) == {IGNORED}
