"""Every data set with labels: from files with the real names to stored volumes, cases and scores, and a task on it that is planned."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from tests.download import test_dicom

import miniatures
from brainpretrain import config, datasets
from brainpretrain.cohorts import splits
from brainpretrain.cohorts.cases import Case, labelled_cases
from brainpretrain.datasets.base import Dataset
from brainpretrain.download import looking
from brainpretrain.download.fetch import fetch
from brainpretrain.download.index import index
from brainpretrain.errors import UserError
from brainpretrain.evaluation.scores import evaluate
from brainpretrain.files import write_json, write_tsv
from brainpretrain.plan import tables
from brainpretrain.preprocess import shards
from helpers import ROOT
from miniatures import build

LABELLED = [name for name in datasets.names() if datasets.load(name).labels and not datasets.load(name).lister]
LAYOUTS = [
    (name, layout.name)
    for name in LABELLED
    for layout in datasets.load(name).layouts
    if any(pattern.label or pattern.masks for pattern in layout.patterns)
]
RUN = dict.fromkeys(("study", "task", "cohort", "backbone", "init", "recipe", "n_train"), "x") | {"fold": 0}


@pytest.fixture(scope="module")
def catalogue() -> config.Config:
    return config.load(ROOT / "config")


def values_of(dataset: Dataset) -> list[int]:
    """Up to three values of classes, and one that is ignored if there is one."""
    return [value for value in dataset.labels if value not in dataset.ignore][:2] + list(dataset.ignore)[:1]


def task_on(dataset: Dataset, values: list[int]) -> dict[str, Any]:
    return {
        "dataset": dataset.name,
        "sequences": [dataset.label_sequences[0]],
        "subsets": list(dataset.versions[:1]),
        "labels": {f"class {value}": [value] for value in values if value not in dataset.ignore},
        "ignore": list(dataset.ignore),
        "nsd_tolerance_mm": 1,
        "lesions": [],
        "empty_masks": "nan",
        "hd95_missed_mm": None,
        "split": {"seed": 0, "test_fraction": 0, "draw": "hash"},
    }


def stored(catalogue: config.Config, dataset: Dataset, root: Path, task: dict[str, Any]) -> tuple[pd.DataFrame, list[Case]]:
    """The stored volumes of a tree, all accepted, and the cases of the task."""
    rows = pd.DataFrame(index(dataset, root))
    recipe = catalogue.stored_as("ct" if task["sequences"] == ["CT"] else "amaes", dataset.name)
    table = shards.build(rows, root, root.with_name("stored"), recipe, 0, 1, labels=list(dataset.labels))
    of_task = table[table["sequence"].isin(task["sequences"])]
    assert list(of_task["status"]) == ["ok"] * len(of_task), of_task[["path", "reason", "detail"]].to_string()
    fold = splits.fold(splits.split(rows, task), 0, 1)
    by_subject = labelled_cases(table, root.with_name("stored"), task["sequences"], fold.get("subsets", []))
    assert set(fold["order"]) == set(by_subject)
    return table, [case for subject in fold["order"] for case in by_subject[subject]]


def scores_of_references(cases: list[Case], root: Path, task: dict[str, Any]) -> pd.DataFrame:
    """Scores of the label files themselves, as predictions."""
    folder = root.with_name("predictions")
    folder.mkdir(exist_ok=True)
    known = [value for values in task["labels"].values() for value in values]
    for case in cases:
        label = nib.load(root / case.rows[0]["label"])
        array = np.asarray(label.dataobj)
        predicted = np.where(np.isin(array, known), array, 0).astype(np.uint16)
        nib.save(nib.Nifti1Image(predicted, label.affine, label.header, dtype=np.uint16), folder / f"{case.name}.nii.gz")
    return evaluate(cases, root, folder, task, RUN)


@pytest.mark.parametrize(("name", "layout_name"), LAYOUTS)
def test_from_the_files_of_a_layout_to_scores(name: str, layout_name: str, catalogue: config.Config, tmp_path: Path) -> None:
    dataset = datasets.load(name)
    layout = next(layout for layout in dataset.layouts if layout.name == layout_name)
    root, values = build(tmp_path / "raw", layout.examples), values_of(dataset)
    miniatures.fill(root, dataset, index(dataset, root), values)
    task = task_on(dataset, values)
    _, cases = stored(catalogue, dataset, root, task)
    scores = scores_of_references(cases, root, task)
    assert len(cases) >= 1 and list(scores["dice"]) == [1.0] * len(cases) * len(task["labels"])


# ------------------------------------------------------------------------------------------------ plans


def study(changes: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A study with a task on each labelled data set and one row."""
    entries, columns = {}, []
    for name in LABELLED:
        dataset = datasets.load(name)
        task = task_on(dataset, values_of(dataset))
        recipe = "ct" if task["sequences"] == ["CT"] else "amaes"
        entry = {key: task[key] for key in ("dataset", "sequences", "subsets", "labels", "ignore", "nsd_tolerance_mm")}
        split = {"seed": 0, "test_fraction": 0.5, "block": 1}
        entries[f"on_{name}"] = entry | {"preprocess": recipe, "split": split} | changes.get(name, {})
        columns.append({"title": name, "task": f"on_{name}", "cohort": "test"})
    rows = [{"title": "scratch", "backbone": "unet_tiny"}]
    table = {"title": "All", "columns": columns, "corpus": "brains45k", "recipe": "amaes", "n_train": 1, "rows": rows}
    about = {"title": "all", "seed": 0, "folds": 1, "build": ["all"]}
    return about | {"tasks": entries, "tables": {"all": table}}


