"""Segmentations of another program: names to cases, values, grids; each on volumes made for the test, and on real label maps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, get_args

import nibabel as nib
import numpy as np
import pytest

from brainpretrain import config, structures
from brainpretrain.cohorts.cases import Case, labelled_cases
from brainpretrain.config.sections.tables import Scheme
from brainpretrain.errors import UserError
from brainpretrain.evaluation.external import ingest, match, on_grid, remarks
from brainpretrain.evaluation.scores import evaluate
from brainpretrain.files import read_json, read_tsv
from brainpretrain.preprocess import nifti
from helpers import ROOT, SHARED
from tiny import TASK

RUN = dict.fromkeys(("study", "task", "cohort", "backbone", "init", "recipe", "n_train"), "x") | {"fold": 0}
VALUES = {"title": "Other", "labels": {"ball": [53, 17]}, "background": [2], "others": "refuse"}


def case(name: str, subject: str = "", session: str = "", image: str = "T1.nii.gz") -> Case:
    return Case(name, subject or name, session, ({"path": f"raw/{image}"},), Path())


def owners(cases: list[Case], *files: str) -> dict[str, str]:
    found = match(cases, Path("/f"), [Path("/f", file) for file in files])
    return {name: path.relative_to("/f").as_posix() for name, path in found.items()}


@pytest.fixture(scope="module")
def cases(cohort) -> list[Case]:
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    return [found[name][0] for name in ("s4", "s5")]


@pytest.fixture
def folder(cohort, cases: list[Case], tmp_path: Path) -> Path:
    """The references of the cases in FreeSurfer's values 53 and 17, with some white matter (2)."""
    for one in cases:
        label = nib.load(cohort.raw / one.labelled["label"])
        array = np.asarray(label.dataobj).astype(np.int16) * 53
        array[array == 53] = np.where(np.arange((array == 53).sum()) % 2, 53, 17)
        array[0, 0, 0] = 2
        write(tmp_path / "theirs" / f"{one.name}_synthseg.nii.gz", array, label.affine)
    return tmp_path / "theirs"


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(array, affine)
    image.set_sform(affine, 1)
    nib.save(image, path)


def taken(cases: list[Case], cohort, folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    return ingest(cases, cohort.raw, folder, "**/*", VALUES | changes, TASK["labels"], out)


# --- names


@pytest.mark.parametrize(
    ("cases", "files"),
    [
        ([case("p1"), case("p10")], ["p1_0000.nii.gz", "p10_0000.nii.gz"]),
        ([case("sub-01_ses-1", "sub-01", "ses-1"), case("sub-01_ses-2", "sub-01", "ses-2")],
         ["sub-01_ses-1_dseg.nii.gz", "sub-01_ses-2_dseg.nii.gz"]),
        ([case("OAS1_0101_MR1", "OAS1_0101", "MR1")], ["OAS1_0101/mri/aseg.nii.gz"]),
        ([case("IXI012", image="IXI012-HH-1211-T1.nii.gz")], ["IXI012-HH-1211-T1_seg.nii"]),
        ([case("01"), case("02")], ["sub-01/anat/sub-01_desc-aseg_dseg.nii.gz", "sub-02/anat/sub-02_desc-aseg_dseg.nii.gz"]),
        ([case("case_001")], ["case_001/segmentations.nii.gz"]),
    ],
)  # fmt: skip
def test_a_file_is_that_of_the_case_whose_name_it_bears(cases: list[Case], files: list[str]) -> None:
    assert owners(cases, *files, "someone_else.nii.gz") == dict(zip([c.name for c in cases], files, strict=True))


@pytest.mark.parametrize(
    ("cases", "files", "words"),
    [
        ([case("p1"), case("p2")], ["p1.nii.gz", "p20.nii.gz"], r"1 of 2 cases .*: p2; files of no case of the cohort: p20.nii.gz"),
        ([case("p1")], ["p1.nii.gz", "p1_old.nii.gz"], r"1 cases have several segmentations: p1: p1.nii.gz p1_old.nii.gz"),
        ([case("p1")], [], r"no NIfTI file that counts; the cohort has 1 cases: p1"),
        # the subject has other sessions than the one that is scored
        ([case("sub-01_ses-1", "sub-01", "ses-1")], ["sub-01_ses-2_dseg.nii.gz"], "1 of 1 cases"),
        ([case("OAS1_0101_MR1", "OAS1_0101", "MR1")], ["OAS1_0101_MR2_seg.nii.gz"], "1 of 1 cases"),
        # a subject with two cases has no file that names the subject alone
        ([case("a_1", "a", "1"), case("a_2", "a", "2")], ["a.nii.gz"], "2 of 2 cases"),
    ],
)  # fmt: skip
def test_missing_double_and_foreign_files_are_listed(cases: list[Case], files: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        owners(cases, *files)


# --- values and grids


def test_values_become_those_of_the_task_and_perfect_files_get_a_perfect_score(
    cohort, cases, folder: Path, tmp_path: Path
) -> None:
    content = taken(cases, cohort, folder, tmp_path / "out")
    assert content == read_json(tmp_path / "out" / "external.json")
    assert remarks(content) == [
        "2 of 2 cases: on the grid of the image",
        "label values that count as background: 2 in 2 of 2 cases",
    ]
    scores = evaluate(cases, cohort.raw, tmp_path / "out", TASK, RUN)
    assert list(scores["volume"]) == ["s4", "s5"] and (scores["dice"] == 1).all()


def test_a_value_without_a_name_is_refused_or_counts_as_background(cohort, cases, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds 2, which 'labels'.*\n.*s4_synthseg[\s\S]*others: background"):
        taken(cases, cohort, folder, tmp_path / "out", background=[])
    content = taken(cases, cohort, folder, tmp_path / "out", background=[], others="background")
    assert content["background"] == {"2": 2}
    assert (evaluate(cases, cohort.raw, tmp_path / "out", TASK, RUN)["dice"] == 1).all()


def turned(image: nib.Nifti1Image) -> nib.Nifti1Image:
    return image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]]))


