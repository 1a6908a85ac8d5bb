"""Fault 78: sequences of one session that do not fit each other, whatever the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

import pairs
from brainpretrain.cohorts.cases import cohort_cases, labelled_cases
from brainpretrain.files import read_tsv

HEADER = pairs.RECIPE | {"session": ["DWI", "FLAIR"], "align": "header"}


def far_away(flair: nib.Nifti1Image) -> nib.Nifti1Image:
    """Its header places it 200 mm off."""
    affine = flair.affine.copy()
    affine[0, 3] += 200
    return nib.Nifti1Image(np.asarray(flair.dataobj), affine)


def half(flair: nib.Nifti1Image) -> nib.Nifti1Image:
    """Half of the head is outside of its field of view."""
    return nib.Nifti1Image(np.asarray(flair.dataobj)[:28], flair.affine)


def another(flair: nib.Nifti1Image) -> nib.Nifti1Image:
    """It shows a small ball in place of the head."""
    array = np.asarray(flair.dataobj).copy()
    ball = np.linalg.norm((np.indices(array.shape).T - [28, 30, 7]) * [1, 1, 4], axis=-1).T < 9
    return nib.Nifti1Image(array * ball.astype(array.dtype), flair.affine)


CASES = {
    "the header places it elsewhere": (far_away, "header", "header alignment to s1_DWI.nii.gz covers 0.0 % of its foreground, less than 90 %"),
    "it shows half of the head": (half, "rigid", "rigid alignment to s1_DWI.nii.gz covers "),
    "it shows something else": (another, "affine", "the affine registration to s1_DWI.nii.gz turns by"),
    "another grid, and no alignment": (lambda flair: flair, None, "it is not on the grid of s1_DWI.nii.gz: shape (56, 60, 14) on a grid of"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_78_a_session_that_does_not_fit_is_left_out_with_the_reason(case: str, tmp_path: Path, capsys: Any) -> None:
    change, align, words = CASES[case]
    raw = tmp_path / "raw"
    rows = [row for n in (1, 2) for row in pairs.write(raw, f"s{n}", np.eye(4))]
    for row in rows[3:] if align is None else ():  # the other session is on one grid
        nib.save(nib.load(raw / rows[2]["path"]), raw / row["path"])
    nib.save(change(nib.load(raw / "s1_FLAIR.nii.gz")), raw / "s1_FLAIR.nii.gz")
    recipe = HEADER | {"align": align}
    with pytest.raises(AssertionError):  # exit code 2: the labelled volume of the session would not be scored
        pairs.store(raw, rows, tmp_path / "strict", recipe, max_rejected="0.1")
    said = capsys.readouterr().err
    assert (
        "2 of 4 volumes rejected" in said and words in said and "s1_DWI.nii.gz: session (left out with s1_FLAIR.nii.gz: " in said
    )
    table = pairs.store(raw, rows, tmp_path / "tolerant", recipe)
    stored = read_tsv(table).set_index("volume")
    assert stored["status"].to_dict() == {"s1_DWI": "rejected", "s1_FLAIR": "rejected", "s2_DWI": "ok", "s2_FLAIR": "ok"}
    assert stored["reason"]["s1_FLAIR"] == ("session_grid" if align is None else "not_aligned")
    assert words in stored["detail"]["s1_FLAIR"] and words in stored["detail"]["s1_DWI"]
    assert not list(table.parent.glob("volumes/s1_*.b2nd"))
    fold = {"dataset": "d", "fold": 0, "order": []}
    said: list[str] = []
    cases = cohort_cases(table, ["DWI", "FLAIR"], fold, {"test": ["s1", "s2"]}, "all", "test", said.append)
    assert [each.name for each in cases] == ["s2"] and "1 of 2 subjects have no usable case" in said[0] and "s1" in said[0]


def test_78_the_advice_for_a_session_that_covers_too_little_works(tmp_path: Path, capsys: Any) -> None:
    raw = tmp_path / "raw"
    rows = pairs.write(raw, "s1", np.eye(4))
    nib.save(half(nib.load(raw / "s1_FLAIR.nii.gz")), raw / "s1_FLAIR.nii.gz")
    with pytest.raises(AssertionError):
        pairs.store(raw, rows, tmp_path / "strict", HEADER)
    assert "a lower min_covered, in the preprocess recipe" in capsys.readouterr().err
    table = pairs.store(raw, rows, tmp_path / "lower", HEADER | {"min_covered": 0.3})
    assert len(labelled_cases(read_tsv(table), table.parent, ["DWI", "FLAIR"])) == 1


def test_78_a_damaged_sequence_leaves_its_session_out_and_a_repaired_one_takes_it_up(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    rows = [row for n in (1, 2) for row in pairs.write(raw, f"s{n}", np.eye(4))]
    whole = (raw / "s1_FLAIR.nii.gz").read_bytes()
    (raw / "s1_FLAIR.nii.gz").write_bytes(whole[:-100])
    table = read_tsv(pairs.store(raw, rows, tmp_path / "stored", HEADER))
    assert table["reason"].tolist() == ["session", "truncated", "", ""]
    (raw / "s1_FLAIR.nii.gz").write_bytes(whole)
    assert (read_tsv(pairs.store(raw, rows, tmp_path / "stored", HEADER))["status"] == "ok").all()
