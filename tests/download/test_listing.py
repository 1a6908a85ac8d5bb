"""What is known of all data sets, and what of them is in place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from brainpretrain import cli, config, datasets
from brainpretrain.download.listing import listing, markdown, status
from brainpretrain.plan import tables as plan
from helpers import ROOT

CASE = "BraTS2021_00000/BraTS2021_00000"


def put(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def row(name: str, root: Path) -> dict[str, Any]:
    (found,) = listing({name: (datasets.load(name), root)})
    return found


def test_absent_partial_present_and_broken(tmp_path: Path) -> None:
    assert status(row("brats21", tmp_path / "nowhere")) == "absent"
    put(tmp_path, "readme.txt")
    assert status(row("brats21", tmp_path)) == "absent"
    put(tmp_path, *(f"{CASE}_{kind}.nii.gz" for kind in ("t1", "t1ce", "t2", "flair", "seg")))
    found = row("brats21", tmp_path)
    assert (found["volumes"], found["subjects"], status(found)) == (4, 1, "partial: 4 of 5,004 volumes")
    (tmp_path / f"{CASE}_seg.nii.gz").unlink()
    found = row("brats21", tmp_path)
    assert found["present"] == "problem" and f"label missing: {CASE}_seg.nii.gz" in status(found)


def test_complete_where_as_much_is_there_as_is_expected(tmp_path: Path) -> None:
    put(tmp_path, *(f"OASIS-TRT-20-{n:02d}/{file}.nii.gz" for n in range(1, 21) for file in ("T1_brain", "labels_DKT31_aseg")))
    assert status(row("oasis_trt20", tmp_path)) == "present: 20 volumes"
    put(tmp_path / "phantom", "sub-001/anat/sub-001_T1w.nii.gz", "sub-001/anat/sub-001_T1w_dseg.nii.gz")
    assert status(row("phantom", tmp_path / "phantom")) == "present: 1 volumes"


def test_the_command_lists_every_module_in_any_width(monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    put(tmp_path / "msd_hippocampus", "imagesTs/hippocampus_002.nii.gz")
    for width in ("80", "100", "200"):
        monkeypatch.setenv("COLUMNS", width)
        assert cli.main(["datasets", "--config-folder", str(ROOT / "config"), "--data-root", str(tmp_path)]) == 0
        lines = capsys.readouterr().out.splitlines()[1:]
        assert max(map(len, lines)) <= int(width)
        assert set(datasets.names()) <= {line.split()[0] for line in lines if line.strip()}
        assert "adni place 1,563 9,548 9,548 absent" in {" ".join(line.split()[:6]) for line in lines}
        assert "oasis3 credential 1,376 15,872 15,872 absent" in {" ".join(line.split()[:6]) for line in lines}
    (line,) = (line for line in lines if "msd_hippocampus" in line)
    assert "partial: 1 of 390 volumes" in line and "CC BY-SA 4.0" in line
    monkeypatch.delenv("COLUMNS")
    assert cli.main(["datasets", "--config-folder", str(ROOT / "config"), "--data-root", str(tmp_path)]) == 0
    assert line in capsys.readouterr().out.splitlines(), "a pipe gets 200 columns"


def test_as_json(capsys: Any, tmp_path: Path) -> None:
    assert cli.main(["datasets", "--config-folder", str(ROOT / "config"), "--data-root", str(tmp_path), "--json"]) == 0
    rows = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)}
    assert set(rows) == set(datasets.names())
    assert rows["ppmi"]["brains45k"] == {"subjects": 2011, "sessions": 2979, "volumes": 9554}
    assert rows["abcd"]["expected"] is None and rows["ixi"]["present"] == "absent"


def test_the_page_on_data_holds_the_table_of_the_modules() -> None:
    page = (ROOT / "docs/download.md").read_text(encoding="utf-8")
    assert markdown(datasets.names()) in page, "paste the output of: brainpretrain datasets --markdown"


@pytest.mark.parametrize(("table", "corpus"), [("open4", "open_sets"), ("openmind4", "openmind"), ("fomo60k4", "fomo60k")])
def test_open_corpora_are_planned(table: str, corpus: str, tmp_path: Path) -> None:
    text = (ROOT / "config/studies/open.yaml").read_text(encoding="utf-8").replace("build: [open4]", f"build: [{table}]")
    (tmp_path / "study.yaml").write_text(text)
    made = plan.make(config.load(ROOT / "config", {"study": str(tmp_path / "study.yaml")}))
    assert made.corpora == [corpus]
    if corpus == "open_sets":
        assert {datasets.load(name).access for name in made.datasets} == {"auto"}
