"""What `check` finds as labels of a BIDS folder, and the study that it prints for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from brainpretrain import cli, config
from brainpretrain.download import check
from brainpretrain.files import read_json, read_tsv
from brainpretrain.plan import tables as plan
from helpers import ROOT, SHARED

SUBJECTS = ("01", "02", "03", "04")


def save(path: Path, array: np.ndarray, mm: float = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([mm, mm, mm, 1])), path)


def images(root: Path, *suffixes: str, session: str = "", subjects: Sequence[str] = SUBJECTS) -> Path:
    for subject in subjects:
        folder, name = (
            f"sub-{subject}/" + (f"ses-{session}/" if session else ""),
            f"sub-{subject}" + (f"_ses-{session}" if session else ""),
        )
        for suffix in suffixes or ("T1w",):
            array = np.random.default_rng(int(subject)).integers(1, 100, (24, 20, 18)).astype(np.int16)
            save(root / f"{folder}anat/{name}_{suffix}.nii.gz", array)
    return root


def masks(
    root: Path, template: str, values: tuple[float, ...] = (0, 1), dtype: Any = np.uint8, subjects: Any = SUBJECTS, mm: float = 1
) -> None:
    for subject in subjects:
        array = np.random.default_rng(7).choice(values, (24, 20, 18)).astype(dtype)
        save(root / template.replace("SUB", f"sub-{subject}"), array, mm)


@pytest.mark.parametrize(
    ("file", "template"),
    [
        ("derivatives/manual/SUB/anat/SUB_dseg.nii.gz", "{top}derivatives/manual/{folder}/{stem}_dseg"),
        (
            "derivatives/a/b/SUB/anat/SUB_T1w_label-lesion_mask.nii.gz",
            "{top}derivatives/a/b/{folder}/{stem}_{sequence}_label-lesion_mask",
        ),
        ("SUB/anat/SUB_label-lesion_mask.nii.gz", "{top}{folder}/{stem}_label-lesion_mask"),
        ("SUB/anat/SUB_T1w_mask.nii", "{top}{folder}/{stem}_{sequence}_mask"),
        ("derivatives/lesions/SUB/SUB_lesion.nii.gz", "{top}derivatives/lesions/{subject}/{stem}_lesion"),
        ("labels/SUB_space-T1w_seg.nii.gz", "{top}labels/{stem}_space-{sequence}_seg"),
    ],
)
def test_labels_are_found_where_people_keep_them(file: str, template: str, tmp_path: Path) -> None:
    masks(images(tmp_path), file)
    facts = check.check(tmp_path)
    assert facts["options"]["label"] == template or facts["options"]["label"].replace("{sequence}", "T1w") == template.replace(
        "{sequence}", "T1w"
    )
    assert (facts["labelled"], facts["problems"], facts["labels_unused"]) == (4, [], [])
    assert facts["options"]["label_sequences"] == ["T1w"] and list(facts["labels"]) == ["1"] and facts["labels_read"] == 4


def test_labels_of_sessions_on_the_grid_of_one_sequence(tmp_path: Path) -> None:
    images(tmp_path, "T1w", "FLAIR", session="a")
    for subject in SUBJECTS:
        save(tmp_path / f"sub-{subject}/ses-a/anat/sub-{subject}_ses-a_FLAIR.nii.gz", np.ones((12, 12, 18), np.int16), mm=2)
    for subject in SUBJECTS[:3]:
        array = np.arange(12 * 12 * 18).reshape(12, 12, 18).astype(np.uint8) % 4
        save(tmp_path / f"derivatives/x/sub-{subject}/ses-a/anat/sub-{subject}_ses-a_dseg.nii.gz", array, mm=2)
    (tmp_path / "derivatives/x/dseg.tsv").write_text("index\tname\n1\tcore\n3\toedema\n")
    facts = check.check(tmp_path)
    options = facts["options"]
    assert (options["label_sequences"], options["partly_labelled"], facts["labelled"]) == (["FLAIR"], True, 3)
    assert options["labels"] == {1: "core", 2: "label_2", 3: "oedema"}
    assert yaml.safe_load(facts["yaml"])["tasks"]["mydata"]["sequences"] == ["FLAIR"]


def test_labels_that_are_not_used_are_listed_with_the_reason(tmp_path: Path, capsys: Any) -> None:
    root = images(tmp_path)
    masks(root, "derivatives/lesions/SUB/anat/SUB_mask.nii.gz")
    masks(root, "derivatives/prep/SUB/anat/SUB_desc-brain_mask.nii.gz")
    masks(root, "derivatives/mni/SUB/anat/SUB_space-MNI_dseg.nii.gz", mm=2)
    masks(root, "derivatives/soft/SUB/anat/SUB_label-GM_probseg.nii.gz", (0, 0.4), np.float32)
    masks(root, "derivatives/soft/SUB/anat/SUB_label-WM_mask.nii.gz", (0, 0.4), np.float32)
    masks(root, "derivatives/other/SUB/anat/SUB_seg.nii.gz", subjects=["09"])
    assert cli.main(["check", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "label: '{top}derivatives/lesions/{folder}/{stem}_mask'" in printed and "labels:    1 lesions" in printed
    lines = [line for line in printed.splitlines() if line.startswith("  labels not used, ")]
    reasons = {"desc-brain": "brain mask; to use it instead: label:", "space-MNI": "grid", "probseg": "probabilities", "label-WM": "instead",
               "sub-09": "no image of this subject"}  # fmt: skip
    assert len(lines) == len(reasons)
    for name, reason in reasons.items():
        assert any(name in line and reason in line for line in lines), (name, lines)


def test_a_mask_with_fractions_is_no_label(tmp_path: Path) -> None:
    masks(images(tmp_path), "derivatives/soft/SUB/anat/SUB_mask.nii.gz", (0, 0.4), np.float32)
    facts = check.check(tmp_path)
    assert "label" not in facts["options"] and "label values are not integers" in facts["labels_unused"][0] and not facts["study"]


def planned(root: Path, folder: Path, extra: Any = None) -> dict[str, Any]:
    """The study that `check` prints is loaded and planned, and its data set is indexed and split."""
    facts = check.check(root)
    assert facts["study"] and facts["problems"] == []
    path = folder / "mydata.yaml"
    path.write_text(facts["yaml"])
    settings = config.load(ROOT / "config", {"study": str(path)})
    assert settings.data_root("mydata") == str(root.resolve()) and plan.make(settings).datasets == ["mydata"]
    entry, task = settings.datasets["mydata"], settings.tasks["mydata"]
    line = ["--dataset", entry.module, "--root", settings.data_root("mydata"), "--options", json.dumps(entry.options)]
    assert cli.main(["index", *line, "--out", str(folder / "index.tsv")]) == 0
    fields = {"dataset", "sequences", "subsets", "split"}
    spec = task.model_dump(mode="json", include=fields)
    assert (
        cli.main(["split", "--index", str(folder / "index.tsv"), "--task", json.dumps(spec), "--out", str(folder / "split.json")])
        == 0
    )
    return {"task": task, "split": read_json(folder / "split.json"), "index": read_tsv(folder / "index.tsv")}


def test_the_printed_study_goes_from_the_folder_to_a_plan_and_a_split(tmp_path: Path) -> None:
    root = images(tmp_path / "d")
    masks(root, "derivatives/manual/SUB/anat/SUB_dseg.nii.gz", (0, 1, 2))
    result = planned(root, tmp_path)
    assert result["task"].labels == {"label_1": [1], "label_2": [2]} and len(result["split"]["test"]) == 1
    assert (result["index"]["label"] != "").all()


@pytest.mark.parametrize("n", [2, 3, 5, 8])
def test_the_printed_study_of_a_handful_of_subjects_has_a_pool_and_a_test_set(tmp_path: Path, n: int) -> None:
    names = [f"{number:02d}" for number in range(1, n + 1)]
    masks(images(tmp_path / "d", subjects=names), "derivatives/manual/SUB/anat/SUB_dseg.nii.gz", subjects=names)
    split = planned(tmp_path / "d", tmp_path)["split"]
    assert len(split["test"]) == max(1, round(n / 4)) and len(split["pool"]) == n - len(split["test"])


def test_the_ignore_label_of_nnunet_is_in_the_printed_task(tmp_path: Path) -> None:
    for subject in SUBJECTS:
        save(tmp_path / f"d/imagesTr/{subject}_0000.nii.gz", np.ones((24, 20, 18), np.int16))
        save(tmp_path / f"d/labelsTr/{subject}.nii.gz", np.arange(24 * 20 * 18).reshape(24, 20, 18).astype(np.uint8) % 4)
    stated = {"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "a": 1, "b": 2, "ignore": 3}}
    (tmp_path / "d/dataset.json").write_text(json.dumps(stated))
    task = planned(tmp_path / "d", tmp_path)["task"]
    assert (task.labels, task.ignore) == ({"a": [1], "b": [2]}, [3])


@pytest.mark.skipif(not (SHARED / "manifest.csv").exists(), reason=f"no shared volumes at {SHARED}")
def test_hippocampus_crops_as_bids_go_to_a_plan_with_the_printed_study(tmp_path: Path) -> None:
    source, root = SHARED / "msd_task04_hippocampus", tmp_path / "d"
    for number, label in enumerate(sorted((source / "labelsTr").glob("*.nii.gz"))[:4]):
        for target in (
            f"sub-{number}/anat/sub-{number}_T1w.nii.gz",
            f"derivatives/manual/sub-{number}/anat/sub-{number}_dseg.nii.gz",
        ):
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            (root / target).symlink_to(label if "dseg" in target else source / "imagesTr" / label.name)
    task = planned(root, tmp_path)["task"]
    assert task.labels == {"label_1": [1], "label_2": [2]} and task.preprocess == "amaes"
