"""What `check` recognises in a folder, and what it reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.datasets.own.test_own import bids_tree, csv_tree, nnunet_tree, volume

from brainpretrain import cli, config, datasets
from brainpretrain.download import check
from brainpretrain.download.index import index
from brainpretrain.errors import UserError


@pytest.mark.parametrize(
    ("tree", "words", "module", "subjects", "volumes", "sequences"),
    [
        (bids_tree, "BIDS", "bids", 2, 6, {"FLAIR": 2, "T1ce": 2, "T1w": 2}),
        (nnunet_tree, "nnU-Net's raw data", "nnunet", 4, 8, {"FLAIR": 4, "T1w": 4}),
        (csv_tree, "a table of paths", "csv", 2, 2, {"T1w": 1, "T2w": 1}),
    ],
)
def test_check_understands(
    tree: Any, words: str, module: str, subjects: int, volumes: int, sequences: dict, tmp_path: Path
) -> None:
    facts = check.check(tree(tmp_path))
    assert (facts["format"], facts["module"], facts["subjects"], facts["volumes"]) == (words, module, subjects, volumes)
    assert facts["sequences"] == sequences and facts["problems"] == []
    assert facts["spacing_mm"] == [[1.5, 1.5], [1.5, 1.5], [2, 2]] and facts["shape"] == [[20, 20], [18, 18], [16, 16]]
    pasted = yaml.safe_load(facts["yaml"])
    entry = pasted["datasets"]["mydata"]
    described = datasets.describe(entry["module"], entry["options"])
    assert len(index(described, pasted["data_roots"]["mydata"])) == volumes and described.n_shards == 1
    text = check.report(facts)
    assert words in text and "1.5 x 1.5 x 2 mm" in text and "20 x 18 x 16 voxels" in text and facts["yaml"] in text


def test_check_reads_labels_and_channels_of_nnunet(tmp_path: Path) -> None:
    assert check.check(nnunet_tree(tmp_path))["labels"] == {"1": "lesion"}
    old = {"modality": {"0": "t1gd"}, "labels": {"0": "background", "2": "tumour"}}
    (tmp_path / "dataset.json").write_text(json.dumps(old))
    facts = check.check(tmp_path)
    assert facts["options"]["sequences"] == ["T1ce"] and facts["labels"] == {"2": "tumour"}


def test_check_knows_the_data_sets_of_the_project(tmp_path: Path) -> None:
    for name in ("imagesTr/hippocampus_001", "labelsTr/hippocampus_001", "imagesTs/hippocampus_002"):
        volume(tmp_path / f"{name}.nii.gz")
    (tmp_path / "dataset.json").write_text("{}")
    facts = check.check(tmp_path)
    assert facts["module"] == "msd_hippocampus" and yaml.safe_load(facts["yaml"]) == {
        "data_roots": {"msd_hippocampus": str(tmp_path.resolve())}
    }


def test_a_table_says_more_than_the_names_of_the_files(tmp_path: Path) -> None:
    volume(tmp_path / "imagesTs/hippocampus_001.nii.gz")
    (tmp_path / "list.csv").write_text("subject,sequence,path\na,T1w,imagesTs/hippocampus_001.nii.gz\n")
    assert check.check(tmp_path)["options"] == {"file": "list.csv", "n_shards": 1}


def test_check_names_what_is_wrong_and_fails(tmp_path: Path, capsys: Any) -> None:
    root = bids_tree(tmp_path)
    volume(root / "sub-03/anat/sub-03_T1w.nii.gz", shape=(20, 18, 16, 3))
    (root / "sub-04/anat").mkdir(parents=True)
    (root / "sub-04/anat/sub-04_T1w.nii.gz").write_text("<html>log in</html>")
    volume(root / "sub-04/anat/sub-04_UNIT1.nii.gz")
    assert cli.main(["check", str(root)]) == 2
    printed = capsys.readouterr()
    assert "sub-03/anat/sub-03_T1w.nii.gz: not_3d (4-D (20, 18, 16, 3) where 3-D is needed)" in printed.out
    assert "sub-04/anat/sub-04_T1w.nii.gz: html (this is a web page" in printed.out
    assert "unused:    dataset_description.json\n" in printed.out
    assert "left out, suffix 'UNIT1' is not one of 'sequences': 1 volume (sub-04/anat/sub-04_UNIT1.nii.gz)" in printed.out
    assert "2 problems" in printed.err


def test_check_remarks_on_4d_files_that_a_known_data_set_counts_on(tmp_path: Path, capsys: Any) -> None:
    session = "OAS30001_MR_d0129"
    volume(tmp_path / f"{session}/anat1/sub-OAS30001_ses-d0129_T1w.nii.gz")
    volume(tmp_path / f"{session}/dwi1/sub-OAS30001_ses-d0129_dwi.nii.gz", shape=(20, 18, 16, 3))
    assert cli.main(["check", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    assert (
        "1 remark:" in printed and "dwi.nii.gz: not_3d (4-D (20, 18, 16, 3) where 3-D is needed); it will be left out" in printed
    )


def test_check_compares_labels_with_their_images(tmp_path: Path) -> None:
    root = nnunet_tree(tmp_path)
    labels = sorted((root / "labelsTr").iterdir())
    volume(labels[0], shape=(20, 18, 15))
    facts = check.check(root)
    assert "label_grid (label: shape (20, 18, 15) on a grid of (20, 18, 16))" in " ".join(facts["problems"])


def test_one_line_for_what_holds_for_many_files_and_all_files_are_opened(tmp_path: Path) -> None:
    for number in range(40):
        path = tmp_path / f"sub-{number:02d}/anat/sub-{number:02d}_T1w.nii.gz"
        path.parent.mkdir(parents=True)
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n")
    facts = check.check(tmp_path)
    (line,) = facts["problems"]
    assert line.startswith("40 files: pointer (a pointer of Git LFS, not the volume itself): ") and "git lfs pull" in line
    assert facts["opened"] == 40


def test_the_limits_are_those_of_the_recipe(tmp_path: Path, capsys: Any) -> None:
    recipe = config.load().preprocess["amaes"].model_dump(mode="json")
    assert {key: recipe[key] for key in check.LIMITS} == check.LIMITS | {
        "spacing_range_mm": list(check.LIMITS["spacing_range_mm"])
    }
    volume(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz", shape=(20, 18, 12))
    assert cli.main(["check", str(tmp_path)]) == 2 and "too_small (an axis of 12 voxels" in capsys.readouterr().out
    assert cli.main(["check", str(tmp_path), "--recipe", json.dumps(recipe | {"min_size": 12})]) == 0


def test_check_remarks_on_regions_of_nnunet(tmp_path: Path) -> None:
    stated = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "whole tumour": [1, 2], "core": 2}}
    (nnunet_tree(tmp_path) / "dataset.json").write_text(json.dumps(stated))
    facts = check.check(tmp_path)
    assert facts["labels"] == {} and facts["problems"] == []  # a file may hold 1 as well, which has no name of its own
    assert "label 'whole tumour' is a region (values 1, 2)" in check.report(facts)


def test_check_of_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        check.check(tmp_path / "nowhere")
    volume(tmp_path / "brain.nii.gz")
    with pytest.raises(UserError, match=r"neither a folder nor a table[^!]*folder that holds the volumes"):
        check.check(tmp_path / "brain.nii.gz")


def test_check_points_at_nnunet_one_level_down(tmp_path: Path) -> None:
    nnunet_tree(tmp_path / "Dataset001_x")
    with pytest.raises(UserError, match=r"check .*Dataset001_x"):
        check.check(tmp_path)


def test_check_of_files_that_datalad_has_not_fetched(tmp_path: Path) -> None:
    root = bids_tree(tmp_path)
    (root / "sub-03/anat").mkdir(parents=True)
    (root / "sub-03/anat/sub-03_T1w.nii.gz").symlink_to("../../.git/annex/objects/x")
    facts = check.check(root)
    assert facts["volumes"] == 6 and "links to nothing, left out: fetch them first" in check.report(facts)


def test_check_says_what_it_would_understand(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(UserError, match="convert DICOM"):
        check.check(tmp_path)
    volume(tmp_path / "brain.nii.gz")
    with pytest.raises(UserError, match="columns subject, sequence, path"):
        check.check(tmp_path)


def test_check_as_json(tmp_path: Path, capsys: Any) -> None:
    assert cli.main(["check", str(csv_tree(tmp_path) / "list.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["options"] == {"file": "list.csv", "n_shards": 1}


def test_check_recognises_a_table_with_semicolons(tmp_path: Path) -> None:
    root = csv_tree(tmp_path)
    (root / "list.csv").write_text("subject;sequence;path\nMüller, A.;T1w;scans/1.nii.gz\n", encoding="utf-8")
    assert check.check(root)["module"] == "csv"


def test_names_of_a_known_data_set_are_not_enough(tmp_path: Path) -> None:
    for name in ("imagesTr/BRATS_001", "labelsTr/BRATS_001"):
        volume(tmp_path / f"{name}.nii.gz", label="labels" in name)
    with pytest.raises(
        UserError, match=r"those of 'msd_brain_tumour', but imagesTr/BRATS_001.nii.gz has 1 channel, not 4[^!]*dataset"
    ):
        check.check(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "a": 1}}))
    facts = check.check(tmp_path)
    assert facts["module"] == "nnunet" and "call it imagesTr/BRATS_001_0000.nii.gz" in facts["problems"][0]
    volume(tmp_path / "imagesTr/BRATS_001.nii.gz", shape=(20, 18, 16, 4))
    four = {"modality": {str(n): "x" for n in range(4)}, "labels": {"0": "background", "1": "a", "2": "b", "3": "c"}}
    (tmp_path / "dataset.json").write_text(json.dumps(four))
    assert check.check(tmp_path)["module"] == "msd_brain_tumour"
    (tmp_path / "dataset.json").write_text(json.dumps(four | {"labels": {"background": 0, "tumour": 1}}))
    assert check.check(tmp_path)["module"] == "nnunet"


def test_the_ignore_label_of_nnunet_is_remarked(tmp_path: Path) -> None:
    stated = {"channel_names": {"0": "FLAIR", "1": "T1"}, "labels": {"background": 0, "lesion": 1, "ignore": 2}}
    (nnunet_tree(tmp_path) / "dataset.json").write_text(json.dumps(stated))
    facts = check.check(tmp_path)
    assert facts["remarks"] == ["value 2 is nnU-Net's ignore label and no class: write `ignore: [2]` in the task"]
    assert facts["options"]["labels"] == {1: "lesion", 2: "ignore"}  # a file with this value is read
