from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from brainpretrain import cli
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv, write_json, write_tsv
from brainpretrain.report.sites import by_site
from report_fixtures import PRETRAINED, scores, spec


def test_scores_by_site() -> None:
    values = {(init, "0", volume, "wmh"): 0.5 for init in ("scratch", PRETRAINED) for volume in ("v1", "v2", "v3")}
    frame = scores(values, cohort="ood").assign(subject=lambda rows: rows["volume"].str[1:])
    places = pd.DataFrame({"subject": ["1", "2", "3"], "site": ["Utrecht", "GE1T5", "Philips_VU .PETMR_01."]})
    parts = by_site(frame, places, {"Utrecht", "Singapore"})
    groups = {cohort: sorted(set(rows["subject"])) for cohort, rows in parts.groupby("cohort")}
    assert groups == {"ood": ["1", "2", "3"], "ood_seen": ["1"], "ood_unseen": ["2", "3"]}
    with pytest.raises(UserError, match=r"no site is known of 3[\s\S]*by_site"):
        by_site(frame, places[:2], {"Utrecht"})


def test_the_table_by_site_of_two_cohorts(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Each cohort has an index and a pool of its own."""
    parts = []
    for cohort, dice in (("ood", 0.5), ("site_b", 0.7)):
        values = {("scratch", "0", f"{cohort}{n}", "wmh"): dice + 0.1 * n for n in range(2)}
        parts.append(scores(values, cohort=cohort).assign(subject=lambda rows: rows["volume"]))
        places = {"subject": [f"{cohort}0", f"{cohort}1"], "site": ["Utrecht", "Lund"]}
        write_tsv(tmp_path / f"{cohort}.tsv", pd.DataFrame(places))
    write_tsv(tmp_path / "scores.tsv", pd.concat(parts))
    write_tsv(tmp_path / "pool.tsv", pd.DataFrame({"subject": ["a", "b"], "site": ["Utrecht", "Lund"]}))
    for name, pool in (("utrecht", ["a"]), ("lund", ["b"])):
        write_json(tmp_path / f"{name}.json", {"pool": pool, "test": []})
    names = [cohort + part for cohort in ("ood", "site_b") for part in ("", "_seen", "_unseen")]
    columns = [{"title": name, "task": "hippocampus", "cohort": name} for name in names]
    line = ["table-sites", "--scores", f"{tmp_path}/scores.tsv", "--spec", spec(columns=columns, folds=[0]).model_dump_json()]
    line += ["--index", f"{tmp_path}/ood.tsv", f"{tmp_path}/site_b.tsv", "--task-index", *[f"{tmp_path}/pool.tsv"] * 2]
    assert cli.main([*line, "--subjects", f"{tmp_path}/utrecht.json", f"{tmp_path}/lund.json", "--out", f"{tmp_path}/t.tsv"]) == 0
    assert cli.main([*line, "--subjects", f"{tmp_path}/utrecht.json", "--out", f"{tmp_path}/none.tsv"]) == 2
    assert "1 files for the 6 columns" in capsys.readouterr().err and not (tmp_path / "none.tsv").exists()
    rows = read_tsv(tmp_path / "t.tsv", numbers=["value"]).query("init == 'scratch'")
    means = dict(zip(rows["cohort"], rows["value"], strict=True))
    assert [round(100 * means[name]) for name in names] == [55, 50, 60, 75, 80, 70]


def test_the_table_by_site(tmp_path: Path) -> None:
    values = {(init, fold, f"v{n}", "wmh"): 0.5 + 0.1 * n for init in ("scratch", PRETRAINED) for fold in "01" for n in range(3)}
    write_tsv(tmp_path / "scores.tsv", scores(values, cohort="ood").assign(subject=lambda rows: rows["volume"]))
    write_tsv(tmp_path / "test.tsv", pd.DataFrame({"subject": ["v0", "v1", "v2"], "site": ["Utrecht", "GE1T5", "GE1T5"]}))
    write_tsv(tmp_path / "train.tsv", pd.DataFrame({"subject": ["a", "b"], "site": ["Utrecht", "Singapore"]}))
    write_json(tmp_path / "split.json", {"pool": ["a"], "test": ["b"]})
    names = {"ood": "WMH OOD", "ood_seen": "WMH OOD, sites seen in training", "ood_unseen": "WMH OOD, other sites"}
    columns = [{"title": title, "task": "hippocampus", "cohort": cohort} for cohort, title in names.items()]
    line = ["table-sites", "--scores", f"{tmp_path}/scores.tsv", "--spec", spec(columns=columns).model_dump_json()]
    line += ["--index", f"{tmp_path}/test.tsv", "--task-index", f"{tmp_path}/train.tsv", "--subjects", f"{tmp_path}/split.json"]
    assert cli.main([*line, "--out", f"{tmp_path}/t.tsv", f"{tmp_path}/t.html"]) == 0
    table = read_tsv(tmp_path / "t.tsv")
    assert table["cohort"].tolist() == list(names) * 2 and table["cases"].tolist() == ["3", "1", "2"] * 2
    page = (tmp_path / "t.html").read_text()
    assert "60.00" in page and "50.00" in page and "65.00" in page and "other sites" in page
