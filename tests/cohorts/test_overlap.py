"""Subjects that are both in a corpus and in a cohort, found by name or by image."""

from __future__ import annotations

import itertools
import re

import pandas as pd
import pytest

from brainpretrain import datasets
from brainpretrain.cohorts.copies import COLUMNS
from brainpretrain.cohorts.overlap import Cohort, check_protocol, cohort_subjects, shared_subjects
from brainpretrain.errors import UserError
from helpers import ROOT

NO_COPIES = pd.DataFrame(columns=COLUMNS)


def index(*subjects: str, patient: dict[str, str] | None = None, site: str = "") -> pd.DataFrame:
    frame = pd.DataFrame({"volume": [f"{s}_T1w" for s in subjects], "subject": subjects, "site": site})
    return frame if patient is None else frame.assign(patient=[patient.get(s, s) for s in subjects])


def corpus(**subjects: list[str]) -> pd.DataFrame:
    rows = [(dataset, f"{s}_T1w", s) for dataset, names in subjects.items() for s in names]
    return pd.DataFrame(rows, columns=["dataset", "volume", "subject"])


def copies(*rows: tuple[str, str, str, str, float], level: str = "same") -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["volume", "corpus_dataset", "corpus_volume", "how", "correlation"])
    return frame.assign(level=level)[COLUMNS]


def test_a_subject_of_the_same_data_set_is_shared_by_name() -> None:
    indexes = {"d": index("a", "b", "c"), "e": index("t")}
    shared, pairs = shared_subjects(
        corpus(d=["a", "b"], e=["t"]), [Cohort("task", "val", "d", {"b", "c", "t"}, NO_COPIES, 4)], indexes
    )
    assert shared.to_dict("records") == [
        {
            "task": "task",
            "cohort": "val",
            "dataset": "d",
            "evaluated": 3,
            "shared": 1,
            "by_name": 1,
            "by_content": 0,
            "look": 0,
            "without_brain": 4,
            "subjects": "b",
            "look_subjects": "",
        }
    ]  # t of another data set is another person
    assert pairs[["subject", "corpus_dataset", "corpus_subject", "name", "volumes"]].to_numpy().tolist() == [
        ["b", "d", "b", "same", 0]
    ]
    with pytest.raises(UserError, match=r"1 of 3 subjects of task task, cohort val \(d\):\n +b is b of d \(by name\)"):
        check_protocol(shared, pairs, "strict")
    check_protocol(shared, pairs, "amaes")


def test_an_index_without_patients_serves_as_well_and_one_with_them_finds_aliases() -> None:
    aliases = {"BraTS2021_00557": "BraTS2021_00639", "BraTS2021_00758": "BraTS2021_00626"}
    names = [*aliases, *aliases.values()]
    cohort = Cohort("t", "test", "brats21", set(aliases.values()), NO_COPIES)
    rows = corpus(brats21=list(aliases))
    assert shared_subjects(rows, [cohort], {"brats21": index(*names)})[0]["shared"].tolist() == [0]
    shared, pairs = shared_subjects(rows, [cohort], {"brats21": index(*names, patient=aliases)})
    assert shared["by_name"].tolist() == [2] and pairs["name"].tolist() == ["alias", "alias"]
    assert datasets.load("brats21").aliases == aliases
    with pytest.raises(UserError, match=r"BraTS2021_00626 is BraTS2021_00758 of brats21 \(one patient under two names\)"):
        check_protocol(shared, pairs, "strict")


def test_across_data_sets_only_a_declared_name_counts() -> None:
    cohort = Cohort("t", "val", "new", {"sub-01", "n7"}, NO_COPIES)
    rows = corpus(old=["sub-01", "OAS1_0061"])
    indexes = {"old": index("sub-01", "OAS1_0061"), "new": index("sub-01", "n7", patient={"n7": "OAS1_0061"})}
    shared, pairs = shared_subjects(rows, [cohort], indexes)
    assert shared["subjects"].tolist() == ["n7"] and pairs["corpus_subject"].tolist() == ["OAS1_0061"]


