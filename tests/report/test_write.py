from __future__ import annotations

from pathlib import Path

import pandas as pd

from brainpretrain.files import read_tsv
from brainpretrain.report.write import write_table
from report_fixtures import PRETRAINED, runs, spec, two_arms


def test_all_files_of_a_table_depend_on_the_scores_alone(tmp_path: Path) -> None:
    scores = two_arms()
    more = pd.concat([scores, scores.assign(task="another")]).sample(frac=1, random_state=5)
    write_table(tmp_path / "a", scores, spec(), {})
    write_table(tmp_path / "b", more, spec(), {})
    files = sorted(path.name for path in (tmp_path / "a").iterdir())
    parts = [
        f"demo{part}.{kind}"
        for part in ("", "_labels", "_metrics", "_ranks", "_verdicts")
        for kind in ("tsv", "md", "tex", "html", "txt")
    ]
    assert files == sorted([*parts, "demo_ranks.svg", "demo_ranks.png"])
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_a_table_shows_the_hours_of_pretrainings_beside_the_published_ones(tmp_path: Path) -> None:
    published = {
        "source": "a paper",
        "notes": [],
        "cells": [],
        "hours": [{"backbone": "unet_b", "init": PRETRAINED, "value": 39}],
    }
    trained = {f"results/study/{place}/run.json": run for place, run in runs().items() if place.startswith("pretrain/")}
    grid = write_table(tmp_path, two_arms(), spec(hours=True, published=published), {}, trained)
    assert grid.header[-1].text == "Pretraining"
    assert [(line[-1].text, line[-1].published) for line in grid.rows] == [("0.0 h", ""), ("30.0 h", "39 h")]
    assert "30.0 h" in (tmp_path / "demo.html").read_text()
    assert read_tsv(tmp_path / "demo.tsv", numbers=["pretrain_hours"])["pretrain_hours"].tolist() == [0, 30]
    missing = write_table(tmp_path, two_arms(), spec(hours=True), {})
    assert [line[-1].text for line in missing.rows] == ["0.0 h", "–"]
