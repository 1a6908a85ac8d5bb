"""Segmentation of any NIfTI files, by the command."""

import json
import os
import re
import shutil

import nibabel as nib
import numpy as np
import pytest

import tiny
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.errors import UserError
from brainpretrain.evaluation.images import place, prepare
from brainpretrain.files import read_json, read_tsv, write_json
from brainpretrain.preprocess import nifti, shards
from models import WINDOW, brain, labels_of, make_model, predict, save

OBLIQUE = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def pair_model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("pair"), ("FLAIR", "T1w"))


def test_several_channels_are_prepared_as_the_workflow_stores_them(pair_model, tmp_path):
    rows = []
    for sequence in ("FLAIR", "T1w"):
        save(tmp_path / f"s_{sequence}.nii.gz", brain(len(sequence)), np.diag([1.4, 1.2, 1, 1]))
        rows.append(dict.fromkeys(shards.INDEX_COLUMNS, "") | {
            "volume": f"s_{sequence}", "subject": "s", "sequence": sequence, "path": f"s_{sequence}.nii.gz"})  # fmt: skip
    rows[0]["label"] = "s_FLAIR.nii.gz"
    table = shards.build(rows, tmp_path, tmp_path / "stored", tiny.PREPROCESS, 0, 1)
    (case,) = labelled_cases(table, tmp_path / "stored", ["FLAIR", "T1w"])["s"]
    facts = read_json(pair_model / "model.json")
    image, geometry, *_ = prepare([tmp_path / "s_FLAIR.nii.gz", tmp_path / "s_T1w.nii.gz"], facts)
    assert np.array_equal(image, case.image()) and geometry.to_json() == case.rows[0]["geometry"]


def test_channels_are_cropped_to_the_box_of_all(pair_model, tmp_path):
    flair, t1w = np.zeros((16, 16, 16), np.int16), np.zeros((16, 16, 16), np.int16)
    flair[2:9, 3:12, 4:14], t1w[5:13, 2:10, 4:15] = np.arange(7)[:, None, None] + 1, np.arange(8)[:, None, None] + 1
    facts = read_json(pair_model / "model.json")
    pair = [save(tmp_path / "flair.nii", flair), save(tmp_path / "t1w.nii", t1w)]
    image, geometry, *_ = prepare(pair, facts)
    assert geometry.box == ((2, 13), (2, 12), (4, 15)) and image.shape == (2, 11, 10, 11)
    assert predict(pair_model, tmp_path / "out", ",".join(map(str, pair))) == 0
    assert labels_of(tmp_path / "out" / "flair_dseg.nii.gz").shape == (16, 16, 16)


