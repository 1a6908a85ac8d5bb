"""The index: what follows from file names, and what is refused."""

from __future__ import annotations

import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.base import Dataset, Layout, NotInPlace, Pattern
from brainpretrain.download.index import index, scan
from brainpretrain.errors import UserError


@pytest.fixture
def toy() -> Dataset:
    layout = Layout(
        name="toy",
        patterns=(
            Pattern(
                image=r"(?P<subject>[^/]+)/(?P<sequence>[A-Z0-9]+)",
                subset="train",
                sequence={"T1": "T1w", "T2": "T2w"},
                label="{top}{subject}/mask",
            ),
        ),
        examples=("a/T1.nii.gz", "a/mask.nii.gz"),
    )
    return replace(datasets.load("msd_hippocampus"), name="toy", layouts=(layout,), label_sequences=("T1w",))


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_rows_are_sorted_and_relative(toy: Dataset, tmp_path: Path) -> None:
    rows = index(toy, put(tmp_path, "b/T1.nii.gz", "b/mask.nii.gz", "a/T1.nii.gz", "a/mask.nii.gz"))
    assert [(row["volume"], row["path"], row["label"]) for row in rows] == [
        ("a_T1w", "a/T1.nii.gz", "a/mask.nii.gz"),
        ("b_T1w", "b/T1.nii.gz", "b/mask.nii.gz"),
    ]


def test_a_sequence_on_another_grid_has_no_label_and_needs_none(toy: Dataset, tmp_path: Path) -> None:
    (row,) = index(toy, put(tmp_path, "a/T2.nii.gz"))
    assert (row["sequence"], row["label"]) == ("T2w", "")


def test_every_problem_is_listed_at_once(toy: Dataset, tmp_path: Path) -> None:
    put(tmp_path, "a/T1.nii.gz", "b/T1.nii.gz", "c/T1.nii.gz", "c/mask.nii.gz", "x/c/T1.nii.gz", "x/c/mask.nii.gz")
    with pytest.raises(UserError) as error:
        index(toy, tmp_path)
    text = str(error.value)
    assert "3 problems" in text
    assert "a/mask.nii.gz (of a/T1.nii.gz)" in text and "b/mask.nii.gz (of b/T1.nii.gz)" in text
    assert "'c_T1w' more than once: c/T1.nii.gz, x/c/T1.nii.gz" in text
    assert str(tmp_path) in text


def test_names_that_differ_only_in_odd_characters_are_one_volume(toy: Dataset, tmp_path: Path) -> None:
    put(tmp_path, "a b/T1.nii.gz", "a b/mask.nii.gz", "a_b/T1.nii.gz", "a_b/mask.nii.gz")
    with pytest.raises(UserError, match="'a-b_T1w' more than once"):
        index(toy, tmp_path)


@pytest.mark.parametrize("subject", ["Philips_VU .PETMR_01.", 'say "ä"', "it's; rm $HOME", "{top}", "-x-"])
def test_odd_names_are_found_and_give_plain_volume_ids(toy: Dataset, tmp_path: Path, subject: str) -> None:
    (row,) = index(toy, put(tmp_path, f"{subject}/T1.nii.gz", f"{subject}/mask.nii.gz"))
    assert row["subject"] == subject and (tmp_path / row["path"]).exists() and (tmp_path / row["label"]).exists()
    assert all(c.isalnum() or c in ".-_" for c in row["volume"])


@pytest.mark.parametrize("subjects", [("Müller", "Möller"), ("張", "李"), ("Ελένη", "Ёлка"), ("कि", "का"), ("علي", "عمر")])
def test_subjects_of_any_script_have_names_of_their_own(toy: Dataset, tmp_path: Path, subjects: tuple[str, str]) -> None:
    rows = index(toy, put(tmp_path, *(f"{subject}/{name}.nii.gz" for subject in subjects for name in ("T1", "mask"))))
    assert {row["subject"] for row in rows} == set(subjects) and {row["volume"] for row in rows} == {f"{s}_T1w" for s in subjects}