def finer(image: nib.Nifti1Image) -> nib.Nifti1Image:
    """Voxels of half the size in the same field of view, as SynthSeg writes 1 mm for an image of 2 mm."""
    affine = image.affine @ np.diag([0.5, 0.5, 0.5, 1])
    affine[:3, 3] = (image.affine @ [-0.25, -0.25, -0.25, 1])[:3]
    return nib.Nifti1Image(np.asarray(image.dataobj).repeat(2, 0).repeat(2, 1).repeat(2, 2), affine)


def padded(image: nib.Nifti1Image) -> nib.Nifti1Image:
    affine = image.affine.copy()
    affine[:3, 3] = (image.affine @ [-3, -2, -1, 1])[:3]
    return nib.Nifti1Image(np.pad(np.asarray(image.dataobj), [(3, 4), (2, 5), (1, 6)]), affine)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (turned, "the same voxels, axes"),
        (finer, "resampled by nearest neighbour from"),
        (padded, "the same voxels in a field of view"),
    ],
)
def test_other_axes_and_other_voxels_come_to_the_grid_of_the_image(cohort, cases, folder, tmp_path, change, words) -> None:
    """Each loses nothing, so that the score stays perfect; what was done is said."""
    for path in folder.glob("*.nii.gz"):
        image = change(nib.load(path))
        write(path, np.asarray(image.dataobj), image.affine)
    content = taken(cases, cohort, folder, tmp_path / "out")
    assert all(entry["grid"].startswith(words) for entry in content["cases"].values()), content
    assert (evaluate(cases, cohort.raw, tmp_path / "out", TASK, RUN)["dice"] == 1).all()


