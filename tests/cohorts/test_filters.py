"""Filters of a corpus: what they leave out, with the reason, in the table and on the page."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from brainpretrain import cli
from brainpretrain.cohorts import filters
from brainpretrain.cohorts.corpus import filtered, make_corpus
from brainpretrain.errors import UserError
from brainpretrain.files import read_tsv, write_json

S3D = {
    "min_fov_mm": 50,
    "max_spacing_mm": 6.499,
    "min_file_kb": 200,
    "sequences": ["T1w", "FLAIR"],
    "exclude_words": ["adc", "DWI"],
}
GOOD = {"sequence": "T1w", "path": "sub-adc1/sub-adc1_ses-dwi2_T1w.nii.gz", "native_shape": "160 192 160",
        "native_spacing_mm": "1 1 1", "raw_bytes": 5_000_000}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        ({}, "", ""),
        ({"native_shape": "50 192 160"}, "", ""),  # a limit itself passes
        ({"native_shape": "49 192 160"}, "field of view", "field of view 49 x 192 x 160 mm, an axis below 50"),
        ({"native_spacing_mm": "0.5 0.5 0.3"}, "field of view", "field of view 80 x 96 x 48 mm, an axis below 50"),
        ({"native_spacing_mm": "1 6.5 1"}, "spacing", "spacing 1 x 6.5 x 1 mm, an axis above 6.499"),
        ({"raw_bytes": 199_999}, "file size", "a file of 200.0 kB, below 200"),
        ({"raw_bytes": 200_000}, "", ""),
        ({"sequence": "SWI"}, "sequence", "sequence SWI"),
        ({"path": "sub-1/sub-1_acq-dwib0_T1w.nii.gz"}, "words", "its name contains DWI"),
        ({"path": "adc/sub-1_T1w.nii.gz"}, "", ""),  # a folder says nothing about a series
    ],
)
def test_a_volume_is_left_out_for_the_first_filter_that_it_fails(change, reason, detail):
    verdict = filters.judged(pd.DataFrame([GOOD | change]), S3D).iloc[0]
    assert (verdict["reason"], verdict["detail"]) == (reason, detail)


def stored(cohort) -> pd.DataFrame:
    table = read_tsv(cohort.table)
    return table.assign(file="tiny/r/" + table["file"])


SPEC = {"sources": [{"dataset": "tiny", "sequences": [], "subsets": [], "pool_of": None}], "val_fraction": 0}


def test_a_corpus_and_what_it_leaves_out_are_all_volumes(cohort):
    table = stored(cohort)
    views = {row["volume"]: min(int(n) for n in row["native_shape"].split()) for row in table.to_dict("records")}
    widest = {volume: max(map(int, shape.split())) for volume, shape in zip(table["volume"], table["native_shape"], strict=True)}
    assert set(views.values()) == {18}
    table.loc[table["volume"].isin([v for v, n in widest.items() if n < 24]), "native_spacing_mm"] = "1 1 3"
    spec = SPEC | {"filters": {"max_spacing_mm": 2}}
    kept, left = make_corpus({"tiny": table}, spec, {}, 0), filtered({"tiny": table}, spec, {})
    assert set(left["volume"]) == {v for v, n in widest.items() if n < 24} and set(left["reason"]) == {"spacing"}
    assert set(kept["volume"]) == set(widest) - set(left["volume"]) and list(left) == filters.FILTERED_COLUMNS
    with pytest.raises(UserError, match="leave none of the 6 volumes of 'tiny': 6 field of view, such as s0_T1w: field of view"):
        make_corpus({"tiny": table}, SPEC | {"filters": {"min_fov_mm": 100}}, {}, 0)


def test_the_command_writes_both_tables_and_the_page_lists_what_is_left_out(cohort, tmp_path, capsys):
    data = tmp_path / "data"
    folder = data / "tiny" / "r"
    folder.mkdir(parents=True)
    (folder / "volumes.tsv").write_bytes(cohort.table.read_bytes())
    write_json(data / "tiny" / "source.json", {"root": str(cohort.raw)})
    sizes = sorted((cohort.raw / f"s{number}_T1w.nii.gz").stat().st_size for number in range(6))
    spec = SPEC | {"filters": {"min_file_kb": sizes[2] / 1000}}
    out = tmp_path / "mine" / "corpus.tsv"
    common = ["--volumes", f"tiny={folder}/volumes.tsv", "--data", str(data)]
    line = ["corpus", *common, "--corpus", json.dumps(spec), "--seed", "0", "--out", str(out)]
    assert cli.main(line) == 0
    left = read_tsv(out.with_name("filtered.tsv"))
    assert len(left) == 2 and set(left["reason"]) == {"file size"} and len(read_tsv(out)) == 4
    assert "filters leave out 2 volumes" in capsys.readouterr().out
    assert cli.main(["page-rejected", *common, "--corpora", str(out), "--out", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "Left out by the filters of the corpus mine" in page and left["volume"].iloc[0] in page and "kB, below" in page
    write_json(data / "tiny" / "source.json", {"root": str(tmp_path)})
    assert cli.main(line) == 2
    assert "6 raw files are not there, such as s0_T1w.nii.gz" in capsys.readouterr().err
