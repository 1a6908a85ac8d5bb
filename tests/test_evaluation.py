import nibabel as nib
import numpy as np
import pytest

import tiny
from brainpretrain import data, evaluation, training, volumes
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv

WINDOW = {"overlap": 0.5, "weights": "gaussian", "batch": 2}
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
    found = data.cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    return [found[name][0] for name in ("s4", "s5")]


@pytest.fixture(scope="module")
def predictions(cohort, cases, tmp_path_factory):
    """Predictions of a network that has learned the ball."""
    root = tmp_path_factory.mktemp("trained")
    config = tiny.finetune_config(120) | {"n_train": "4"}
    machine = {"devices": 1, "nodes": 1, "threads": 2, "workers": 0, "save_every": 1000, "tensorboard": False, "max_idle": 3}
    run = training.Run(root / "out", root / "work", **machine, log_every=40)
    training.finetune(read_tsv(cohort.table), cohort.folder, cohort.split, None, config, run)
    evaluation.predict(root / "out" / "model", cases, cohort.raw, WINDOW, root / "predictions")
    return root / "predictions"


def copy_of(folder, target):
    import shutil

    return shutil.copytree(folder, target)


def test_a_trained_network_finds_the_ball_in_native_space(cohort, cases, predictions):
    scores = evaluation.evaluate(cases, cohort.raw, predictions, tiny.TASK, RUN)
    assert list(scores.columns) == evaluation.SCORE_COLUMNS
    assert list(scores["volume"]) == ["s4", "s5"] and set(scores["label"]) == {"ball"}
    assert scores["dice"].min() > 0.85
    for case in cases:
        raw, found = nib.load(cohort.raw / f"{case.name}_T1w.nii.gz"), nib.load(predictions / f"{case.name}.nii.gz")
        assert found.shape == raw.shape and np.array_equal(found.affine, raw.affine)


def test_a_perfect_and_a_wrong_prediction(cohort, cases, tmp_path):
    for case, change in zip(cases, (lambda a: a, lambda a: 0 * a), strict=True):
        label = nib.load(cohort.raw / f"{case.name}_label.nii.gz")
        array = change(np.asarray(label.dataobj))
        volumes.write_volume(tmp_path / f"{case.name}.nii.gz", array, like=cohort.raw / f"{case.name}_label.nii.gz")
    scores = evaluation.evaluate(cases, cohort.raw, tmp_path, tiny.TASK, RUN)
    assert list(scores["dice"]) == [1.0, 0.0] and list(scores["status"]) == ["ok", "prediction_empty"]


@pytest.mark.parametrize("change", ["missing", "extra", "truncated", "shifted", "other shape"])
def test_a_prediction_that_does_not_fit_is_refused_by_name(cohort, cases, predictions, tmp_path, change):
    folder = copy_of(predictions, tmp_path / "p")
    path = folder / "s4.nii.gz"
    image = nib.load(path)
    array, affine = np.asarray(image.dataobj), image.affine.copy()
    if change == "missing":
        path.unlink()
    elif change == "extra":
        copy_of_file = folder / "s9.nii.gz"
        copy_of_file.write_bytes(path.read_bytes())
    elif change == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif change == "shifted":
        affine[0, 3] += 20
        nib.save(nib.Nifti1Image(array, affine), path)
    else:
        nib.save(nib.Nifti1Image(array[:-1], affine), path)
    with pytest.raises(UserError, match="s9" if change == "extra" else "s4"):
        evaluation.evaluate(cases, cohort.raw, folder, tiny.TASK, RUN)


def test_ignored_labels_do_not_score():
    reference, prediction = np.array([1, 1, data.IGNORED, 0]), np.array([1, 0, 1, 0])
    (row,) = evaluation._scores(reference, prediction, tiny.TASK)
    assert (row["true_positives"], row["false_positives"], row["false_negatives"]) == (1, 0, 1)
    assert row["dice"] == pytest.approx(2 / 3)


def test_classes_are_written_as_values_of_the_label_file():
    assert list(evaluation.class_values({"enhancing": [4], "cortex": [1002, 2002]})) == [0, 4, 1002]


def test_overlays_show_worst_median_and_best_in_ras(cohort, cases, predictions, tmp_path):
    folder = tmp_path / "fold0"
    copy_of(predictions, folder / "predictions")
    scores = evaluation.evaluate(cases, cohort.raw, predictions, tiny.TASK, RUN)
    scores.to_csv(folder / "scores.tsv", sep="\t", index=False)
    found = evaluation.overlays([folder], read_tsv(cohort.table), cohort.folder, cohort.raw, tiny.TASK)
    assert [overlay.pick["rank"] for overlay in found] == ["worst", "best"]
    for overlay in found:
        assert overlay.image.shape == overlay.reference.shape == overlay.prediction.shape
        assert overlay.image[overlay.reference == 1].mean() > 200  # the ball is bright
