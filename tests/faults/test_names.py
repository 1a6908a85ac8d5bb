"""Faults 57 to 59, 70, 76 and 77: what names of files and tables of own data say about subject, kind of image and label."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import Any

import pytest

from brainpretrain import cli
from brainpretrain.files import read_tsv


def folder(root: Path, *names: str) -> Path:
    """Files of these names; an index opens no volume."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def indexed(root: Path, options: str = "{}") -> tuple[int, Path]:
    """Exit code of `index` for a BIDS folder, and the path of its table."""
    out = root.with_name(f"{root.name}_index.tsv")
    return cli.main(["index", "--dataset", "bids", "--root", str(root), "--options", options, "--out", str(out)]), out


def table(root: Path, *lines: str) -> tuple[int, Path]:
    """Exit code of `index` for a CSV with these lines, and the path of the index."""
    root.mkdir(exist_ok=True)
    (root / "list.csv").write_text("\n".join(["subject,session,sequence,path,label", *lines, ""]))
    out = root.with_name(f"{root.name}_index.tsv")
    return cli.main(
        ["index", "--dataset", "csv", "--root", str(root), "--options", '{"file": "list.csv"}', "--out", str(out)]
    ), out


def left_out(index: Path) -> dict[str, str]:
    table = read_tsv(index.with_name(f"{index.stem}.left_out.tsv"))
    return dict(zip(table["path"], table["reason"], strict=True))


# ------------------------------------------------------------------------------------------------ 57


@pytest.mark.parametrize(
    ("wrong", "message", "right"),
    [
        ("sub-01/anat/sub-02_T1w", "says sub-02, but its folder is sub-01", "sub-01/anat/sub-01_T1w"),
        ("sub-01/anat/sub-001_T1w", "says sub-001, but its folder is sub-01", "sub-01/anat/sub-01_T1w"),
        ("sub-02/ses-1/anat/sub-02_ses-2_T1w", "says ses-2, but its folder is ses-1", "sub-02/ses-2/anat/sub-02_ses-2_T1w"),
        ("sub-02/ses-1/anat/sub-02_ses-01_acq-a_T2w", "says ses-01", "sub-02/ses-1/anat/sub-02_ses-1_acq-a_T2w"),
        ("sub-Ä/anat/sub-Ö_FLAIR", "says sub-Ö, but its folder is sub-Ä", "sub-Ä/anat/sub-Ä_FLAIR"),
        ("sub-01/anat/sub-01_sub-02_T1w", "says sub-01 and sub-02", "sub-01/anat/sub-01_T1w"),
        ("sub-01/anat/sub-01_ses-1_ses-2_T1w", "says ses-1 and ses-2", "sub-01/anat/sub-01_ses-2_T1w"),
    ],
)
def test_57_a_name_that_contradicts_its_folder_is_refused(
    wrong: str, message: str, right: str, tmp_path: Path, capsys: Any
) -> None:
    root = folder(tmp_path / "d", f"{wrong}.nii.gz", "sub-09/anat/sub-09_T1w.nii.gz")
    code, out = indexed(root)
    printed = capsys.readouterr().err
    assert code == 2 and not out.exists()
    assert f"{wrong}.nii.gz: the name {message}" in printed and "rename the file, or move it" in printed
    (root / right).parent.mkdir(parents=True, exist_ok=True)
    (root / f"{wrong}.nii.gz").rename(root / f"{right}.nii.gz")
    code, out = indexed(root)
    rows = read_tsv(out)
    subject, session = right.split("/")[0], next((part[4:] for part in right.split("_") if part.startswith("ses-")), "")
    assert code == 0 and (subject, session) in set(zip(rows["subject"], rows["session"], strict=True))


def test_57_the_session_may_be_in_the_name_alone_or_in_the_folder_alone(tmp_path: Path) -> None:
    names = ["sub-a/anat/sub-a_ses-1_T1w.nii", "sub-a/anat/sub-a_ses-2_T1w.nii", "sub-b/ses-1/anat/sub-b_T1w.nii"]
    code, out = indexed(folder(tmp_path / "d", *names))
    assert code == 0 and list(read_tsv(out)["volume"]) == ["sub-a_1_T1w", "sub-a_2_T1w", "sub-b_1_T1w"]


