"""The synthetic cohort: the same every time, labels that fit the images, grids of all kinds."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.affines import voxel_sizes

from brainpretrain.datasets import phantom
from brainpretrain.download.index import index
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, sha256, write_json

CONTRASTS = {
    "T1w": dict(grey=0.55, white=0.85, csf=0.18, lesion=0.45, skull=0.08, scalp=0.95, detail=0.8),
    "FLAIR": dict(grey=0.75, white=0.5, csf=0.15, lesion=1.0, skull=0.08, scalp=0.65, detail=-0.3),
}
OPTIONS: dict[str, Any] = {
    "subjects": 2,
    "unlabelled_subjects": 1,
    "sequences": ["T1w", "FLAIR"],
    "lesions_per_subject": [3, 3],
    "seed": 5,
    "anatomy": {
        "deformation_mm": 9,
        "deformation_scale_mm": 45,
        "size_sd": 0.05,
        "lesion_radius_mm": [9, 12],
        "head_fraction": 0,
        "skull_mm": 7,
        "scalp_mm": 6,
    },
    "grid": {
        "spacing_mm": [4, 5],
        "air_mm": 8,
        "oblique_fraction": 0.5,
        "oblique_deg": 15,
        "reoriented_fraction": 0.5,
    },
    "signal": {"contrast_sd": 0.03, "bias": 0.1, "bias_scale_mm": 90, "noise": 0.02, "contrasts": CONTRASTS},
}


def options(**changes: Any) -> dict[str, Any]:
    """OPTIONS with changes; a key `group__name` changes one number of a group."""
    changed = copy.deepcopy(OPTIONS)
    for key, value in changes.items():
        group, _, name = key.rpartition("__")
        (changed[group] if group else changed)[name] = value
    return changed


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    assert phantom.generate(root, **OPTIONS) == 6
    return root


def files(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): sha256(path) for path in sorted(root.rglob("*.nii.gz"))}


def read(root: Path, subject: str, sequence: str) -> tuple[nib.Nifti1Image, np.ndarray, np.ndarray]:
    stem = root / subject / "anat" / f"{subject}_{sequence}"
    image, label = nib.load(f"{stem}.nii.gz"), nib.load(f"{stem}_dseg.nii.gz")
    assert np.array_equal(image.affine, label.affine)
    return image, np.asarray(image.dataobj), np.asarray(label.dataobj)


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * np.sum(a & b) / (a.sum() + b.sum())


def on_grid(source: np.ndarray, source_affine: np.ndarray, target: nib.Nifti1Image) -> np.ndarray:
    """A label at the nearest voxels of another grid; 0 outside."""
    ijk = np.indices(target.shape).reshape(3, -1)
    to_source = np.linalg.inv(source_affine) @ target.affine
    at = np.rint(to_source[:3, :3] @ ijk + to_source[:3, 3:]).astype(int)
    inside = ((at >= 0) & (at < np.array(source.shape)[:, None])).all(axis=0)
    values = np.zeros(ijk.shape[1], source.dtype)
    values[inside] = source[tuple(at[:, inside])]
    return values.reshape(target.shape)


def test_index_of_a_cohort(cohort: Path) -> None:
    rows = index(phantom.DATASET, cohort)
    assert [(row["volume"], row["subset"], bool(row["label"])) for row in rows] == [
        ("sub-001_FLAIR", "train", True),
        ("sub-001_T1w", "train", True),
        ("sub-002_FLAIR", "train", True),
        ("sub-002_T1w", "train", True),
        ("sub-u001_FLAIR", "unlabelled", False),
        ("sub-u001_T1w", "unlabelled", False),
    ]


def test_it_says_that_it_is_synthetic(cohort: Path) -> None:
    assert "Synthetic" in read_json(cohort / phantom.STATE)["notice"] and "Synthetic" in phantom.DATASET.title


def test_same_arguments_same_bytes(cohort: Path, tmp_path: Path) -> None:
    phantom.generate(tmp_path, **OPTIONS)
    assert files(tmp_path) == files(cohort)


def test_a_subject_does_not_depend_on_the_others(cohort: Path, tmp_path: Path) -> None:
    phantom.generate(tmp_path, **options(subjects=1, unlabelled_subjects=0, sequences=["FLAIR"]))
    assert files(tmp_path).items() <= files(cohort).items() and len(files(tmp_path)) == 2


def test_another_seed_gives_another_cohort(cohort: Path, tmp_path: Path) -> None:
    phantom.generate(tmp_path, **options(seed=6, subjects=1, unlabelled_subjects=0))
    assert not set(files(tmp_path).values()) & set(files(cohort).values())


def test_a_second_call_does_nothing(tmp_path: Path) -> None:
    few = options(subjects=1, unlabelled_subjects=0, sequences=["T1w"])
    assert phantom.generate(tmp_path, **few) == 1
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert phantom.generate(tmp_path, **few) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("damage", ["other arguments", "a file gone", "killed before the end"])
def test_it_is_made_again_and_old_files_go(tmp_path: Path, damage: str) -> None:
    few = options(subjects=1, unlabelled_subjects=0, sequences=["T1w"])
    phantom.generate(tmp_path, **options(subjects=1, unlabelled_subjects=1, sequences=["T1w"]) if "other" in damage else few)
    if "gone" in damage:
        (tmp_path / "sub-001/anat/sub-001_T1w.nii.gz").unlink()
    if "killed" in damage:
        write_json(tmp_path / phantom.STATE, read_json(tmp_path / phantom.STATE) | {"complete": False})
    assert phantom.generate(tmp_path, **few) == 1
    assert list(files(tmp_path)) == ["sub-001/anat/sub-001_T1w.nii.gz", "sub-001/anat/sub-001_T1w_dseg.nii.gz"]
    assert phantom.generate(tmp_path, **few) == 0


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "sub-001").mkdir()
    with pytest.raises(UserError, match="does not hold a phantom"):
        phantom.generate(tmp_path, **OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["sub-001"]


def test_tissues_have_the_contrast_of_the_sequence(cohort: Path) -> None:
    for subject in ("sub-001", "sub-002"):
        mean = {}
        for sequence in ("T1w", "FLAIR"):
            _, image, label = read(cohort, subject, sequence)
            assert set(np.unique(label)) == {0, 1, 2, 3} == {0, *phantom.DATASET.labels}
            mean[sequence] = [image[label == value].mean() for value in (1, 2, 3)]
        grey, white, lesion = mean["T1w"]
        assert white > 1.2 * grey and white > 1.2 * lesion
        grey, white, lesion = mean["FLAIR"]
        assert grey > 1.03 * white and lesion > 1.2 * grey


def test_labels_follow_the_subject_from_grid_to_grid(cohort: Path) -> None:
    t1w, _, label = read(cohort, "sub-001", "T1w")
    flair, _, own = read(cohort, "sub-001", "FLAIR")
    assert not np.allclose(voxel_sizes(t1w.affine), voxel_sizes(flair.affine))
    other, _, foreign = read(cohort, "sub-002", "T1w")
    same = dice(on_grid(label, t1w.affine, flair) == 2, own == 2)
    different = dice(on_grid(foreign, other.affine, flair) == 2, own == 2)
    assert same > 0.75 and different < same - 0.15
    assert dice(on_grid(label, t1w.affine, flair) == 3, own == 3) > 0.6


def test_without_deformation_subjects_are_alike(tmp_path: Path) -> None:
    phantom.generate(
        tmp_path, **options(sequences=["T1w"], lesions_per_subject=[0, 0], anatomy__deformation_mm=0, anatomy__size_sd=0)
    )
    first, _, a = read(tmp_path, "sub-001", "T1w")
    second, _, b = read(tmp_path, "sub-002", "T1w")
    assert dice(on_grid(b, second.affine, first) == 2, a == 2) > 0.75
    assert set(np.unique(a)) == {0, 1, 2}


def test_more_lesions_more_lesion_voxels(tmp_path: Path) -> None:
    voxels = []
    for number in (1, 6):
        root = tmp_path / str(number)
        phantom.generate(root, **options(subjects=1, sequences=["T1w"], lesions_per_subject=[number, number]))
        voxels.append((read(root, "sub-001", "T1w")[2] == 3).sum())
    assert 0 < 2 * voxels[0] < voxels[1]


def test_grids_of_all_kinds(tmp_path: Path) -> None:
    for oblique, reoriented in ((0, 0), (1, 0), (0, 1)):
        root = tmp_path / f"{oblique}{reoriented}"
        changes = {"grid__oblique_fraction": oblique, "grid__reoriented_fraction": reoriented}
        phantom.generate(root, **options(subjects=4, unlabelled_subjects=0, sequences=["T1w"], **changes))
        images = [read(root, f"sub-{n:03d}", "T1w")[0] for n in range(1, 5)]
        cosines = [image.affine[:3, :3] / voxel_sizes(image.affine) for image in images]
        codes = {"".join(nib.aff2axcodes(image.affine)) for image in images}
        assert all((np.sort(np.abs(c), axis=0)[1] > 1e-3).any() == bool(oblique) for c in cosines)
        assert (codes == {"RAS"}) != bool(reoriented)
        assert all(image.header["qform_code"] == 1 == image.header["sform_code"] for image in images)
        assert all(np.allclose(image.get_qform(), image.get_sform(), atol=1e-3) for image in images)
        sizes = np.stack([voxel_sizes(image.affine) for image in images])
        assert sizes.min() > 3.99 and sizes.max() < 5.01 and len(np.unique(sizes.round(2))) > 6


def test_a_head_has_skin_and_noisy_air_and_a_stripped_brain_has_zeros(tmp_path: Path) -> None:
    bright = {}
    for head in (0, 1):
        root = tmp_path / str(head)
        phantom.generate(root, **options(subjects=1, sequences=["T1w"], anatomy__head_fraction=head))
        _, image, label = read(root, "sub-001", "T1w")
        assert image.dtype == np.int16 and label.dtype == np.uint8 and image.min() >= 0
        air = image[:2]
        assert (air.max() > 0) == bool(head)
        bright[head] = (image[label == 0] > 700).mean()
    assert bright[1] > 0.05 > bright[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sequences": ["T1w", "T2w"]}, "no contrast for the sequences T2w"),
        ({"lesions_per_subject": [4, 1]}, "lesions_per_subject: .*above the upper limit"),
        ({"anatomy__skul_mm": 1}, "anatomy.skul_mm: Extra inputs"),
        ({"grid__spacing_mm": [0, 3]}, "grid.spacing_mm.0: .*greater than 0"),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        phantom.generate(tmp_path, **options(**changes))
    assert not list(tmp_path.iterdir())
