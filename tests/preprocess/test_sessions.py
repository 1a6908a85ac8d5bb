"""Several sequences of one session: on one grid and in one crop box, from the raw files to the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import pairs
from brainpretrain import cli
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.evaluation.images import prepare
from brainpretrain.files import read_tsv
from brainpretrain.preprocess import alignment, nifti, sessions, sources
from brainpretrain.preprocess.geometry import Geometry
from helpers import SHARED

MOTION = pairs.moved((5, -4, 6), (3, -2, 2.5))
SESSION = pairs.RECIPE | {"session": ["DWI", "FLAIR"], "align": "rigid"}


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Two subjects, each with a DWI and a FLAIR that is moved against it."""
    folder = tmp_path_factory.mktemp("raw")
    return folder, [row for n in (1, 2) for row in pairs.write(folder, f"s{n}", MOTION)]


@pytest.fixture(scope="module")
def table(raw: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pairs.store(*raw, tmp_path_factory.mktemp("stored"), SESSION)


def test_a_registration_finds_the_motion(raw: Any) -> None:
    folder, _ = raw
    dwi, flair = (nifti.read_volume(folder / f"s1_{name}.nii.gz") for name in ("DWI", "FLAIR"))
    found = alignment.align(dwi, flair, "rigid", 0.9, "DWI")
    again = alignment.align(dwi, flair, "rigid", 0.9, "DWI")
    assert found == again  # to the last bit
    # both images show the head; a point of it in the DWI is at inverse(MOTION) in the FLAIR
    head = np.argwhere(dwi.array > 0) @ dwi.affine[:3, :3].T + dwi.affine[:3, 3]
    matrix = MOTION @ np.array(found.matrix)
    off_mm = np.linalg.norm(head @ matrix[:3, :3].T + matrix[:3, 3] - head, axis=1)
    header_mm = np.linalg.norm(head @ MOTION[:3, :3].T + MOTION[:3, 3] - head, axis=1)
    assert off_mm.max() < 1 < header_mm.min()  # half a voxel of the DWI
    assert found.metric < found.metric_before and found.covered > 0.99
    by_header = alignment.align(dwi, flair, "header", 0.5, "DWI")
    assert by_header.covered < found.covered and by_header.metric is None


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (pairs.moved((0, 0, 70), (0, 0, 0)), "turns by 70 degrees and scales by 1.00 to 1.00"),
        (np.diag([1, 1, 1.7, 1]), "turns by 0 degrees and scales by 1.00 to 1.70"),
        (np.diag([1, 0.5, 1, 1]), "scales by 0.50 to 1.00"),
        (np.diag([-1.0, 1, 1, 1]), "mirrors"),
        (np.diag([1.15, 1.15, 1.15, 1]), "makes it 1.52 times as large"),
    ],
)
def test_a_registration_that_no_head_allows_has_failed(raw: Any, matrix: np.ndarray, words: str) -> None:
    volume = nifti.read_volume(raw[0] / "s1_DWI.nii.gz")
    with pytest.raises(alignment.BadVolume, match=f"the affine registration to it .*{words}") as caught:
        alignment.check_plausible(matrix, volume, "affine", "it")
    assert caught.value.reason == "not_aligned" and caught.value.where == str(volume.path)
    alignment.check_plausible(pairs.moved((20, -20, 30), (99, 0, 0)) @ np.diag([1.2, 0.9, 1.1, 1]), volume, "affine", "it")


def test_a_session_is_stored_on_one_grid_and_in_one_box(raw: Any, table: Path) -> None:
    folder, rows = raw
    stored = read_tsv(table)
    assert stored["status"].tolist() == ["ok"] * 4 and stored["geometry"].nunique() == 1
    assert stored["aligned_to"].tolist() == ["", "s1_DWI.nii.gz", "", "s2_DWI.nii.gz"]
    assert stored["native_shape"].tolist()[:2] == ["30 32 26", "56 60 14"]
    assert float(stored["covered"][1]) > 0.99 and "rigid alignment to s1_DWI.nii.gz, 100.0 %" in stored["detail"][1]
    (case,) = labelled_cases(stored, table.parent, ["DWI", "FLAIR"])["s1"]
    facts = {"task": {"sequences": ["DWI", "FLAIR"]}, "preprocess": SESSION}
    image, geometry, *_ = prepare([folder / row["path"] for row in rows[:2]], facts)
    np.testing.assert_array_equal(image, case.image())  # what is predicted is what is stored
    assert geometry.to_json() == stored["geometry"][0]
    boxes = [sessions.foreground_box(nib.as_closest_canonical(nib.load(folder / row["path"])).get_fdata()) for row in rows[:1]]
    assert all(low <= own.start and own.stop <= high for (low, high), own in zip(geometry.box, boxes[0], strict=True))


def test_without_the_keys_the_case_is_refused_with_advice_that_works(raw: Any, tmp_path: Path, capsys: Any) -> None:
    stored = pairs.store(*raw, tmp_path / "own", pairs.RECIPE)
    assert "alignment" not in read_tsv(stored).columns
    with pytest.raises(cli.UserError, match=r"different grids or crops[\s\S]*session: \[DWI, FLAIR\]'[\s\S]*align: header"):
        labelled_cases(read_tsv(stored), stored.parent, ["DWI", "FLAIR"])
    advised = pairs.RECIPE | {"session": ["DWI", "FLAIR"]}
    with pytest.raises(AssertionError):  # every volume is left out, which `volumes` refuses
        pairs.store(*raw, tmp_path / "session", advised)
    said = capsys.readouterr()
    assert "s1_FLAIR.nii.gz: session_grid (it is not on the grid of s1_DWI.nii.gz" in said.out
    assert "session_grid: align: header, rigid or affine in the preprocess recipe" in said.err
    stored = pairs.store(*raw, tmp_path / "header", advised | {"align": "header", "min_covered": 0.5})
    assert len(labelled_cases(read_tsv(stored), stored.parent, ["DWI", "FLAIR"])) == 2


