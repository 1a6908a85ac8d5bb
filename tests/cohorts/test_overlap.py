"""Audits: who is in a corpus and in a cohort, what a corpus is made of, what licences forbid, and sites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from brainpretrain import cli, datasets
from brainpretrain.cohorts import fingerprints
from brainpretrain.cohorts import overlap as audits
from brainpretrain.cohorts.overlap import Cohort
from brainpretrain.datasets.own import options as own
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv, write_json, write_tsv
from brainpretrain.report import printers
from report_fixtures import PRETRAINED, scores, spec

NO_COPIES = pd.DataFrame(columns=[*fingerprints.PAIR_COLUMNS, "corpus_dataset"])


def index(*subjects: str, patient: dict[str, str] | None = None, site: str = "") -> pd.DataFrame:
    frame = pd.DataFrame({"volume": [f"{s}_T1w" for s in subjects], "subject": subjects, "site": site})
    return frame if patient is None else frame.assign(patient=[patient.get(s, s) for s in subjects])


def corpus(**subjects: list[str]) -> pd.DataFrame:
    rows = [(dataset, f"{s}_T1w", s) for dataset, names in subjects.items() for s in names]
    return pd.DataFrame(rows, columns=["dataset", "volume", "subject"])


def copies(*rows: tuple[str, str, str, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["volume", "corpus_dataset", "corpus_volume", "how", "correlation"])
    return frame[[*fingerprints.PAIR_COLUMNS, "corpus_dataset"]]


def test_a_subject_of_the_same_data_set_is_shared_by_name() -> None:
    indexes = {"d": index("a", "b", "c"), "e": index("t")}
    shared, pairs = audits.overlap(
        corpus(d=["a", "b"], e=["t"]), [Cohort("task", "val", "d", {"b", "c", "t"}, NO_COPIES)], indexes
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
            "subjects": "b",
        }
    ]  # t of another data set is another person
    assert pairs[["subject", "corpus_dataset", "corpus_subject", "name", "volumes"]].to_numpy().tolist() == [
        ["b", "d", "b", "same", 0]
    ]
    with pytest.raises(UserError, match=r"1 of 3 subjects of task task, cohort val \(d\):\n +b is b of d \(by name\)"):
        audits.check_protocol(shared, pairs, "strict")
    audits.check_protocol(shared, pairs, "amaes")


def test_an_index_without_patients_serves_as_well_and_one_with_them_finds_aliases() -> None:
    aliases = {"BraTS2021_00557": "BraTS2021_00639", "BraTS2021_00758": "BraTS2021_00626"}
    names = [*aliases, *aliases.values()]
    cohort = Cohort("t", "test", "brats21", set(aliases.values()), NO_COPIES)
    rows = corpus(brats21=list(aliases))
    assert audits.overlap(rows, [cohort], {"brats21": index(*names)})[0]["shared"].tolist() == [0]
    shared, pairs = audits.overlap(rows, [cohort], {"brats21": index(*names, patient=aliases)})
    assert shared["by_name"].tolist() == [2] and pairs["name"].tolist() == ["alias", "alias"]
    assert datasets.load("brats21").aliases == aliases
    with pytest.raises(UserError, match=r"BraTS2021_00626 is BraTS2021_00758 of brats21 \(one patient under two names\)"):
        audits.check_protocol(shared, pairs, "strict")


def test_across_data_sets_only_a_declared_name_counts() -> None:
    cohort = Cohort("t", "val", "new", {"sub-01", "n7"}, NO_COPIES)
    rows = corpus(old=["sub-01", "OAS1_0061"])
    indexes = {"old": index("sub-01", "OAS1_0061"), "new": index("sub-01", "n7", patient={"n7": "OAS1_0061"})}
    shared, pairs = audits.overlap(rows, [cohort], indexes)
    assert shared["subjects"].tolist() == ["n7"] and pairs["corpus_subject"].tolist() == ["OAS1_0061"]


def test_a_renamed_subject_is_shared_by_its_image() -> None:
    """MSD BrainTumour in a corpus, BraTS21 scored: other names, the same volumes."""
    indexes = {"brats21": index("B1", "B2", "B3"), "msd": index("BRATS_485", "BRATS_486")}
    found = copies(
        ("B1_T1w", "msd", "BRATS_485_T1w", "near", 0.97), ("B1_T1w", "msd", "BRATS_486_T1w", "near", 0.91),
        ("B3_T1w", "msd", "BRATS_486_T1w", "exact", 1.0))  # fmt: skip
    cohorts = [Cohort("t", "test", "brats21", {"B1", "B2"}, found), Cohort("t", "val", "brats21", {"B2"}, found)]
    shared, pairs = audits.overlap(corpus(msd=["BRATS_485", "BRATS_486"]), cohorts, indexes)
    assert shared[["cohort", "shared", "by_name", "by_content", "subjects"]].to_numpy().tolist() == [
        ["test", 1, 0, 1, "B1"], ["val", 0, 0, 0, ""]]  # fmt: skip
    assert pairs["corpus_subject"].tolist() == ["BRATS_485", "BRATS_486"] and pairs["correlation"].tolist() == [0.97, 0.91]
    with pytest.raises(UserError) as caught:
        audits.check_protocol(shared, pairs, "strict")
    said = str(caught.value)
    assert "B1 is BRATS_485 of msd (the same image: B1_T1w and BRATS_485_T1w, correlation 0.970)" in said
    assert "'exclude'" in said and "cohort val" not in said


def test_name_and_image_of_one_pair_are_one_row_with_the_nearest_image() -> None:
    indexes = {"d": pd.DataFrame({"volume": ["s_T1w", "s_T2w"], "subject": "s", "site": ""})}
    found = copies(
        ("s_T1w", "d", "s_T2w", "near", 0.9), ("s_T1w", "d", "s_T1w", "exact", 1.0), ("s_T2w", "d", "s_T2w", "exact", 1.0)
    )
    rows = pd.DataFrame({"dataset": "d", "volume": ["s_T1w", "s_T2w"], "subject": "s"})
    shared, pairs = audits.overlap(rows, [Cohort("t", "val", "d", {"s"}, found)], indexes)
    (pair,) = pairs.to_dict("records")
    assert (pair["name"], pair["volumes"], pair["how"], pair["volume"]) == ("same", 3, "exact", "s_T1w")
    assert shared[["shared", "by_name", "by_content"]].to_numpy().tolist() == [[1, 1, 1]]


def test_a_long_list_in_a_message_is_cut_and_counted() -> None:
    names = [f"s{n:03d}" for n in range(50)]
    shared, pairs = audits.overlap(corpus(d=names), [Cohort("t", "val", "d", set(names), NO_COPIES)], {"d": index(*names)})
    with pytest.raises(UserError, match="and 30 more"):
        audits.check_protocol(shared, pairs, "strict")


def test_who_may_be_scored() -> None:
    whole = {"dataset": "d", "pool": ["a", "b"], "test": ["c"]}
    assert audits.cohort_subjects("val", whole) == {"a", "b"} and audits.cohort_subjects("test", whole) == {"c"}
    assert audits.cohort_subjects("ood", {"dataset": "d", "ood": ["x"]}) == {"x"}


# ------------------------------------------------------------------------------------------------ composition


def shard_table(rows: list[tuple[str, str, str, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["subject", "session", "sequence", "status", "native_spacing_mm"])
    frame["volume"] = frame["subject"] + "_" + frame["session"] + "_" + frame["sequence"]
    return frame.assign(mean=["0.2" if status == "ok" else "" for status in frame["status"]])


def test_a_corpus_is_counted_like_table_1() -> None:
    wmh = shard_table([(f"w{n}", "", sequence, "ok", "1.0 1.0 3.0") for n in range(60) for sequence in ("FLAIR", "T1w")])
    wmh = pd.concat([wmh, shard_table([("w99", "", "T1w", "rejected", "")])])
    adni = shard_table(
        [("a1", "1", "T1w", "ok", "1.2 0.9 0.9"), ("a1", "2", "T1w", "ok", "1.2 0.9 0.9"), ("w1", "", "T1w", "ok", "1 1 1")]
    )
    tables = {"wmh": wmh, "adni": adni}
    whole = pd.concat([t[t["status"] == "ok"].assign(dataset=name) for name, t in tables.items()], ignore_index=True)
    whole["role"] = ["val" if subject == "a1" else "train" for subject in whole["subject"]]
    columns = ["dataset", "volume", "subject", "session", "sequence", "role"]
    modules = {name: datasets.load(name) for name in tables}
    found = audits.composition(whole[columns], tables, modules)
    assert list(found.columns) == audits.COMPOSITION_COLUMNS
    first, second, last = found.to_dict("records")
    assert [first[part] for part in (*audits.PARTS, *audits.PUBLISHED)] == [60, 60, 120, 60, 60, 120]  # as published
    assert (first["rejected"], first["sequences"], first["finest_mm"], first["coarsest_mm"]) == (1, "FLAIR 60, T1w 60", 1.0, 3.0)
    assert [second[part] for part in (*audits.PARTS, *audits.PUBLISHED)] == [2, 3, 3, 1563, 8019, 9548]
    assert [last[part] for part in (*audits.PARTS, *audits.PUBLISHED)] == [62, 63, 123, 1623, 8079, 9668]
    assert (last["train"], last["val"], last["sequences"]) == (121, 2, "T1w 63, FLAIR 60")  # w1 of ADNI is another person
    page = printers.html(audits.composition_grid(found, "tiny"))
    assert "published 9,548" in page and "121 volumes to train and 2 to validate" in page


def test_the_published_counts_add_up_to_brains45k() -> None:
    known = [datasets.load(name).brains45k for name in datasets.names()]
    assert [sum(counts[part] for counts in known if counts) for part in audits.PARTS] == [7140, 16040, 44756]


def test_own_data_sets_are_told_apart_by_their_names() -> None:
    table = shard_table([("p1", "", "T1w", "ok", "1 1 1")])
    whole = pd.concat([table.assign(dataset=name, role="train") for name in ("site_a", "site_b")])
    described = {name: datasets.describe("bids", {}) for name in ("site_a", "site_b")}
    found = audits.composition(whole[["dataset", "volume", "subject", "session", "sequence", "role"]],
                               {name: table for name in described}, described)  # fmt: skip
    assert found["source"].tolist() == ["site_a (BIDS folder)", "site_b (BIDS folder)", "all sources"]


def test_a_source_that_is_not_of_the_paper_has_no_published_count() -> None:
    table = shard_table([("p1", "", "T1w", "ok", "1 1 1")])
    whole = table.assign(dataset="phantom", role="train")
    found = audits.composition(whole[["dataset", "volume", "subject", "session", "sequence", "role"]], {"phantom": table},
                               {"phantom": datasets.load("phantom")})  # fmt: skip
    assert found["published_volumes"].isna().all()
    assert "ublished" not in printers.markdown(audits.composition_grid(found, "tiny"))


# ------------------------------------------------------------------------------------------------ licences


@pytest.mark.parametrize(
    ("licence", "redistribution", "access", "expected"),
    [
        ("CC BY 4.0", True, "auto", []),
        ("CC BY-SA 3.0", True, "auto", [audits.SHARE_ALIKE]),
        ("CC BY-NC 4.0", True, "auto", [audits.NO_COMMERCE]),
        ("CC BY-NC-ND", False, "auto", [audits.NO_COMMERCE, audits.NO_DERIVATIVES]),
        ("ADNI data use agreement", False, "place", [audits.NO_COPIES, audits.SIGNED]),
        (own.UNSTATED, False, "place", [audits.UNKNOWN]),
    ],
)
def test_what_a_licence_forbids(licence: str, redistribution: bool, access: Any, expected: list[str]) -> None:
    found = replace(datasets.load("adni"), licence=licence, redistribution=redistribution, access=access)
    assert audits.forbidden(found) == expected


def test_licences_of_own_data() -> None:
    described = [
        datasets.describe("bids", {"licence": licence} if licence else {}) for licence in ("", "CC BY 4.0", "CC BY-ND 4.0")
    ]
    assert [audits.forbidden(found) for found in described] == [[audits.UNKNOWN], [], [audits.NO_DERIVATIVES]]


def test_licences_of_data_and_weights() -> None:
    used = [("adni", datasets.load("adni"), ["pretraining (brains45k)"]), ("wmh", datasets.load("wmh"), ["task wmh_flair", "x"])]
    releases = [{"name": "released", "licence": None, "page": "https://p", "citation": "c"}]
    found = audits.licences(used, releases)
    assert list(found.columns) == audits.LICENCE_COLUMNS
    assert found["used_for"].tolist() == ["pretraining (brains45k)", "task wmh_flair; x", "initial encoder"]
    assert found["licence"].tolist()[2] == "not known" and found["forbids"].tolist()[2] == audits.UNKNOWN
    assert all(found["licence_url"]) and set(found["redistribution"]) <= {"yes", "no", ""}


@pytest.mark.parametrize("name", datasets.names())
def test_every_module_can_be_listed(name: str) -> None:
    (row,) = audits.licences([(name, datasets.load(name), ["x"])], []).to_dict("records")
    assert row["licence"] and row["citation"]


# ------------------------------------------------------------------------------------------------ sites


def test_scores_by_site() -> None:
    values = {(init, "0", volume, "wmh"): 0.5 for init in ("scratch", PRETRAINED) for volume in ("v1", "v2", "v3")}
    frame = scores(values, cohort="ood").assign(subject=lambda rows: rows["volume"].str[1:])
    places = pd.DataFrame({"subject": ["1", "2", "3"], "site": ["Utrecht", "GE1T5", "Philips_VU .PETMR_01."]})
    found = audits.by_site(frame, places, {"Utrecht", "Singapore"})
    groups = {cohort: sorted(set(rows["subject"])) for cohort, rows in found.groupby("cohort")}
    assert groups == {"ood": ["1", "2", "3"], "ood_seen": ["1"], "ood_unseen": ["2", "3"]}
    with pytest.raises(UserError, match=r"no site is known of 3[\s\S]*by_site"):
        audits.by_site(frame, places[:2], {"Utrecht"})


# ------------------------------------------------------------------------------------------------ commands


def test_the_table_by_site(tmp_path: Path) -> None:
    values = {(init, fold, f"v{n}", "wmh"): 0.5 + 0.1 * n for init in ("scratch", PRETRAINED) for fold in "01" for n in range(3)}
    write_tsv(tmp_path / "scores.tsv", scores(values, cohort="ood").assign(subject=lambda rows: rows["volume"]))
    write_tsv(tmp_path / "test.tsv", pd.DataFrame({"subject": ["v0", "v1", "v2"], "site": ["Utrecht", "GE1T5", "GE1T5"]}))
    write_tsv(tmp_path / "train.tsv", pd.DataFrame({"subject": ["a", "b"], "site": ["Utrecht", "Singapore"]}))
    write_json(tmp_path / "split.json", {"pool": ["a"], "test": ["b"]})
    names = {"ood": "WMH OOD", "ood_seen": "WMH OOD, sites seen in training", "ood_unseen": "WMH OOD, other sites"}
    columns = [{"title": title, "task": "hippocampus", "cohort": cohort} for cohort, title in names.items()]
    line = ["table-sites", "--scores", f"{tmp_path}/scores.tsv", "--spec", spec(columns=columns).model_dump_json()]
    line += ["--index", f"{tmp_path}/test.tsv", "--task-index", f"{tmp_path}/train.tsv", "--subjects", f"{tmp_path}/split.json"]
    assert cli.main([*line, "--out", f"{tmp_path}/t.tsv", f"{tmp_path}/t.html"]) == 0
    found = read_tsv(tmp_path / "t.tsv")
    assert found["cohort"].tolist() == list(names) * 2 and found["cases"].tolist() == ["3", "1", "2"] * 2
    page = (tmp_path / "t.html").read_text()
    assert "60.00" in page and "50.00" in page and "65.00" in page and "other sites" in page
