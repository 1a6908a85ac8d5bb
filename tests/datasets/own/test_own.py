"""A user's own data: a BIDS folder, nnU-Net's raw data and a table, through fetch, index and shard."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from brainpretrain import cli, config, datasets
from brainpretrain.datasets.base import NotInPlace
from brainpretrain.download.index import index, scan
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv
from brainpretrain.plan import tables as plan
from helpers import ROOT

GRID = np.diag([1.5, 1.5, 2, 1])


def volume(path: Path, label: bool = False, shape: tuple[int, ...] = (20, 18, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(0).integers(0 if label else 1, 2 if label else 100, shape).astype(np.int16)
    nib.save(nib.Nifti1Image(array, GRID), path)


def bids_tree(root: Path) -> Path:
    for subject in ("01", "02"):
        stem = f"sub-{subject}_ses-a"
        for suffix in ("T1w", "ce-gad_T1w", "run-2_FLAIR"):
            volume(root / f"sub-{subject}/ses-a/anat/{stem}_{suffix}.nii.gz")
        volume(root / f"derivatives/lesions/sub-{subject}/ses-a/anat/{stem}_run-2_mask.nii.gz", label=True)
        volume(root / f"derivatives/fmriprep/sub-{subject}/anat/sub-{subject}_T1w.nii.gz")
    (root / "dataset_description.json").write_text("{}")
    return root


def nnunet_tree(root: Path) -> Path:
    for case in ("p1_t0", "p1_t1", "p2_t0"):
        for channel in ("0000", "0001"):
            volume(root / f"imagesTr/{case}_{channel}.nii.gz")
        volume(root / f"labelsTr/{case}.nii.gz", label=True)
    for channel in ("0000", "0001"):
        volume(root / f"imagesTs/p3_t0_{channel}.nii.gz")
    stated = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "lesion": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps(stated))
    return root


def csv_tree(root: Path) -> Path:
    for number in (1, 2):
        volume(root / f"scans/{number}.nii.gz")
    volume(root / "masks/1.nii.gz", label=True)
    lines = [
        "subject,session,sequence,path,label,patient,site",
        "a,x,T1w,scans/1.nii.gz,masks/1.nii.gz,P,one",
        "b,,T2w,scans/2.nii.gz,,P,two",
    ]
    (root / "list.csv").write_text("\n".join(lines) + "\n")
    return root


LESIONS = "{top}derivatives/lesions/{folder}/{stem}_mask"
BIDS = {"sequences": {"T1w": "T1w", "FLAIR": "FLAIR"}, "label": LESIONS, "label_sequences": ["FLAIR"]}
NNUNET = {"sequences": ["FLAIR", "T1w"], "case": r"(?P<subject>p\d+)_(?P<session>t\d)", "n_shards": 2}


@pytest.mark.parametrize(
    ("module", "tree", "options", "volumes", "labelled"),
    [
        ("bids", bids_tree, BIDS, ["sub-01_a_ce-gad_T1ce", "sub-01_a_run-2_FLAIR", "sub-01_a_T1w"], ["sub-01_a_run-2_FLAIR"]),
        ("nnunet", nnunet_tree, NNUNET, ["p1_t0_FLAIR", "p1_t0_T1w", "p1_t1_FLAIR", "p1_t1_T1w"], ["p1_t0_FLAIR", "p1_t0_T1w"]),
        ("csv", csv_tree, {"file": "list.csv"}, ["a_x_T1w", "b_T2w"], ["a_x_T1w"]),
    ],
)
def test_through_the_steps(
    module: str, tree: Any, options: dict, volumes: list[str], labelled: list[str], tmp_path: Path, capsys: Any
) -> None:
    root, data = tree(tmp_path / "my data"), tmp_path / "results/data/mine"
    recipe = config.load(ROOT / "config").preprocess["amaes"].model_dump_json()
    own = ["--dataset", module, "--root", str(root), "--options", json.dumps(options)]
    assert cli.main(["fetch", *own, "--out", str(data / "source.json")]) == 0
    assert cli.main(["index", *own, "--out", str(data / "index.tsv")]) == 0
    arguments = ["--index", str(data / "index.tsv"), "--root", str(root), "--recipe", recipe, "--max-rejected", "0"]
    for shard in range(options.get("n_shards", 1)):
        out = str(data / f"amaes/shard{shard:03d}.tsv")
        split = ["--shard", str(shard), "--n-shards", str(options.get("n_shards", 1))]
        assert cli.main(["shard", *arguments, *split, "--out", out]) == 0, capsys.readouterr().err
    rows = read_tsv(data / "index.tsv")
    assert set(volumes) <= set(rows["volume"]) and read_json(data / "source.json")["volumes"] == len(rows)
    with_label = rows.loc[rows["label"] != "", "volume"].tolist()
    assert set(labelled) <= set(with_label) and (module != "bids" or all("FLAIR" in name for name in with_label))
    assert not any("derivatives" in path for path in rows["path"])
    stored = [read_tsv(path) for path in sorted((data / "amaes").glob("*.tsv"))]
    assert sum(len(table) for table in stored) == len(rows) and all((table["status"] == "ok").all() for table in stored)
    assert {name for table in stored for name in table.loc[table["label_file"] != "", "volume"]} == set(with_label)


def test_entities_of_a_table(tmp_path: Path) -> None:
    first, second = index(datasets.describe("csv", {"file": "list.csv"}), csv_tree(tmp_path))
    assert (first["patient"], second["patient"]) == ("P", "P") and (first["site"], second["subset"]) == ("one", "unlabelled")


def test_sessions_of_nnunet_cases_are_one_subject(tmp_path: Path) -> None:
    found = scan(datasets.describe("nnunet", NNUNET), nnunet_tree(tmp_path))
    assert {row["subject"] for row in found.rows} == {"p1", "p2", "p3"}
    assert {row["subset"] for row in found.rows if row["subject"] == "p3"} == {"unlabelled"}


def test_labels_of_some_subjects_only(tmp_path: Path) -> None:
    root = bids_tree(tmp_path)
    (root / "derivatives/lesions/sub-02/ses-a/anat/sub-02_ses-a_run-2_mask.nii.gz").unlink()
    with pytest.raises(UserError, match=r"label missing: derivatives/lesions/sub-02/ses-a/anat/sub-02_ses-a_run-2_mask.nii.gz"):
        index(datasets.describe("bids", BIDS), root)
    rows = index(datasets.describe("bids", BIDS | {"partly_labelled": True}), root)
    assert {row["subset"] for row in rows if row["subject"] == "sub-02"} == {"unlabelled"}


def test_a_channel_that_is_missing_is_named(tmp_path: Path) -> None:
    root = nnunet_tree(tmp_path)
    (root / "imagesTr/p2_t0_0001.nii.gz").unlink()
    with pytest.raises(UserError, match=r"T1w missing of p2, session t0 \(next to imagesTr/p2_t0_0000.nii.gz\)"):
        index(datasets.describe("nnunet", NNUNET), root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,x,T1w,scans/9.nii.gz,,,", "line 2: path missing: scans/9.nii.gz"),
        ("a,x,T1w,scans/1.nii.gz,masks/9.nii.gz,,", "line 2: label missing: masks/9.nii.gz"),
        (",x,T1w,scans/1.nii.gz,,,", "line 2: no subject"),
        ("a,x,T1w,/etc/hostname,,,", "line 2: path is no NIfTI file: /etc/hostname"),
    ],
)
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, message: str) -> None:
    root = csv_tree(tmp_path)
    (root / "list.csv").write_text("subject,session,sequence,path,label,patient,site\n" + line + "\n")
    with pytest.raises(UserError, match=message):
        index(datasets.describe("csv", {"file": "list.csv"}), root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,sequence,file\n", "unknown column 'file'"),
        ("subject,sequence\n", "lacks the columns path"),
        ("subject,sequence,path\n", "has no rows"),
        (
            "subject,sequence,path\na,T1w,scans/1.nii.gz\na,T1w,scans/2.nii.gz\n",
            "'a_T1w' more than once: scans/1.nii.gz, scans/2.nii.gz .*'run'",
        ),
        (
            "subject,sequence,path\n\na,T1w,scans/1.nii.gz,x,y\n,T1w,scans/2.nii.gz\n",
            r"line 3: more fields[^!]*line 4: no subject",
        ),
    ],
)
def test_a_table_that_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    root = csv_tree(tmp_path)
    (root / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        index(datasets.describe("csv", {"file": "list.csv"}), root)


def test_a_table_with_semicolons_is_read_and_one_in_latin_1_is_refused(tmp_path: Path) -> None:
    root = csv_tree(tmp_path)
    (root / "list.csv").write_text("subject;sequence;path\nMüller, A.;T1w;scans/1.nii.gz\n", encoding="utf-8")
    assert [row["subject"] for row in index(datasets.describe("csv", {"file": "list.csv"}), root)] == ["Müller, A."]
    (root / "list.csv").write_text("subject;sequence;path\nMüller;T1w;scans/1.nii.gz\n", encoding="latin-1")
    with pytest.raises(UserError, match="save it as UTF-8"):
        index(datasets.describe("csv", {"file": "list.csv"}), root)


def test_a_table_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotInPlace, match=r"the table 'list\.csv'"):
        index(datasets.describe("csv", {"file": "list.csv"}), tmp_path)


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        ("bids", {"lable": "x"}, "options.lable: .*did you mean 'label'"),
        ("bids", {"label": "{top}{subjct}"}, "may name .*subject"),
        ("bids", {"n_shards": 0}, "options.n_shards"),
        ("nnunet", {}, "options.sequences: Field required"),
        ("nnunet", {"sequences": ["T1w"], "case": r"\d+"}, "lacks the group"),
        ("nnunet", {"sequences": ["T1w"], "case": "("}, "not a regular expression"),
        ("csv", {}, "options.file: Field required"),
    ],
)
def test_options_are_checked_when_the_config_is_read(module: str, options: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        datasets.describe(module, options)
    folder = tmp_path / "config"
    folder.mkdir()
    for path in (ROOT / "config").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "mine.yaml").write_text(yaml.safe_dump({"datasets": {"mine": {"module": module, "options": options}}}))
    with pytest.raises(UserError, match=message) as error:
        config.load(folder, {"study": "demo"})
    assert "mine.yaml: datasets.mine" in str(error.value)


def test_a_study_on_own_data_is_planned(tmp_path: Path) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    for path in (ROOT / "config").iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "mine.yaml").write_text(
        yaml.safe_dump(
            {
                "datasets": {"mine": {"module": "nnunet", "options": NNUNET}},
                "tasks": {"mine": {"like": "phantom_tissue", "dataset": "mine", "labels": {"lesion": [1]}}},
                "tables": {"mine": {"like": "demo", "columns": [{"title": "mine", "task": "mine", "cohort": "test"}]}},
            }
        )
    )
    study = yaml.safe_load((ROOT / "config/studies/demo.yaml").read_text()) | {"build": ["mine"]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    made = plan.make(config.load(folder, {"study": str(tmp_path / "study.yaml")}))
    assert made.datasets == ["mine", "phantom"] and made.n_shards("mine") == 2