def planned(folder: Path, **changes: dict[str, Any]) -> Any:
    write_json(folder / "studies" / "all.yaml", study(changes))
    return tables.make(config.load(folder, {"study": "all"}))


def test_a_task_on_every_labelled_data_set_is_planned(config_dir: Path) -> None:
    plan = planned(config_dir)
    assert {evaluation.arm.task for evaluation in plan.evaluations} == {f"on_{name}" for name in LABELLED}
    assert {name: plan.label_values(name) for name in LABELLED} == {name: sorted(datasets.load(name).labels) for name in LABELLED}


@pytest.mark.parametrize("name", [name for name in LABELLED if datasets.load(name).versions])
def test_a_task_that_names_no_version_of_the_scans_is_refused_when_planning(name: str, config_dir: Path) -> None:
    versions = list(datasets.load(name).versions)
    for subsets in ([], versions):
        with pytest.raises(UserError, match=r"hold versions of the same scans[\s\S]*such as `subsets: \[") as error:
            planned(config_dir, **{name: {"subsets": subsets}})
        assert f"tasks.on_{name}.subsets" in str(error.value)
    advised = str(error.value).rpartition("subsets: [")[2].partition("]")[0]
    assert planned(config_dir, **{name: {"subsets": [advised]}}).tasks


# ------------------------------------------------------------------------------------------------ OASIS-1


@pytest.mark.parametrize("version", ["orig", "norm"])
def test_a_task_on_oasis_takes_the_volumes_of_one_version(version: str, catalogue: config.Config, tmp_path: Path) -> None:
    """Subjects with one and with two sessions, each with orig, norm and both labels."""
    dataset = datasets.load("oasis1")
    sessions = [f"OASIS_OAS1_{name}" for name in ("0001_MR1", "0002_MR1", "0061_MR1", "0061_MR2")]
    files = ("orig", "norm", "seg35", "seg4", "aligned_norm", "aligned_seg35")
    root = build(tmp_path / "raw", [f"{session}/{name}.nii.gz" for session in sessions for name in files])
    miniatures.fill(root, dataset, index(dataset, root), [1, 2])
    table, cases = stored(catalogue, dataset, root, task_on(dataset, [1, 2]) | {"subsets": [version]})
    assert len(table) == 8
    assert sorted(case.rows[0]["path"] for case in cases) == [f"{session}/{version}.nii.gz" for session in sessions]
    assert {case.rows[0]["label"] for case in cases} == {f"{session}/seg35.nii.gz" for session in sessions}
    with pytest.raises(UserError, match=r"such as `subsets: \[norm\]`"):
        splits.split(table, task_on(dataset, [1, 2]) | {"subsets": []})


