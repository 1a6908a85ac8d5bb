"""The index compared with the manifest of the openly licensed volumes in shared/, if that folder exists."""

from __future__ import annotations

import csv
from collections import defaultdict

import nibabel as nib
import numpy as np
import pytest

from brainpretrain import datasets
from brainpretrain.download.index import index, scan
from helpers import SHARED

SOURCES = {
    "msd_hippocampus": "msd_task04_hippocampus",
    "ixi": "ixi_2mm",
    "oasis_trt20": "oasis_trt20_mindboggle",
    "ljubljana_ms": "ljubljana_ms_cross_mni",
    "isles22": "isles22",
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
    assert found == listed and len(rows) == len(manifest[source])
    assert len({r["subject"] for r in rows}) == len({r["subject"] for r in manifest[source]})


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
