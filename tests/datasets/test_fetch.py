"""Fetch: in place, not in place, and made here."""

from __future__ import annotations

from pathlib import Path

import pytest

from brainpretrain import datasets
from brainpretrain.datasets.fetch import fetch
from brainpretrain.errors import UserError


def test_data_in_place(tmp_path: Path) -> None:
    dataset = datasets.load("msd_hippocampus")
    for path in (*dataset.layouts[0].examples, "dataset.json"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    assert fetch(dataset, tmp_path) == {
        "dataset": "msd_hippocampus",
        "root": str(tmp_path),
        "layout": "decathlon",
        "volumes": 2,
        "subjects": 2,
        "unexpected_files": 1,
        "unexpected": ["dataset.json"],
        "left_out": 0,
    }


@pytest.mark.parametrize("name", [name for name in datasets.names() if datasets.load(name).access != "embedded"])
def test_data_not_in_place_says_what_to_put_where(name: str, tmp_path: Path) -> None:
    dataset = datasets.load(name)
    with pytest.raises(UserError) as error:
        fetch(dataset, tmp_path / name)
    text = str(error.value)
    assert str(tmp_path / name) in text and dataset.page in text and dataset.licence in text
    for archive in dataset.archives:
        assert archive.name in text and (archive.url in text) and (archive.sha256 or "") in text and (archive.md5 or "") in text
    for layout in dataset.layouts:
        assert all(example in text for example in layout.examples)


def test_options_of_data_that_are_not_made_here(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="takes no options, found: seed"):
        fetch(datasets.load("ixi"), tmp_path, seed=1)


def test_unknown_and_missing_options_of_an_embedded_data_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'subjects'"):
        fetch(datasets.load("phantom"), tmp_path, subject=1)
    with pytest.raises(UserError, match=r"missing options: .*seed"):
        fetch(datasets.load("phantom"), tmp_path, subjects=1)
    assert not list(tmp_path.iterdir())
