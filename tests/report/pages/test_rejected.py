from __future__ import annotations

import pandas as pd

from brainpretrain.report.pages import rejected
from page_fixtures import HOSTILE, cells, stands_alone


def shards(rejected: int = 2) -> dict[str, pd.DataFrame]:
    """A source with 3 accepted volumes of 2 subjects, and `rejected` others."""
    ok = [("s1", "T1w"), ("s1", "FLAIR"), ("s2", "T1w")]
    rows = [{"volume": f"{s}__{q}", "subject": s, "sequence": q, "status": "ok", "reason": "", "detail": ""} for s, q in ok]
    for i in range(rejected):
        fault = {"status": "rejected", "reason": "truncated", "detail": f"{HOSTILE} file {i}"}
        rows.append({"volume": f"bad{i:04d}__T1w", "subject": f"bad{i}", "sequence": "T1w"} | fault)
    return {"ixi": pd.DataFrame(rows)}


def test_rejected_page_counts_and_lists() -> None:
    page = rejected.page(shards())
    assert "2 of 5 volumes rejected in preprocessing (40.0 %)." in page
    lines = cells(page)
    assert ["ixi", "FLAIR", "1", "1", "0"] in lines
    assert ["ixi", "T1w", "2", "2", "2"] in lines
    assert ["all", "", "", "3", "2"] in lines
    assert ["ixi", "truncated", "2"] in lines
    assert ["ixi", "bad0001__T1w", "T1w", "truncated", "&lt;script&gt;alert(1)&lt;/script&gt; file 1"] in lines
    assert stands_alone(page)


def test_rejected_page_without_rejected_or_without_volumes() -> None:
    assert "0 of 3 volumes rejected in preprocessing (0.0 %)." in rejected.page(shards(rejected=0))
    assert "Reasons" not in rejected.page(shards(rejected=0))
    assert "0 of 0 volumes rejected" in rejected.page({})


def test_a_flood_of_rejected_volumes_is_cut_and_counted() -> None:
    page = rejected.page(shards(rejected=700))
    assert "200 more are listed in volumes.tsv of their data sets." in page
    assert "bad0499" in page and "bad0500" not in page
    assert len(page) < 100_000
