"""The index compared with the manifest of the openly licensed volumes in shared/, if that folder exists."""

from __future__ import annotations

import csv
from collections import defaultdict

import nibabel as nib
import numpy as np
import pytest

from brainpretrain import datasets
from brainpretrain.download.index import index, scan
from helpers import ROOT, SHARED

SOURCES = {
    "msd_hippocampus": "msd_task04_hippocampus",
    "ixi": "ixi_2mm",
    "oasis_trt20": "oasis_trt20_mindboggle",
    "ljubljana_ms": "ljubljana_ms_cross_mni",
    "isles22": "isles22",
    "oasis_miccai2012": "oasis_miccai2012",
    "nichart_demo": "nichart_demo",
    "nichart_demo_wmh": "nichart_demo",
}

pytestmark = pytest.mark.skipif(not (SHARED / "manifest.csv").exists(), reason=f"no shared volumes at {SHARED}")


@pytest.fixture(scope="module")
def manifest() -> dict[str, list[dict[str, str]]]:
    rows = defaultdict(list)
    with open(SHARED / "manifest.csv", newline="") as stream:
        for row in csv.DictReader(stream):
            rows[row["source"]].append(row)
    return rows


@pytest.mark.parametrize("name", SOURCES)
def test_index_finds_what_the_manifest_lists(name: str, manifest: dict[str, list[dict[str, str]]]) -> None:
    source = SOURCES[name]
    rows = index(datasets.load(name), SHARED / source)
    listed = {(r["file"], r["label_file"], r["contrast"]) for r in manifest[source]}
    found = {(f"{source}/{r['path']}", r["label"] and f"{source}/{r['label']}", r["sequence"]) for r in rows}
    if source == "nichart_demo":  # two data sets, each with the labels of one sequence
        listed = {(file, label * (contrast in datasets.load(name).label_sequences), contrast) for file, label, contrast in listed}
    assert found == listed and len(rows) == len(manifest[source])
    persons = len({r["subject"] for r in manifest[source]})
    if source == "nichart_demo":  # by image, three of its subjects are one person, and two others are one, too
        persons -= 3
    assert len({r["patient"] for r in rows}) == persons


def test_the_scans_of_miccai_2012_are_those_of_the_oasis_subjects_of_the_manifest(
    manifest: dict[str, list[dict[str, str]]],
) -> None:
    dataset, listed = datasets.load("oasis_miccai2012"), manifest["oasis_miccai2012"]
    assert {row["case_id"]: dataset.persons(row["case_id"]) for row in listed} == {
        row["case_id"]: row["subject"] for row in listed
    }
    twins = {row["case_id"]: dataset.aliases.get(row["case_id"], row["case_id"]) for row in listed}
    assert len(set(twins.values())) == len({row["subject"] for row in listed}) == 20
    known = {datasets.load("oasis_trt20").persons(f"OASIS-TRT-20-{number:02d}") for number in range(1, 21)}
    assert len({dataset.persons(row["case_id"]) for row in listed} & known) == 13


def structures() -> list[dict[str, str]]:
    text = (ROOT / "src/brainpretrain/datasets/structures.tsv").read_text(encoding="utf-8")
    lines = (line for line in text.splitlines() if not line.startswith("#"))
    return [row for row in csv.DictReader(lines, delimiter="\t") if row["scheme"] == "muse"]


def test_the_map_to_4_and_33_structures_is_that_of_the_table_beside_the_data() -> None:
    """Every id: its name's side, its structures, and the data sets that hold it."""
    with open(SHARED / "labels_muse_4_33.csv", newline="", encoding="utf-8") as stream:
        proposed = {row["id"]: row for row in csv.DictReader(stream)}
    assert {row["value"] for row in structures()} == set(proposed)
    for row in structures():
        other = proposed[row["value"]]
        assert (row["manual"], row["dlmuse"]) == (other["in_oasis_miccai2012"], other["in_dlmuse"])
        assert row["structure4"].replace("_", " ") == other["structure4"]
        side = {"left": "_L", "right": "_R"}.get(other["name"].partition(" ")[0].lower(), "")
        if not 81 <= int(row["value"]) <= 95:  # where the table has other names: see the next lines
            assert (row["name"][-2:] if row["name"][-2:] in ("_L", "_R") else "") == side
        if row["structure33"] not in ("", "no side"):
            words = other["structure33"].replace("3rd", "third").replace("4th", "fourth").split()
            words = [*words[1:], words[0][0].upper()] if words[0] in ("left", "right") else words
            expected = "cerebral_white_matter" + row["name"][-2:] if 81 <= int(row["value"]) <= 94 else "_".join(words)
            assert row["structure33"] == expected
    assert len({row["structure33"] for row in structures()} - {"", "no side"}) == 33


@pytest.mark.parametrize(
    ("source", "label"), [("oasis_miccai2012", "labels_neuromorphometrics"), ("nichart_demo", "dlmuse"), ("ixi_2mm", "dlmuse")]
)
def test_left_is_left_of_right_for_every_pair(source: str, label: str) -> None:
    """By the centres of the structures in the world, in one volume of each data set."""
    image = nib.load(sorted((SHARED / source).glob(f"*/{label}.nii.gz"))[0])
    values = np.asarray(image.dataobj).astype(int)
    present, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    world = nib.affines.apply_affine(image.affine, np.indices(values.shape).reshape(3, -1).T)[:, 0]
    x = dict(zip(present, np.bincount(inverse.ravel(), world) / counts, strict=True))
    names = {row["name"]: int(row["value"]) for row in structures()}
    pairs = [(names[f"{name[:-2]}_R"], value) for name, value in names.items() if name.endswith("_L")]
    found = [(right, left) for right, left in pairs if right in x and left in x]
    assert len(found) > 60 and all(x[left] < x[right] for right, left in found)


@pytest.mark.parametrize("name", SOURCES)
def test_only_documents_are_unexpected(name: str) -> None:
    found = scan(datasets.load(name), SHARED / SOURCES[name])
    assert not [path for path in found.unexpected if path.endswith((".nii", ".nii.gz"))]


@pytest.mark.parametrize("name", SOURCES)
def test_every_value_of_a_label_file_has_a_name(name: str) -> None:
    dataset = datasets.load(name)
    labels = sorted({row["label"] for row in index(dataset, SHARED / SOURCES[name])} - {""})
    for label in labels[:: max(1, len(labels) // 4)]:
        values = np.unique(np.asanyarray(nib.load(SHARED / SOURCES[name] / label).dataobj))
        assert set(values.astype(int)) - {0} <= set(dataset.labels), label
