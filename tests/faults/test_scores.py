"""Faults 47, 48 and 92: predictions that do not fit, also of another program, and masks that are empty, met by the commands."""

from __future__ import annotations

import gzip
import json
import re
import shutil

import nibabel as nib
import numpy as np
import pytest
from tests.evaluation.test_scores import RUN, labels_as_predictions, nothing, same, save

import tiny
from brainpretrain import cli
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.files import read_json, read_tsv, write_json, write_tsv
from models import WINDOW, make_model
from report_fixtures import spec


@pytest.fixture(scope="module")
def scored(cohort):
    found = labelled_cases(read_tsv(cohort.table), cohort.folder, ["T1w"])
    return [found[name][0] for name in ("s4", "s5")]


def command(cohort, folder, task, out) -> list[str]:
    line = ["evaluate", "--predictions", str(folder), "--volumes", str(cohort.table), "--root", str(cohort.raw)]
    line += ["--split", str(cohort.split), "--task", json.dumps(task), "--n-train", "4", "--cohort", "val"]
    return [*line, "--run", json.dumps(RUN), "--out", str(out)]


def shifted_header(array, affine, path):
    save(array, affine + np.array([[0, 0, 0, 20], *[[0] * 4] * 3]), path)


def turned(array, affine, path):
    """The same voxels at the same places, in a file with its first axis backwards."""
    image = nib.Nifti1Image(array, affine)
    flip = nib.orientations.axcodes2ornt(nib.aff2axcodes(affine))
    flip[0, 1] *= -1
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.orientations.io_orientation(affine), flip))
    save(np.ascontiguousarray(turned.dataobj), turned.affine, path)


def mirrored(array, affine, path):
    save(array[::-1], affine @ np.diag([-1, 1, 1, 1]), path)


