"""Folders of images, ensembles of folds, and probabilities, by the command `predict`."""

import nibabel as nib
import numpy as np
import pytest
import torch

from brainpretrain import cli
from brainpretrain.errors import UserError
from brainpretrain.evaluation import finding
from brainpretrain.evaluation.model import load_ensemble, load_model
from brainpretrain.files import read_json
from brainpretrain.weights import store
from models import brain, labels_of, make_model, predict, save


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """Two models of one arm with other weights, in folders as the workflow has them."""
    arm = tmp_path_factory.mktemp("arm")
    for fold in range(2):
        folder = make_model(arm / f"fold{fold}", fold=fold)
        tensors, facts = store.load(folder / "model")
        generator = torch.Generator().manual_seed(fold)
        store.save(
            folder / "model",
            {name: value + 0.3 * torch.randn(value.shape, generator=generator) for name, value in tensors.items()},
            facts,
        )
    return arm


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names(cases, folder):
    return [[path.relative_to(folder).as_posix() for path in images] for images in cases]


@pytest.mark.parametrize(
    ("files", "sequences", "expected"),
    [
        (["b_0000.nii.gz", "a_0000.nii.gz"], ["T1w"], [["a_0000.nii.gz"], ["b_0000.nii.gz"]]),
        (["a_0000.nii.gz", "a_0001.nii.gz"], ["FLAIR", "T1w"], [["a_0000.nii.gz", "a_0001.nii.gz"]]),
        (["x.nii", "deep/y.nii.gz"], ["T1w"], [["deep/y.nii.gz"], ["x.nii"]]),
        (["p1_T1w.nii.gz", "p1_FLAIR.nii.gz"], ["FLAIR", "T1w"], [["p1_FLAIR.nii.gz", "p1_T1w.nii.gz"]]),
        (
            ["sub-1/anat/sub-1_T1w.nii.gz", "sub-1/anat/sub-1_FLAIR.nii.gz", "derivatives/x/sub-1/sub-1_T1w.nii.gz",
             "sub-1/anat/sub-1_space-MNI_T1w.nii.gz", "sub-1/func/sub-1_bold.nii.gz", "atlas.nii.gz"],
            ["T1w"], [["sub-1/anat/sub-1_T1w.nii.gz"]],
        ),
        (
            ["sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz", "sub-1/ses-a/anat/sub-1_ses-a_FLAIR.nii.gz",
             "sub-1/ses-b/anat/sub-1_ses-b_FLAIR.nii.gz", "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz"],
            ["FLAIR", "T1w"],
            [["sub-1/ses-a/anat/sub-1_ses-a_FLAIR.nii.gz", "sub-1/ses-a/anat/sub-1_ses-a_T1w.nii.gz"],
             ["sub-1/ses-b/anat/sub-1_ses-b_FLAIR.nii.gz", "sub-1/ses-b/anat/sub-1_ses-b_T1w.nii.gz"]],
        ),
    ],
)  # fmt: skip
def test_the_cases_of_a_folder(tmp_path, files, sequences, expected):
    assert names(finding.cases(touch(tmp_path, *files), sequences), tmp_path) == expected


@pytest.mark.parametrize(
    ("files", "sequences", "message"),
    [
        ([], ["T1w"], "no NIfTI file"),
        (["a_0000.nii.gz", "a_0001.nii.gz"], ["T1w"], "the files have channel 1, but the model reads 1: T1w"),
        (["a_0000.nii.gz", "b_0000.nii.gz", "b_0001.nii.gz"], ["FLAIR", "T1w"], "a: no T1w"),
        (["p1.nii.gz"], ["FLAIR", "T1w"], "recognised by its name"),
        (["sub-1/sub-1_T2w.nii.gz"], ["T1w"], "recognised by its name"),
        (
            ["sub-1/sub-1_run-1_T1w.nii.gz", "sub-1/sub-1_run-2_T1w.nii.gz", "sub-1/sub-1_FLAIR.nii.gz"],
            ["FLAIR", "T1w"],
            "2 files of T1w",
        ),
    ],
)
def test_a_folder_without_complete_cases_is_refused(tmp_path, files, sequences, message):
    with pytest.raises(UserError, match=message):
        finding.cases(touch(tmp_path, *files), sequences)


def test_participants_are_chosen_by_their_labels(tmp_path):
    folder = touch(tmp_path, "sub-01/anat/sub-01_T1w.nii.gz", "sub-02/anat/sub-02_T1w.nii.gz")
    assert names(finding.cases(folder, ["T1w"], ["sub-02"]), folder) == [["sub-02/anat/sub-02_T1w.nii.gz"]]
    with pytest.raises(UserError, match="no image of participant 03"):
        finding.cases(folder, ["T1w"], ["03"])