def test_the_two_forms_of_a_letter_are_one_name(toy: Dataset, tmp_path: Path) -> None:
    """macOS writes `ü` as two characters; image and label may come from different machines."""
    one, two = (unicodedata.normalize(form, "Müller") for form in ("NFC", "NFD"))
    (row,) = index(toy, put(tmp_path, f"{two}/T1.nii.gz", f"{one}/mask.nii.gz"))
    assert row["subject"] == one and row["volume"] == f"{one}_T1w" and row["path"] == f"{two}/T1.nii.gz"
    assert row["label"] == f"{one}/mask.nii.gz" and (tmp_path / row["path"]).exists()
    put(tmp_path, f"{one}/T1.nii.gz")
    with pytest.raises(UserError, match=r"two spellings of one name: 'Mu\\u0308ller/T1.nii.gz' and 'M\\xfcller/T1.nii.gz'"):
        index(toy, tmp_path)


def test_a_table_in_the_other_form_finds_its_files(tmp_path: Path) -> None:
    one, two = (unicodedata.normalize(form, "Müller.nii.gz") for form in ("NFC", "NFD"))
    put(tmp_path, two)
    (tmp_path / "list.csv").write_text(f"subject,sequence,path\na,T1w,{one}\n", encoding="utf-8")
    (row,) = index(datasets.describe("csv", {"file": "list.csv"}), tmp_path)
    assert row["path"] == two


def test_a_name_that_is_not_utf8_is_named(toy: Dataset, tmp_path: Path) -> None:
    put(tmp_path, "a/T1.nii.gz", "a/mask.nii.gz")
    odd = os.fsencode(tmp_path) + b"/a/B\xfcro.txt"
    open(odd, "wb").close()  # nothing reads it
    assert scan(toy, tmp_path).unexpected == [r"a/B\xfcro.txt"]
    os.rename(os.fsencode(tmp_path / "a"), os.fsencode(tmp_path) + b"/M\xfcller")
    with pytest.raises(
        UserError, match=r"the names of 2 files are not UTF-8: M\\xfcller/T1.nii.gz, M\\xfcller/mask.nii.gz"
    ) as caught:
        index(toy, tmp_path)
    str(caught.value).encode()
    os.rename(os.fsencode(tmp_path) + b"/M\xfcller", os.fsencode(tmp_path / "Müller"))
    assert index(toy, tmp_path)[0]["subject"] == "Müller"


def test_unexpected_files_are_counted_and_hidden_ones_are_not(toy: Dataset, tmp_path: Path) -> None:
    put(tmp_path, "a/T1.nii.gz", "a/mask.nii.gz", "a/PD.nii.gz", "readme.txt", "a/._T1.nii.gz", ".cache/T1.nii.gz")
    found = scan(toy, tmp_path)
    assert (len(found.rows), found.unexpected) == (1, ["a/PD.nii.gz", "readme.txt"])


def test_unpacked_images_and_labels(toy: Dataset, tmp_path: Path) -> None:
    (row,) = index(toy, put(tmp_path, "a/T1.nii", "a/mask.nii"))
    assert (row["path"], row["label"]) == ("a/T1.nii", "a/mask.nii")


def test_linked_folders_are_followed_once(toy: Dataset, tmp_path: Path) -> None:
    elsewhere = put(tmp_path / "elsewhere", "a/T1.nii.gz", "a/mask.nii.gz")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(elsewhere)
    (elsewhere / "loop").symlink_to(root)
    assert [row["path"] for row in index(toy, root)] == ["link/a/T1.nii.gz"]


def test_links_to_nothing_are_left_out_and_named(toy: Dataset, tmp_path: Path) -> None:
    put(tmp_path, "a/T1.nii.gz", "a/mask.nii.gz", "b/mask.nii.gz")
    (tmp_path / "b/T1.nii.gz").symlink_to("../.git/annex/objects/x")
    assert [row["path"] for row in index(toy, tmp_path)] == ["a/T1.nii.gz"]
    assert scan(toy, tmp_path).dangling == ["b/T1.nii.gz"]
    (tmp_path / "a/mask.nii.gz").unlink()
    (tmp_path / "a/mask.nii.gz").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"label missing: a/mask[^!]*2 links to nothing, left out: fetch them first"):
        index(toy, tmp_path)
    (tmp_path / "a/T1.nii.gz").unlink()
    with pytest.raises(NotInPlace, match="2 links to nothing"):
        index(toy, tmp_path)