BAD = {
    "missing": (lambda a, m, p: p.unlink(), r"1 missing: s4\.nii\.gz[\s\S]*predict again"),
    "extra": (lambda a, m, p: save(a, m, p.with_name("s9.nii.gz")), r"1 extra: s9\.nii\.gz"),
    "extra, not compressed": (lambda a, m, p: save(a, m, p.with_name("s4.nii")), r"1 extra: s4\.nii\n"),
    "renamed": (lambda a, m, p: p.rename(p.with_name("s9.nii.gz")), r"1 missing: s4\.nii\.gz; 1 extra: s9\.nii\.gz"),
    "truncated": (lambda a, m, p: p.write_bytes(p.read_bytes()[:-5]), r"s4\.nii\.gz"),
    "cut in half": (lambda a, m, p: p.write_bytes(p.read_bytes()[: p.stat().st_size // 2]), r"s4\.nii\.gz"),
    "no volume": (lambda a, m, p: p.write_bytes(b"<html>"), r"s4\.nii\.gz"),
    "header shifted by 20 mm": (shifted_header, r"not on the grid of its reference: it is up to 20\.00 mm off"),
    "other spacing": (
        lambda a, m, p: save(a, m @ np.diag([1, 1, 1.2, 1]), p),
        r"not on the grid of its reference: it is up to",
    ),
    "other shape": (
        lambda a, m, p: save(a[:-1], m, p),
        r"not on the grid of its reference: shape \(25, 20, 18\) on a grid of \(26",
    ),
    "other orientation": (turned, r"not on the grid[\s\S]*its axes are L.., those of the reference R"),
    "mirrored": (mirrored, r"not on the grid[\s\S]*its axes are L.., those of the reference R"),
    "unknown values": (lambda a, m, p: save(7 + 2 * (1 - a), m, p), r"holds 7 9, no class of the task[\s\S]*label file: 1"),
    "an ignored value": (lambda a, m, p: save(2 * a, m, p), r"holds 2, no class of the task"),
    "no integers": (lambda a, m, p: save(a * np.float32(0.5), m, p), r"label values are not integers[\s\S]*s4\.nii\.gz"),
    "negative": (lambda a, m, p: save(a.astype(np.int16) - 1, m, p), r"label values -1 to 0[\s\S]*s4\.nii\.gz"),
    "not finite": (lambda a, m, p: save(np.where(a, np.nan, np.float32(0)), m, p), r"s4\.nii\.gz"),
    "four-dimensional": (lambda a, m, p: save(np.stack([a, a], -1), m, p), r"s4\.nii\.gz"),
}


@pytest.mark.parametrize("change", BAD)
def test_47_a_prediction_that_does_not_fit_is_refused_and_nothing_is_written(cohort, scored, tmp_path, capsys, change):
    """Through the command; nnU-Net's evaluation gives Dice 1.0 to the shifted one."""
    task = tiny.TASK | {"ignore": [2]}
    folder = labels_as_predictions(cohort, scored, tmp_path / "predictions", same, same)
    image = nib.load(folder / "s4.nii.gz")
    whole = np.asarray(image.dataobj).copy()
    break_it, message = BAD[change]
    break_it(whole, image.affine, folder / "s4.nii.gz")
    out = tmp_path / "out" / "scores.tsv"
    assert cli.main(command(cohort, folder, task, out)) == 2
    said = capsys.readouterr().err
    assert re.search(message, said) and "  where: " in said and "  fix: " in said
    assert not out.parent.exists()
    (folder / "s9.nii.gz").unlink(missing_ok=True)
    (folder / "s4.nii").unlink(missing_ok=True)
    save(whole, image.affine, folder / "s4.nii.gz")
    assert cli.main(command(cohort, folder, task, out)) == 0 and len(read_tsv(out)) == 2
    before = out.read_bytes()
    break_it(whole, image.affine, folder / "s4.nii.gz")
    assert cli.main(command(cohort, folder, task, out)) == 2 and out.read_bytes() == before


EMPTY = {  # reference, prediction: dice, status, mean over both cases of the label, of which the other is right
    "both": (nothing, nothing, "", "both_empty", "100.00", "as their Dice is undefined (empty masks): 1 of 2 scores"),
    "only the reference": (
        nothing,
        same,
        "0.0",
        "reference_empty",
        "50.00",
        "Counted in spite of an empty mask: only the reference empty: 1.",
    ),
    "only the prediction": (
        same,
        nothing,
        "0.0",
        "prediction_empty",
        "50.00",
        "Counted in spite of an empty mask: only the prediction empty: 1.",
    ),
}


@pytest.mark.parametrize("which", EMPTY)
def test_48_an_empty_mask_has_a_defined_score_and_is_counted_in_the_table(cohort, scored, tmp_path, capsys, which):
    reference, prediction, dice, status, mean, words = EMPTY[which]
    folder = labels_as_predictions(cohort, scored, tmp_path / "predictions", prediction, same)
    labels = [nib.load(cohort.raw / f"{case.name}_label.nii.gz") for case in scored]
    arrays = [change(np.asarray(label.dataobj)) for label, change in zip(labels, (reference, same), strict=True)]
    stored = {case.name: (array, label.affine) for case, array, label in zip(scored, arrays, labels, strict=True)}
    changed = tiny.store(tmp_path / "stored", stored)
    write_json(changed.split, read_json(cohort.split) | {"order": ["s0", "s4", "s5"]})
    line = command(changed, folder, tiny.TASK, tmp_path / "scores.tsv")
    line[line.index("--n-train") + 1 : line.index("--n-train") + 4] = [
        "1",
        "--cohort",
        "test",
        "--fixed",
        f"{tmp_path}/test.json",
    ]
    write_json(tmp_path / "test.json", {"test": ["s4", "s5"]})
    assert cli.main(line) == 0
    empty, right = read_tsv(tmp_path / "scores.tsv").to_dict("records")
    assert (empty["dice"], empty["status"]) == (dice, status) and (float(right["dice"]), right["status"]) == (1, "ok")
    columns, rows = (
        [{"title": "t", "task": "t", "cohort": "test"}],
        [{"title": "arm", "backbone": "b", "init": "scratch", "recipe": "r", "n_train": "4"}],
    )
    table = spec(name="tiny", columns=columns, rows=rows, folds=[0]).model_dump_json()
    assert cli.main(["table", "--scores", str(tmp_path / "scores.tsv"), "--spec", table, "--out", str(tmp_path / "tables")]) == 0
    said = (tmp_path / "tables" / "tiny.md").read_text()
    assert mean in said and words in said, said


# ------------------------------------------------------------------------------------------------ 53


def reoriented(path):
    """Voxels and header turned together, as fslreorient2std does."""
    image = nib.load(path)
    turn = nib.orientations.ornt_transform(nib.io_orientation(image.affine), nib.orientations.axcodes2ornt("LAS"))
    turned = image.as_reoriented(turn)
    save(np.ascontiguousarray(turned.dataobj), turned.affine, path)


def moved(path):
    image = nib.load(path)
    save(np.asarray(image.dataobj), image.affine + np.array([[0, 0, 0, 0.5], *[[0] * 4] * 3]), path)


def cut(path):
    image = nib.load(path)
    save(np.asarray(image.dataobj)[:-1], image.affine, path)


def other_voxels(path):
    image = nib.load(path)
    save(np.asarray(image.dataobj)[::-1], image.affine, path)


def other_header(path):
    image = nib.load(path)
    image.set_sform(image.affine, 4)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), None, image.header), path)


