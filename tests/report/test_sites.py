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
