"""Faults 47 and 48: predictions that do not fit, and masks that are empty, met by `brainpretrain evaluate` and `table`."""

from __future__ import annotations

import json
import re

import nibabel as nib
import numpy as np
import pytest

import tiny
from brainpretrain import cli
from brainpretrain.cohorts.cases import labelled_cases
from brainpretrain.files import read_tsv
from evaluation.test_scores import RUN, labels_as_predictions, nothing, same, save
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
    raw, folder = tmp_path / "raw", labels_as_predictions(cohort, scored, tmp_path / "predictions", prediction, same)
    raw.mkdir()
    for case, change in zip(scored, (reference, same), strict=True):
        label = nib.load(cohort.raw / f"{case.name}_label.nii.gz")
        save(change(np.asarray(label.dataobj)), label.affine, raw / f"{case.name}_label.nii.gz")
    line = command(cohort, folder, tiny.TASK, tmp_path / "scores.tsv")
    line[line.index("--root") + 1] = str(raw)
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