# ------------------------------------------------------------------------------------ the original header


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("flips", [(), (0,), (0, 1, 2)])
def test_labels_lie_at_the_same_place_in_the_header_of_the_image(model, tmp_path, order, flips):
    """The same head, its axes stored in another order and direction, tilted: the same labels at the same places."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = OBLIQUE, (-20, 31, 7)
    array = brain()
    assert predict(model, tmp_path / "out", save(tmp_path / "straight.nii.gz", array, affine)) == 0
    turned, matrix = array.transpose(order), np.zeros((4, 4))
    matrix[[*order, 3], range(4)] = 1  # turned voxel -> voxel
    for axis in flips:
        turned = np.flip(turned, axis)
        matrix[:, 3] += matrix[:, axis] * (turned.shape[axis] - 1)
        matrix[:, axis] *= -1
    path = save(tmp_path / "turned.nii.gz", np.ascontiguousarray(turned), affine @ matrix, descrip=b"as it came", xyzt_units=2)
    assert predict(model, tmp_path / "out", path) == 0
    found, image = nib.load(tmp_path / "out" / "turned_dseg.nii.gz"), nib.load(path)
    assert np.array_equal(found.affine, image.affine) and found.get_data_dtype() == np.uint16
    for key in ("pixdim", "sform_code", "qform_code", "srow_x", "quatern_b", "xyzt_units"):
        assert np.array_equal(found.header[key], image.header[key])
    expected = labels_of(tmp_path / "out" / "straight_dseg.nii.gz").transpose(order)
    for axis in flips:
        expected = np.flip(expected, axis)
    assert len(np.unique(expected)) == 3 and np.array_equal(np.asarray(found.dataobj), expected)


def test_another_spacing_is_brought_to_that_of_the_model_and_back(model, tmp_path):
    path = save(tmp_path / "thick.nii.gz", brain(shape=(12, 16, 20)), np.diag([2, 1.5, 0.8, 1]))
    assert predict(model, tmp_path / "out", path) == 0
    facts = read_json(model / "model.json")
    image, geometry, *_ = prepare([path], facts)
    assert geometry.stored_shape == (18, 16, 13) and image.shape == (1, 18, 16, 13)  # 9 x 2, 11 x 1.5, 16 x 0.8 mm
    found = nib.load(tmp_path / "out" / "thick_dseg.nii.gz")
    assert found.shape == (12, 16, 20) and not np.asarray(found.dataobj)[:2].any()


# ------------------------------------------------------------------------------------ refused images


def four_d(path):
    save(path, np.stack([brain()] * 2, -1))


def not_a_number(path):
    array = brain().astype(np.float32)
    array[5, 5, 5] = np.nan
    save(path, array)


def sheared(path):
    affine = np.eye(4)
    affine[0, 1] = 0.4
    save(path, brain(), affine)


def truncated(path):
    save(path, brain())
    path.write_bytes(path.read_bytes()[:-200])


def without_forms(path):
    image = nib.Nifti1Image(brain(), None)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nib.save(image, path)


BAD = {
    "4-D": (four_d, "4-D", "one 3-D volume per file"),
    "NaN": (not_a_number, "1 voxels are NaN", "repair"),
    "sheared": (sheared, "sheared by 21.8 degrees", "resample it"),
    "truncated": (truncated, "truncated: expected", "again"),
    "no forms": (without_forms, "left and right cannot be told", "write an affine"),
    "constant": (lambda p: save(p, np.full((16, 16, 16), 7, np.int16)), "every voxel is 7", "leave it out"),
    "one value": (lambda p: save(p, (brain() > 0).astype(np.int16)), "above the lowest value are equal", "leave it out"),
    "negative": (lambda p: save(p, brain() - 1), "negative voxels down to -1", "change the recipe"),
    "thick": (lambda p: save(p, brain(), np.diag([1, 1, 50, 1])), "spacing 1 x 1 x 50 mm", "repair pixdim"),
    "flat": (lambda p: save(p, brain()[:, :, 3:7]), "an axis of 4 voxels", "leave it out"),
    "large": (lambda p: save(p, brain(), np.diag([8, 8, 8, 1])), "more than max_voxels", "leave it out"),
    "missing": (lambda p: None, "file not found", "give the path"),
    "text": (lambda p: p.write_text("<html>"), "", ""),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_an_image_that_cannot_be_brought_to_the_model_is_refused_and_costs_no_other(model, tmp_path, what, capsys):
    make, problem, fix = BAD[what]
    make(tmp_path / "bad.nii.gz")
    good = [save(tmp_path / f"{name}.nii.gz", brain()) for name in ("a", "b")]
    assert predict(model, tmp_path / "out", good[0], tmp_path / "bad.nii.gz", good[1]) == 2
    said = capsys.readouterr()
    assert "error: 1 of 3 cases were not predicted" in said.err and f"{tmp_path / 'bad.nii.gz'}: " in said.err
    assert problem in said.err and fix in said.err and "Traceback" not in said.err
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "a_dseg.json", "a_dseg.nii.gz", "b_dseg.json", "b_dseg.nii.gz", "dseg.tsv"]  # fmt: skip


def test_all_bad_cases_are_listed(model, tmp_path, capsys):
    assert predict(model, tmp_path / "out", tmp_path / "x.nii.gz", tmp_path / "y.nii.gz") == 2
    assert re.search(r"2 of 2 cases[\s\S]*x\.nii\.gz[\s\S]*y\.nii\.gz", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("flair.nii.gz", "1 image.s. for a model of FLAIR T1w[\\s\\S]*FLAIR.nii.gz,T1w.nii.gz"),
        ("flair.nii.gz,t1w.nii.gz,t1w.nii.gz", "3 image"),
        ("s_T1w.nii.gz,s_FLAIR.nii.gz", "called T1w, but the model expects FLAIR in its place[\\s\\S]*FLAIR,T1w"),
        ("flair.nii.gz,shifted.nii.gz", "shifted.nii.gz: it is not on the grid of flair.nii.gz[\\s\\S]*resample"),
        ("flair.nii.gz,small.nii.gz", "small.nii.gz: it is not on the grid of flair.nii.gz"),
        ("flair.nii.gz,empty.nii.gz", "empty.nii.gz: every voxel is 0"),
    ],
)
def test_channels_that_do_not_belong_together_are_refused(pair_model, tmp_path, monkeypatch, words, message, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("flair", "t1w", "s_T1w", "s_FLAIR"):
        save(tmp_path / f"{name}.nii.gz", brain(len(name)))
    save(tmp_path / "shifted.nii.gz", brain(), np.array([[1, 0, 0, 20], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    save(tmp_path / "small.nii.gz", brain(shape=(20, 20, 18)))
    save(tmp_path / "empty.nii.gz", 0 * brain())
    assert predict(pair_model, "out", words) == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_comma_in_a_file_name_is_part_of_it(model, tmp_path):
    assert predict(model, tmp_path / "out", save(tmp_path / "a,b.nii.gz", brain())) == 0
    assert (tmp_path / "out" / "a,b_dseg.nii.gz").exists()


# ------------------------------------------------------------------------------------ settings, and what is there already


def test_settings_come_from_the_model_and_from_options(model, tmp_path):
    path = save(tmp_path / "a.nii.gz", brain(shape=(30, 26, 22)))
    predict(model, tmp_path / "as_it_says", path)
    predict(
        model,
        tmp_path / "asked",
        path,
        options=["--mirror", "xz", "--overlap", "0.25", "--weights", "constant", "--threads", "1"],
    )
    assert read_json(tmp_path / "as_it_says" / "a_dseg.json")["SlidingWindow"] == {
        k: v for k, v in WINDOW.items() if k != "batch"
    }
    asked = read_json(tmp_path / "asked" / "a_dseg.json")
    assert asked["SlidingWindow"] == {"overlap": 0.25, "weights": "constant", "mirror": ["x", "z"]} and asked["Sources"] == [
        "a.nii.gz"
    ]
    first, second = (labels_of(tmp_path / name / "a_dseg.nii.gz") for name in ("as_it_says", "asked"))
    assert 0 < np.count_nonzero(first != second) < first.size / 2


@pytest.mark.parametrize("option", [("--overlap", "1"), ("--weights", "box"), ("--batch", "0")])
def test_settings_are_checked(model, tmp_path, option, capsys):
    assert predict(model, tmp_path / "out", save(tmp_path / "a.nii.gz", brain()), options=option) == 2
    assert f"{option[0][2:]}: " in capsys.readouterr().err
    for axes in ("xx", "w", ""):
        with pytest.raises(SystemExit):
            predict(model, tmp_path / "out", tmp_path / "a.nii.gz", options=["--mirror", axes])


def test_what_is_there_is_kept_if_it_is_the_same_and_never_replaced_in_silence(model, tmp_path, capsys):
    path, result = save(tmp_path / "a.nii.gz", brain()), tmp_path / "out" / "a_dseg.nii.gz"
    assert predict(model, tmp_path / "out", path) == 0
    before = result.stat().st_mtime_ns
    assert (
        predict(model, tmp_path / "out", path, options=["--batch", "1"]) == 0 and "a_dseg.nii.gz: kept" in capsys.readouterr().out
    )
    assert predict(model, tmp_path / "out", path, options=["--mirror", "x"]) == 2 and "--force" in capsys.readouterr().err
    save(path, brain(5))
    assert predict(model, tmp_path / "out", path) == 2 and result.stat().st_mtime_ns == before
    assert predict(model, tmp_path / "out", path, options=["--force"]) == 0 and result.stat().st_mtime_ns > before
    (tmp_path / "out" / "a_dseg.json").unlink()
    assert predict(model, tmp_path / "out", path, options=["--force"]) == 2 and "no prediction" in capsys.readouterr().err


def test_a_folder_holds_one_set_of_classes(model, tmp_path, capsys):
    other = shutil.copytree(model, tmp_path / "model")
    facts = read_json(other / "model.json")
    write_json(other / "model.json", facts | {"task": facts["task"] | {"labels": {"rim": [1], "ball": [2]}}})
    path = save(tmp_path / "a.nii.gz", brain())
    assert predict(model, tmp_path / "out", path) == 0
    assert (tmp_path / "out" / "dseg.tsv").read_text() == "index\tname\n3\tball\n300\trim\n"
    assert predict(other, tmp_path / "out", path, options=["--force"]) == 2 and "other classes" in capsys.readouterr().err


def test_two_cases_never_share_a_result(model, tmp_path, capsys):
    paths = [save(tmp_path / folder / "T1w.nii.gz", brain()) for folder in ("s1", "s2")]
    assert predict(model, tmp_path / "out", *paths) == 2 and "two cases would be written" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*_dseg.nii.gz"))


# ------------------------------------------------------------------------------------ BIDS


def test_a_bids_dataset_comes_out_as_one(model, tmp_path):
    raw, out = tmp_path / "raw", tmp_path / "raw" / "derivatives" / "ball"
    paths = [save(raw / "sub-01" / "anat" / "sub-01_desc-defaced_T1w.nii.gz", brain()),
             save(raw / "sub-02" / "ses-a" / "anat" / "sub-02_ses-a_acq-mprage_run-1_T1w.nii", brain(2))]  # fmt: skip
    assert predict(model, out, *paths, options=["--bids"]) == 0
    assert sorted(str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()) == [
        "README.md", "dataset_description.json", "desc-pred_dseg.tsv",
        "sub-01/anat/sub-01_desc-pred_dseg.json", "sub-01/anat/sub-01_desc-pred_dseg.nii.gz",
        "sub-02/ses-a/anat/sub-02_ses-a_acq-mprage_run-1_desc-pred_dseg.json",
        "sub-02/ses-a/anat/sub-02_ses-a_acq-mprage_run-1_desc-pred_dseg.nii.gz"]  # fmt: skip
    about = read_json(out / "dataset_description.json")
    assert about["DatasetType"] == "derivative" and about["GeneratedBy"][0]["Name"] == "brainpretrain"
    assert about["SourceDatasets"] == [{"URL": raw.as_uri()}] and about["DatasetLinks"] == {"raw": "../.."}
    sidecar = read_json(out / "sub-01" / "anat" / "sub-01_desc-pred_dseg.json")
    assert sidecar["Sources"] == ["bids:raw:sub-01/anat/sub-01_desc-defaced_T1w.nii.gz"] and sidecar["Manual"] is False
    assert read_tsv(out / "desc-pred_dseg.tsv").to_dict("list") == {"index": ["3", "300"], "name": ["ball", "rim"]}
    assert predict(model, out, *paths, options=["--bids"]) == 0  # once more: all is kept


def test_a_name_that_is_not_bids_costs_no_other(model, tmp_path, capsys):
    paths = [save(tmp_path / name, brain()) for name in ("head.nii.gz", "sub-01_T1w.nii.gz")]
    assert predict(model, tmp_path / "out", *paths, options=["--bids"]) == 2
    assert re.search(r"1 of 2 cases[\s\S]*head\.nii\.gz: no BIDS file name[\s\S]*--bids", capsys.readouterr().err)
    assert (tmp_path / "out" / "sub-01" / "anat" / "sub-01_desc-pred_dseg.nii.gz").exists()


def test_a_name_that_is_not_utf8_is_named(model, tmp_path, capsys):
    save(tmp_path / "x.nii.gz", brain())
    odd = os.fsencode(tmp_path) + b"/M\xfcller_T1w.nii.gz"
    os.rename(tmp_path / "x.nii.gz", odd)
    assert predict(model, tmp_path / "out", os.fsdecode(odd)) == 2
    said = capsys.readouterr().err
    assert r"M\xfcller_T1w.nii.gz: its name is not UTF-8" in said and "fix: rename it" in said


def test_cases_with_and_without_a_place_are_kept_apart(tmp_path):
    cases = [[tmp_path / name] for name in ("sub-01_T1w.nii.gz", "head.nii.gz", "sub-02_T1w.nii.gz")]
    placed = place(cases, tmp_path / "out", as_bids=True)
    assert [target.images for target in placed.targets] == [tuple(cases[0]), tuple(cases[2])]
    assert placed.targets[0].sidecar == tmp_path / "out" / "sub-01" / "anat" / "sub-01_desc-pred_dseg.json"
    assert [error.where for error in placed.errors] == [str(cases[1][0])]
    with pytest.raises(UserError, match="two cases would be written to this file"):
        place([cases[0], cases[0]], tmp_path / "out", as_bids=True)


def test_images_of_two_datasets_or_subjects_do_not_come_together(model, pair_model, tmp_path, capsys):
    paths = [save(tmp_path / raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz", brain()) for raw in ("one", "two")]
    assert predict(model, tmp_path / "out", *paths, options=["--bids"]) == 2 and "of several datasets" in capsys.readouterr().err
    pair = [save(tmp_path / name, brain()) for name in ("a/sub-01_FLAIR.nii.gz", "b/sub-01_T1w.nii.gz")]
    assert predict(pair_model, tmp_path / "out", ",".join(map(str, pair)), options=["--bids"]) == 2
    assert "of several datasets" in capsys.readouterr().err
    pair = [save(tmp_path / name, brain()) for name in ("sub-01_FLAIR.nii.gz", "sub-02_T1w.nii.gz")]
    assert predict(pair_model, tmp_path / "out", ",".join(map(str, pair)), options=["--bids"]) == 2
    assert "different subjects" in capsys.readouterr().err


def test_another_dataset_is_never_written_into(model, tmp_path, capsys):
    path = save(tmp_path / "raw" / "sub-01" / "anat" / "sub-01_T1w.nii.gz", brain())
    write_json(tmp_path / "raw" / "dataset_description.json", {"Name": "raw", "BIDSVersion": "1.10.0"})
    assert predict(model, tmp_path / "raw", path, options=["--bids", "--force"]) == 2
    assert "a dataset of other images" in capsys.readouterr().err
    assert json.loads((tmp_path / "raw" / "dataset_description.json").read_text())["Name"] == "raw"


def test_orientation_is_read_before_a_label_is_written(tmp_path):
    """What `prepare` remarks on a header reaches the user."""
    path = tmp_path / "a.nii.gz"
    image = nib.Nifti1Image(brain(), np.eye(4))
    image.set_qform(np.diag([1, 1, 1, 1]) + np.array([[0, 0, 0, 9]] + [[0] * 4] * 3), code=1)
    image.set_sform(np.eye(4), code=1)
    nib.save(image, path)
    facts = tiny.finetune_config(1)
    assert prepare([path], facts)[2] == ["a.nii.gz: qform and sform differ by up to 9.00 mm: sform used"]
    assert nifti.read_volume(path).affine[0, 3] == 0
