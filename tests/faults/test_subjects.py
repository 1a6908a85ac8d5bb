"""Faults 25 to 28: who is missing, who is there twice, who is pretrained on and scored, and who is too few."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
import yaml
from tests.cohorts.test_splits import indexed

import tiny
from brainpretrain import cli, config
from brainpretrain.cohorts import splits
from brainpretrain.cohorts.cases import labelled_cases, reference_values
from brainpretrain.errors import UserError
from brainpretrain.evaluation.scores import evaluate
from brainpretrain.files import read_json, read_tsv, write_json, write_tsv
from brainpretrain.plan import existing, specs, tables
from brainpretrain.preprocess import shards
from brainpretrain.preprocess.stored import read_stored
from helpers import ROOT, edit

# ------------------------------------------------------------------------------------------------ 25

WMH = ["training/Utrecht/0", "training/Singapore/50", "training/Singapore/51", "test/Amsterdam/Philips_VU .PETMR_01./160"]
GONE = [
    "training/Utrecht/0/pre/T1",
    "training/Singapore/50/pre/FLAIR",
    "training/Singapore/51/wmh",
    "test/Amsterdam/Philips_VU .PETMR_01./160/wmh",
]


def test_25_every_missing_sequence_and_label_is_listed(tmp_path, capfd):
    root, out = tmp_path / "wmh", tmp_path / "source.json"
    for folder in WMH:
        (root / folder / "pre").mkdir(parents=True)
        for name in ("pre/FLAIR", "pre/T1", "wmh"):
            (root / folder / f"{name}.nii.gz").touch()
    line = ["--dataset", "wmh", "--root", str(root), "--out"]
    assert cli.main(["fetch", *line, str(out)]) == 0
    before = out.read_bytes()
    for name in GONE:
        (root / f"{name}.nii.gz").rename(tmp_path / name.replace("/", "_"))
    for command in ("fetch", "index"):
        assert cli.main([command, *line, str(out)]) == 2 and out.read_bytes() == before
        said = capfd.readouterr().err
        assert "6 problems in the files of 'wmh':" in said and f"where: {root}" in said and "unpack the archive again" in said
        assert "T1w missing of 0 (next to training/Utrecht/0/pre/FLAIR.nii.gz)" in said
        assert "FLAIR missing of 50 (next to training/Singapore/50/pre/T1.nii.gz)" in said
        for label in GONE[2:]:
            assert f"label missing: {label}.nii.gz (of {label[:-3]}pre/" in said
    for name in GONE:
        (tmp_path / name.replace("/", "_")).rename(root / f"{name}.nii.gz")
    assert cli.main(["fetch", *line, str(out)]) == 0 and out.read_bytes() == before


def test_25_where_sequences_may_be_missing_the_split_says_whose(tmp_path, capfd):
    index = pd.concat([indexed(["a", "b", "c", "d"], session=""), indexed(["a", "c"], session="", sequence="T1w")])
    write_tsv(tmp_path / "index.tsv", index)
    task = {"dataset": "mine", "sequences": ["FLAIR", "T1w"], "subsets": [], "split": {"seed": 0, "test_fraction": 0.5}}
    assert cli.main(["split", "--index", f"{tmp_path}/index.tsv", "--task", json.dumps(task), "--out", f"{tmp_path}/s.json"]) == 0
    words = "2 labelled subjects lack a sequence of the task and are not used:\nb lacks T1w\nd lacks T1w\n"
    assert words in capfd.readouterr().out


# ------------------------------------------------------------------------------------------------ 26


@pytest.fixture
def doubled(cohort, tmp_path):
    """The tiny cohort, whose subject s1 has come once more as p9: other names, packed anew, the same voxels."""
    raw = Path(shutil.copytree(cohort.raw, tmp_path / "raw"))
    rows = read_tsv(cohort.table)[list(shards.INDEX_COLUMNS)].to_dict("records")
    for kind in ("T1w", "label"):
        image = nib.load(raw / f"s1_{kind}.nii.gz")
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine), raw / f"p9_{kind}.nii")
    rows.append(rows[1] | {"volume": "p9_T1w", "subject": "p9", "path": "p9_T1w.nii", "label": "p9_label.nii"})
    folder = tmp_path / "data" / "tiny" / "r"
    table = shards.build(rows, raw, folder, tiny.PREPROCESS, 0, 1)
    assert set(table["status"]) == {"ok"}
    write_tsv(folder / shards.JOINED, table)
    write_json(tmp_path / "fold0.json", read_json(cohort.split) | {"order": [*table["subject"]]})
    return tmp_path


def test_26_an_image_under_two_names_is_no_two_cases(doubled, capfd):
    cohort = tiny.Cohort(doubled)
    line = tiny.finetune_line(cohort, tiny.finetune_config(1), doubled)
    assert cli.main(line) == 2
    said = capfd.readouterr().err
    assert "the same image under several names, voxel for voxel: p9 = s1\n" in said and f"where: {cohort.folder}" in said
    assert "leave out all but one" in said and not (doubled / "out").exists() and not (doubled / "work").exists()
    rows = read_tsv(cohort.table)
    write_tsv(cohort.table, rows.assign(patient=rows["subject"].replace({"p9": "s1"})))  # as an alias makes it
    assert cli.main(line) == 0 and (doubled / "out" / "model.safetensors").exists()


@pytest.mark.parametrize("seed", range(4))
def test_26_an_image_under_two_names_is_on_one_side_of_a_corpus(doubled, capfd, seed):
    source = {"dataset": "tiny", "sequences": [], "subsets": [], "pool_of": None}
    line = ["corpus", "--volumes", f"tiny={doubled}/data/tiny/r/volumes.tsv", "--data", f"{doubled}/data", "--seed", str(seed)]
    line += ["--corpus", json.dumps({"sources": [source], "val_fraction": 0.5}), "--out", f"{doubled}/corpus.tsv"]
    assert cli.main(line) == 0
    assert "one image under several names, which therefore have the same role: tiny/p9 = tiny/s1\n" in capfd.readouterr().out
    roles = read_tsv(doubled / "corpus.tsv").set_index("subject")["role"]
    assert roles["p9"] == roles["s1"] and set(roles) == {"train", "val"}


# ------------------------------------------------------------------------------------------------ 27


@pytest.fixture
def renamed(cohort: tiny.Cohort, tmp_path: Path) -> tuple[tiny.Cohort, Path]:
    """The tiny cohort is scored; a corpus holds its volume s2 as p7 of the data set `other`, in other units."""
    raw, table = tmp_path / "raw", read_tsv(cohort.table)
    source = nib.load(cohort.raw / "s2_T1w.nii.gz")
    raw.mkdir()
    array = np.asarray(source.dataobj)
    nib.save(nib.Nifti1Image((3 * array).astype(np.int16), source.affine), raw / "p7.nii.gz")
    other = {"volume": "p7_T1w", "subject": "p7", "patient": "p7", "session": "", "sequence": "T1w", "subset": "train", "site": "",
             "path": "p7.nii.gz", "label": "", "channel": ""}  # fmt: skip
    stored = shards.build([other], raw, tmp_path / "other", tiny.PREPROCESS, 0, 1)
    write_tsv(tmp_path / "other" / shards.JOINED, stored)
    write_tsv(tmp_path / "other.tsv", [other])
    write_tsv(tmp_path / "tiny.tsv", table[["volume", "subject", "site"]])
    write_tsv(tmp_path / "corpus.tsv", stored.assign(dataset="other"))
    write_json(tmp_path / "split.json", {"dataset": "tiny", "seed": 0, "pool": ["s0", "s1"], "test": ["s2", "s3"]})
    beside(cohort, tmp_path / "tiny")
    return cohort, tmp_path


def beside(cohort: tiny.Cohort, folder: Path) -> None:
    """A folder with the stored volumes of the cohort, to which fingerprints can be added."""
    folder.mkdir()
    for name in ("volumes.tsv", "volumes"):
        (folder / name).symlink_to(cohort.folder / name)


def overlap_line(folder: Path, protocol: str) -> list[str]:
    line = [
        "overlap",
        "--corpus",
        f"{folder}/corpus.tsv",
        "--cohorts",
        f"t:val={folder}/split.json",
        f"t:test={folder}/split.json",
    ]
    line += ["--indexes", f"other={folder}/other.tsv", f"tiny={folder}/tiny.tsv"]
    line += ["--fingerprints", f"other={folder}/other/fingerprints.npz", "--near", "0.85"]
    line += ["--cohort-fingerprints", *(f"t:{name}={folder}/tiny/fingerprints.npz" for name in ("val", "test"))]
    line += ["--protocol", protocol, "--out", f"{folder}/overlap.tsv"]
    return [*line, "--pairs", f"{folder}/pairs.tsv", "--pictures", f"{folder}/pairs.npz"]


def test_27_a_scored_subject_in_a_strict_corpus_is_refused_by_its_image(renamed: tuple[tiny.Cohort, Path], capsys: Any) -> None:
    _, folder = renamed
    for name in ("tiny", "other"):
        line = ["fingerprint", "--volumes", f"{folder}/{name}/volumes.tsv", "--out", f"{folder}/{name}/fingerprints.npz"]
        assert cli.main(line) == 0
    assert cli.main(overlap_line(folder, "strict")) == 2 and not (folder / "overlap.tsv").exists()
    said = capsys.readouterr().err
    assert "1 of 2 subjects of task t, cohort test (tiny)" in said and "s2 is p7 of other" in said and "cohort val" not in said
    assert "- {dataset: other, exclude: [p7]}" in said
    assert cli.main(overlap_line(folder, "amaes")) == 0
    shared = read_tsv(folder / "overlap.tsv").set_index("cohort")
    assert shared["subjects"].to_dict() == {"val": "", "test": "s2"} and shared["by_name"].tolist() == ["0", "0"]
    assert shared["without_brain"].tolist() == ["2", "2"]  # volumes of 22 mm: found by their outlines
    (pair,) = read_tsv(folder / "pairs.tsv").to_dict("records")
    assert (pair["volume"], pair["corpus_volume"], pair["name"], pair["level"]) == ("s2_T1w", "p7_T1w", "", "same")
    assert cli.main(["page-overlap", "--audits", f"big={folder}/overlap.tsv", "--protocols", "big=amaes", "--splits",
                     f"t={folder}/split.json", "--near", "0.85", "--out", f"{folder}/page.html"]) == 0  # fmt: skip
    page = (folder / "page.html").read_text()
    assert "other: p7" in page and page.count("data:image/png;base64,") == 1 and "s2_T1w above, p7_T1w of other below" in page


def test_89_a_scored_subject_in_a_source_of_its_task_is_refused_by_its_image(renamed, capsys):
    """By name it is left out of the source before (tests/cohorts/test_sources.py)."""
    _, folder = renamed
    for name in ("tiny", "other"):
        line = ["fingerprint", "--volumes", f"{folder}/{name}/volumes.tsv", "--out", f"{folder}/{name}/fingerprints.npz"]
        assert cli.main(line) == 0
    rows = read_tsv(folder / "other.tsv").assign(label="x")
    write_tsv(folder / "other.tsv", rows)
    write_tsv(folder / "tiny.tsv", read_tsv(folder / "tiny.tsv").assign(patient=""))
    source = json.dumps({"dataset": "other", "sequences": ["T1w"], "subsets": [], "exclude": []})
    line = ["source", "--source", source, "--cohorts", f"test={folder}/split.json", "--out", f"{folder}/source.json"]
    assert cli.main([*line, "--indexes", f"other={folder}/other.tsv", f"tiny={folder}/tiny.tsv"]) == 0
    assert read_json(folder / "source.json")["pool"] == ["p7"] and "source other: 1 subjects" in capsys.readouterr().out
    line = ["--sources", f"{folder}/source.json", *overlap_line(folder, "strict")[3:]]
    assert cli.main(["overlap", *line]) == 2 and not (folder / "overlap.tsv").exists()
    said = capsys.readouterr().err
    assert "subjects that will be scored are in the sources of the task" in said and "s2 is p7 of other" in said
    assert "name them in 'exclude' of the source\n" in said and "amaes" not in said and "exclude: [p7]" in said


def test_27_a_scored_subject_in_a_strict_corpus_is_refused_by_name(cohort, tmp_path, capsys):
    table = read_tsv(cohort.table)
    write_tsv(tmp_path / "tiny.tsv", table[["volume", "subject", "site"]])
    write_json(tmp_path / "split.json", {"dataset": "tiny", "seed": 0, "pool": ["s0", "s1"], "test": ["s2", "s3"]})
    beside(cohort, tmp_path / "tiny")
    line = ["fingerprint", "--volumes", f"{tmp_path}/tiny/volumes.tsv", "--out", f"{tmp_path}/tiny/fingerprints.npz"]
    assert cli.main(line) == 0
    line = [word.replace("other", "tiny") for word in overlap_line(tmp_path, "strict") if word != f"tiny={tmp_path}/tiny.tsv"]
    for corpus, code in (["s2", "s4"], 2), (["s4", "s5"], 0):
        write_tsv(tmp_path / "corpus.tsv", table[table["subject"].isin(corpus)].assign(dataset="tiny"))
        assert cli.main(line) == code and (tmp_path / "overlap.tsv").exists() == (code == 0)
    said = capsys.readouterr().err
    assert "1 of 2 subjects of task t, cohort test (tiny):" in said and "s2 is s2 of tiny (by name)" in said
    assert "name them in 'exclude' of the source" in said


# ------------------------------------------------------------------------------------------------ 28


TOO_MANY = {
    "5:test": "n_train is 5, but the pool has 2 subjects",
    "2:val": "n_train 2 of 2 subjects in the pool leaves none for the cohort 'val'",
    "all:val": "n_train all of 2 subjects in the pool leaves none for the cohort 'val'",
}


@pytest.mark.parametrize("asked", [[one] for one in TOO_MANY] + [[*TOO_MANY]], ids=str)
def test_28_a_split_that_has_too_few_subjects_is_refused_before_any_training(tmp_path, capsys, asked):
    write_tsv(tmp_path / "index.tsv", indexed(["a", "b", "c", "d"], session=""))
    task = {"dataset": "mine", "sequences": ["FLAIR"], "subsets": [], "split": {"seed": 0, "test_fraction": 0.5}}
    line = ["split", "--index", f"{tmp_path}/index.tsv", "--task", json.dumps(task), "--out", f"{tmp_path}/s.json", "--asked"]
    assert cli.main([*line, "1:val", *asked]) == 2 and not (tmp_path / "s.json").exists()
    said = capsys.readouterr().err
    assert all(TOO_MANY[one] in said for one in asked) and f"where: {tmp_path}/index.tsv" in said and "lower n_train" in said
    assert cli.main([*line, "1:val", "2:test"]) == 0 and len(read_json(tmp_path / "s.json")["pool"]) == 2


def test_28_no_subject_for_the_pool_or_for_a_cohort(tmp_path, capsys):
    write_tsv(tmp_path / "index.tsv", indexed(["a"], session=""))
    task = {"dataset": "mine", "sequences": ["FLAIR"], "subsets": [], "split": {"seed": 0, "test_fraction": 0.5}}
    line = ["--index", f"{tmp_path}/index.tsv", "--out", f"{tmp_path}/s.json", "--task"]
    assert cli.main(["split", *line, json.dumps(task)]) == 2
    assert "no split: " in (said := capsys.readouterr().err) and "add subjects, or change test_fraction" in said
    write_json(tmp_path / "subjects.json", {"dataset": "mine", "seed": 0, "pool": ["a"], "test": []})
    ood = {"sequences": ["FLAIR"], "ood": {"dataset": "other", "subsets": ["test"]}}
    assert cli.main(["ood", *line, json.dumps(ood), "--subjects", f"{tmp_path}/subjects.json"]) == 2
    assert "the cohort 'ood' of the data set 'other' has no labelled subjects" in capsys.readouterr().err
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("n_train: 2\n", "n_train: 0\n", "n_train 0 of task 'tissue' trains on nothing: the task has no sources"),
        ("cohort: test}", "cohort: val}", "n_train 'all' leaves no case of task 'tissue' for the cohort 'val'"),
    ],
)
def test_28_what_no_data_set_could_give_is_refused_with_the_config(finished, tmp_path, capsys, old, new, words):
    folder = Path(shutil.copytree(finished.root / "config", tmp_path / "config"))
    edit(folder / "studies" / "tiny.yaml", old, new)
    if "val" in new:
        edit(folder / "studies" / "tiny.yaml", "n_train: 2\n", "n_train: all\n")
    line = ["tables", "--study", "tiny", "--config", str(folder), "--scores", str(finished.results / "scores.tsv")]
    assert cli.main([*line, "--out", str(tmp_path / "tables")]) == 2
    assert words in capsys.readouterr().err and not (tmp_path / "tables").exists()


def test_28_a_dry_run_tells_it_of_a_split_that_is_there(finished):
    before = finished.study.read_text()
    edit(finished.study, "n_train: 2\n", "n_train: 9\n")
    try:
        said = finished.snakemake("-n", check=False)
    finally:
        finished.study.write_text(before)
    assert "n_train is 9, but the pool has 3 subjects" in said and "where: results/tiny/splits/tissue/subjects.json" in said
    assert "rule finetune" not in said and finished.planned() == {}


# ------------------------------------------------------------------------------------------------ 54 and 55


def of_task(labels: dict[str, list[int]], ignore: list[int] = []) -> dict[str, Any]:  # noqa: B006, never changed
    config = tiny.finetune_config(1) | {"n_train": "2"}
    return config | {"task": tiny.SEGMENTATION | {"labels": labels, "ignore": ignore}}


@pytest.fixture(scope="module")
def three_values(tmp_path_factory: pytest.TempPathFactory) -> tiny.Cohort:
    """Labels with the values 1, 2 and 3; 3 in a single case."""
    label = np.zeros((16, 16, 16), np.uint8)
    label[3:8, 3:13, 3:13], label[8:13, 3:13, 3:13] = 1, 2
    third = label.copy()
    third[5:7, 5:7, 5:7] = 3
    cohort = tiny.store(
        tmp_path_factory.mktemp("values"), {"a": (label, np.eye(4)), "b": (third, np.eye(4)), "c": (label, np.eye(4))}
    )
    write_json(cohort.split, {"dataset": "tiny", "seed": 0, "fold": 0, "block": 2, "order": ["a", "c", "b"]})
    return cohort


@pytest.mark.parametrize("old", [False, True], ids=["", "a table without the values"])
def test_54_a_value_that_no_case_of_the_pool_has_is_refused_when_training_starts(three_values, tmp_path, capfd, old):
    table = read_tsv(three_values.table)
    try:
        write_tsv(three_values.table, table.drop(columns="label_values") if old else table)
        assert cli.main(tiny.finetune_line(three_values, of_task({"front": [1], "back": [7]}), tmp_path)) == 2
    finally:
        write_tsv(three_values.table, table)
    said = capfd.readouterr().err
    assert "no case of the training pool has the label value of 'back' (7)" in said and not (tmp_path / "out").exists()
    assert "1 in 3 of 3 cases, 2 in 3 of 3 cases, 3 in 1 of 3 cases" in said


def test_55_values_that_a_task_does_not_name_are_a_remark(three_values, tmp_path, capfd):
    assert cli.main(tiny.finetune_line(three_values, of_task({"front": [1]}), tmp_path)) == 0
    assert "count as background: 2 in 3 of 3 cases, 3 in 1 of 3 cases\n" in capfd.readouterr().out
    values = "2 in 3 of 3 cases, 3 in 1 of 3 cases"
    assert read_json(tmp_path / "out" / "run.json")["label_values_as_background"] == values
    assert cli.main(["page-run", f"{tmp_path}/out/run.json", "--out", f"{tmp_path}/page.html"]) == 0
    assert values in (tmp_path / "page.html").read_text()


def own_study(labels: str, ignore: str = "[]", declared: str = "{1: front, 2: back}") -> dict[str, Any]:
    return {
        "datasets": {"mine": {"module": "nnunet", "options": {"sequences": ["T1w"], "labels": yaml.safe_load(declared)}}},
        "tasks": {
            "t": {
                "dataset": "mine", "sequences": ["T1w"], "labels": yaml.safe_load(labels), "ignore": yaml.safe_load(ignore),
                "nsd_tolerance_mm": 1, "preprocess": "amaes", "split": {"seed": 0, "test_fraction": 0.5, "block": 2},
            }
        },
    }  # fmt: skip


def planned(folder: Path, entries: dict[str, Any], cohort: str = "test") -> Any:
    """The plan of a study with these entries and one row."""
    column = {"title": "t", "task": "t", "cohort": cohort}
    table = {"title": "T", "columns": [column], "corpus": "brains45k", "recipe": "amaes", "n_train": 2,
             "rows": [{"backbone": "unet_xl"}]}  # fmt: skip
    study = {"title": "s", "seed": 0, "folds": 1, "build": ["mine_table"], "tables": {"mine_table": table}}
    shutil.copytree(ROOT / "config", folder / "config")
    (folder / "config" / "studies" / "s.yaml").write_text(yaml.safe_dump(study | entries))
    return tables.make(config.load(folder / "config", {"study": "s"}))


@pytest.mark.parametrize("entries", [own_study("{front: [1], back: [7]}"), own_study("{front: [1]}", "[7]")])
def test_54_a_value_that_the_data_set_does_not_have_is_refused_when_planning(tmp_path, entries):
    words = r"task 't' names label values that the data set 'mine' does not have: 7\n[\s\S]*use values of the data set: 1 front, 2 back"
    with pytest.raises(UserError, match=words):
        planned(tmp_path / "wrong", entries)
    assert planned(tmp_path / "right", own_study("{front: [1], back: [2]}")).tasks == ["t"]


def test_55_the_ignore_label_of_a_data_set_is_named_by_the_task(tmp_path):
    declared = "{1: front, 2: ignore}"
    with pytest.raises(UserError, match=r"marks the label values 2 as ignored[\s\S]*ignore: \[2\]"):
        planned(tmp_path / "wrong", own_study("{front: [1]}", declared=declared))
    assert planned(tmp_path / "right", own_study("{front: [1]}", "[2]", declared)).tasks == ["t"]


# ------------------------------------------------------------------------------------------------ 65


def drawn(subjects: list[str], draw: str = "hash", **columns: Any) -> dict[str, Any]:
    rule = {"seed": 3, "test_fraction": 0.25, "draw": draw}
    task = {"dataset": "d", "sequences": ["FLAIR"], "subsets": [], "split": rule}
    return splits.split(indexed(subjects, session="", **columns), task)


def test_65_one_more_or_one_less_subject_moves_nobody():
    names = [f"s{n:03d}" for n in range(400)]
    larger = drawn(names)
    assert larger["draw"] == "hash" and 75 <= len(larger["test"]) <= 125 and not set(larger["test"]) & set(larger["pool"])
    for smaller in (drawn(names[:200]), drawn(names[100:]), drawn(names[:-1])):
        assert set(smaller["test"]) <= set(larger["test"]) and set(smaller["pool"]) <= set(larger["pool"])
    assert set(drawn(names[:40], "shuffle")["test"]) - set(drawn(names[:41], "shuffle")["test"])  # the exception, which is named
    assert drawn(names[:10], "shuffle")["draw"] == "shuffle"
    twins = drawn(names, patient=["p"] * 40 + names[40:])  # names of one patient are on one side
    assert len({name in twins["test"] for name in names[:40]}) == 1


def test_65_a_corpus_stays_disjoint_from_the_test_set_of_the_data_set_that_grew(tmp_path, capsys):
    names = [f"s{n:02d}" for n in range(40)]
    stored = dict.fromkeys(shards.RECORD_COLUMNS, "") | {"status": "ok", "shape": "8 8 8"}
    for n, (grown, trained) in enumerate(((names[:20], None), (names, "corpus0.tsv"))):
        write_tsv(tmp_path / "index.tsv", indexed(grown, session="", volume=grown, path=grown))
        rows = [
            {"volume": name, "subject": name, "session": "", "sequence": "FLAIR", "subset": "train", "patient": ""}
            for name in grown
        ]
        write_tsv(tmp_path / "volumes.tsv", [row | stored | {"checksum": row["volume"]} for row in rows])
        task = {"dataset": "d", "sequences": ["FLAIR"], "subsets": [], "split": {"seed": 0, "test_fraction": 0.3, "draw": "hash"}}
        line = ["split", "--index", f"{tmp_path}/index.tsv", "--task", json.dumps(task), "--out", f"{tmp_path}/subjects.json"]
        assert cli.main(line) == 0
        source = {"dataset": "d", "sequences": [], "subsets": [], "pool_of": "t"}
        line = ["corpus", "--volumes", f"d={tmp_path}/volumes.tsv", "--data", str(tmp_path), "--seed", "0", "--pools"]
        line += [f"t={tmp_path}/subjects.json", "--corpus", json.dumps({"sources": [source], "val_fraction": 0.1})]
        assert cli.main([*line, "--out", f"{tmp_path}/corpus{n}.tsv"]) == 0
        test = set(read_json(tmp_path / "subjects.json")["test"])
        assert test and not test & set(read_tsv(tmp_path / f"corpus{n}.tsv")["subject"])
        assert trained is None or not test & set(read_tsv(tmp_path / trained)["subject"])


# ------------------------------------------------------------------------------------------------ 56


def two_releases(cohort: str = "ood", **entry: Any) -> dict[str, Any]:
    """A task on a data set in which the back is 2, with a cohort from another in which it is 4."""
    entries = own_study("{front: [1], back: [2]}")
    options = {"sequences": ["T1w"], "labels": {1: "Front", 4: "back"}}
    entries["datasets"]["other"] = {"module": "nnunet", "options": options}
    other = {"dataset": "other", **entry}
    entries["tasks"]["t"] |= {"ood": other} if cohort == "ood" else {"cohorts": {cohort: other}}
    return entries


@pytest.mark.parametrize(("cohort", "key"), [("ood", "ood"), ("site_b", "cohorts.site_b")])
def test_56_values_that_two_data_sets_name_differently_are_refused_when_planning(tmp_path, cohort, key):
    words = r"'mine' and 'other' of task 't' name label values differently: 2 is back and nothing\n *where: .*s.yaml: tasks.t."
    with pytest.raises(UserError, match=rf"{words}{key}\n.*give '{cohort}' its own labels.*these values: 1 Front, 4 back"):
        planned(tmp_path / "wrong", two_releases(cohort), cohort)
    for number, (labels, message) in enumerate(
        (({"front": [1], "back": [7]}, "does not have: 7"), ({"back": [4]}, f"'{key}' needs .*names of the task: back, front"))
    ):
        with pytest.raises(UserError, match=message):
            planned(tmp_path / str(number), two_releases(cohort, labels=labels), cohort)
    unused = planned(tmp_path / "unused", two_releases(cohort))
    assert unused.datasets == ["mine"]  # no table scores it, so its data set is not needed


def test_56_values_that_are_ignored_are_compared_too(tmp_path):
    labels = {"front": [1], "back": [4]}
    entries = two_releases(labels=labels)
    entries["datasets"]["mine"]["options"]["labels"] |= {3: "blurred"}
    entries["datasets"]["other"]["options"]["labels"] |= {3: "cyst", 9: "ignore"}
    entries["tasks"]["t"]["ignore"] = [3]
    with pytest.raises(UserError, match=r"marks the label values 9 as ignored[\s\S]*add them to the cohort: ignore: \[3, 9\]"):
        planned(tmp_path / "marked", entries, "ood")
    entries["tasks"]["t"]["ood"]["ignore"] = [9]  # 3 is a cyst there, and counts as background
    assert planned(tmp_path / "right", entries, "ood").config.tasks["t"].reference_of("ood") == {"labels": labels, "ignore": [9]}
    del entries["tasks"]["t"]["ood"]["ignore"], entries["datasets"]["other"]["options"]["labels"][9]
    with pytest.raises(UserError, match=r"differently: 3 is blurred and cyst[\s\S]*give 'ood' its own list 'ignore'"):
        planned(tmp_path / "other", entries, "ood")


@pytest.mark.parametrize("cohort", ["ood", "site_b"])
def test_56_labels_of_the_cohort_reach_scores_and_pictures_and_nothing_else(tmp_path, cohort):
    settings = planned(tmp_path, two_releases(cohort, labels={"front": [1], "back": [4]}), cohort).config
    reference = {"labels": {"front": [1], "back": [4]}, "ignore": []}
    for spec in (specs.task_scores, specs.task_overlays):
        assert spec(settings, "t", cohort) == spec(settings, "t", "test") | {"reference": reference}
    assert specs.task_ood(settings, "t", cohort) == {"sequences": ["T1w"], "ood": {"dataset": "other", "subsets": []}}


@pytest.mark.parametrize(
    ("cohort", "words"),
    [
        *(
            (name, f"cohorts.{name}: the name '{name}' is taken")
            for name in ("test", "val", "train", "pool", "subjects", "fold3")
        ),
        ("site_b_unseen", "the name 'site_b_unseen' is taken"),  # a part of 'site_b' in a table by site
        ("ood", "taken; give it as 'ood: {...}' next to 'cohorts'"),
        *(
            (name, f"cohorts.{name}: {name!r} becomes a part of paths")
            for name in ("Site_B", "a/b", "..", "site b", "{x}", "ä", "")
        ),
    ],
)
def test_56_a_cohort_has_a_name_that_its_paths_can_have(tmp_path, cohort, words):
    entries = own_study("{front: [1], back: [2]}")
    entries["tasks"]["t"]["cohorts"] = {cohort: {"dataset": "mine"}}
    with pytest.raises(UserError) as caught:
        planned(tmp_path, entries)
    assert words in str(caught.value) and f"{tmp_path}/config/studies/s.yaml: tasks.t" in str(caught.value)


def test_56_a_cohort_that_the_index_shows_to_be_impossible_is_refused_when_planning(tmp_path):
    plan = planned(
        tmp_path, two_releases("site_b", labels={"front": [1], "back": [4]}, subsets=["train"], by_site=True), "site_b"
    )
    index, split = tmp_path / "index.tsv", tmp_path / "subjects.json"
    existing.check_cohort(plan, "t", "site_b", index, split)  # nothing is there yet
    names = {"volume": ["x", "y"], "path": ["x", "y"], "session": "", "sequence": "T1w"}
    for subsets, site, words in (
        (["x", "x"], "1", "'site_b' of the data set 'other' has no labelled subjects"),
        (["x", "train"], "", "the site of 1 of 1 subjects of the cohort 'site_b' is unknown, y for one"),
    ):
        write_tsv(index, indexed(["x", "y"], **names, subset=subsets, site=site))
        with pytest.raises(UserError, match=rf"{words}[\s\S]*where: .*s.yaml: tasks.t.cohorts.site_b"):
            existing.check_cohort(plan, "t", "site_b", index, split)
    write_tsv(index, indexed(["x", "y"], **names, subset=["x", "train"], site="1"))
    existing.check_cohort(plan, "t", "site_b", index, split)
    entries = own_study("{front: [1], back: [2]}")
    entries["tasks"]["t"] |= {"cohorts": {"again": {"dataset": "mine"}}, "split": {"seed": 0, "test_fraction": 0, "block": 2}}
    plan = planned(tmp_path / "same", entries, "again")
    with pytest.raises(UserError, match="2 subjects of the cohort 'again' are in the pool or the test set"):
        existing.check_cohort(plan, "t", "again", index, split)


def test_56_a_name_that_the_list_of_subjects_does_not_have_is_refused(cohort, tmp_path, capsys):
    write_json(tmp_path / "site_b.json", {"dataset": "tiny", "site_b": ["a"]})
    line = ["evaluate", "--predictions", str(tmp_path), "--volumes", str(cohort.table), "--root", str(cohort.raw)]
    line += ["--split", str(cohort.split), "--task", json.dumps(tiny.TASK), "--n-train", "1", "--run", "{}"]
    line += ["--out", str(tmp_path / "scores.tsv"), "--cohort"]
    assert cli.main([*line, "site_c", "--fixed", str(tmp_path / "site_b.json")]) == 2
    assert "no cohort 'site_c'" in (said := capsys.readouterr().err) and "did you mean 'site_b'" in said
    assert cli.main([*line, "site_b"]) == 2
    assert "--fixed is not given" in capsys.readouterr().err


def test_56_label_files_without_a_value_of_a_class_but_with_others_are_refused(three_values, tmp_path, capsys):
    """Of data that do not declare their values, only the files show that a cohort needs labels of its own."""
    cases = [case for found in labelled_cases(*read_stored(three_values.table), ["T1w"]).values() for case in found]
    task = tiny.TASK | {"labels": {"front": [1], "back": [4]}, "lesions": []}
    with pytest.raises(
        UserError, match=r"cohort 'site_b' has the label value of 'back' \(4\); they have 2 in 3 of 3 cases, 3 in 1"
    ):
        reference_values(cases, task, "site_b")
    right = task | {"reference": {"labels": {"back": [2], "front": [1]}, "ignore": [3]}}
    assert reference_values(cases, right, "site_b") == ""
    assert reference_values(cases, right | {"reference": {"labels": {"back": [2], "front": [1]}, "ignore": []}}, "site_b") == (
        "3 in 1 of 3 cases"
    )
    healthy = task | {"labels": {"front": [1], "back": [2], "cyst": [3], "absent": [9]}}
    assert reference_values(cases, healthy, "site_b") == ""  # a class may be absent where no value is left over


def test_56_a_reference_of_another_release_is_read_with_its_own_values(tmp_path):
    label = np.zeros((16, 16, 16), np.uint8)
    label[3:8, 3:13, 3:13], label[8:13, 3:13, 3:13] = 1, 4
    cohort = tiny.store(tmp_path / "stored", {"a": (label, np.eye(4))})
    cases = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])["a"]
    nib.save(nib.Nifti1Image(np.where(label == 4, np.uint8(2), label), np.eye(4)), tmp_path / "a.nii.gz")
    task = tiny.TASK | {"labels": {"back": [2], "front": [1]}, "lesions": []}
    reference = {"labels": {"front": [1], "back": [4]}, "ignore": []}
    run = dict.fromkeys(("study", "task", "cohort", "backbone", "init", "recipe", "n_train", "fold"), "x")
    assert set(evaluate(cases, cohort.raw, tmp_path, task | {"reference": reference}, run)["dice"]) == {1.0}
    assert evaluate(cases, cohort.raw, tmp_path, task, run).set_index("label")["dice"]["back"] == 0