def test_a_session_of_two_sequences_trains_predicts_and_is_scored(raw: Any, table: Path, tmp_path: Path) -> None:
    folder, rows = raw
    scores = pairs.score(folder, table, tmp_path, SESSION, ["DWI", "FLAIR"], ["s2"])
    assert scores["volume"].tolist() == ["s2"] and scores["dice"].notna().all()
    predicted = nib.load(tmp_path / "predictions/s2.nii.gz")
    assert predicted.shape == (30, 32, 26)
    raw_files = pairs.predicted_raw(tmp_path, [folder / row["path"] for row in rows[2:]])
    np.testing.assert_array_equal(raw_files, np.asarray(predicted.dataobj))


def test_a_label_drawn_on_another_sequence_goes_along(tmp_path: Path) -> None:
    """The lesion is drawn on the FLAIR; stored and scored it is where the DWI shows it."""
    rows = pairs.write(tmp_path / "raw", "s1", MOTION, labelled="FLAIR")
    stored = read_tsv(pairs.store(tmp_path / "raw", rows, tmp_path / "stored", SESSION))
    (case,) = labelled_cases(stored, tmp_path / "stored/r", ["DWI", "FLAIR"])["s1"]
    assert case.labelled["sequence"] == "FLAIR" and "0 1" in case.labelled["label_values"]
    label = sources.read_label(tmp_path / "raw", tmp_path / "stored/r", case.labelled)
    affine = pairs.grid((30, 32, 26), (2, 2, 2))
    lesion = pairs.head((30, 32, 26), affine, np.eye(4), 0)[1]
    assert label.shape == lesion.shape and np.array_equal(label.affine, affine)
    both = np.count_nonzero(label.array.astype(bool) & lesion.astype(bool))
    assert 2 * both / (np.count_nonzero(label.array) + lesion.sum()) > 0.8  # FLAIR slices are 4 mm apart
    lookup = np.arange(256, dtype=np.uint8)
    back = Geometry.from_json(case.rows[0]["geometry"]).labels_to_native(case.label(lookup))
    assert np.count_nonzero(back != label.array) < 0.3 * lesion.sum()


def test_repair_restores_a_volume_of_a_session(raw: Any, tmp_path: Path) -> None:
    folder, rows = raw
    table = pairs.store(folder, rows[:2], tmp_path, SESSION)
    whole = (table.parent / "volumes/s1_FLAIR.b2nd").read_bytes()
    (table.parent / "volumes/s1_FLAIR.b2nd").unlink()
    assert cli.main(["repair", str(table.parent), "--root", str(folder)]) == 0
    assert (table.parent / "volumes/s1_FLAIR.b2nd").read_bytes() == whole


REAL = {
    "ISLES 2022": (
        "isles22",
        [pairs.index_row("sub-strokecase0009", name, f"sub-strokecase0009/{name}.nii.gz") for name in ("DWI", "FLAIR")],
        "sub-strokecase0009/lesion_msk.nii.gz",
        {"session": ["DWI", "FLAIR"], "align": "rigid"},
    ),
    "Ljubljana": (
        "ljubljana_ms_cross_mni",
        [pairs.index_row("patient07", name, f"patient07/{file}.nii.gz") for name, file in (("FLAIR", "FLAIR"), ("T1w", "T1"))],
        "patient07/lesion_gt.nii.gz",
        {"session": ["FLAIR", "T1w"]},
    ),
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
@pytest.mark.parametrize("name", REAL)
def test_real_sessions_train_predict_and_are_scored(name: str, tmp_path: Path) -> None:
    folder, rows, label, keys = REAL[name]
    recipe = pairs.RECIPE | {"spacing_mm": [6, 6, 6]} | keys
    rows = [rows[0] | {"label": label}, rows[1]]
    table = pairs.store(SHARED / folder, rows, tmp_path, recipe)
    stored = read_tsv(table)
    assert stored["status"].tolist() == ["ok", "ok"] and stored["geometry"].nunique() == 1
    scores = pairs.score(SHARED / folder, table, tmp_path, recipe, recipe["session"], [rows[0]["subject"]])
    assert scores["dice"].notna().all() and scores["reference_ml"].astype(float).min() > 0
    predicted = nib.load(tmp_path / f"predictions/{rows[0]['subject']}.nii.gz")
    first = nib.load(SHARED / folder / rows[0]["path"])
    assert predicted.shape == first.shape and np.allclose(predicted.affine, first.affine)
    raw_files = pairs.predicted_raw(tmp_path, [SHARED / folder / row["path"] for row in rows])
    np.testing.assert_array_equal(raw_files, np.asarray(predicted.dataobj))


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data folder is not at hand")
def test_the_header_of_a_real_session_covers_its_foreground() -> None:
    """FLAIR (512, 512, 29) onto DWI (112, 112, 73) of ISLES 2022."""
    folder = SHARED / "isles22/sub-strokecase0009"
    dwi, flair = (nifti.read_volume(folder / f"{name}.nii.gz") for name in ("DWI", "FLAIR"))
    assert alignment.align(dwi, flair, "header", 0.9, "DWI").covered == pytest.approx(0.996, abs=5e-4)