def test_oasis_as_released_is_converted_from_analyze(catalogue: config.Config, tmp_path: Path) -> None:
    dataset, root = datasets.load("oasis1_fsl"), tmp_path / "raw"
    for number in (1, 2):
        session = f"OAS1_{number:04d}_MR1"
        stem = f"{session}_mpr_n4_anon_111_t88"
        for path, array in (
            (f"PROCESSED/MPRAGE/T88_111/{stem}_gfc", miniatures.head(number)),
            (f"PROCESSED/MPRAGE/T88_111/{stem}_masked_gfc", miniatures.head(number) // 2),
            (f"FSL_SEG/{stem}_masked_gfc_fseg", miniatures.structures([1, 2, 3]).astype(np.int16)),
            (f"RAW/{session}_mpr-1_anon", miniatures.head(9)),
        ):
            file = root / "disc1" / session / f"{path}.hdr"
            file.parent.mkdir(parents=True, exist_ok=True)
            header = nib.AnalyzeHeader(endianness=">")
            header.set_data_dtype(array.dtype)
            nib.AnalyzeImage(array[..., None], None, header).to_filename(file)
    facts = fetch(dataset, root)
    assert (facts["volumes"], facts["subjects"], facts["unexpected_files"]) == (4, 2, 0)
    write_json(tmp_path / "source.json", facts)
    write_tsv(tmp_path / "index.tsv", index(dataset, root))
    look = (dataset, root, tmp_path / "source.json", tmp_path / "index.tsv", [])
    assert looking.difference(*look, update=False) == ""
    task = task_on(dataset, [1, 2, 3])
    _, cases = stored(catalogue, dataset, root, task)
    assert [case.rows[0]["subset"] for case in cases] == ["orig"] * 2
    assert (cases[0].image() > 0).sum() == (miniatures.head(1) > 0).sum()
    assert list(scores_of_references(cases, root, task)["dice"]) == [1.0] * 6
    next((root / "nifti").rglob("*_fseg.nii.gz")).unlink()
    assert looking.difference(*look, update=False) == "1 ANALYZE file not yet converted"


@pytest.mark.parametrize(
    ("fault", "message"), [("cut", "truncated"), ("longer", "bytes where the header says"), ("alone", "its header .* is missing")]
)
def test_a_damaged_analyze_pair_is_refused(fault: str, message: str, tmp_path: Path) -> None:
    from brainpretrain.download import convert

    nib.AnalyzeImage(miniatures.head(), None).to_filename(tmp_path / "a.hdr")
    content = (tmp_path / "a.img").read_bytes()
    if fault == "alone":
        (tmp_path / "a.hdr").unlink()
    else:
        (tmp_path / "a.img").write_bytes(content[:-500] if fault == "cut" else content + b"\0\0")
    with pytest.raises(UserError, match=message):
        convert.convert(tmp_path / "a.img", tmp_path / "a.nii.gz")


# ------------------------------------------------------------------------------------------------ masks elsewhere


def test_cc359_with_and_without_masks_in_the_folders_of_its_archives(catalogue: config.Config, tmp_path: Path) -> None:
    dataset = datasets.load("cc359")
    names = [f"CC000{number}_philips_15_5{number}_M" for number in range(1, 4)]
    paths = [f"Original/Original/{name}.nii.gz" for name in names]
    paths += [f"Silver-standard-machine-learning/Silver-standard/{name}_ss.nii.gz" for name in names[:2]]
    paths += [f"Silver-standard-STAPLE/{names[0]}_staple.nii.gz"]
    root = build(tmp_path / "raw", paths)
    rows = index(dataset, root)
    assert [(row["subset"], row["label"]) for row in rows] == [("train", paths[3]), ("train", paths[4]), ("unlabelled", "")]
    miniatures.fill(root, dataset, rows, [1])
    _, cases = stored(catalogue, dataset, root, task_on(dataset, [1]))
    assert [case.subject for case in cases] == ["CC0001", "CC0002"]
    assert list(scores_of_references(cases, root, task_on(dataset, [1]))["dice"]) == [1.0, 1.0]


def test_adni_masks_are_labels_of_the_scaled_image_of_their_series(catalogue: config.Config, tmp_path: Path) -> None:
    dataset, day = datasets.load("adni"), "2006-05-02_12_31_52.0"
    scaled = "MPR__GradWarp__B1_Correction__N3__Scaled"

    def place(subject: str, series: str, scan: str, image: str) -> str:
        return f"ADNI/{subject}/{series}/{day}/{image}/ADNI_{subject}_MR_{series}_Br_2012_{scan}_{image}.nii"

    masks = [place("002_S_0413", "MIDAS_Whole_Brain_Mask", "S13893", "I284658")]
    masks += [place("002_S_0295", "MIDAS_Whole_Brain_Mask", "S13408", "I284659")]
    images = [place("002_S_0413", scaled, "S13893", "I1"), place("002_S_0295", scaled, "S13408", "I2")]
    others = [place("002_S_0413", "MP-RAGE", "S13893", "I3"), place("002_S_0413", f"{scaled}_2", "S13894", "I4")]
    unread = [place("002_S_0413", "Hippocampal_Mask", "S13893", "I5")]
    root = build(tmp_path / "raw", [*masks, *images, *others, *unread])
    rows = index(dataset, root)
    assert {row["path"]: (row["subset"], row["label"]) for row in rows} == {
        images[0]: ("train", masks[0]),
        images[1]: ("train", masks[1]),
        others[0]: ("unlabelled", ""),
        others[1]: ("unlabelled", ""),
    }
    miniatures.fill(root, dataset, rows, [1])
    task = task_on(dataset, [1])
    _, cases = stored(catalogue, dataset, root, task)
    assert [case.rows[0]["path"] for case in cases] == [images[1], images[0]]
    assert list(scores_of_references(cases, root, task)["dice"]) == [1.0, 1.0]


# ------------------------------------------------------------------------------------------------ labels that fetch makes


def test_han_seg_organs_are_merged_on_the_ct_with_the_smaller_above(
    catalogue: config.Config, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    dataset, root = datasets.load("han_seg"), tmp_path / "raw"
    expected = miniatures.han_seg(root)
    facts = fetch(dataset, root)
    assert (facts["volumes"], facts["subjects"], facts["unexpected_files"]) == (6, 3, 0)
    remarks = " ".join(facts["remarks"])
    assert "24 of case_01" in remarks and "case_03 lacks Cavity_Oral" in remarks and "24 of case_01" in capsys.readouterr().out
    rows = index(dataset, root)
    for name, label in expected.items():
        path = root / f"nifti/HaN-Seg/set_1/{name}/{name}_OAR.nii.gz"
        image = nib.load(path.with_name(f"{name}_IMG_CT.nii.gz"))
        found = nib.load(path)
        np.testing.assert_array_equal(np.asarray(found.dataobj), label)
        np.testing.assert_array_equal(found.affine, image.affine)
    task = task_on(dataset, [5, 27, 29])
    _, cases = stored(catalogue, dataset, root, task)
    assert len(cases) == 3 and list(scores_of_references(cases, root, task)["dice"].dropna()) == [1.0] * 8
    write_json(tmp_path / "source.json", facts)
    write_tsv(tmp_path / "index.tsv", rows)
    look = (dataset, root, tmp_path / "source.json", tmp_path / "index.tsv", [])
    assert looking.difference(*look, update=True) == ""
    miniatures.write_nrrd(root / "HaN-Seg/set_1/case_03/case_03_OAR_Parotid_L.seg.nrrd", np.ones((2, 2, 2), np.uint8))
    assert looking.difference(*look, update=False) == (
        "the labels of 1 case are yet to be made, the first: HaN-Seg/set_1/case_03/case_03"
    )
    fetch(dataset, root)
    assert 27 in np.asarray(nib.load(root / "nifti/HaN-Seg/set_1/case_03/case_03_OAR.nii.gz").dataobj)


@pytest.mark.parametrize(
    ("organ", "array", "start", "message"),
    [
        ("Nose", np.ones((2, 2, 2), np.uint8), (0, 0, 0), "unknown structures: Nose"),
        (
            "Lips",
            np.arange(8, dtype=np.uint8).reshape(2, 2, 2),
            (0, 0, 0),
            "no mask of one structure: values 1, 2, 3, 4, 5 and 2",
        ),
        ("Lips", np.ones((2, 2, 2), np.uint8), (19, 0, 0), "on another grid than the image"),
        ("Lips", np.ones((2, 2, 2), np.uint8), (0.4, 0, 0), "on another grid than the image"),
    ],
)
def test_masks_that_do_not_fit_are_named_and_other_cases_are_merged(
    organ: str, array: np.ndarray, start: tuple, message: str, tmp_path: Path
) -> None:
    dataset = datasets.load("han_seg")
    miniatures.han_seg(tmp_path, cases=2)
    case = tmp_path / "HaN-Seg/set_1/case_01"
    miniatures.write_nrrd(case / f"case_01_OAR_{organ}.seg.nrrd", array, start)
    with pytest.raises(UserError, match=message) as error:
        fetch(dataset, tmp_path)
    assert f"case_01_OAR_{organ}.seg.nrrd" in str(error.value) and "out of the folder" in str(error.value)
    assert (tmp_path / "nifti/HaN-Seg/set_1/case_02/case_02_OAR.nii.gz").exists()
    shutil.move(case, tmp_path.with_name(f"{tmp_path.name}_away"))  # as advised
    shutil.rmtree(tmp_path / "nifti/HaN-Seg/set_1/case_01")
    assert fetch(dataset, tmp_path)["subjects"] == 1


def cosmos(root: Path, name: str, **vessels: dict) -> Path:
    """A case of 6 x 5 columns and rows in 4 slices, whose contours are in pixels of an image of 512 columns."""
    folder = root / "training/Training_dataset" / name
    test_dicom.write_series(folder, number=3, description="BB", seed=len(name))
    for path in folder.glob("*.dcm"):
        path.rename(folder / f"E1S101I{int(path.stem.partition('-')[2]) + 1}.dcm")
    for side, slices in vessels.items():
        miniatures.write_vessel(folder, side, slices, total=4)
    return folder


def pixels(left: float, top: float, right: float, bottom: float) -> tuple[float, ...]:
    return tuple(n * 512 / 6 for n in (left, top, right, bottom))


def test_cosmos_contours_become_labels_on_the_slices_that_were_outlined(catalogue: config.Config, tmp_path: Path) -> None:
    pytest.importorskip("dcm2niix")
    from brainpretrain.download import dicom

    dataset, root = datasets.load("cosmos"), tmp_path / "raw"
    wall, lumen = pixels(3.5, 0.5, 5.5, 3.5), pixels(3.5, 1.5, 4.5, 2.5)
    cosmos(root, "0_P113_U", L={3: (wall, lumen)})  # columns go to the patient's left
    cosmos(
        root, "0_P12_U", L={2: (wall, lumen), 4: (wall, lumen)}, R={2: (pixels(0.5, 0.5, 2.5, 3.5), pixels(1.5, 0.5, 2.5, 1.5))}
    )
    cosmos(root, "0_P7")
    odd = cosmos(root, "0_P9_U", R={1: (wall, lumen)})
    (odd / "E1S101I1.dcm").rename(odd / "first.dcm")
    dicom.convert(root)
    facts = fetch(dataset, root)
    assert (facts["volumes"], facts["unexpected_files"]) == (4, 0)
    assert facts["remarks"] == [
        "contours without a label, training/Training_dataset/0_P9_U: 0 DICOM files are named as the image I1 of the contours (0_P9_U)"
    ]
    rows = {row["subject"]: row for row in index(dataset, root)}
    assert {name: row["subset"] for name, row in rows.items()} == {
        "0_P113_U": "train", "0_P12_U": "train", "0_P7": "unlabelled", "0_P9_U": "unlabelled"}  # fmt: skip
    label = nib.load(root / rows["0_P113_U"]["label"])
    image = nib.load(root / rows["0_P113_U"]["path"])
    np.testing.assert_allclose(label.affine, image.affine, atol=1e-6)
    values = np.asarray(label.dataobj)
    # column, row and slice of DICOM (position -10 + column, -20 + row, 2 slice, to left and back) of every value
    to_dicom = np.diag([-1, -1, 1 / 2, 1]) @ label.affine
    to_dicom[:3, 3] += [10, 20, 0]
    found = {value: set() for value in range(4)}
    for voxel in np.ndindex(values.shape):
        x, y, z = np.rint(to_dicom @ [*voxel, 1])[:3].astype(int)
        found[values[voxel]].add((int(x), int(y), int(z)))
    assert found[1] == {(4, 2, 2)}
    assert found[2] == {(x, y, 2) for x in (4, 5) for y in (1, 2, 3)} - found[1]
    assert found[0] == {(3, y, 2) for y in range(5)} | {(x, y, 2) for x in (4, 5) for y in (0, 4)}
    assert {z for _, _, z in found[3]} == {0, 1, 2, 3} and {x for x, _, z in found[3] if z == 2} == {0, 1, 2}
    both = np.asarray(nib.load(root / rows["0_P12_U"]["label"]).dataobj)
    assert np.bincount(both.ravel()).tolist() == [27, 3, 15, 75]  # three halves of slices, each of 15 voxels
    recipe = catalogue.stored_as("amaes", "cosmos") | {"min_size": 3, "crop": "none"}
    table = shards.build(list(rows.values()), root, tmp_path / "stored", recipe, 0, 1, labels=list(dataset.labels))
    cases = [case for found in labelled_cases(table, tmp_path / "stored", ["unknown"]).values() for case in found]
    task = task_on(dataset, [1, 2, 3])
    assert len(cases) == 2 and list(scores_of_references(cases, root, task)["dice"]) == [1.0] * 4
    assert looking._without_label(dataset, root) == [] and fetch(dataset, root)["remarks"] == facts["remarks"]
    miniatures.write_vessel(root / "training/Training_dataset/0_P113_U", "L", {1: (wall, lumen)}, total=4)
    assert looking._without_label(dataset, root) == ["training/Training_dataset/0_P113_U"]


# ------------------------------------------------------------------------------------------------ 4 and 33 structures


def test_the_tasks_on_miccai_2012_have_the_values_of_the_map(catalogue: config.Config) -> None:
    """src/brainpretrain/datasets/structures.tsv, whose names are those of the modules."""
    table = pd.read_csv(ROOT / "src/brainpretrain/datasets/structures.tsv", sep="\t", comment="#", keep_default_na=False)
    table = table[table["scheme"] == "muse"].astype({"manual": int, "dlmuse": int})
    for name, column in (("oasis_miccai2012", "manual"), ("nichart_demo", "dlmuse"), ("ixi", "dlmuse")):
        of_module = table[table[column] == 1]
        assert dict(zip(of_module["value"], of_module["name"], strict=True)) == datasets.load(name).labels
    manual = table[table["manual"] == 1]
    for number in (4, 33):
        task, column = catalogue.tasks[f"oasis_miccai2012_{number}"], f"structure{number}"
        named = manual[~manual[column].isin(["", "no side"])]
        assert task.labels == named.groupby(column)["value"].agg(list).to_dict() and len(task.labels) == number
        assert task.ignore == manual[manual[column] == "no side"]["value"].tolist()