def test_a_folder_of_nnunet_is_segmented_under_the_names_that_its_users_expect(folds, tmp_path):
    images = [save(tmp_path / "in" / f"case_{number}_0000.nii.gz", brain(number)) for number in range(2)]
    assert predict(folds / "fold0", tmp_path / "out", tmp_path / "in") == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["case_0.nii.gz", "case_1.nii.gz"]
    assert predict(folds / "fold0", tmp_path / "one", images[1]) == 0
    assert np.array_equal(labels_of(tmp_path / "one" / "case_1.nii.gz"), labels_of(tmp_path / "out" / "case_1.nii.gz"))


def test_folds_are_averaged_by_their_logits(folds, tmp_path):
    image = save(tmp_path / "x.nii.gz", brain())
    assert predict(folds, tmp_path / "out", image) == 0  # the folder of the arm
    line = ["predict", str(image), "--out", str(tmp_path / "two")]
    assert cli.main([*line, "--model", str(folds / "fold0"), "--model", str(folds / "fold1")]) == 0
    both = labels_of(tmp_path / "out" / "x_dseg.nii.gz")
    assert np.array_equal(both, labels_of(tmp_path / "two" / "x_dseg.nii.gz"))
    sidecar = read_json(tmp_path / "out" / "x_dseg.json")
    assert len(sidecar["ModelSHA256"]) == 2
    network, _ = load_ensemble([folds / "fold0" / "model", folds / "fold1" / "model"])
    patch = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        alone = [load_model(folds / f"fold{fold}" / "model")[0](patch) for fold in range(2)]
        assert torch.equal(network(patch), torch.stack(alone).mean(0))
    for fold in range(2):
        assert predict(folds / f"fold{fold}", tmp_path / f"alone{fold}", image) == 0
        assert not np.array_equal(both, labels_of(tmp_path / f"alone{fold}" / "x_dseg.nii.gz"))


def test_models_of_other_classes_are_not_averaged(folds, tmp_path, capsys):
    other = make_model(tmp_path / "other", ("T1w",))
    tensors, facts = store.load(other / "model")
    store.save(other / "model", tensors, facts | {"task": facts["task"] | {"labels": {"ball": [4], "rim": [300]}}})
    line = ["predict", str(save(tmp_path / "x.nii.gz", brain())), "--out", str(tmp_path / "out"), "--model", str(folds / "fold0")]
    assert cli.main([*line, "--model", str(other)]) == 2
    assert "cannot be averaged: they differ in task" in capsys.readouterr().err


def test_probabilities_agree_with_the_labels(folds, tmp_path):
    image = save(tmp_path / "x.nii.gz", brain(), np.diag([1.3, 1, 1.1, 1]))
    assert predict(folds / "fold0", tmp_path / "out", image) == 0
    assert predict(folds / "fold0", tmp_path / "out", image, options=["--probabilities"]) == 0  # adds what is missing
    ball, rim = (np.asarray(nib.load(tmp_path / "out" / f"x_label-{name}_probseg.nii.gz").dataobj) for name in ("ball", "rim"))
    labels = labels_of(tmp_path / "out" / "x_dseg.nii.gz")
    assert ball.dtype == np.float32 and ball.min() >= 0 and (ball + rim).max() <= 1 + 1e-6
    ranked = np.stack([1 - ball - rim, ball, rim]).argmax(0)
    sure = (
        np.abs(np.sort(np.stack([1 - ball - rim, ball, rim]), 0)[2] - np.sort(np.stack([1 - ball - rim, ball, rim]), 0)[1]) > 1e-4
    )
    assert np.array_equal(np.array([0, 3, 300])[ranked][sure], labels[sure]) and sure.mean() > 0.9


def test_the_form_of_a_bids_app(folds, tmp_path, capsys):
    for subject in ("01", "02"):
        save(tmp_path / "raw" / f"sub-{subject}" / "anat" / f"sub-{subject}_T1w.nii.gz", brain(int(subject)))
    line = ["predict", str(tmp_path / "raw"), str(tmp_path / "out"), "participant", "--model", str(folds / "fold0")]
    assert cli.main([*line, "--participant_label", "02"]) == 0
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*_dseg.nii.gz"))
    assert found == ["sub-02/anat/sub-02_desc-pred_dseg.nii.gz"]
    assert cli.main(["predict", str(tmp_path / "raw"), "--model", str(folds / "fold0")]) == 2
    assert "BIDS_DIR OUT participant" in capsys.readouterr().err