def test_a_renamed_subject_is_shared_by_its_image() -> None:
    """MSD BrainTumour in a corpus, BraTS21 scored: other names, the same volumes."""
    indexes = {"brats21": index("B1", "B2", "B3"), "msd": index("BRATS_485", "BRATS_486")}
    found = copies(
        ("B1_T1w", "msd", "BRATS_485_T1w", "near", 0.97), ("B1_T1w", "msd", "BRATS_486_T1w", "near", 0.91),
        ("B3_T1w", "msd", "BRATS_486_T1w", "exact", 1.0))  # fmt: skip
    cohorts = [Cohort("t", "test", "brats21", {"B1", "B2"}, found), Cohort("t", "val", "brats21", {"B2"}, found)]
    shared, pairs = shared_subjects(corpus(msd=["BRATS_485", "BRATS_486"]), cohorts, indexes)
    assert shared[["cohort", "shared", "by_name", "by_content", "subjects"]].to_numpy().tolist() == [
        ["test", 1, 0, 1, "B1"], ["val", 0, 0, 0, ""]]  # fmt: skip
    assert pairs["corpus_subject"].tolist() == ["BRATS_485", "BRATS_486"] and pairs["correlation"].tolist() == [0.97, 0.91]
    with pytest.raises(UserError) as caught:
        check_protocol(shared, pairs, "strict")
    said = str(caught.value)
    assert "B1 is BRATS_485 of msd (the same image: B1_T1w and BRATS_485_T1w, correlation 0.970)" in said
    assert "'exclude'" in said and "cohort val" not in said


def test_name_and_image_of_one_pair_are_one_row_with_the_nearest_image() -> None:
    indexes = {"d": pd.DataFrame({"volume": ["s_T1w", "s_T2w"], "subject": "s", "site": ""})}
    found = copies(
        ("s_T1w", "d", "s_T2w", "near", 0.9), ("s_T1w", "d", "s_T1w", "exact", 1.0), ("s_T2w", "d", "s_T2w", "exact", 1.0)
    )
    rows = pd.DataFrame({"dataset": "d", "volume": ["s_T1w", "s_T2w"], "subject": "s"})
    shared, pairs = shared_subjects(rows, [Cohort("t", "val", "d", {"s"}, found)], indexes)
    (pair,) = pairs.to_dict("records")
    assert (pair["name"], pair["volumes"], pair["how"], pair["volume"]) == ("same", 3, "exact", "s_T1w")
    assert shared[["shared", "by_name", "by_content"]].to_numpy().tolist() == [[1, 1, 1]]


def test_a_pair_to_look_at_is_named_and_is_no_error() -> None:
    """Brains that agree less may be one person; only a person can decide, so nothing is counted as shared or refused."""
    indexes = {"new": index("n1", "n2"), "old": index("o1", "o2")}
    found = pd.concat([
        copies(("n1_T1w", "old", "o1_T1w", "brain", 0.70), level="look"),
        copies(("n2_T1w", "old", "o1_T1w", "brain, mirrored", 0.68), level="look"),
        copies(("n2_T1w", "old", "o2_T1w", "brain", 0.93)),
    ])  # fmt: skip
    cohort = Cohort("t", "test", "new", {"n1", "n2"}, found)
    shared, pairs = shared_subjects(corpus(old=["o1", "o2"]), [cohort], indexes)
    (row,) = shared.to_dict("records")
    assert (row["shared"], row["by_content"], row["subjects"], row["look"], row["look_subjects"]) == (1, 1, "n2", 1, "n1")
    with pytest.raises(UserError) as caught:
        check_protocol(shared, pairs, "strict")
    said = str(caught.value)
    assert "n2 is o2 of old (the same brain: n2_T1w and o2_T1w, correlation 0.930)" in said and "o1" not in said
    assert "- {dataset: old, exclude: [o2]}" in said
    only = shared_subjects(corpus(old=["o1"]), [Cohort("t", "test", "new", {"n1"}, found[:1])], indexes)
    check_protocol(*only, "strict")
    assert only[1]["level"].tolist() == ["look"]


