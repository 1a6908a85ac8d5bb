"""Fetch: in place, not in place, and made here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from brainpretrain import cli, datasets
from brainpretrain.download.fetch import fetch, shortfall
from brainpretrain.errors import UserError
from brainpretrain.files import read_json, read_tsv


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
        "dangling": [],
        "note": "found 2 of expected 390 subjects, found 2 of expected 390 volumes",
    }


def test_what_is_short_of_the_release_is_a_note() -> None:
    expected = {"subjects": 2, "volumes": 4}
    assert shortfall({"subjects": 2, "volumes": 4}, expected) == shortfall({"subjects": 1, "volumes": 1}, None) == ""
    assert shortfall({"subjects": 2, "volumes": 3}, expected) == "found 3 of expected 4 volumes"


def test_the_command_says_how_many_are_short_and_which_links_lead_nowhere(tmp_path: Path, capsys: Any) -> None:
    root = tmp_path / "raw"
    (root / "imagesTs").mkdir(parents=True)
    (root / "imagesTs/hippocampus_002.nii.gz").touch()
    (root / "imagesTs/hippocampus_005.nii.gz").symlink_to(".git/annex/objects/x")
    arguments = ["--dataset", "msd_hippocampus", "--root", str(root), "--out"]
    assert cli.main(["fetch", *arguments, str(tmp_path / "source.json")]) == 0
    printed = capsys.readouterr().out
    assert "found 1 of expected 390 volumes" in printed and "1 links to nothing" in printed
    assert read_json(tmp_path / "source.json")["dangling"] == ["imagesTs/hippocampus_005.nii.gz"]
    assert cli.main(["index", *arguments, str(tmp_path / "index.tsv")]) == 0
    assert "imagesTs/hippocampus_005.nii.gz" in capsys.readouterr().out and len(read_tsv(tmp_path / "index.tsv")) == 1


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