CHANGES = {
    reoriented: "axes LAS instead of RAS",
    moved: "an affine that is up to 0.5 mm off",
    cut: r"shape \(25, 20, 18\) instead of \(26, 20, 18\)",
    other_voxels: "another header or other voxels",
    other_header: "another header or other voxels",
}


@pytest.fixture(scope="module")
def model_of_chance(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("old", [False, True], ids=["", "stored by an earlier version"])
@pytest.mark.parametrize("change", CHANGES)
def test_53_a_raw_file_that_changed_is_refused_wherever_it_is_read_again(
    cohort, scored, model_of_chance, tmp_path, capsys, change, old
):
    """An earlier version kept no checksum of the raw file: shape and affine are compared."""
    if old and change in (other_voxels, other_header):
        return
    here = tiny.Cohort(shutil.copytree(cohort.root, tmp_path / "here", ignore=shutil.ignore_patterns("*.npz")))
    for path in here.folder.glob("volumes/*.json") if old else ():
        content = read_json(path)
        del content["record"]["source_checksum"], content["record"]["label_source_checksum"]
        write_json(path, content)
    write_json(tmp_path / "test.json", {"test": ["s4"]})
    rest = ["--volumes", here.table, "--root", here.raw, "--split", here.split, "--n-train", "4", "--cohort", "test"]
    rest += ["--fixed", tmp_path / "test.json", "--task", json.dumps(tiny.TASK)]
    predict = ["predict-cohort", "--model", model_of_chance / "model.safetensors", *rest, "--inference", json.dumps(WINDOW)]
    folder = labels_as_predictions(cohort, scored[:1], tmp_path / "predictions", same)
    write_json(folder / "predictions.json", {"model_sha256": "", "inference": WINDOW})
    as_bids = ["bids", "--model", model_of_chance / "model", *rest, "--dataset", "msd_hippocampus", "--predictions", folder]
    score = ["evaluate", *rest, "--predictions", folder, "--run", json.dumps(RUN)]
    write_tsv(tmp_path / "scores.tsv", [RUN | {"volume": "s4", "subject": "s4", "label": "ball", "dice": 1, "status": "ok"}])
    shown = ["--evaluations", tmp_path, "--volumes", here.table, "--root", here.raw, "--task", json.dumps(tiny.TASK)]
    for command, name in (
        (predict, "s4_T1w"), (as_bids, "s4_T1w"), (score, "s4_label"),
        (["plot-overlays", *shown], "s4_T1w"), (["overlay-cases", *shown, "--title", "t"], "s4_label"),
    ):  # fmt: skip
        path, out = here.raw / f"{name}.nii.gz", tmp_path / "new" / f"{command[0]}.svg"
        before = path.read_bytes()
        change(path)
        assert cli.main([str(word) for word in [*command, "--out", out]]) == 2, command[0]
        said = capsys.readouterr().err
        assert re.search(rf"the raw file is not the one that was preprocessed: it has .*{CHANGES[change]}", said), said
        assert (
            f"where: {path}" in said
            and "--forcerun fetch" in said
            and not [path for path in tmp_path.glob("new/**") if path.is_file()]
        )
        path.write_bytes(before)
    assert cli.main([str(word) for word in [*score, "--out", tmp_path / "again.tsv"]]) == 0


def test_53_a_file_packed_anew_is_the_same_file(cohort, scored, tmp_path):
    here = tiny.Cohort(shutil.copytree(cohort.root, tmp_path / "here"))
    for path in here.raw.glob("*.nii.gz"):
        path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()), 1))
    folder = labels_as_predictions(cohort, scored, tmp_path / "predictions", same, same)
    assert cli.main(command(here, folder, tiny.TASK, tmp_path / "scores.tsv")) == 0


