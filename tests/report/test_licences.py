from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.own import options as own
from brainpretrain.report import licences


@pytest.mark.parametrize(
    ("licence", "redistribution", "access", "expected"),
    [
        ("CC BY 4.0", True, "auto", []),
        ("CC BY-SA 3.0", True, "auto", [licences.SHARE_ALIKE]),
        ("CC BY-NC 4.0", True, "auto", [licences.NO_COMMERCE]),
        ("CC BY-NC-ND", False, "auto", [licences.NO_COMMERCE, licences.NO_DERIVATIVES]),
        ("ADNI data use agreement", False, "place", [licences.NO_COPIES, licences.SIGNED]),
        (own.UNSTATED, False, "place", [licences.UNKNOWN]),
    ],
)
def test_what_a_licence_forbids(licence: str, redistribution: bool, access: Any, expected: list[str]) -> None:
    dataset = replace(datasets.load("adni"), licence=licence, redistribution=redistribution, access=access)
    assert licences.forbidden(dataset) == expected


def test_licences_of_own_data() -> None:
    described = [
        datasets.describe("bids", {"licence": licence} if licence else {}) for licence in ("", "CC BY 4.0", "CC BY-ND 4.0")
    ]
    assert [licences.forbidden(dataset) for dataset in described] == [[licences.UNKNOWN], [], [licences.NO_DERIVATIVES]]


def test_licences_of_data_and_weights() -> None:
    used = [("adni", datasets.load("adni"), ["pretraining (brains45k)"]), ("wmh", datasets.load("wmh"), ["task wmh_flair", "x"])]
    releases = [{"name": "released", "licence": None, "page": "https://p", "citation": "c"}]
    table = licences.licence_table(used, releases)
    assert list(table.columns) == licences.LICENCE_COLUMNS
    assert table["used_for"].tolist() == ["pretraining (brains45k)", "task wmh_flair; x", "initial encoder"]
    assert table["licence"].tolist()[2] == "not known" and table["forbids"].tolist()[2] == licences.UNKNOWN
    assert all(table["licence_url"]) and set(table["redistribution"]) <= {"yes", "no", ""}


@pytest.mark.parametrize("name", datasets.names())
def test_every_module_can_be_listed(name: str) -> None:
    (row,) = licences.licence_table([(name, datasets.load(name), ["x"])], []).to_dict("records")
    assert row["licence"] and row["citation"]
