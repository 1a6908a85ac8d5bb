import dataclasses
import json

import nibabel as nib
import numpy as np
import pytest

import tiny
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.evaluation.cohort import predict_cohort
from brainpretrain.evaluation.scores import SCORE_COLUMNS, evaluate, summary
from brainpretrain.files import read_tsv, write_tsv
from brainpretrain.preprocess import nifti
from trainings import finetune_here

WINDOW = {"overlap": 0.5, "weights": "gaussian", "batch": 2, "mirror": []}
RUN = {
    "study": "s",
    "task": "t",
    "cohort": "test",
    "backbone": "b",
    "init": "scratch",
    "recipe": "r",
    "n_train": "4",
    "fold": 0,
}


@pytest.fixture(scope="module")
def cases(cohort):
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    return [found[name][0] for name in ("s4", "s5")]


@pytest.fixture(scope="module")
def predictions(cohort, cases, tmp_path_factory):
    """Predictions of a network that has learned the ball."""
    root = tmp_path_factory.mktemp("trained")
    config = tiny.finetune_config(120) | {"n_train": "4"}
    out = finetune_here(cohort, root, config, log_every=40, threads=2)
    predict_cohort(out / "model", cases, cohort.raw, WINDOW, root / "predictions")
    return root / "predictions"


def cases_of(cohort):
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    return [case for cases in found.values() for case in cases]


def copy_of(folder, target):
    import shutil

    return shutil.copytree(folder, target)


def test_a_trained_network_finds_the_ball_in_native_space(cohort, cases, predictions):
    scores = evaluate(cases, cohort.raw, predictions, tiny.TASK, RUN)
    assert list(scores.columns) == SCORE_COLUMNS
    assert list(scores["volume"]) == ["s4", "s5"] and set(scores["label"]) == {"ball"}
    assert scores["dice"].min() > 0.85 and scores["nsd"].min() > 0.8 and scores["hd95_mm"].max() < 4
    assert list(scores["lesions_reference"]) == [1, 1] and list(scores["lesions_found"]) == [1, 1]
    for case in cases:
        raw, found = nib.load(cohort.raw / f"{case.name}_T1w.nii.gz"), nib.load(predictions / f"{case.name}.nii.gz")
        assert found.shape == raw.shape and np.array_equal(found.affine, raw.affine)


def labels_as_predictions(cohort, cases, folder, *changes):
    """Each case's own label, changed, as its prediction."""
    for case, change in zip(cases, changes, strict=True):
        label = cohort.raw / f"{case.name}_label.nii.gz"
        nifti.write_volume(folder / f"{case.name}.nii.gz", change(np.asarray(nib.load(label).dataobj)), like=label)
    return folder


def same(array):
    return array


def nothing(array):
    return 0 * array


def test_a_perfect_and_an_empty_prediction(cohort, cases, tmp_path):
    folder = labels_as_predictions(cohort, cases, tmp_path, same, nothing)
    scores = evaluate(cases, cohort.raw, folder, tiny.TASK, RUN)
    perfect, missed = scores.to_dict("records")
    assert [perfect[name] for name in ("dice", "nsd", "hd95_mm", "volume_error", "lesion_f1", "status")] == [1, 1, 0, 0, 1, "ok"]
    assert [missed[name] for name in ("dice", "nsd", "volume_error", "lesion_f1")] == [0, 0, -1, 0]
    assert np.isnan(missed["hd95_mm"]) and missed["status"] == "prediction_empty"
    assert perfect["reference_ml"] == perfect["reference_voxels"] / 1000
    assert summary(scores) == [
        "ball: Dice 0.5000, NSD 0.5000, HD95 0.00 mm, volume error -50.0 %, lesion F1 0.5000 (2 cases, 1 prediction empty)"
    ]


def test_scores_are_written_with_the_site_and_whole_numbers(cohort, cases, tmp_path):
    rows = [[dict(row) | {"site": "Utrecht"} for row in case.rows] for case in cases]
    at_site = [dataclasses.replace(case, rows=tuple(row)) for case, row in zip(cases, rows, strict=True)]
    folder = labels_as_predictions(cohort, cases, tmp_path, same, same)
    task = tiny.TASK | {"labels": {"ball": [1], "other": [2]}}
    write_tsv(tmp_path / "scores.tsv", evaluate(at_site, cohort.raw, folder, task, RUN))
    ball, other = read_tsv(tmp_path / "scores.tsv").to_dict("records")[:2]
    assert (ball["site"], ball["lesions_reference"], ball["reference_ml"][:2]) == ("Utrecht", "1", "0.")
    assert (other["lesions_reference"], other["lesion_f1"], other["dice"], other["status"]) == ("", "", "", "both_empty")


