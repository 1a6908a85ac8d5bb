from __future__ import annotations

from pathlib import Path

import pandas as pd

from brainpretrain.report.figures import composition
from figure_fixtures import corpus_and_tables, size_px, svg_text


def test_composition_counts(tmp_path: Path) -> None:
    composition.draw(*corpus_and_tables(), tmp_path / "c.svg")
    text = svg_text(tmp_path / "c.svg")
    assert "33 volumes of 33 subjects, 2 volumes rejected" in text
    assert "28, 3 for validation, 2 rejected" in text
    assert text.count("rejected") == 3  # title, bar, legend
    assert all(word in text for word in ("ixi", "wmh", "T1w", "FLAIR", "Native spacing, coarsest axis (mm)"))


def test_many_sources_and_sequences_are_summed_up(tmp_path: Path) -> None:
    _, tables = corpus_and_tables(2 + 3)
    frame = tables["ixi"]
    many = {f"source{i:02d}": frame.assign(sequence=f"seq{i % 12}") for i in range(44)}
    corpus = pd.concat([t[t["status"] == "ok"].assign(dataset=name, role="train") for name, t in many.items()])
    composition.draw(corpus, many, tmp_path / "c.svg")
    text = svg_text(tmp_path / "c.svg")
    assert "other sources" in text
    assert f"{15 * 3}, {15 * 2} rejected" in text  # 29 sources have a bar of their own
    assert size_px(tmp_path / "c.svg")[1] <= 900


def test_unknown_spacing_is_called_not_recorded(tmp_path: Path) -> None:
    corpus, tables = corpus_and_tables()
    composition.draw(corpus, {name: t.assign(native_spacing_mm="") for name, t in tables.items()}, tmp_path / "c.svg")
    assert svg_text(tmp_path / "c.svg").count("not recorded") == 2