def test_a_person_of_several_data_sets_is_found_by_the_names_that_modules_declare() -> None:
    """OASIS-TRT-20-04 is OAS1_0101, whatever the release; subjects keep their own names as patients."""
    trt, oasis = datasets.load("oasis_trt20"), datasets.load("oasis1")
    assert trt.persons and oasis.persons
    assert [trt.persons(name) for name in ("OASIS-TRT-20-01", "OASIS-TRT-20-4", "OASIS-TRT-20-20", "OASIS-TRT-20-21")] == [
        "OAS1_0061", "OAS1_0101", "OAS1_0395", ""]  # fmt: skip
    subjects = {"oasis_trt20": ["OASIS-TRT-20-04", "OASIS-TRT-20-05"], "oasis1": ["OASIS_OAS1_0101", "OASIS_OAS1_0001"]}
    persons = {name: {s: datasets.load(name).persons(s) for s in names} for name, names in subjects.items()}
    indexes = {name: index(*names) for name, names in subjects.items()}
    cohort = Cohort("t", "test", "oasis_trt20", set(subjects["oasis_trt20"]), NO_COPIES)
    shared, pairs = shared_subjects(corpus(oasis1=subjects["oasis1"]), [cohort], indexes, persons)
    assert shared["subjects"].tolist() == ["OASIS-TRT-20-04"] and shared["by_name"].tolist() == [1]
    assert pairs[["corpus_subject", "name"]].to_numpy().tolist() == [["OASIS_OAS1_0101", "alias"]]
    # own data whose table names the patients: scans 1003 and 1023 of the MICCAI 2012 challenge
    indexes["own"] = index("1003", "1023", "1000", patient={"1003": "OAS1_0101", "1023": "OAS1_0101", "1000": "OAS1_0061"})
    shared, pairs = shared_subjects(corpus(own=["1003", "1023", "1000"]), [cohort], indexes, persons)
    assert pairs["corpus_subject"].tolist() == ["1003", "1023"] and set(pairs["name"]) == {"alias"}


def test_the_people_of_the_documents_are_those_of_the_modules_and_never_stand_on_both_sides() -> None:
    """docs/cohorts.md names 13 people in 15 pairs; a strict corpus of one release refuses a task on another."""
    text = (ROOT / "docs" / "cohorts.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| (OASIS-TRT-20-\d\d) \| ([\d, ]+) \| (OAS1_\d{4}) \|$", text, re.MULTILINE)
    scans = {trt: miccai.split(", ") for trt, miccai, _ in lines}
    assert len(lines) == 13 and sum(map(len, scans.values())) == 15
    names = {
        "oasis_trt20": list(scans),
        "oasis_miccai2012": [scan for group in scans.values() for scan in group],
        "oasis1": [f"OASIS_{person}" for *_, person in lines],
    }
    persons = {name: {s: datasets.load(name).persons(s) for s in of} for name, of in names.items()}
    assert all({persons["oasis_miccai2012"][scan] for scan in scans[trt]} == {person} for trt, _, person in lines)
    indexes = {name: index(*of) for name, of in names.items()}
    for scored, pretrained in itertools.permutations(names, 2):
        cohort = Cohort("t", "test", scored, set(names[scored]), NO_COPIES)
        shared, pairs = shared_subjects(corpus(**{pretrained: names[pretrained]}), [cohort], indexes, persons)
        assert shared["shared"].tolist() == [len(names[scored])], (scored, pretrained)
        assert len(pairs) == (13 if "oasis_miccai2012" not in (scored, pretrained) else 15)
        with pytest.raises(UserError):
            check_protocol(shared, pairs, "strict")


def test_a_long_list_in_a_message_is_cut_and_counted() -> None:
    names = [f"s{n:03d}" for n in range(50)]
    shared, pairs = shared_subjects(corpus(d=names), [Cohort("t", "val", "d", set(names), NO_COPIES)], {"d": index(*names)})
    with pytest.raises(UserError, match="and 30 more"):
        check_protocol(shared, pairs, "strict")


def test_who_may_be_scored() -> None:
    whole = {"dataset": "d", "pool": ["a", "b"], "test": ["c"]}
    assert cohort_subjects("val", whole) == {"a", "b"} and cohort_subjects("test", whole) == {"c"}
    assert cohort_subjects("ood", {"dataset": "d", "ood": ["x"]}) == {"x"}