def test_57_one_name_for_the_subjects_of_two_folders_is_refused(tmp_path: Path, capsys: Any) -> None:
    root = folder(tmp_path / "d", "ds1/sub-01/anat/sub-01_T1w.nii", "ds2/sub-01/anat/sub-01_T2w.nii")
    code, _ = indexed(root)
    assert code == 2 and "'ds1/' and 'ds2/' both hold sub-01: is this one subject?" in capsys.readouterr().err
    (root / "ds2/sub-01/anat/sub-01_T2w.nii").rename(root / "ds1/sub-01/anat/sub-01_T2w.nii")
    assert indexed(root)[0] == 0


# ------------------------------------------------------------------------------------------------ 58


def test_58_parts_of_complex_images_are_no_magnitude_images(tmp_path: Path, capsys: Any) -> None:
    parts = ("mag", "phase", "real", "imag", "Phase")
    names = [f"sub-01/anat/sub-01_run-{n}_part-{part}_T2starw.nii.gz" for n, part in enumerate(parts)]
    code, out = indexed(folder(tmp_path / "d", *names, "sub-01/anat/sub-01_run-9_part-phase_echo-2_T2starw.nii.gz"))
    assert code == 0 and list(read_tsv(out)["path"]) == [names[0]]
    assert {path: reason for path, reason in left_out(out).items() if "part-real" in path} == {
        names[2]: "real part of a complex image (part-real)"
    }
    assert len(left_out(out)) == 5 and "phase image (part-phase): 2 volumes (" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------ 59

RAW = "sub-03/anat/sub-03_T1w.nii.gz"
DERIVED = "sub-03/anat/sub-03_desc-preproc_T1w.nii.gz"
PLAIN = "sub-03/anat/sub-03_acq-stripped_T1w.nii.gz"


@pytest.mark.parametrize("top", ["", "rawdata/"])
@pytest.mark.parametrize(
    "pipeline", ["derivatives/x", "Derivatives/fmriprep", "fmriprep", "fMRIPrep-23.1.0", "out/mriqc", "anything"]
)
def test_59_images_below_other_folders_are_derivatives(top: str, pipeline: str, tmp_path: Path) -> None:
    code, out = indexed(folder(tmp_path / "d", top + RAW, f"{pipeline}/{RAW}", f"{pipeline}/{PLAIN}"))
    assert code == 0 and list(read_tsv(out)["path"]) == [top + RAW]
    assert set(left_out(out)) == {f"{pipeline}/{RAW}", f"{pipeline}/{PLAIN}"}