def test_spacing_and_turned_axes_of_a_case_reach_the_metrics(tmp_path):
    """A ball one voxel off along the file's first axis is as far off in mm as that axis says."""
    array = np.zeros((20, 18, 16), np.uint8)
    array[4:12, 5:12, 4:12] = 1
    affine = np.array([[0, 0, 1.5, 0], [-3.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
    cohort = tiny.store(tmp_path / "stored", dict.fromkeys(("a", "b"), (array, affine)))
    cases = cases_of(cohort)
    for case in cases:
        save(np.roll(array, 1, axis=0), affine, tmp_path / f"{case.name}.nii.gz")
    scores = evaluate(cases, cohort.raw, tmp_path, tiny.TASK | {"nsd_tolerance_mm": 2.9}, RUN)
    assert list(scores["hd95_mm"]) == [3.0, 3.0] and scores["nsd"].max() < 1
    assert scores["reference_ml"].iloc[0] == pytest.approx(8 * 7 * 8 * 4.5 / 1000)


def test_what_the_recipe_stored_can_be_scored(cohort, cases, tmp_path):
    """Also where its spacing is outside the limits that hold for other files."""
    raw = tmp_path / "raw"
    raw.mkdir()
    array = np.zeros((20, 18, 16), np.uint8)
    array[4:12, 5:12, 4:12] = 1
    for case in cases:
        save(array, np.diag([0.02, 0.02, 30, 1]), raw / f"{case.name}_label.nii.gz")
        save(array, np.diag([0.02, 0.02, 30, 1]), tmp_path / f"{case.name}.nii.gz")
    with pytest.raises(UserError, match=r"is not within 0\.05 to 20 mm"):
        evaluate(cases, raw, tmp_path, tiny.TASK, RUN)
    grid = {"native_shape": [20, 18, 16], "native_affine": np.diag([0.02, 0.02, 30, 1]).tolist()}
    changed = {"native_spacing_mm": "0.02 0.02 30", "native_shape": "20 18 16"}
    rows = [
        [dict(row) | changed | {"geometry": json.dumps(json.loads(row["geometry"]) | grid)} for row in case.rows]
        for case in cases
    ]
    stored = [
        dataclasses.replace(case, rows=tuple(row), folder=tmp_path) for case, row in zip(cases, rows, strict=True)
    ]  # a folder without records
    assert list(evaluate(stored, raw, tmp_path, tiny.TASK, RUN)["dice"]) == [1, 1]


def save(array, affine, path):
    nib.save(nib.Nifti1Image(array, affine), path)


def test_a_folder_without_predictions_is_refused(cohort, cases, tmp_path):
    with pytest.raises(UserError, match=r"2 missing: s4\.nii\.gz s5\.nii\.gz"):
        evaluate(cases, cohort.raw, tmp_path / "nowhere", tiny.TASK, RUN)


def test_any_value_of_a_class_may_be_predicted_and_ignored_voxels_do_not_score(tmp_path):
    """The reference has 1 and 5 for the ball, and 2 for what is ignored; the prediction has 5, also where it is ignored."""
    reference = np.zeros((16, 16, 16), np.uint8)
    reference[4:8, 4:12, 4:12], reference[8:10, 4:12, 4:12], reference[10:12, 4:12, 4:12] = 1, 5, 2
    predicted = np.zeros_like(reference)
    predicted[4:12, 4:12, 4:12] = 5
    cohort = tiny.store(tmp_path / "stored", dict.fromkeys(("a", "b"), (reference, np.eye(4))))
    cases = cases_of(cohort)
    for case in cases:
        save(predicted, np.eye(4), tmp_path / f"{case.name}.nii.gz")
    task = tiny.TASK | {"labels": {"ball": [1, 5]}, "ignore": [2]}
    scores = evaluate(cases, cohort.raw, tmp_path, task, RUN)
    for name, expected in {"dice": 1, "nsd": 1, "hd95_mm": 0, "volume_error": 0, "false_positives": 0, "lesion_f1": 1}.items():
        assert set(scores[name]) == {expected}, name
