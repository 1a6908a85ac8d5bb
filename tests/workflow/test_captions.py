"""The captions of the report: plain reStructuredText, one sentence each, and nothing of the config in them."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils.core import publish_doctree
from docutils.nodes import paragraph, reference
from jinja2 import Environment, StrictUndefined

from helpers import ROOT

FOLDER = ROOT / "rules" / "report"
CAPTIONS = sorted(FOLDER.glob("*.rst"))
EXPECTED = (
    "alignments budgets composition costs counts encoders licences loss metrics overlap overlays paired_cases per_label rank_plot ranks"
    " reconstructions rejected results robustness run_card sites trainings validation verdicts workflow zoo"
)


SECTIONS = re.findall(r'"(\d [\w ]+)"', (ROOT / "rules" / "common.smk").read_text(encoding="utf-8"))
LANDING = "\nA *title*\n=========\n\nWhat ran."


def render(path: Path, sections: list[str] = SECTIONS) -> str:
    """As Snakemake does it. Only the landing page gets the config, and of it the one entry that is made for it."""
    given = {}
    if path.stem == "workflow":
        config = SimpleNamespace(landing=lambda: LANDING)
        given = {"snakemake": SimpleNamespace(config=config), "categories": [SimpleNamespace(name=name) for name in sections]}
    return (
        Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        .from_string(path.read_text(encoding="utf-8"))
        .render(given)
    )


def test_every_piece_of_the_report_has_a_caption() -> None:
    assert " ".join(path.stem for path in CAPTIONS) == EXPECTED


@pytest.mark.parametrize("path", CAPTIONS, ids=lambda path: path.stem)
def test_a_caption_is_valid_and_needs_no_config(path: Path) -> None:
    publish_doctree(render(path), settings_overrides={"halt_level": 2, "report_level": 2})


@pytest.mark.parametrize("path", [p for p in CAPTIONS if p.stem != "workflow"], ids=lambda path: path.stem)
def test_a_caption_is_one_sentence(path: Path) -> None:
    (only,) = publish_doctree(render(path)).findall(paragraph)
    assert only.astext().endswith(".")
    assert ". " not in only.astext()


def test_the_landing_page_links_to_the_sections_that_are_there() -> None:
    assert SECTIONS == ["1 Results", "2 Cases", "3 Training", "4 Corpus", "5 Overlap and licences"] == sorted(SECTIONS)
    page = publish_doctree(render(FOLDER / "workflow.rst", ["4 Corpus", "1 Results"]))
    links = [link["refuri"] for link in page.findall(reference)]
    assert links == ["javascript:app.showCategory('1%20Results')", "javascript:app.showCategory('4%20Corpus')"]
    assert "What ran." in page.astext()


def test_every_piece_of_the_report_has_a_section_and_every_caption_a_piece() -> None:
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    pieces = re.findall(r"shown\(\s*[^,]+,\s*(\w+),\s*\"(\w+)\"", rules)
    sections = {"CORPUS_SECTION", "OVERLAP_SECTION", "TRAINING_SECTION", "RESULTS_SECTION", "CASES_SECTION"}
    assert len(pieces) == len(re.findall(r"\bshown\(", rules)) - 1 > 15  # one is its definition
    assert {section for section, _ in pieces} == sections
    assert {caption for _, caption in pieces} == {path.stem for path in CAPTIONS} - {"workflow"}