def test_59_a_folder_that_calls_itself_a_derivative_is_one(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", f"site1/{RAW}", f"prep/{PLAIN}")
    assert indexed(root)[0] == 2  # one subject in two folders
    (root / "prep/dataset_description.json").write_text('{"DatasetType": "derivative"}')
    code, out = indexed(root)
    assert code == 0 and list(left_out(out).values()) == ["'prep/dataset_description.json' says that it is a derivative"]


@pytest.mark.parametrize("entity", ["desc-preproc", "space-MNI152", "res-2", "acq-x_space-T1w", "label-GM"])
def test_59_entities_of_derivatives_are_left_out_where_the_options_do_not_ask_for_them(entity: str, tmp_path: Path) -> None:
    other = f"sub-03/anat/sub-03_{entity}_T1w.nii.gz"
    root = folder(tmp_path / "d", RAW, other)
    code, out = indexed(root)
    assert code == 0 and list(read_tsv(out)["path"]) == [RAW] and left_out(out)[other].startswith("a derivative, by ")
    code, out = indexed(root, '{"derivatives": true}')
    assert code == 0 and len(read_tsv(out)) == 2 and not out.with_name(f"{out.stem}.left_out.tsv").exists()


@pytest.mark.parametrize(
    ("lines", "ignored"),
    [
        ("excluded/", ["excluded/sub-04/anat/sub-04_T1w.nii"]),
        ("# all\n\n*_T2w.nii*", ["sub-05/anat/sub-05_T2w.nii"]),
        ("/sub-05", ["sub-05/anat/sub-05_T1w.nii", "sub-05/anat/sub-05_T2w.nii"]),
        ("**/sub-05/**\n!*_T1w.nii", ["sub-05/anat/sub-05_T2w.nii"]),
        ("sub-0[!5]/anat/*_T?w.nii", []),
        ("anat/sub-05_T1w.nii", []),
    ],
)
def test_59_what_bidsignore_names_is_left_out(lines: str, ignored: list[str], tmp_path: Path) -> None:
    names = [
        "sub-05/anat/sub-05_T1w.nii",
        "sub-05/anat/sub-05_T2w.nii",
        "excluded/sub-04/anat/sub-04_T1w.nii",
        "sub-6/anat/sub-6_T1w.nii",
    ]
    root = folder(tmp_path / "d", *names)
    (root / ".bidsignore").write_text(lines)
    code, out = indexed(root)
    by_line = [path for path, reason in left_out(out).items() if reason.startswith(".bidsignore has '")]
    assert code == 0 and by_line == ignored and set(left_out(out)) == {*ignored, names[2]}


def test_59_check_lists_reasons_and_counts_and_a_folder_without_raw_images_says_them(tmp_path: Path, capsys: Any) -> None:
    code, _ = indexed(folder(tmp_path / "d", f"fmriprep/{RAW}", f"fmriprep/{DERIVED}"))
    printed = capsys.readouterr().err
    assert code == 2 and "left out, below the folder 'fmriprep', which holds no raw images: 2 volumes (" in printed
    assert "give the files names as below" in printed and "ask for access" not in printed


# ------------------------------------------------------------------------------------------------ 70

SCRIPTS = ("Müller", "李雷", "Зоя", "محمد", "हिन्दी", "Ελένη", "a.b+c-d")


def composed(text: str, form: str) -> str:
    return unicodedata.normalize(form, text)


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_70_subjects_of_any_script_keep_their_names_and_stay_apart(form: str, tmp_path: Path) -> None:
    names = [composed(name, form) for name in SCRIPTS]
    root = folder(tmp_path / "bids", *(f"sub-{name}/anat/sub-{name}_T1w.nii.gz" for name in names))
    code, out = indexed(root)
    rows = read_tsv(out)
    assert code == 0 and set(rows["subject"]) == {f"sub-{composed(name, 'NFC')}" for name in SCRIPTS}
    assert rows["volume"].nunique() == len(SCRIPTS)
    folder(tmp_path / "csv", *(f"{name}.nii.gz" for name in names))
    lines = [f"{name},,T1w,{composed(name, 'NFC')}.nii.gz," for name in names]  # the table in another form than the files
    code, out = table(tmp_path / "csv", *lines)
    assert code == 0 and set(read_tsv(out)["subject"]) == {composed(name, "NFC") for name in SCRIPTS}


def test_70_one_name_in_two_unicode_forms_is_one_subject_or_refused(tmp_path: Path, capsys: Any) -> None:
    one, two = composed("Müller", "NFC"), composed("Müller", "NFD")
    assert one != two
    root = folder(tmp_path / "d", f"sub-{one}/anat/sub-{one}_T1w.nii", f"sub-{two}/anat/sub-{two}_FLAIR.nii")
    code, out = indexed(root)
    assert code == 0 and set(read_tsv(out)["subject"]) == {f"sub-{one}"}
    code, _ = indexed(folder(root, f"sub-{two}/anat/sub-{two}_T1w.nii"))
    assert code == 2 and "two spellings of one name" in capsys.readouterr().err
    folder(tmp_path / "csv", "1.nii", "2.nii")
    code, out = table(tmp_path / "csv", f"{one},a,T1w,1.nii,", f"{two},b,T1w,2.nii,")
    assert code == 0 and read_tsv(out)["subject"].nunique() == 1


@pytest.mark.parametrize("names", [("p 1", "p-1"), ("a/b", "a-b"), ("x (1)", "x 1")])
def test_70_subjects_whose_names_would_fall_together_are_refused(names: tuple[str, str], tmp_path: Path, capsys: Any) -> None:
    folder(tmp_path / "d", "1.nii", "2.nii")
    code, _ = table(
        tmp_path / "d", *(f"{name},,{sequence},{n}.nii," for n, name, sequence in zip("12", names, ("T1w", "T2w"), strict=True))
    )
    printed = capsys.readouterr().err
    assert code == 2 and "two spellings of one name" in printed and all(repr(name) in printed for name in names)
    assert table(tmp_path / "d", f"{names[0]},,T1w,1.nii,", "another,,T2w,2.nii,")[0] == 0


# ------------------------------------------------------------------------------------------------ 76


@pytest.mark.parametrize(
    ("wrong", "renamed"),
    [
        (["imagesTr/case_001"], {"imagesTr/case_001.nii.gz": "imagesTr/case_001_0000.nii.gz"}),
        (["imagesTr/a", "imagesTr/b", "imagesTs/c"], {"imagesTr/a.nii.gz": "imagesTr/a_0000.nii.gz", "3 files": "imagesTs/c"}),
        (["imagesTr/p_0000", "imagesTr/p_0007"], {"imagesTr/p_0000.nii.gz": "imagesTr/p_0000_0000.nii.gz"}),
        (["imagesTr/a_0000", "labelsTr/a_0000"], {"labelsTr/a_0000.nii.gz": "labelsTr/a.nii.gz"}),
        (["imagesTr/a_0001", "labelsTr/a"], {"imagesTr/a_0001.nii.gz": "beyond the 1 of `sequences`"}),
        (["imagesTr/a_0000.mha", "labelsTr/a.mha"], {"imagesTr/a_0000.mha": "convert it to imagesTr/a_0000.nii.gz"}),
    ],
)
def test_76_nnunet_names_that_do_not_fit_are_named_with_the_right_name(
    wrong: list[str], renamed: dict[str, str], tmp_path: Path, capsys: Any
) -> None:
    names = [name if name.endswith(".mha") else f"{name}.nii.gz" for name in wrong]
    if not any(name.startswith("labels") for name in wrong):
        names += [name.replace("images", "labels") for name in names if "Tr/" in name]
    root = folder(tmp_path / "d", *names)
    (root / "dataset.json").write_text('{"channel_names": {"0": "FLAIR"}, "labels": {"background": 0, "a": 1}}')
    assert cli.main(["check", str(root)]) == 2
    printed = capsys.readouterr().out
    for name, fix in renamed.items():
        assert name in printed and fix in printed
    assert "ask for access" not in printed


def test_76_renamed_or_converted_the_cases_are_read(tmp_path: Path) -> None:
    names = ("imagesTr/p_0000_0000.nii.gz", "imagesTr/p_0007_0000.nii.gz", "labelsTr/p_0000.nii.gz", "labelsTr/p_0007.nii.gz")
    root = folder(tmp_path / "d", *names, "imagesTr/p_0007_0000.mha")  # the source of the converted file
    line = ["index", "--dataset", "nnunet", "--root", str(root), "--options", '{"sequences": ["FLAIR"]}', "--out"]
    assert cli.main([*line, str(tmp_path / "index.tsv")]) == 0
    assert list(read_tsv(tmp_path / "index.tsv")["subject"]) == ["p_0000", "p_0007"]


# ------------------------------------------------------------------------------------------------ 77


def test_77_many_faults_of_one_kind_are_one_line_with_their_number(tmp_path: Path, capsys: Any) -> None:
    lines = [f"s{n},,T1w,gone/{n}.nii.gz," for n in range(200)]
    code, out = table(tmp_path / "d", *lines, ",,T1w,gone/1.nii.gz,", "a,,,gone/2.nii.gz,")
    printed = capsys.readouterr().err
    assert code == 2 and not out.exists() and len(printed.splitlines()) < 12
    assert "path missing, in 202 lines: line 2: gone/0.nii.gz, line 3: gone/1.nii.gz" in printed and "and 197 more" in printed
    assert "line 202: no subject" in printed and f"relative paths begin in {tmp_path / 'd'}" in printed


def test_77_absolute_paths_are_taken_and_become_relative_below_the_folder(tmp_path: Path) -> None:
    root, other = folder(tmp_path / "d", "scans/1.nii.gz"), folder(tmp_path / "elsewhere", "2.nii")
    code, out = table(root, f"a,,T1w,{root / 'scans/1.nii.gz'},", f"b,,T1w,{other / '2.nii'},{root / 'scans/1.nii.gz'}")
    assert code == 0 and list(read_tsv(out)["path"]) == ["scans/1.nii.gz", str(other / "2.nii")]
    assert list(read_tsv(out)["label"]) == ["", "scans/1.nii.gz"]
