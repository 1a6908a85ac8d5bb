import pandas as pd
import pytest

from brainpretrain.cohorts.corpus import copies, make_corpus
from brainpretrain.errors import UserError


def table(rows):
    columns = [
        "volume",
        "subject",
        "session",
        "sequence",
        "subset",
        "status",
        "file",
        "checksum",
        "shape",
        "bytes",
        "mean",
        "std",
    ]
    frame = pd.DataFrame(rows, columns=["subject", "sequence", "subset", "status"])
    frame["volume"] = frame["subject"] + "_" + frame["sequence"]
    stored = {"file": "f", "checksum": frame["volume"], "shape": "1 1 1", "bytes": "1", "mean": "0", "std": "1"}
    return frame.assign(session="", **stored)[columns]


def test_corpus_is_split_by_subject_and_takes_only_what_it_says():
    rows = [(s, seq, "train", "ok") for s in (f"s{n:03d}" for n in range(10)) for seq in ("T1w", "FLAIR")]
    rows += [("bad", "T1w", "train", "rejected"), ("test", "T1w", "test", "ok")]
    source = {"dataset": "d", "sequences": [], "subsets": ["train"], "pool_of": None}
    found = make_corpus({"d": table(rows)}, {"sources": [source], "val_fraction": 0.2}, {}, seed=0)
    by_role = {role: set(part["subject"]) for role, part in found.groupby("role")}
    assert len(found) == 20 and len(by_role["val"]) == 2 and not by_role["val"] & by_role["train"]
    only = make_corpus({"d": table(rows)}, {"sources": [source | {"sequences": ["T1w"], "pool_of": "t"}], "val_fraction": 0},
                         {"t": {"s000", "s001"}}, seed=0)  # fmt: skip
    assert list(only["volume"]) == ["s000_T1w", "s001_T1w"]
    without = make_corpus(
        {"d": table(rows)}, {"sources": [source | {"exclude": ["s001", "s002"]}], "val_fraction": 0}, {}, seed=0
    )
    assert {"s000", "s003"} <= set(without["subject"]) and not {"s001", "s002"} & set(without["subject"])
    with pytest.raises(UserError, match="no subject s0 to leave out"):
        make_corpus({"d": table(rows)}, {"sources": [source | {"exclude": ["s0"]}], "val_fraction": 0}, {}, seed=0)
    with pytest.raises(UserError, match="the corpus is empty"):
        make_corpus({"d": table(rows)}, {"sources": [source | {"sequences": ["DWI"]}], "val_fraction": 0}, {}, seed=0)


def test_smaller_corpora_are_parts_of_larger_ones_with_the_same_validation():
    rows = [(f"s{n:03d}", sequence, "train", "ok") for n in range(50) for sequence in ("T1w", "FLAIR")]
    source = {"dataset": "d", "sequences": [], "subsets": [], "pool_of": None}

    def drawn(wanted=None):
        spec = {"sources": [source], "val_fraction": 0.2, "subjects": wanted}
        made = make_corpus({"d": table(rows)}, spec, {}, seed=3)
        return {role: set(part["subject"]) for role, part in made.groupby("role")}, len(made)

    everybody, volumes = drawn()
    assert (len(everybody["train"]), len(everybody["val"]), volumes) == (40, 10, 100)
    before: set[str] = set()
    for wanted, number in ((0.01, 1), (5, 5), (0.25, 10), (39, 39), (40, 40)):
        some, volumes = drawn(wanted)
        assert len(some["train"]) == number and volumes == 2 * (number + 10)
        assert before <= some["train"] <= everybody["train"] and some["val"] == everybody["val"]
        before = some["train"]
    with pytest.raises(UserError, match="41 subjects are wanted for training, and there are 40"):
        drawn(41)


def test_a_source_of_which_nothing_is_stored_is_an_error():
    """Also next to other sources, which would hide it."""
    rows = [("s0", "T1w", "train", "ok"), ("s1", "T1w", "train", "ok"), ("s0", "FLAIR", "train", "rejected")]
    stored = table(rows).assign(reason=["", "", "negative"], detail="down to -3", path="p.nii.gz")
    sources = [{"dataset": "d", "sequences": [name], "subsets": [], "pool_of": None} for name in ("T1w", "FLAIR")]
    with pytest.raises(UserError, match=r"all 1 volumes of the source 'd' are left out: 1 negative\n[^!]*allow_negative: true"):
        make_corpus({"d": stored}, {"sources": sources, "val_fraction": 0}, {}, seed=0)
    assert len(make_corpus({"d": stored}, {"sources": sources[:1], "val_fraction": 0}, {}, seed=0)) == 2


def test_a_patient_is_on_one_side_of_a_corpus():
    names = [f"s{n:02d}" for n in range(30)]
    rows = table([(name, "T1w", "train", "ok") for name in names]).assign(patient=[f"p{n // 2}" for n in range(30)])
    spec = {"sources": [{"dataset": "d", "sequences": [], "subsets": [], "pool_of": None}], "val_fraction": 0.3}
    roles = make_corpus({"d": rows}, spec, {}, seed=0).set_index("subject")["role"]
    assert set(roles) == {"train", "val"} and all(roles[a] == roles[b] for a, b in zip(names[::2], names[1::2], strict=True))
    former = make_corpus({"d": rows.drop(columns="patient")}, spec, {}, seed=0)
    blank = make_corpus({"d": rows.assign(patient="")}, spec, {}, seed=0)
    assert former.equals(blank)


def test_one_image_under_several_names_is_on_one_side_of_a_corpus():
    """Two sequences make a chain of three names; two names of one patient are no copies."""
    names = [f"s{n:02d}" for n in range(30)]
    rows = table([(name, sequence, "train", "ok") for name in names for sequence in ("T1w", "FLAIR")])
    same = {"s01_T1w": "s02_T1w", "s03_FLAIR": "s02_FLAIR", "s05_T1w": "s06_T1w"}
    rows["checksum"] = rows["volume"].replace(same)
    rows["patient"] = rows["subject"].replace({"s06": "s05"})
    assert copies(rows.assign(dataset="d")) == [["d/s01", "d/s02"], ["d/s02", "d/s03"]]
    spec = {"sources": [{"dataset": "d", "sequences": [], "subsets": [], "pool_of": None}], "val_fraction": 0.4}
    sides = set()
    for seed in range(8):
        roles = make_corpus({"d": rows}, spec, {}, seed).set_index("volume")["role"]
        triple = {roles[f"{name}_{sequence}"] for name in ("s01", "s02", "s03") for sequence in ("T1w", "FLAIR")}
        assert len(triple) == 1
        sides |= triple
    assert sides == {"train", "val"}
