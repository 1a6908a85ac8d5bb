"""Segmentation of a cohort of the workflow."""

import json

import numpy as np
import pytest

import tiny
from brainpretrain import cli
from brainpretrain.cohorts.cases import Case, labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.evaluation.cohort import as_derivatives, predict_cohort
from brainpretrain.files import read_json, read_tsv, write_json
from models import WINDOW, labels_of, make_model, predict


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_the_command_predicts_what_the_workflow_predicts(cohort, model, tmp_path):
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    cases = [found[name][0] for name in ("s1", "s2", "s4")]
    predict_cohort(model / "model.safetensors", cases, cohort.raw, WINDOW, tmp_path / "cohort")
    assert predict(model, tmp_path / "files", *(cohort.raw / f"{case.name}_T1w.nii.gz" for case in cases)) == 0
    for case in cases:
        ours, theirs = tmp_path / "files" / f"{case.name}_T1w_dseg.nii.gz", tmp_path / "cohort" / f"{case.name}.nii.gz"
        assert ours.read_bytes() == theirs.read_bytes()
        assert set(np.unique(labels_of(ours))) == {0, 3, 300}
    about = read_json(tmp_path / "cohort" / "predictions.json")
    assert about["cases"] == ["s1", "s2", "s4"] and about["inference"] == WINDOW


def test_the_predictions_of_a_cohort_as_a_bids_dataset(cohort, model, tmp_path):
    folder, out = tmp_path / "predictions", tmp_path / "bids"
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    predict_cohort(model / "model", [found["s5"][0]], cohort.raw, WINDOW, folder)
    write_json(tmp_path / "test.json", {"test": ["s5"]})
    line = ["bids", "--predictions", folder, "--model", model / "model.safetensors", "--volumes", cohort.table, "--root", cohort.raw,
            "--split", cohort.split, "--task", json.dumps(tiny.TASK), "--n-train", "2", "--cohort", "test", "--fixed",
            tmp_path / "test.json", "--dataset", "msd_hippocampus", "--out", out]  # fmt: skip
    assert cli.main([str(word) for word in line]) == 0
    place = out / "sub-s5" / "anat" / "sub-s5_desc-pred_dseg.nii.gz"
    assert place.read_bytes() == (folder / "s5.nii.gz").read_bytes()
    sidecar = read_json(place.with_name("sub-s5_desc-pred_dseg.json"))
    assert sidecar["Sources"] == ["bids:raw:s5_T1w.nii.gz"] and sidecar["SlidingWindow"]["overlap"] == 0.5
    assert read_json(out / "dataset_description.json")["SourceDatasets"][0]["URL"].startswith("http")


def test_a_subject_without_a_bids_label_is_refused(cohort, model, tmp_path):
    (case,) = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])["s5"]
    write_json(tmp_path / "predictions.json", {"model": "m", "model_sha256": "", "inference": WINDOW})
    with pytest.raises(UserError, match="'張' has no letter or digit that BIDS allows"):
        nameless = [Case("張", "張", "", case.rows, case.folder)]
        as_derivatives(nameless, tmp_path, model / "model", cohort.raw, {"URL": "x"}, tmp_path / "bids")


def test_two_subjects_never_share_a_bids_label(cohort, model, tmp_path):
    (case,) = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])["s5"]
    twins = [Case(name, name, "", case.rows, case.folder) for name in ("s_5", "s-5")]
    write_json(tmp_path / "predictions.json", {"model": "m", "model_sha256": "", "inference": WINDOW})
    with pytest.raises(UserError, match="'s_5' and 's-5' have one BIDS label"):
        as_derivatives(twins, tmp_path, model / "model", cohort.raw, {"URL": "x"}, tmp_path / "bids")
