"""Every data set: complete facts, and an index that finds the files of each of its layouts."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.base import Dataset, Layout, index, scan
from brainpretrain.errors import UserError

NAMES = datasets.names()
LAYOUTS = [(name, number) for name in NAMES for number in range(len(datasets.load(name).layouts))]
KEYS = ["volume", "subject", "session", "sequence", "subset", "site", "path", "label", "channel"]
SEQUENCES = {"T1w", "T1ce", "T2w", "FLAIR", "PDw", "DWI", "ADC", "T2starw", "SWI", "minIP", "angio"}
BRAINS45K = ("adni", "oasis3", "oasis4", "ppmi", "brats21", "isles22", "wmh", "msseg1", "msd_brain_tumour")

# For each layout the rows of its examples: subject, session, sequence, subset, site, channel, with a label or not.
ROWS = {
    "adni/LONI, NIfTI": [
        ("002_S_0413", "2006-05-02", "T1w", "unlabelled", "", "", False),
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
    "phantom/phantom": [
        ("sub-001", "", "T1w", "train", "", "", True),
        ("sub-u001", "", "T1w", "unlabelled", "", "", False),
    ],
}


def build(root: Path, paths: Iterable[str]) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


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
    assert dataset.layouts and all(layout.patterns and layout.examples for layout in dataset.layouts)
    assert len({layout.name for layout in dataset.layouts}) == len(dataset.layouts)
    assert dataset.archives or dataset.access != "auto"
    assert 0 not in dataset.labels and len(set(dataset.labels.values())) == len(dataset.labels)
    assert bool(dataset.labels) == bool(dataset.label_sequences)
    assert not set(dataset.aliases) & set(dataset.aliases.values())


@pytest.mark.parametrize("name", NAMES)
def test_checksums_are_checksums(name: str) -> None:
    for archive in datasets.load(name).archives:
        assert re.fullmatch(r"[0-9a-f]{64}", archive.sha256 or "0" * 64)
        assert re.fullmatch(r"[0-9a-f]{32}", archive.md5 or "0" * 32)


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
        assert bool(row["label"]) == (row["subset"] != "unlabelled" and row["sequence"] in dataset.label_sequences)
        assert row["path"] in layout.examples and row["label"] in ("", *layout.examples)
    assert [row["volume"] for row in found.rows] == sorted({row["volume"] for row in found.rows})
    assert all(list(row) == [*KEYS, "source_bytes"] for row in index(dataset, tmp_path))


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
    labels = {row["label"] for row in index(dataset, root)} - {""}
    for label in labels:
        (root / label).unlink()
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
