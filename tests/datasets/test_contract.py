"""Every data set: complete facts, and an index that finds the files of each of its layouts.

Each layout is built from its examples with volumes of a few voxels: real NIfTI files, and NRRD that the step converts.
"""

from __future__ import annotations

import importlib
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from brainpretrain import config, datasets
from brainpretrain.cohorts import splits
from brainpretrain.datasets.base import Dataset, Layout
from brainpretrain.download.fetch import fetch
from brainpretrain.download.index import index, scan
from brainpretrain.errors import UserError
from brainpretrain.preprocess import frames, shards
from helpers import ROOT
from miniatures import build

NAMES = datasets.names()
# What a table lists (OpenMind) has no patterns; it is tested in test_openmind.py.
BY_PATTERN = [name for name in NAMES if not datasets.load(name).lister]
LAYOUTS = [(name, number) for name in BY_PATTERN for number in range(len(datasets.load(name).layouts))]
KEYS = ["volume", "subject", "patient", "session", "sequence", "subset", "site", "path", "label", "channel"]
SEQUENCES = {"T1w", "T1ce", "T2w", "FLAIR", "PDw", "DWI", "ADC", "T2starw", "SWI", "minIP", "angio", "T1ceGRE", "CT", "unknown"}
BRAINS45K = ("adni", "oasis3", "oasis4", "ppmi", "brats21", "isles22", "wmh", "msseg1", "msd_brain_tumour")

