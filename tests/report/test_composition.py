from __future__ import annotations

import pandas as pd

from brainpretrain import datasets
from brainpretrain.report import printers
from brainpretrain.report.composition import COMPOSITION_COLUMNS, PARTS, PUBLISHED, composition_grid, count_sources


def shard_table(rows: list[tuple[str, str, str, str, str]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["subject", "session", "sequence", "status", "native_spacing_mm"])
    frame["volume"] = frame["subject"] + "_" + frame["session"] + "_" + frame["sequence"]
    return frame.assign(mean=["0.2" if status == "ok" else "" for status in frame["status"]])


def test_a_corpus_is_counted_like_table_1() -> None:
    wmh = shard_table([(f"w{n}", "", sequence, "ok", "1.0 1.0 3.0") for n in range(60) for sequence in ("FLAIR", "T1w")])
    wmh = pd.concat([wmh, shard_table([("w99", "", "T1w", "rejected", "")])])
    adni = shard_table(
        [("a1", "1", "T1w", "ok", "1.2 0.9 0.9"), ("a1", "2", "T1w", "ok", "1.2 0.9 0.9"), ("w1", "", "T1w", "ok", "1 1 1")]
    )
    tables = {"wmh": wmh, "adni": adni}
    whole = pd.concat([t[t["status"] == "ok"].assign(dataset=name) for name, t in tables.items()], ignore_index=True)
    whole["role"] = ["val" if subject == "a1" else "train" for subject in whole["subject"]]
    columns = ["dataset", "volume", "subject", "session", "sequence", "role"]
    modules = {name: datasets.load(name) for name in tables}
    counts = count_sources(whole[columns], tables, modules)
    assert list(counts.columns) == COMPOSITION_COLUMNS
    first, second, last = counts.to_dict("records")
    assert [first[part] for part in (*PARTS, *PUBLISHED)] == [60, 60, 120, 60, 60, 120]  # as published
    assert (first["rejected"], first["sequences"], first["finest_mm"], first["coarsest_mm"]) == (1, "FLAIR 60, T1w 60", 1.0, 3.0)
    assert [second[part] for part in (*PARTS, *PUBLISHED)] == [2, 3, 3, 1563, 8019, 9548]
    assert [last[part] for part in (*PARTS, *PUBLISHED)] == [62, 63, 123, 1623, 8079, 9668]
    assert (last["train"], last["val"], last["sequences"]) == (121, 2, "T1w 63, FLAIR 60")  # w1 of ADNI is another person
    page = printers.html(composition_grid(counts, "tiny"))
    assert "published 9,548" in page and "121 volumes to train and 2 to validate" in page


def test_the_published_counts_add_up_to_brains45k() -> None:
    known = [datasets.load(name).brains45k for name in datasets.names()]
    assert [sum(counts[part] for counts in known if counts) for part in PARTS] == [7140, 16040, 44756]


def test_own_data_sets_are_told_apart_by_their_names() -> None:
    table = shard_table([("p1", "", "T1w", "ok", "1 1 1")])
    whole = pd.concat([table.assign(dataset=name, role="train") for name in ("site_a", "site_b")])
    described = {name: datasets.describe("bids", {}) for name in ("site_a", "site_b")}
    counts = count_sources(whole[["dataset", "volume", "subject", "session", "sequence", "role"]],
                               {name: table for name in described}, described)  # fmt: skip
    assert counts["source"].tolist() == ["site_a (BIDS folder)", "site_b (BIDS folder)", "all sources"]


def test_a_source_that_is_not_of_the_paper_has_no_published_count() -> None:
    table = shard_table([("p1", "", "T1w", "ok", "1 1 1")])
    whole = table.assign(dataset="phantom", role="train")
    counts = count_sources(whole[["dataset", "volume", "subject", "session", "sequence", "role"]], {"phantom": table},
                               {"phantom": datasets.load("phantom")})  # fmt: skip
    assert counts["published_volumes"].isna().all()
    assert "ublished" not in printers.markdown(composition_grid(counts, "tiny"))