def test_the_first_layout_that_fits_wins(toy: Dataset, tmp_path: Path) -> None:
    other = Layout("other", (Pattern(image=r"(?P<subject>[^/]+)/scan", subset="test", sequence="T1w"),), ("a/scan.nii.gz",))
    both = replace(toy, layouts=(other, *toy.layouts))
    put(tmp_path, "a/T1.nii.gz", "a/mask.nii.gz")
    assert scan(both, tmp_path).layout == "toy"
    put(tmp_path, "a/scan.nii.gz")
    found = scan(both, tmp_path)
    assert (found.layout, len(found.rows), len(found.unexpected)) == ("other", 1, 2)


def test_runs_tell_volumes_apart(tmp_path: Path) -> None:
    session = "OAS30001_MR_d0129"
    put(
        tmp_path,
        f"{session}/anat1/sub-OAS30001_ses-d0129_T1w.nii.gz",
        f"{session}/anat2/sub-OAS30001_ses-d0129_T1w.nii.gz",
        f"{session}/swi1/sub-OAS30001_sess-d0129_run-01_echo-1_swi.nii.gz",
        f"{session}/swi1/sub-OAS30001_sess-d0129_run-01_echo-2_swi.nii.gz",
    )
    assert [row["volume"] for row in index(datasets.load("oasis3"), tmp_path)] == [
        "OAS30001_d0129_anat1_T1w",
        "OAS30001_d0129_anat2_T1w",
        "OAS30001_d0129_swi1-run-01-echo-1_SWI",
        "OAS30001_d0129_swi1-run-01-echo-2_SWI",
    ]


@pytest.mark.parametrize(
    ("name", "used", "left_out"),
    [
        (
            "oasis3",
            ["OAS30001_MR_d1/anat1/sub-OAS30001_ses-d1_T1w.nii.gz", "OAS30001_MR_d1/dwi1/sub-OAS30001_ses-d1_dwi.nii.gz"],
            [
                "OAS30001_MR_d1/func1/sub-OAS30001_ses-d1_task-rest_bold.nii.gz",
                "OAS30001_MR_d1/perf1/sub-OAS30001_ses-d1_asl.nii.gz",
            ],
        ),
        (
            "oasis4",
            ["OAS42001_MR_d1/anat1/NIFTI/a_T1w.nii.gz", "OAS42001_MR_d1/perf1/NIFTI/a_asl.nii.gz"],
            ["OAS42001_MR_d1/func1/NIFTI/a_bold.nii.gz"],
        ),
        (
            "ppmi",
            [f"3102/{series}/2011-03-17_10_12_00.0/I1/a.nii" for series in ("MPRAGE_GRAPPA", "Ax_T2_FLAIR", "DWI_64")],
            [
                f"3102/{series}/2011-03-17_10_12_00.0/I1/a.nii"
                for series in ("2D_GRE_MT", "T2_SPACE", "T1_repeat", "fMRI_T1", "Resting_State_T2", "localizer", "DTI_gated")
            ],
        ),
    ],
)
def test_selection_of_series_as_in_brains45k(name: str, used: list[str], left_out: list[str], tmp_path: Path) -> None:
    found = scan(datasets.load(name), put(tmp_path, *used, *left_out))
    assert sorted(row["path"] for row in found.rows) == sorted(used)
    assert (found.left_out, found.unexpected) == (sorted(left_out), [])


@pytest.mark.parametrize("paths", [(), ("notes.txt", "a/PD.nii.gz")])
def test_no_layout_says_what_is_there_and_what_should_be(toy: Dataset, tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(NotInPlace) as error:
        index(toy, put(tmp_path, *paths))
    text = str(error.value)
    assert ("a/PD.nii.gz, notes.txt" if paths else "there are no files") in text
    assert "a/T1.nii.gz" in text and str(tmp_path) in text and toy.page in text


def test_a_folder_that_is_not_there(toy: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotInPlace, match="there are no files"):
        index(toy, tmp_path / "nowhere")