# For each layout the rows of its examples: subject, session, sequence, subset, site, channel, with a label or not.
ROWS = {
    "adni/LONI, NIfTI": [
        ("002_S_0413", "2006-05-02", "T1w", "train", "", "", True),
        ("002_S_0413", "2017-06-21", "FLAIR", "unlabelled", "", "", False),
    ],
    "ppmi/LONI, NIfTI": [
        ("3102", "2011-03-17", "T1w", "unlabelled", "", "", False),
        ("3102", "2012-03-20", "FLAIR", "unlabelled", "", "", False),
    ],
    "oasis3/oasis-scripts": [
        ("OAS30001", "d0129", "T1w", "unlabelled", "", "", False),
        ("OAS30001", "d0129", "T1w", "unlabelled", "", "", False),
        ("OAS30001", "d0757", "FLAIR", "unlabelled", "", "", False),
    ],
    "oasis4/oasis-scripts": [
        ("OAS42001", "d3000", "T1w", "unlabelled", "", "", False),
        ("OAS42001", "d3000", "FLAIR", "unlabelled", "", "", False),
    ],
    "brats21/synapse": [("BraTS2021_00000", "", sequence, "train", "", "", True) for sequence in ("FLAIR", "T1w", "T1ce", "T2w")],
    "wmh/dataverse": [
        ("0", "", "FLAIR", "train", "Utrecht", "", True),
        ("0", "", "T1w", "train", "Utrecht", "", True),
        ("160", "", "FLAIR", "test", "Amsterdam/Philips_VU .PETMR_01.", "", True),
        ("160", "", "T1w", "test", "Amsterdam/Philips_VU .PETMR_01.", "", True),
    ],
    "msseg1/shanoir": [
        ("Center_01-Patient_01", "", sequence, "train", "Center_01", "", True)
        for sequence in ("PDw", "FLAIR", "T1ce", "T1w", "T2w")
    ],
    "msd_brain_tumour/decathlon": [
        (subject, "", sequence, subset, "", channel, subset == "train")
        for subject, subset in (("BRATS_001", "train"), ("BRATS_485", "unlabelled"))
        for channel, sequence in enumerate(("FLAIR", "T1w", "T1ce", "T2w"))
    ],
    "msd_hippocampus/decathlon": [
        ("hippocampus_001", "", "T1w", "train", "", "", True),
        ("hippocampus_002", "", "T1w", "unlabelled", "", "", False),
    ],
    "isles22/samples": [
        ("sub-strokecase0009", "", "DWI", "train", "", "", True),
        ("sub-strokecase0009", "", "ADC", "train", "", "", True),
        ("sub-strokecase0009", "", "FLAIR", "train", "", "", False),
        ("docker_case_A", "", "DWI", "unlabelled", "", "", False),
    ],
    **{
        f"isles22/{layout}": [
            ("sub-strokecase0001", "0001", "DWI", "train", "", "", True),
            ("sub-strokecase0001", "0001", "ADC", "train", "", "", True),
            ("sub-strokecase0001", "0001", "FLAIR", "train", "", "", False),
        ]
        for layout in ("rawdata", "images", "zenodo 7960856")
    },
    "ixi/2 mm with DLMUSE": [("IXI012-HH-1211", "", "T1w", "train", "HH", "", True)],
    "ixi/release": [("IXI012-HH-1211", "", sequence, "unlabelled", "HH", "", False) for sequence in ("T1w", "T2w", "PDw")],
    "oasis_trt20/two digits": [("OASIS-TRT-20-01", "", "T1w", "train", "", "", True)],
    "oasis_trt20/Mindboggle-101": [("OASIS-TRT-20-1", "", "T1w", "train", "", "", True)],
    "ljubljana_ms/release, registered to FLAIR": [
        ("patient01", "", sequence, "train", "", "", True) for sequence in ("FLAIR", "T1w", "T1ce", "T2w")
    ],
    "ljubljana_ms/MNI, 1 mm": [("patient07", "", sequence, "train", "", "", True) for sequence in ("FLAIR", "T1w", "T2w")],
    "abcd/abcd-mproc-release5": [
        ("sub-NDARINV00000000", "baselineYear1Arm1", sequence, "unlabelled", "", "", False) for sequence in ("T1w", "T2w")
    ],
    "atlas_r2/INDI": [
        ("sub-r001s001", "1", "T1w", "train", "R001", "", True),
        ("sub-r027s001", "1", "T1w", "unlabelled", "", "", False),
    ],
    "brainmets/NIfTI": [
        (f"Mets_{number}", "", sequence, subset, "", "", subset == "train")
        for number, subset in (("001", "train"), ("106", "unlabelled"))
        for sequence in ("T1ceGRE", "FLAIR", "T1ce", "T1w")
    ],
    "brats_africa/synapse, 2023": [
        ("BraTS-SSA-00002", "000", sequence, "train", "", "", True) for sequence in ("T1w", "T1ce", "T2w", "FLAIR")
    ],
    "brats_mets/synapse, 2023": [
        ("BraTS-MET-00002", "000", sequence, "train", "", "", True) for sequence in ("T1w", "T1ce", "T2w", "FLAIR")
    ],
    "btcv/synapse": [("0001", "", "CT", "train", "", "", True), ("0061", "", "CT", "unlabelled", "", "", False)],
    "cc359/original": [
        ("CC0001", "", "T1w", "train", "philips_15", "", True),
        ("CC0121", "", "T1w", "unlabelled", "siemens_15", "", False),
    ],
    "cosmos/DICOM, converted": [("0_P113_U", "", "unknown", "train", "", "", True)],
    "crossmoda/2022": [
        ("crossmoda2022_ldn_1", "", "T1ce", "train", "ldn", "", True),
        ("crossmoda2022_etz_106", "", "T2w", "unlabelled", "etz", "", False),
    ],
    "crossmoda/2021": [
        ("crossmoda_1", "", "T1ce", "train", "", "", True),
        ("crossmoda_106", "", "T2w", "unlabelled", "", "", False),
    ],
    "fomo60k/by source": [
        ("PT001_OASIS1-sub_1", "1", sequence, "unlabelled", "PT001_OASIS1", "", False) for sequence in ("T1w", "FLAIR", "T1w")
    ],
    "fomo60k/one folder": [("sub_1", "1", sequence, "unlabelled", "", "", False) for sequence in ("T1w", "FLAIR", "T1w")],
    "han_seg/NRRD, converted": [("case_01", "", sequence, "train", "", "", sequence == "CT") for sequence in ("CT", "T1w")],
    "hnts_mrg24/zenodo": [("2", session, "T2w", "train", "", "", True) for session in ("preRT", "midRT")],
    "ms_flair/mendeley": [("Patient-1", "", sequence, "train", "", "", True) for sequence in ("FLAIR", "T1w", "T2w")],
    **{
        f"{name}/neurite": [("OASIS_OAS1_0001", "MR1", "T1w", subset, "", "", True) for subset in ("orig", "norm")]
        for name in ("oasis1", "oasis1_seg4")
    },
    "oasis1_fsl/discs, converted": [("OAS1_0001", "MR1", "T1w", subset, "", "", True) for subset in ("orig", "norm")],
    **{
        f"oasis_miccai2012/{layout}": [("1000", "", "T1w", "train", "", "", True)]
        for layout in ("a folder for each scan", "malf.templates")
    },
    **{
        f"{name}/{layout}": [("Subj1", "", sequence, "train", "", "", sequence == labelled) for sequence in ("T1w", "FLAIR")]
        for name, labelled in (("nichart_demo", "T1w"), ("nichart_demo_wmh", "FLAIR"))
        for layout in ("a folder for each subject", "repository")
    },
    "phantom/phantom": [
        ("sub-001", "", "T1w", "train", "", "", True),
        ("sub-u001", "", "T1w", "unlabelled", "", "", False),
    ],
}