def test_53_the_workflow_stops_at_a_changed_file_and_the_command_it_names_takes_the_change_up(finished, tmp_path):
    copied = type(finished)(shutil.copytree(finished.root, tmp_path / "copy", symlinks=True))
    fold = "results/tiny/finetune/tissue/unet_micro/scratch/tiny/n2/fold0"
    target, raw = f"{fold}/test/scores.tsv", [*(copied.root / "data").rglob("*.nii.gz")]
    for path in raw:
        reoriented(path)
    shutil.rmtree(copied.root / fold / "test")
    said = copied.snakemake("--", target, check=False)
    log = (copied.results / "logs/predict_cohort/tissue/unet_micro/scratch/tiny/n2/fold0/test.log").read_text()
    assert "axes LAS instead of R" in log and "--forcerun fetch -- <targets>" in log and "(Rule: finetune)" not in said
    assert not (copied.root / target).exists()
    assert copied.planned("--forcerun", "fetch", "--", target)["shard"] >= 1


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("missing", "1 of 2 cases of the cohort have no segmentation: s5; files of no case of the cohort: s50_seg.nii.gz"),
        ("double", "1 cases have several segmentations: s5: old/s5_seg.nii.gz s5_seg.nii.gz"),
        ("another image", "the segmentation covers 0 % of the image's foreground"),
        ("unnamed", "the segmentation holds 9, which 'labels' of the row does not name"),
    ],
)
def test_92_segmentations_of_another_program_that_do_not_fit(cohort, scored, tmp_path, capsys, fault, words):
    folder, values = tmp_path / "theirs", {"title": "Other", "labels": {"ball": [1]}, "background": [], "others": "refuse"}
    (folder / "old").mkdir(parents=True)
    for case in scored:
        label = nib.load(cohort.raw / case.labelled["label"])
        array, affine = np.asarray(label.dataobj).astype(np.uint8), label.affine.copy()
        if case.name == "s5" and fault == "another image":
            affine[:3, 3] += 1000
        if case.name == "s5" and fault == "unnamed":
            array[0, 0, 0] = 9
        save(array, affine, folder / f"{case.name}_seg.nii.gz")
    if fault == "missing":
        (folder / "s5_seg.nii.gz").rename(folder / "s50_seg.nii.gz")
    if fault == "double":
        shutil.copy(folder / "s5_seg.nii.gz", folder / "old")
    line = [
        "external",
        "--folder",
        str(folder),
        "--values",
        json.dumps(values),
        *command(cohort, folder, tiny.TASK, tmp_path)[3:-4],
    ]
    assert cli.main([*line, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert words in said and "fix:" in said and not (tmp_path / "out" / "external.json").exists()