@pytest.mark.parametrize("kind", ["elsewhere", "cropped", "no header", "not integers", "damaged"])
def test_a_file_that_cannot_be_right_is_refused_and_nothing_is_recorded(cohort, cases, folder, tmp_path, kind) -> None:
    path = folder / "s5_synthseg.nii.gz"
    image = nib.load(path)
    array, affine = np.asarray(image.dataobj), image.affine.copy()
    words = "of the image's foreground"
    if kind == "elsewhere":
        affine[:3, 3] += 500
        write(path, array, affine)
    elif kind == "cropped":
        write(path, array[: len(array) // 2], affine)
    elif kind == "no header":
        bare = nib.Nifti1Image(array, None)
        bare.set_sform(None, 0), bare.set_qform(None, 0)
        nib.save(bare, path)
        words = "neither qform nor sform"
    elif kind == "not integers":
        write(path, array.astype(np.float32) + 0.3, affine)
        words = "not integers"
    else:
        path.write_bytes(path.read_bytes()[:200])
        words = "s5_synthseg"
    with pytest.raises(UserError, match=words):
        taken(cases, cohort, folder, tmp_path / "out")
    assert not (tmp_path / "out" / "external.json").exists()


def test_a_missing_folder_says_what_belongs_there(cohort, cases, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no such folder[\s\S]*'Other'"):
        taken(cases, cohort, tmp_path / "nothing", tmp_path / "out")


# --- schemes


def test_the_scheme_of_synthseg_has_the_31_structures_of_its_first_version() -> None:
    sided = [row["structure33"] for row in structures.rows() if row["scheme"] == "muse"]
    names = sorted(set(sided) - {"", "no side", "vessel_L", "vessel_R"})
    found = structures.values("synthseg", names, "here")
    assert len(names) == 31 and found["hippocampus_L"] == [17] and found["third_ventricle"] == [14]
    firsts = {int(row["value"]) for row in structures.rows() if row["synthseg"] == "1"}
    assert len(firsts) == 31 and {group[0] for group in found.values()} == firsts
    assert found["cerebral_cortex_R"] == [42, *[n for n in range(2001, 2036) if n != 2004]]
    task = config.load(ROOT / "config").tasks["oasis_miccai2012_31"]
    manual = {int(row["value"]) for row in structures.rows() if row["manual"] == "1"}  # the others are DLMUSE's alone
    known = {name: [v for v in group if v in manual] for name, group in structures.values("muse", names, "here").items()}
    assert sorted(task.labels) == names and task.labels == known
    assert {name for pair in task.left_right for name in pair} == {name for name in names if name[-2:] in ("_L", "_R")}
    with pytest.raises(UserError, match=r"no value for vessel_L[\s\S]*without these classes"):
        structures.values("synthseg", [*names, "vessel_L"], "here")
    with pytest.raises(UserError, match=r"class 'hippocampus_l' is none[\s\S]*did you mean 'hippocampus_"):
        structures.values("freesurfer", [*names[1:], "hippocampus_l"], "here")


def test_the_config_has_the_schemes_of_the_table() -> None:
    assert get_args(Scheme) and set(get_args(Scheme)) == set(structures.SCHEMES)


def test_every_scheme_has_both_sides_of_each_structure_and_one_meaning_for_each_value() -> None:
    for scheme in ("freesurfer", "muse", "neurite35"):
        rows = [row for row in structures.rows() if row["scheme"] == scheme]
        assert len({row["value"] for row in rows}) == len(rows) == len(structures.names(scheme))
        of = {name: sum(row["structure33"] == name for row in rows) for name in {row["structure33"] for row in rows}}
        for name in (name for name in of if name.endswith("_L")):
            assert of[name] == of[f"{name[:-1]}R"], (scheme, name)
        for row in rows:  # the side in the name is that of the structure
            left = row["name"].startswith(("Left", "ctx-lh")) or row["name"].endswith("_L")
            right = row["name"].startswith(("Right", "ctx-rh")) or row["name"].endswith("_R")
            assert (left, right) == (row["structure33"].endswith("_L"), row["structure33"].endswith("_R")) or not row[
                "structure33"
            ]
            assert row["structure4"] or row["structure33"].startswith(("vessel", "no side")) or not row["structure33"], row
    # a structure of the 33 is of one of the 4 kinds in all schemes
    kinds: dict[str, set[str]] = {}
    for row in structures.rows():
        if row["structure33"] not in ("", "no side"):
            kinds.setdefault(row["structure33"], set()).add(row["structure4"])
    assert len(kinds) == 33 and all(len(found) == 1 for found in kinds.values()), kinds


@pytest.mark.skipif(not (SHARED / "oasis_miccai2012").exists(), reason=f"no shared volumes at {SHARED}")
def test_manual_labels_in_freesurfers_values_and_axes_are_those_labels(tmp_path: Path) -> None:
    """A stand-in for SynthSeg: a real manual map in FreeSurfer's values, eroded by a voxel along x, turned and padded as `conform` does."""
    source = sorted((SHARED / "oasis_miccai2012").iterdir())[0]
    label = nib.load(next(source.glob("labels_*.nii.gz")))
    manual = np.asarray(label.dataobj).astype(int)
    classes = [
        name for name in sorted({row["structure33"] for row in structures.rows()} - {"", "no side"}) if "vessel" not in name
    ]
    theirs, ours = structures.values("freesurfer", classes, "here"), structures.values("muse", classes, "here")
    array = np.zeros(manual.shape, np.int16)
    for name in classes:
        array[np.isin(manual, ours[name])] = theirs[name][0]
    image = padded(turned(nib.Nifti1Image(array, label.affine)))
    write(tmp_path / "aseg.nii.gz", np.asarray(image.dataobj), image.affine)
    reference, volume = nifti.read_volume(next(source.glob("labels_*.nii.gz"))), nifti.read_volume(tmp_path / "aseg.nii.gz")
    moved, words = on_grid(volume.array, volume, reference)
    assert np.array_equal(moved, array) and words.startswith("the same voxels in a field of view of")
    sizes = {name: int((array == theirs[name][0]).sum()) for name in classes}
    assert min(sizes.values()) > 50 and sizes["cerebral_cortex_L"] > 50 * sizes["amygdala_L"] > 0
    x = {name: np.argwhere(moved == theirs[name][0]).mean(0) for name in classes if name[-2:] in ("_L", "_R")}
    world = {name: float((label.affine @ [*place, 1])[0]) for name, place in x.items()}
    assert all(world[name] < world[f"{name[:-1]}R"] for name in world if name.endswith("_L"))
    shutil.rmtree(tmp_path)