@pytest.fixture(params=LAYOUTS, ids=[f"{name}-{number}" for name, number in LAYOUTS])
def case(request: pytest.FixtureRequest) -> tuple[Dataset, Layout]:
    name, number = request.param
    return datasets.load(name), datasets.load(name).layouts[number]


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_complete(name: str) -> None:
    dataset = datasets.load(name)
    assert dataset.name == name
    assert dataset.access in ("auto", "credential", "place", "embedded")
    assert dataset.page.startswith("http") and dataset.licence_url.startswith("http")
    assert dataset.title and dataset.licence and dataset.citation
    assert dataset.layouts and all(layout.examples and (layout.patterns or dataset.lister) for layout in dataset.layouts)
    assert len({layout.name for layout in dataset.layouts}) == len(dataset.layouts)
    assert dataset.archives or dataset.access != "auto"
    assert 0 not in dataset.labels and len(set(dataset.labels.values())) == len(dataset.labels)
    assert bool(dataset.labels) == bool(dataset.label_sequences)
    assert not set(dataset.aliases) & set(dataset.aliases.values())
    assert set(dataset.ignore) <= set(dataset.labels)
    assert dataset.__doc__ and importlib.import_module(f"brainpretrain.datasets.{name}").__doc__


@pytest.mark.parametrize("name", NAMES)
def test_checksums_are_checksums(name: str) -> None:
    for archive in datasets.load(name).archives:
        assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256 or "0" * 64)
        assert re.fullmatch(r"[0-9a-f]{32}", archive.md5 or "0" * 32)
        assert all(re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", checksum) for checksum in archive.also)


@pytest.mark.parametrize("name", NAMES)
def test_addresses_are_of_a_known_kind(name: str) -> None:
    dataset = datasets.load(name)
    known = r"https?://\S+|synapse:syn\d+|xnat:[\w./-]+/[A-Z0-9]+|hf:[\w-]+/[\w-]+|dataverse:[\w.]+/doi:10\.\d+/\w+|zenodo:[\w.]+/\d+|"
    assert all(re.fullmatch(known, archive.url) for archive in dataset.archives)
    assert dataset.access == "place" or dataset.access == "embedded" or any(archive.url for archive in dataset.archives)
    assert len({archive.name for archive in dataset.archives}) == len(dataset.archives)
    assert all(archive.url.startswith("xnat:") == bool(archive.scans) for archive in dataset.archives)


def test_tasks_name_labels_that_the_data_set_has_and_ignore_what_it_says() -> None:
    tasks = config.load(ROOT / "config").tasks
    for name, task in tasks.items():
        dataset = datasets.load(task.dataset)
        assert {value for values in task.labels.values() for value in values} | set(task.ignore) <= set(dataset.labels), name
        assert set(task.ignore) >= set(dataset.ignore), name


def test_names_of_one_patient_are_resolved(tmp_path: Path) -> None:
    cases = [f"BraTS2021_{number}" for number in ("00557", "00639", "00758", "00626", "00000")]
    build(tmp_path, [f"{case}/{case}_{kind}.nii.gz" for case in cases for kind in ("t1", "t1ce", "t2", "flair", "seg")])
    rows = index(datasets.load("brats21"), tmp_path)
    assert {row["subject"]: row["patient"] for row in rows} == dict(
        zip(cases, [cases[1], cases[1], cases[3], cases[3], cases[4]], strict=True)
    )
    found = splits.split(
        pd.DataFrame(rows),
        {"dataset": "brats21", "sequences": ["FLAIR"], "subsets": [], "split": {"seed": 0, "test_fraction": 0}},
    )
    assert found["pool"] == sorted(cases) and found["patients"] == {case: found["patients"][case] for case in sorted(cases[:4])}


def test_no_fold_trains_on_a_person_of_nichart_whom_it_scores(tmp_path: Path) -> None:
    names = [f"Subj{number}" for number in (1, 8, 9, 10, 15, 16)]
    build(tmp_path, [f"{name}/{kind}.nii.gz" for name in names for kind in ("T1", "FLAIR", "dlwmls")])
    rows = pd.DataFrame(index(datasets.load("nichart_demo_wmh"), tmp_path))
    person = dict(zip(rows["subject"], rows["patient"], strict=True))
    assert len(set(person.values())) == 3
    for seed in range(6):
        rule = {"seed": seed, "test_fraction": 0.34, "draw": "shuffle"}
        found = splits.split(rows, {"dataset": "d", "sequences": ["FLAIR"], "subsets": [], "split": rule})
        scored = {person[name] for name in found["test"]}
        assert scored & {person[name] for name in found["pool"]}  # by name the draw puts a person on both sides
        assert not scored & {person[name] for name in splits.training_pool(found)}


@pytest.mark.parametrize("name", [name for name in NAMES if datasets.load(name).expected])
def test_one_shard_for_256_expected_volumes(name: str) -> None:
    dataset = datasets.load(name)
    assert dataset.n_shards == math.ceil(dataset.expected["volumes"] / 256)


def test_titles_are_unique() -> None:
    assert len({datasets.load(name).title for name in NAMES}) == len(NAMES)


def test_brains45k_adds_up_to_the_paper() -> None:
    counts = [datasets.load(name).brains45k for name in BRAINS45K]
    totals = {key: sum(count[key] for count in counts) for key in ("subjects", "sessions", "volumes")}
    assert totals == {"subjects": 7140, "sessions": 16040, "volumes": 44756}


def test_layout_is_found_in_its_examples(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    found = scan(dataset, build(tmp_path, layout.examples))
    assert (found.layout, found.unexpected, found.left_out) == (layout.name, [], [])
    for row in found.rows:
        assert list(row) == KEYS
        assert re.fullmatch(r"[A-Za-z0-9.-]+(_[A-Za-z0-9.-]+)+", row["volume"])
        assert row["subject"] and row["sequence"] in SEQUENCES
        assert row["patient"] == dataset.aliases.get(row["subject"], row["subject"])
        assert bool(row["label"]) == (row["subset"] != "unlabelled" and row["sequence"] in dataset.label_sequences)
        assert row["path"] in layout.examples and row["label"] in ("", *layout.examples)
    assert [row["volume"] for row in found.rows] == sorted({row["volume"] for row in found.rows})
    assert all(list(row) == [*KEYS, "source_bytes"] for row in index(dataset, tmp_path))


def test_rows_are_stated_for_every_layout() -> None:
    stated = {f"{name}/{datasets.load(name).layouts[number].name}" for name, number in LAYOUTS}
    assert set(ROWS) == stated


@pytest.mark.parametrize("key", ROWS)
def test_rows_of_the_examples(key: str, tmp_path: Path) -> None:
    name, layout_name = key.split("/")
    dataset = datasets.load(name)
    layout = next(layout for layout in dataset.layouts if layout.name == layout_name)
    rows = index(dataset, build(tmp_path, layout.examples))
    columns = ("subject", "session", "sequence", "subset", "site", "channel")
    assert sorted((*(row[c] for c in columns), bool(row["label"])) for row in rows) == sorted(ROWS[key])


def test_folders_above_the_layout_change_nothing_but_paths(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    top = 'my "archive", it\'s v1 ./part;1'
    plain = index(dataset, build(tmp_path / "plain", layout.examples))
    nested = index(dataset, build(tmp_path / "nested", (f"{top}/{path}" for path in layout.examples)))
    prefixed = [row | {"path": f"{top}/{row['path']}", "label": row["label"] and f"{top}/{row['label']}"} for row in plain]
    assert nested == prefixed


def test_missing_labels_are_named(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    root = build(tmp_path, layout.examples)
    before = index(dataset, root)
    labels = {row["label"] for row in before} - {""}
    for label in labels:
        (root / label).unlink()
    if any(pattern.partly for pattern in layout.patterns):
        assert labels and [row["subset"] for row in index(dataset, root)] == ["unlabelled"] * len(before)
        return
    if not labels:
        assert not dataset.labels or "unlabelled" in {pattern.subset for pattern in layout.patterns}
        return
    with pytest.raises(UserError) as error:
        index(dataset, root)
    for label in labels:
        assert f"label missing: {label}" in str(error.value)


def test_the_same_volume_twice_names_both_files(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    root = build(tmp_path, layout.examples)
    rows = index(dataset, root)
    shutil.copytree(root, tmp_path / "copy", dirs_exist_ok=True, ignore=shutil.ignore_patterns("copy"))
    with pytest.raises(UserError, match="more than once") as error:
        index(dataset, root)
    for row in rows:
        assert f"'{row['volume']}' more than once" in str(error.value)
        assert f"copy/{row['path']}" in str(error.value)


def test_missing_sequences_are_named(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    root = build(tmp_path, layout.examples)
    required = {name for pattern in layout.patterns for name in pattern.required}
    if not required:
        return
    gone = next(
        row for row in index(dataset, root) if (row["sequence"] in required and row["subset"] == "train") or not dataset.labels
    )
    (root / gone["path"]).unlink()
    with pytest.raises(UserError) as error:
        index(dataset, root)
    assert f"{gone['sequence']} missing of {gone['subject'].replace('-Patient', '/Patient')}" in str(error.value)


def test_a_misnamed_label_is_named_with_the_path_that_is_expected(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    root = build(tmp_path, layout.examples)
    labels = sorted({row["label"] for row in index(dataset, root)} - {""})
    if not labels or any(pattern.partly for pattern in layout.patterns):  # a file of an unknown name is then no label
        return
    wrong = str(Path(labels[0]).with_name("misnamed.nii.gz"))
    (root / labels[0]).rename(root / wrong)
    with pytest.raises(UserError) as error:
        index(dataset, root)
    assert f"label missing: {labels[0]} (of " in str(error.value)
    if wrong not in {row["path"] for row in _lenient(dataset, root)}:  # where any name in a folder is a volume, it is one
        assert wrong in str(error.value)


def test_label_files_by_their_groups_are_of_their_image_alone(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    """A pattern `masks` names groups that its images have; of two label files of one image, both are named."""
    dataset, layout = case
    for pattern in (pattern for pattern in layout.patterns if pattern.masks):
        assert set(re.compile(pattern.masks).groupindex) <= set(re.compile(pattern.image).groupindex)
        root = build(tmp_path, layout.examples)
        row = next(row for row in index(dataset, root) if row["label"])
        other = build(tmp_path, [f"elsewhere/{row['label']}", f"again/{row['label']}"])
        (other / row["label"]).unlink()
        with pytest.raises(UserError, match=f"several label files of {re.escape(row['path'])}: again/"):
            index(dataset, root)
        shutil.rmtree(root / "again")
        assert f"elsewhere/{row['label']}" in {found["label"] for found in index(dataset, root)}


def _lenient(dataset: Dataset, root: Path) -> list[dict]:
    return scan(replace(dataset, label_sequences=()), root).rows


def test_an_extra_volume_is_named(case: tuple[Dataset, Layout], tmp_path: Path) -> None:
    dataset, layout = case
    root = build(tmp_path, [*layout.examples, "leftover/mystery.nii.gz", "notes.txt"])
    if dataset.access == "embedded":
        return
    facts = fetch(dataset, root)
    assert facts["unexpected"] == ["leftover/mystery.nii.gz", "notes.txt"] and facts["unexpected_files"] == 2


def test_ct_needs_the_recipe_ct(tmp_path: Path) -> None:
    """Air of -1000 is kept, as the lowest value of the whole grid."""
    (tmp_path / "raw/Testing/img").mkdir(parents=True)
    array = np.random.default_rng(0).integers(-1000, 100, (20, 18, 16)).astype(np.int16)
    array[:4] = -1000
    nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "raw/Testing/img/img0061.nii.gz")
    rows = index(datasets.load("btcv"), tmp_path / "raw")
    recipes = config.load(ROOT / "config").preprocess
    built = {
        name: shards.build(rows, tmp_path / "raw", tmp_path / name, recipes[name].model_dump(), 0, 1) for name in ("amaes", "ct")
    }
    assert built["amaes"]["reason"].tolist() == ["negative"] and built["ct"]["shape"].tolist() == ["20 18 16"]
    assert (frames.load(tmp_path / "ct", built["ct"].iloc[0])[:4] == 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_redistribution_follows_from_a_creative_commons_licence(name: str) -> None:
    dataset = datasets.load(name)
    if re.fullmatch(r"CC BY[-A-Z]*(?: \d\.\d)?", dataset.licence):
        assert dataset.redistribution == ("ND" not in dataset.licence)


def test_what_brains45k_takes_whole() -> None:
    """Table 1 counts every volume of the sources below; the selection rules are those of the other four."""
    taken = {name for name in BRAINS45K if datasets.load(name).whole}
    assert taken == {"brats21", "isles22", "wmh", "msseg1", "msd_brain_tumour"}


def test_a_source_that_is_taken_whole_keeps_negative_and_small_volumes(tmp_path: Path) -> None:
    """Cases of ISLES22 have some voxels below 0, left by resampling; all 250 are in the corpus and may be scored."""
    array = np.random.default_rng(0).integers(-5, 100, (20, 18, 12)).astype(np.int16)
    case = "sub-strokecase0009"
    (tmp_path / "raw" / case).mkdir(parents=True)
    for name in ("DWI", "ADC", "FLAIR", "lesion_msk"):
        image = nib.Nifti1Image((array > 90).astype(np.uint8) if name == "lesion_msk" else array, np.eye(4))
        nib.save(image, tmp_path / "raw" / case / f"{name}.nii.gz")
    rows, settings = index(datasets.load("isles22"), tmp_path / "raw"), config.load(ROOT / "config")
    table = shards.build(rows, tmp_path / "raw", tmp_path / "out", settings.stored_as("amaes", "isles22"), 0, 1)
    assert table["reason"].tolist() == ["", "", ""]
    assert settings.stored_as("amaes", "adni") == settings.stored_as("amaes")


def test_selection_by_what_is_in_a_file(tmp_path: Path) -> None:
    """BRAINS-45K: every dimension at least 15, 3-D, no negative voxel. The index knows names only; the shard table has the reason."""
    rng = np.random.default_rng(0)
    good = rng.integers(1, 100, (20, 18, 16)).astype(np.int16)
    arrays = {"I1": good, "I2": good[:, :, :14], "I3": np.stack([good, good], -1), "I4": good - 60}
    for number, array in arrays.items():
        path = tmp_path / f"raw/002_S_0413/MPRAGE/2006-05-02_12_31_52.0/{number}/a.nii"
        path.parent.mkdir(parents=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), path)
    rows = index(datasets.load("adni"), tmp_path / "raw")
    recipe = config.load(ROOT / "config").preprocess["amaes"].model_dump()
    table = shards.build(rows, tmp_path / "raw", tmp_path / "out", recipe, 0, 1)
    assert table["volume"].tolist() == [f"002-S-0413_2006-05-02_{number}_T1w" for number in arrays]
    assert table["reason"].tolist() == ["", "too_small", "not_3d", "negative"]
    assert table["patient"].tolist() == ["002_S_0413"] * 4
