"""Own data of every kind, with braces wherever a config may have them, from their folders to one table."""

from __future__ import annotations

import own_data as study
from brainpretrain.files import read_tsv


def test_every_kind_of_own_data_goes_from_its_folder_to_the_table(own_data):
    scores = read_tsv(own_data.root / "results/own/scores.tsv", numbers=["dice"])
    assert scores["task"].tolist() == ["own_bids", "own_csv", "own_nnunet"]  # a test subject of each
    assert set(scores["label"]) == {"lesion {x}"} and scores["dice"].between(0, 1).all()
    table = (own_data.root / "results/own/tables/own.md").read_text()
    for title in ("Own {table}", "{3} of {input}", "bids {x}", "nnunet {x}", "csv {x}"):
        assert title in table, table
    licences = read_tsv(own_data.root / "results/own/licences.tsv").set_index("name")
    assert (licences.loc["own_nnunet", "citation"], licences.loc["own_bids", "licence"]) == ("{BraTS} 2021", "ours {y}")


def test_finished_own_data_have_nothing_left_to_do(own_data):
    assert own_data.planned("--config", "study=own", "--", *study.TARGETS) == {}
